"""The command that pretrains a student."""

import json
import os
import signal
import threading
import time

import cv2
import numpy as np
import pytest
import safetensors
import torch

from shadowtutor_ros.commands.main import main
from shadowtutor_ros.models.student.base import Student
from shadowtutor_ros.models.student.shadow import Shadow

SMALL = ['--looks', 'night', '--scenes', '1', '--scene-frames', '4', '--scene-size', '96x72',
         '--batch-size', '2', '--crop', '64', '--threads', '1']


def recipe(path):
    with safetensors.safe_open(path, 'pt') as file:
        return json.loads(file.metadata()['recipe'])


@pytest.fixture
def folder(tmp_path):
    """Return a folder of six images with labels."""
    root = tmp_path / 'mine'
    for name in ('images', 'labels'):
        (root / name).mkdir(parents=True)
    random = np.random.default_rng(0)
    for number in range(6):
        label = np.full((72, 96), 8, np.uint8)
        label[20:50, 20:60] = number % 2
        cv2.imwrite(str(root / 'images' / f'{number}.jpg'),
                    random.integers(0, 255, (72, 96, 3), dtype=np.uint8))
        cv2.imwrite(str(root / 'labels' / f'{number}.png'), label)
    return root


def test_same_seed_same_student_and_the_recipe_is_kept(tmp_path, folder, capfd):
    paths = [tmp_path / f'{name}.safetensors' for name in 'ab']
    for path in paths:
        assert main([
            'pretrain', '--data', str(folder), 'scene', '--shares', '3,1', *SMALL, '--steps', '3',
            '--out', str(path)]) == 0
    students = [Student.load(path) for path in paths]
    assert students[0].weights_checksum() == students[1].weights_checksum()
    kept = recipe(paths[0])
    assert kept['steps'] == kept['step'] == 3 and kept['looks'] == 'night'
    assert [data['name'] for data in kept['data']] == ['mine', 'scene']
    assert [data['share'] for data in kept['data']] == [0.75, 0.25]
    assert all(0 <= data['validation_miou'] <= 1 for data in kept['data'])
    assert str(tmp_path) not in json.dumps(kept)
    assert paths[0].stat().st_size <= 2_000_000
    assert 'step 3: validation mIoU mine' in capfd.readouterr().out


def test_resumed_is_the_same_student(tmp_path, capfd):
    whole, parted = tmp_path / 'whole.safetensors', tmp_path / 'parted.safetensors'
    arguments = ['pretrain', *SMALL, '--validate-every', '2', '--out']
    assert main([*arguments, str(whole), '--steps', '4']) == 0
    # Within the warm-up the learning rate is that of a longer training.
    assert main([*arguments, str(parted), '--steps', '2']) == 0
    assert main([*arguments, str(parted), '--steps', '4', '--resume']) == 0
    assert 'going on after step 2' in capfd.readouterr().out
    # Of other scenes it is another training, and the file would tell a recipe that is not true.
    capfd.readouterr()
    assert main([*arguments, str(parted), '--steps', '6', '--resume', '--scene-frames', '3']) == 1
    assert 'scene_frames' in capfd.readouterr().err
    ends = [torch.load(path.with_suffix('.checkpoint'), weights_only=True)
            for path in (whole, parted)]
    assert ends[0]['step'] == ends[1]['step'] == 4
    for name, tensor in ends[0]['average'].items():
        assert torch.equal(tensor, ends[1]['average'][name])


def test_ctrl_c_leaves_a_checkpoint(tmp_path, capfd):
    out = tmp_path / 'student.safetensors'
    checkpoint = tmp_path / 'student.checkpoint'

    def interrupt():
        # Once training is sure to run: its first validation has left a checkpoint.
        while not checkpoint.exists():
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    arguments = ['pretrain', *SMALL, '--validate-every', '1', '--out', str(out)]
    assert main([*arguments, '--steps', '100000']) == 130
    assert '--resume goes on' in capfd.readouterr().out.replace('\n', ' ')
    assert torch.load(checkpoint, weights_only=True)['step'] >= 1
    Student.load(out)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_head_of_81_classes_is_written_as_one_of_nine(tmp_path, capfd):
    torch.save(Shadow(81).state_dict(), tmp_path / 'coco.pth')
    out = tmp_path / 'nine.safetensors'
    assert main(['pretrain', *SMALL, '--start', str(tmp_path / 'coco.pth'), '--steps', '0',
                 '--out', str(out)]) == 0
    assert Student.load(out).num_classes == 9
    assert recipe(out)['start'] == {'file': 'coco.pth', 'recipe': None}
    again = tmp_path / 'again.safetensors'
    assert main(['pretrain', *SMALL, '--start', str(out), '--steps', '1',
                 '--out', str(again)]) == 0
    assert recipe(again)['start'] == {'file': 'nine.safetensors', 'recipe': recipe(out)}


def test_coco_with_all_its_classes(tmp_path, capfd):
    (tmp_path / 'annotations').mkdir()
    (tmp_path / 'train').mkdir()
    random = np.random.default_rng(0)
    for number in range(3):
        cv2.imwrite(str(tmp_path / 'train' / f'{number}.png'),
                    random.integers(0, 255, (72, 96, 3), dtype=np.uint8))
    (tmp_path / 'annotations' / 'instances_train.json').write_text(json.dumps({
        'images': [{'id': number, 'file_name': f'{number}.png'} for number in range(3)],
        'categories': [{'id': 1, 'name': 'person'}, {'id': 90, 'name': 'toothbrush'}],
        'annotations': [
            {'image_id': number, 'category_id': (1, 90)[number % 2], 'iscrowd': 0, 'area': 900,
             'segmentation': [[10, 10, 40, 10, 40, 40, 10, 40]]} for number in range(3)]}))
    out = tmp_path / 'student.safetensors'
    assert main(['pretrain', '--data', str(tmp_path), '--classes', '81', *SMALL, '--steps', '2',
                 '--schedule', 'milestones', '--learning-rate', '0.001', '--out', str(out)]) == 0
    assert Student.load(out).num_classes == 9 and recipe(out)['classes'] == 81


@pytest.mark.parametrize('arguments, words', [
    (['--looks', 'psychedelic'], ['psychedelic', 'day']),
    (['--out', 'student.pth'], ['.safetensors']),
    (['--steps', '0'], ['--steps']),
    (['--scenes', '100'], ['--scenes', '99']),
    (['--start', 'a.safetensors', '--out', './a.safetensors'], ['--start', 'another']),
    (['--crop', '10'], ['--crop', '64']),
    (['--crop', '100'], ['100', 'multiple of 8']),
    (['--shares', '1,2'], ['1 numbers']),
    (['--shares', '-1'], ['above 0']),
    (['--data', '/nowhere'], ['/nowhere', 'images/']),
    (['--classes', '81'], ['annotations/']),
    (['--start', '/nowhere.pth'], ['/nowhere.pth']),
    (['--resume', '--out', '/nowhere/x.safetensors', '--scenes', '1', '--scene-frames', '1',
      '--scene-size', '96x72'], ['x.checkpoint', 'without --resume'])])
def test_what_is_wrong_is_one_line_and_status_1(arguments, words, capfd):
    assert main(['pretrain', *arguments]) == 1
    error = capfd.readouterr().err.strip()
    assert all(word in error for word in words) and '\n' not in error
