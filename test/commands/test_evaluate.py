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


def test_resampling(videos, tmp_path):
    assert evaluate(videos[0], '--methods', 'wild', '--fps', '5', '--out', tmp_path / 'o') == 0
    assert json.loads((tmp_path / 'o' / 'results.json').read_text())['runs'][0]['frames'] == 3


@pytest.mark.parametrize('arguments, word', [
    (['/nowhere.mp4'], '/nowhere.mp4'), (['scene', '--methods', 'magic'], 'magic'),
    (['scene', '--student', '/nowhere.pth'], '/nowhere.pth'),
    (['scene', '--profile', '/nowhere.json'], '/nowhere.json')])
def test_what_is_wrong_is_one_clear_error(arguments, word, tmp_path, capfd):
    assert evaluate(*arguments, '--out', tmp_path) == 1
    error = capfd.readouterr().err.strip()
    assert word in error and '\n' not in error
