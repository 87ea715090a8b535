"""Evaluating videos."""

import csv
import json

import cv2
import pytest

from shadowtutor_ros.commands.main import main
from shadowtutor_ros.evaluation.scenes import Scene


@pytest.fixture
def videos(tmp_path, monkeypatch):
    """Return two short videos of the scene."""
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    paths = []
    for seed in (1, 2):
        scene = Scene(seed, 'day', 640, 360)
        paths.append(str(tmp_path / f'{seed}.mp4'))
        writer = cv2.VideoWriter(paths[-1], cv2.VideoWriter_fourcc(*'mp4v'), 25, (640, 360))
        for index in range(12):
            writer.write(scene.render(index).image)
        writer.release()
    return paths


def evaluate(*arguments):
    return main(['evaluate', *map(str, arguments), '--teacher', 'scene', '--width', '640'])


def test_results_are_written_and_resumed(videos, tmp_path, capfd):
    out = tmp_path / 'out'
    options = ['--methods', 'wild,partial,naive', '--update-delay', '1,8', '--out', out]
    assert evaluate(*videos[:1], '--paper-settings', *options) == 0
    runs = json.loads((out / 'results.json').read_text())['runs']
    assert [(run['method'], run['update_delay']) for run in runs] == [
        ('wild', None), ('partial', 1), ('partial', 8), ('naive', None)]
    assert all(run['frames'] == 12 for run in runs)
    assert runs[3]['miou'] == 1 and runs[0]['key_frame_ratio'] == 0
    with (out / 'results.csv').open() as file:
        assert [float(row['miou']) for row in csv.DictReader(file)] == [
            run['miou'] for run in runs]
    assert '| partial-1 | partial-8 |' in (out / 'tables.md').read_text()

    capfd.readouterr()
    assert evaluate(*videos, '--paper-settings', '--resume', *options) == 0
    said = capfd.readouterr().out
    assert '2.mp4 wild' in said and '1.mp4 wild' not in said
    assert len(json.loads((out / 'results.json').read_text())['runs']) == 8


def test_settings_decide_what_is_run_again(videos, tmp_path, capfd):
    options = [videos[0], '--methods', 'wild', '--resume', '--out', tmp_path / 'o']

    def runs():
        return json.loads((tmp_path / 'o' / 'results.json').read_text())['runs']

    assert evaluate(*options, '--set', 'max_updates=1') == 0
    assert runs()[0]['settings']['max_updates'] == 1
    capfd.readouterr()
    assert evaluate(*options, '--set', 'max_updates=1') == 0
    assert 'mIoU' not in capfd.readouterr().out
    # The other settings take the run's place, unless they have a name of their own.
    assert evaluate(*options, '--set', 'max_updates=2') == 0
    assert [run['settings']['max_updates'] for run in runs()] == [2]
    assert evaluate(*options, '--set', 'max_updates=3', '--label', 'three steps') == 0
    assert [run['settings']['max_updates'] for run in runs()] == [2, 3]
    assert '| wild | three steps wild |' in (tmp_path / 'o' / 'tables.md').read_text()


def test_processes_give_the_same_results(videos, tmp_path):
    options = ['--methods', 'wild,partial', '--set', 'max_updates=2', '--set', 'threshold=0.95']
    for jobs in (1, 2):
        assert evaluate(*videos, *options, '--jobs', jobs, '--out', tmp_path / str(jobs)) == 0
    one, two = (json.loads((tmp_path / jobs / 'results.json').read_text())['runs']
                for jobs in ('1', '2'))
    assert len(one) == 4
    assert sorted(one, key=str) == sorted(two, key=str)


def test_resampling(videos, tmp_path):
    assert evaluate(videos[0], '--methods', 'wild', '--fps', '5', '--out', tmp_path / 'o') == 0
    assert json.loads((tmp_path / 'o' / 'results.json').read_text())['runs'][0]['frames'] == 3


@pytest.mark.parametrize('arguments, word', [
    (['/nowhere.mp4'], '/nowhere.mp4'), (['scene', '--methods', 'magic'], 'magic'),
    (['scene', '--student', '/nowhere.pth'], '/nowhere.pth'),
    (['scene', '--profile', '/nowhere.json'], '/nowhere.json'),
    (['scene', '--set', 'speed=9'], 'learning_rate'), (['scene', '--set', 'scope=x'], "'x'"),
    (['scene', '--jobs', '0', '--frames', '1'], '--jobs'), (['scene'], '--frames')])
def test_what_is_wrong_is_one_clear_error(arguments, word, tmp_path, capfd):
    assert evaluate(*arguments, '--out', tmp_path) == 1
    error = capfd.readouterr().err.strip()
    assert word in error and '\n' not in error
