"""Pretraining a student on the scene."""

import json

import safetensors

from shadowtutor_ros.commands.main import main
from shadowtutor_ros.models.student import Student


def test_same_seed_same_student_and_the_recipe_is_kept(tmp_path, capfd):
    paths = [tmp_path / f'{name}.safetensors' for name in 'ab']
    for path in paths:
        assert main([
            'pretrain', '--looks', 'day', '--scenes', '1', '--scene-frames', '4', '--width', '64',
            '--height', '48', '--steps', '3', '--batch-size', '2', '--out', str(path)]) == 0
    students = [Student.load(path) for path in paths]
    assert students[0].weights_checksum() == students[1].weights_checksum()
    with safetensors.safe_open(paths[0], 'pt') as file:
        recipe = json.loads(file.metadata()['recipe'])
    assert recipe['steps'] == 3 and recipe['looks'] == ['day'] and 0 <= recipe['validation_miou']
    assert paths[0].stat().st_size <= 2_000_000


def test_unknown_look_is_one_clear_error(capfd):
    assert main(['pretrain', '--looks', 'psychedelic']) == 1
    assert 'psychedelic' in capfd.readouterr().err
