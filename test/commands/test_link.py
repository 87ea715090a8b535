"""The system over a real link, and simulated beside it."""

import json

import cv2
import pytest

from shadowtutor_ros.commands import link
from shadowtutor_ros.commands.main import main
from shadowtutor_ros.reliability.veth import BURST, VethError, VethLink

FRAMES = 32


@pytest.fixture(scope='module')
def sweep(tmp_path_factory):
    """Return the folder of a sweep over three bandwidths, or skip where none can be made."""
    try:
        with VethLink():
            pass
    except VethError as error:
        pytest.skip(str(error))
    out = tmp_path_factory.mktemp('sweep')
    assert main(['link', '--frames', str(FRAMES), '--size', '192x108', '--seed', '2',
                 '--bandwidths', '80,20,8', '--out', str(out)]) == 0
    return out


def test_sweep_over_a_real_link(sweep):
    results = json.loads((sweep / 'link.json').read_text())
    assert [result['bandwidth_bit_per_s'] for result in results] == [80e6, 20e6, 8e6]
    for result in results:
        print(json.dumps(result))
        measured, simulated = result['measured'], result['simulated']
        assert measured['masks'] == measured['frames'] == FRAMES
        assert measured['updates_applied'] >= 2
        assert measured['updates_lost'] == measured['updates_rejected'] == 0
        # A client that waits is trained on the same frames, however slow the link.
        assert measured['key_frames'] == simulated['key_frames']
        # It went over the link, not through memory, and as slowly as the link is.
        assert measured['link_bytes_up'] > measured['bytes_up']
        assert measured['link_bytes_down'] > measured['bytes_down']
        size = measured['key_frame_bytes'] + measured['update_bytes']
        assert measured['t_net_s'] >= 8 * (size - 2 * BURST) / result['bandwidth_bit_per_s']


def test_sweep_is_a_table_and_a_picture(sweep):
    lines = (sweep / 'link.md').read_text().splitlines()
    assert len(lines) == 5 and lines[2].startswith('| 80 Mbit/s |')
    assert len({line.count('|') for line in lines}) == 1
    assert cv2.imread(str(sweep / 'link.png')).std() > 10


def test_throughput_is_that_of_whole_cycles():
    times = {0: 0.0, 8: 10.0, 16: 12.0, 32: 20.0, 40: 90.0}
    assert link.throughput([0, 8, 16, 32], times) == pytest.approx(24 / 10)
    # Too few key frames: all there is.
    assert link.throughput([0, 8], times) == pytest.approx(40 / 90)


@pytest.mark.parametrize('bandwidths', ['fast', '', '8,0', '8;20', 'nan'])
def test_bandwidths_that_are_none_are_refused(bandwidths, capfd):
    with pytest.raises(SystemExit) as ended:
        main(['link', '--bandwidths', bandwidths])
    assert ended.value.code == 2 and '80,20,8' in capfd.readouterr().err


def test_without_root_one_line_says_so(monkeypatch, tmp_path, capfd):
    monkeypatch.setattr('os.geteuid', lambda: 1000)
    assert main(['link', '--frames', '8', '--out', str(tmp_path)]) == 1
    error = capfd.readouterr().err
    assert 'need root' in error and error.count('\n') == 1
