"""A short soak with real robots and a real teacher over DDS; busy machines pass it, too."""

import json
from pathlib import Path
import signal
import subprocess
import sys

import pytest

from shadowtutor_ros.commands.main import main
from shadowtutor_ros.reliability.fleet_faults import FLEET_FAULTS

ROOT = Path(__file__).parents[2]

#: The first faults of this seed are: the teacher is killed, a burst, messages of another session.
SEED = 2


def start(out, *arguments):
    """Start a soak; Ctrl-C reaches it even where whoever runs the tests takes no notice."""
    return subprocess.Popen(
        [sys.executable, '-m', 'shadowtutor_ros.commands.main', 'soak', '--width', '160',
         '--set', 'max_updates=2', '--out', str(out), *arguments], cwd=ROOT,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))


@pytest.fixture(scope='module')
def soaked(tmp_path_factory):
    """Return the report of a soak, its folder, what was said, and the exit status."""
    out = tmp_path_factory.mktemp('soak')
    process = start(out, '--robots', '3', '--minutes', '0.4', '--fault-every', '2',
                    '--seed', str(SEED))
    said = process.communicate(timeout=900)[0]
    print(said)
    return json.loads((out / 'soak.json').read_text()), out, said, process.returncode


def test_everything_is_accounted_for(soaked):
    report = soaked[0]
    # A busy machine is late, and may time key frames out; the books come out all the same.
    late = ('had a mask in time', 'got no answer in time')
    assert [line for line in report['wrong'] if not any(word in line for word in late)] == []
    for one in report['robots']:
        fates = one['key_frames_by_fate']
        # One may be sent between the last sample and the end.
        assert 0 <= sum(fates.values()) - one['key_frames'] <= 1
        assert one['frames'] > 60 and 0 < one['masks'] <= one['frames'] + 1
        assert one['masks_in_time'] <= one['masks']
        assert one['bytes_up'] > 0
    assert sum(one['updates_applied'] for one in report['robots']) > 0
    assert report['teacher']['key_frames'] > 0


def test_faults_were_there(soaked):
    report, out, *_ = soaked
    faults = report['faults']
    assert faults[0]['name'] == 'teacher-killed' and faults[0]['robot'] == ''
    assert all(0 <= one['begin'] <= one['end'] <= report['seconds'] for one in faults)
    for before, after in zip(faults, faults[1:]):
        assert before['end'] <= after['begin']
    assert (out / 'teacher.log').read_text().count('loading the teacher') == 2
    assert {one['name'] for one in faults} <= set(FLEET_FAULTS)


def test_the_status_is_that_of_the_report(soaked):
    report, _, said, status = soaked
    assert status == int(bool(report['wrong']))
    assert all(line.split(':')[0] in said for line in report['wrong'])


def test_it_is_written_down(soaked):
    report, out, said, _ = soaked
    assert {'soak.json', 'soak.md', 'soak.png', 'logs', 'teacher.log'} <= {
        path.name for path in out.iterdir()}
    times = [sample['time'] for sample in report['samples']]
    assert times == sorted(times) and len(times) > 10
    assert report['samples'][-1]['robots_bytes'] > 1e8
    assert 'masks in time' in said and f'wrote {out}/soak.png' in said.replace('\n', '')
    # What the nodes say is in files, and not on what the command shows.
    assert '[INFO]' not in said
    assert any('goes on' in path.read_text() or 'segmenting' in path.read_text()
               for path in (out / 'logs').iterdir())


def test_ctrl_c_writes_what_there_is(tmp_path):
    process = start(tmp_path, '--robots', '1', '--minutes', '10', '--fault-every', '1')
    for line in process.stdout:
        if 'of 600 s' in line:
            break
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=300)[0]
    assert process.returncode == 130 and 'Traceback' not in said, said
    report = json.loads((tmp_path / 'soak.json').read_text())
    assert 0 < report['seconds'] < 300 and report['samples']
    assert (tmp_path / 'soak.png').exists() and 'interrupted' in said


@pytest.mark.parametrize('arguments, words', [
    (['--robots', '0'], '--robots is 0'), (['--fault-every', '0.5'], '--fault-every is 0.5'),
    (['--minutes', 'nan'], '--minutes is nan'), (['--width', '8'], '--width is 8'),
    (['--set', 'plain=true'], 'plain: no parameter'), (['--video', '/nowhere'], '/nowhere')])
def test_what_cannot_be_is_one_line(arguments, words, tmp_path, capfd):
    assert main(['soak', '--out', str(tmp_path), *arguments]) == 1
    error = capfd.readouterr().err
    assert words in error and error.count('\n') == 1
