"""Evaluating videos."""

import csv
import json
import os
from pathlib import Path
import shutil
import signal
import subprocess
import sys

import cv2
import numpy as np
from PIL import Image
import pytest

from shadowtutor_ros.algorithms.presets import PRESETS
from shadowtutor_ros.commands.main import main
from shadowtutor_ros.evaluation.label_cache import Labels
from shadowtutor_ros.evaluation.profile import load_profile
from shadowtutor_ros.evaluation.settings import default_settings
from shadowtutor_ros.world.scenes import Scene

FRAMES = 12


@pytest.fixture(scope='module')
def videos(tmp_path_factory):
    """Return two short videos of the scene."""
    folder = tmp_path_factory.mktemp('videos')
    paths = []
    for seed in (1, 2):
        scene = Scene(seed, 'day', 320, 180)
        paths.append(str(folder / f'{seed}.mp4'))
        writer = cv2.VideoWriter(paths[-1], cv2.VideoWriter_fourcc(*'mp4v'), 25, (320, 184))
        for index in range(FRAMES):
            writer.write(cv2.resize(scene.render(index).image, (320, 184)))
        writer.release()
    return paths


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Keep labels in a folder of the test."""
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    return tmp_path / 'cache' / 'shadowtutor' / 'labels'


def test_what_is_saved_has_a_folder_of_its_own(videos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path('x').mkdir()
    names = ['x/a b.mp4', 'a_b.mp4', 'a:b.mp4', 'x/A_b.mp4', 'x/a_b.mp4', 'x_a_b.mp4', 'a b.mp4']
    for name in names:
        shutil.copy(videos[0], name)
    assert evaluate(
        *names, '--methods', 'wild', '--frames', 1, '--out', tmp_path / 'out',
        '--save-labels', tmp_path / 'labels', '--save-predictions', tmp_path / 'masks') == 0
    assert len({run['video'] for run in runs(tmp_path / 'out')}) == len(names)
    for folder in ('labels', 'masks'):
        found = sorted(path.name for path in (tmp_path / folder).iterdir())
        assert len({name.casefold() for name in found}) == 7
        assert 'a_b.mp4' in found and 'a_b.mp4-2' in found, 'the plain name where it is free'


def test_a_video_that_does_not_say_its_length_is_evaluated_to_its_end(tmp_path, capfd):
    scene, path = Scene(1, 'day', 320, 180), tmp_path / 'raw.mjpeg'
    path.write_bytes(b''.join(
        cv2.imencode('.jpg', cv2.resize(scene.render(index).image, (320, 184)))[1].tobytes()
        for index in range(FRAMES)))
    assert evaluate(path, '--methods', 'wild', '--out', tmp_path / 'out') == 0
    assert [run['frames'] for run in runs(tmp_path / 'out')] == [FRAMES]
    assert 'None' not in capfd.readouterr().out


OPTIONS = ('--teacher', 'scene', '--width', '320')


def evaluate(*arguments):
    return main(['evaluate', *map(str, arguments), *OPTIONS])


def runs(folder):
    return json.loads((folder / 'results.json').read_text())['runs']


def test_results_are_written_and_resumed(videos, tmp_path, capfd):
    out = tmp_path / 'out'
    options = ['--methods', 'wild,partial,naive', '--update-delay', '1,8', '--out', out]
    assert evaluate(*videos[:1], '--paper-settings', *options) == 0
    assert [(run['method'], run['update_delay']) for run in runs(out)] == [
        ('wild', None), ('partial', 1), ('partial', 8), ('naive', None)]
    assert all(run['frames'] == FRAMES for run in runs(out))
    assert runs(out)[3]['miou'] == 1 and runs(out)[0]['key_frame_ratio'] == 0
    assert runs(out)[1]['bytes_up_per_key_frame'] == 320 * 184 * 3
    with (out / 'results.csv').open() as file:
        assert [float(row['miou']) for row in csv.DictReader(file)] == [
            run['miou'] for run in runs(out)]
    assert '| video | Wild | P-1 | P-8 | Naive |' in (out / 'tables.md').read_text()
    assert {path.name for path in out.glob('*.png')} == {
        'accuracy.png', 'time_1.png', 'trade.png'}

    capfd.readouterr()
    assert evaluate(*videos, '--paper-settings', '--resume', *options) == 0
    said = capfd.readouterr().out
    assert '2.mp4 wild' in said and '1.mp4 wild' not in said
    assert len(runs(out)) == 8


def test_another_video_of_the_same_name_is_run_again(videos, tmp_path, capfd):
    out, video = tmp_path / 'out', tmp_path / '1.mp4'
    options = ['--methods', 'wild', '--frames', '4', '--resume', '--out', out]
    assert evaluate(videos[0], *options) == 0
    before = runs(out)[0]['miou_by_frame']
    shutil.copyfile(videos[1], video)
    assert evaluate(video, *options) == 0
    assert runs(out)[0]['miou_by_frame'] != before
    capfd.readouterr()
    assert evaluate(video, *options) == 0
    assert '1.mp4 wild' not in capfd.readouterr().out


def test_naive_offloading_alone(videos, tmp_path):
    out = tmp_path / 'out'
    assert evaluate(videos[0], '--methods', 'naive', '--frames', '4', '--out', out) == 0
    assert runs(out)[0]['miou'] == 1 and not list(out.glob('*.png'))


def test_settings_decide_what_is_run_again(videos, tmp_path, capfd):
    out = tmp_path / 'out'
    options = [videos[0], '--methods', 'wild', '--resume', '--out', out]
    assert evaluate(*options, '--set', 'max_updates=1') == 0
    assert runs(out)[0]['settings']['max_updates'] == 1
    capfd.readouterr()
    assert evaluate(*options, '--set', 'max_updates=1') == 0
    assert 'wild: mIoU' not in capfd.readouterr().out
    # The other settings take the run's place, unless they have a name of their own.
    assert evaluate(*options, '--set', 'max_updates=2') == 0
    assert [run['settings']['max_updates'] for run in runs(out)] == [2]
    assert evaluate(*options, '--set', 'max_updates=3', '--label', 'three steps') == 0
    assert [run['settings']['max_updates'] for run in runs(out)] == [2, 3]
    assert '| Wild | three steps Wild |' in (out / 'tables.md').read_text()


def test_the_papers_settings_do_not_come_from_the_defaults(videos, tmp_path):
    out = tmp_path / 'out'
    assert evaluate(videos[0], '--methods', 'wild', '--paper-settings', '--late-update',
                    'continue', '--set', 'learning_rate=0.003', '--out', out) == 0
    settings = runs(out)[0]['settings']
    assert (settings['key_frame.format'], settings['encoding'], settings['scope']) == (
        'raw', 'fp32', 'partial')
    assert settings['learning_rate'] == 0.003 and settings['late_update'] == 'continue'


def test_a_preset_changes_the_defaults(videos, tmp_path, capfd):
    out = tmp_path / 'out'
    assert evaluate(videos[0], '--methods', 'wild', '--preset', 'rich', '--frames', '2', '--set',
                    'max_updates=9', '--out', out) == 0
    (run,) = runs(out)
    assert run['settings'] == {
        **default_settings(), **PRESETS['rich'], 'max_updates': 9, 'late_update': 'wait',
        'update_timeout': 3600.0, 'always_offered': ['person']}
    with pytest.raises(SystemExit):
        evaluate(videos[0], '--preset', 'rich', '--paper-settings')
    assert '--paper-settings' in capfd.readouterr().err


def test_processes_give_the_same_results(videos, tmp_path):
    options = ['--methods', 'wild,partial', '--set', 'max_updates=2', '--set', 'threshold=0.95']
    for jobs in (1, 3):
        assert evaluate(*videos, *options, '--jobs', jobs, '--out', tmp_path / str(jobs)) == 0
    assert len(runs(tmp_path / '1')) == 4
    assert runs(tmp_path / '1') == runs(tmp_path / '3')


def test_sweep_over_the_bandwidth(videos, tmp_path):
    out = tmp_path / 'out'
    assert evaluate(
        videos[0], '--methods', 'wild,partial,naive', '--bandwidth', '80,0.2', '--bandwidth-down',
        '8', '--latency', '0.01', '--set', 'max_updates=1', '--set', 'min_stride=2', '--set',
        'max_stride=4', '--set', 'stride_rate=0', '--out', out) == 0
    found = [(run['method'], run['mbit_per_s_link_up'], run['mbit_per_s_link_down'])
             for run in runs(out)]
    assert found == [('wild', None, None), ('partial', 80, 8), ('partial', 0.2, 8),
                     ('naive', 80, 8), ('naive', 0.2, 8)]
    fast, slow = runs(out)[1:3]
    assert fast['fps'] > slow['fps'] and fast['within_bounds'] and slow['within_bounds']
    assert fast['conditions']['link']['latency'] == 0.01
    assert (out / 'bandwidth.png').is_file()
    tables = (out / 'tables.md').read_text()
    assert 'Partial 80/8 Mbit/s' in tables and '| yes |' in tables


def test_lost_messages(videos, tmp_path):
    out = tmp_path / 'out'
    assert evaluate(videos[0], '--methods', 'partial', '--loss', '1', '--bandwidth', '80,8',
                    '--out', out) == 0
    run = runs(out)[0]
    assert (out / 'bandwidth.png').is_file()
    assert run['lost'] == run['key_frames'] > 0 and run['within_bounds'] is None
    # Nobody waits an hour for what is lost.
    assert run['settings']['update_timeout'] < 60 and run['seconds'] < 60
    assert evaluate(videos[0], '--methods', 'partial', '--loss', '1', '--paper-settings',
                    '--out', tmp_path / 'paper') == 0
    assert runs(tmp_path / 'paper')[0]['seconds'] < 60


def test_the_papers_client_waits_for_a_thin_link(videos, tmp_path):
    out = tmp_path / 'out'
    assert evaluate(videos[0], '--methods', 'partial', '--paper-settings', '--frames', '10',
                    '--bandwidth', '0.08', '--set', 'max_updates=0', '--out', out) == 0
    (run,) = runs(out)
    # A key frame takes longer than the middleware of the nodes would keep it.
    assert not run['lost'] and 8 * 320 * 184 * 3 / 8e4 < run['seconds'] < 60


def test_predictions_of_links_that_differ_one_way_lie_apart(videos, tmp_path):
    assert evaluate(
        videos[0], '--methods', 'partial', '--frames', '3', '--bandwidth', '80,40',
        '--bandwidth-up', '5', '--set', 'max_updates=1', '--loss', '1', '--save-predictions',
        tmp_path / 'masks', '--out', tmp_path / 'out') == 0
    assert sorted(path.name for path in tmp_path.glob('masks/*/*')) == [
        'partial_5_40_Mbit_s', 'partial_5_80_Mbit_s']


def test_this_machine_is_measured(videos, tmp_path, capfd):
    path = tmp_path / 'mine.json'
    assert evaluate(
        videos[0], '--methods', 'partial', '--profile', 'measured', '--save-profile', path,
        '--bandwidth', '5', '--set', 'max_updates=1', '--out', tmp_path / 'a') == 0
    assert 'measured: t_si' in capfd.readouterr().out
    profile = load_profile(path)
    assert profile.link.bandwidth_up == 5e6 and 0 < profile.t_si < profile.t_sd < 10
    (run,) = runs(tmp_path / 'a')
    assert run['conditions']['profile']['t_si'] == profile.t_si
    # What was measured can be used again, and so the run is the same.
    assert evaluate(videos[0], '--methods', 'partial', '--profile', path, '--set',
                    'max_updates=1', '--resume', '--out', tmp_path / 'a') == 0
    assert 'partial 5 Mbit/s: mIoU' not in capfd.readouterr().out


def test_frames_labels_and_predictions_are_saved(videos, tmp_path):
    saved = tmp_path / 'saved'
    assert evaluate(
        videos[0], '--methods', 'wild,naive', '--save-predictions', saved, '--save-labels', saved,
        '--label', 'a/b', '--out', tmp_path / 'o') == 0
    folders = sorted(path.name for path in (saved / '1.mp4').iterdir())
    assert folders == ['a_b_naive_80_Mbit_s', 'a_b_wild', 'images', 'labels']
    assert all(len(list((saved / '1.mp4' / name).iterdir())) == FRAMES for name in folders)
    first = saved / '1.mp4' / 'labels' / '000000.png'
    label = np.asarray(Image.open(first))
    assert label.shape == (184, 320) and label.max() <= 8
    # Naive offloading shows what the teacher says.
    assert np.array_equal(
        label, np.asarray(Image.open(saved / '1.mp4' / folders[0] / '000000.png')))
    assert cv2.imread(str(saved / '1.mp4' / 'images' / '000000.png')).shape == (184, 320, 3)


def test_in_real_time_a_slow_robot_drops_frames(videos, tmp_path):
    def run_of(name, *options):
        assert evaluate(videos[0], '--methods', 'partial', '--set', 'max_updates=1', '--frames',
                        '8', '--real-time', *options, '--out', tmp_path / name) == 0
        return runs(tmp_path / name)[0]

    quick, slow = run_of('quick', '--profile', 'wifi'), run_of('slow')
    # At 25 frames/s, of which one of 30 ms takes all and one of 150 ms every third or fourth.
    assert quick['dropped'] == 0 and slow['dropped'] == 5
    assert [index for index, value in enumerate(slow['miou_by_frame']) if value is not None] == [
        0, 3, 7]
    assert quick['seconds'] == pytest.approx(8 / 25)
    assert quick['mbit_per_s'] == pytest.approx(1e-3 * quick['kbit_per_s_at_rate'])
    assert quick['settings']['late_update'] == 'continue' and quick['conditions']['real_time']
    assert 0.1 < quick['round_trip'] < 0.3
    assert run_of('wait', '--late-update', 'wait')['settings']['late_update'] == 'wait'


def test_a_playlist_goes_on_through_all_its_videos(videos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = ('--methods', 'partial', '--update-delay', '2', '--set', 'max_updates=1', '--fps',
               '0.2', '--frames', '6', '--playlist', '1.5', '--real-time')
    several = [*videos, 'scene']
    assert evaluate(*several, *options, '--out', tmp_path / 'a') == 0
    (run,) = runs(tmp_path / 'a')
    assert run['video'] == 'playlist of 3, 90 s' and run['rate'] == 0.2
    # The videos have one frame each at that rate, the scene has six: 18 and more in three rounds.
    assert 18 <= run['frames'] <= 24
    assert len(run['health']) == 1
    (minute,) = run['health']
    assert minute['known'] and 0.9 < minute['norms'] < 1.2
    assert 50 < minute['resident_megabytes'] < 20_000
    # One session, with all that it has learnt: no frame after the first has number one again.
    assert [one['frame'] for one in run['key_frame_records']][:1] == [0]
    assert sum(one['frame'] == 0 for one in run['key_frame_records']) == 1
    assert evaluate(*several, *options, '--set', 'seed=1', '--out', tmp_path / 'b') == 0
    (other,) = runs(tmp_path / 'b')
    assert other['conditions']['inputs'] != run['conditions']['inputs'], 'another order'


def test_health_is_drawn_by_the_minute(videos, tmp_path):
    assert evaluate(videos[0], '--methods', 'wild', '--fps', '0.5', '--frames', '6', '--playlist',
                    '2.5', '--out', tmp_path / 'o') == 0
    (run,) = runs(tmp_path / 'o')
    assert len(run['health']) == 2 and all(one['norms'] == 1 for one in run['health'])
    assert (tmp_path / 'o' / 'health_playlist_of_1__150_s.png').is_file()


def test_resampling_and_cutting(videos, tmp_path):
    assert evaluate(videos[0], '--methods', 'wild', '--fps', '5', '--out', tmp_path / 'o') == 0
    (run,) = runs(tmp_path / 'o')
    assert run['frames'] == 3 and run['rate'] == 5
    assert 'at 5 frames/s' in (tmp_path / 'o' / 'tables.md').read_text()


def test_an_interrupted_evaluation_can_be_gone_on_with(videos, tmp_path):
    out = tmp_path / 'out'
    options = [*videos, '--methods', 'wild,partial', '--update-delay', '1,8', '--jobs', '2',
               '--set', 'max_updates=10', '--set', 'threshold=0.99', '--out', str(out)]
    process = subprocess.Popen(
        [sys.executable, '-m', 'shadowtutor_ros.commands.main', 'evaluate', *options, *OPTIONS],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        cwd=Path(__file__).parents[2])
    for line in process.stdout:
        if 'wild: mIoU' in line:
            break
    # As from a terminal: to all its processes.
    os.killpg(process.pid, signal.SIGINT)
    said = process.stdout.read()
    assert process.wait(120) == 130 and 'interrupted' in said and 'Traceback' not in said
    done = len(runs(out))
    assert 1 <= done < 6 and (out / 'tables.md').is_file()
    assert main(['evaluate', *options, '--resume', *OPTIONS]) == 0
    assert len(runs(out)) == 6


def test_a_corrupt_cache_is_made_anew(videos, tmp_path, cache):
    options = [videos[0], '--methods', 'wild', '--out']
    assert evaluate(*options, tmp_path / 'a') == 0
    (path,) = cache.glob('*.npz')
    path.write_bytes(b'PK broken')
    assert evaluate(*options, tmp_path / 'b') == 0
    assert runs(tmp_path / 'a')[0]['miou'] == runs(tmp_path / 'b')[0]['miou']
    assert len(Labels.load(path)) == FRAMES


@pytest.mark.parametrize('arguments, word', [
    (['/nowhere.mp4'], '/nowhere.mp4'), (['scene', '--methods', 'magic'], 'magic'),
    (['scene', '--student', '/nowhere.pth'], '/nowhere.pth'),
    (['scene', '--profile', '/nowhere.json'], '/nowhere.json'),
    (['scene', '--set', 'speed=9'], 'learning_rate'), (['scene', '--set', 'scope=x'], "'x'"),
    (['scene', '--jobs', '0', '--frames', '1'], '--jobs'), (['scene'], 'number of frames'),
    (['scene', '--frames', '-1'], '--frames'), (['scene', '--fps', 'nan'], '--fps'),
    (['scene', '--update-delay', '0'], '--update-delay'),
    (['scene', '--update-delay', '8,x'], '--update-delay'),
    (['scene', '--bandwidth', '0'], 'bandwidth_up is 0'),
    (['scene', '--loss', '2'], 'loss is 2'), (['scene', '--latency', '-1'], 'latency is -1'),
    (['scene', '--frames', '3', '--device', 'abacus'], 'abacus'),
    (['scene', '--frames', '3', '--teacher-weights', 'w.pth'], 'w.pth'),
    (['/dev/video0'], 'record a video')])
def test_what_is_wrong_is_one_clear_error(arguments, word, tmp_path, capfd):
    assert evaluate(*arguments, '--out', tmp_path) == 1
    error = capfd.readouterr().err.strip()
    assert word in error and '\n' not in error


@pytest.mark.parametrize('text', ['{"runs": [', '{}'])
def test_results_that_cannot_be_gone_on_with_are_left_alone(videos, tmp_path, text, capfd):
    (tmp_path / 'results.json').write_text(text)
    assert evaluate(videos[0], '--resume', '--out', tmp_path) == 1
    error = capfd.readouterr().err.strip()
    assert 'results.json' in error and '\n' not in error
    assert (tmp_path / 'results.json').read_text() == text
