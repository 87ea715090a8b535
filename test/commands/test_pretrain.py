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

from shadowtutor_ros.classes import ClassTable, COCO_NAMES, load_classes, LVS
from shadowtutor_ros.commands.main import main
from shadowtutor_ros.models.student.base import Student
from shadowtutor_ros.models.student.shadow import Shadow

SMALL = ['--looks', 'night', '--scenes', '1', '--scene-frames', '4', '--scene-size', '96x72',
         '--batch-size', '2', '--crop', '64', '--threads', '1']


def metadata(path):
    with safetensors.safe_open(path, 'pt') as file:
        return file.metadata()


def recipe(path):
    return json.loads(metadata(path)['recipe'])


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
    assert kept['classes'] == list(LVS.entries) and students[0].classes == LVS
    assert metadata(paths[0])['licence'] == 'mine: not said; scene: rendered by this package'
    assert str(tmp_path) not in json.dumps(metadata(paths[0]))
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


def test_weights_of_other_classes_get_rows_for_those_that_are_asked_for(tmp_path, capfd):
    names = ';'.join((*COCO_NAMES, 'background'))
    first = Shadow(load_classes(names))
    torch.save(first.state_dict(), tmp_path / 'coco.pth')
    out, arguments = tmp_path / 'nine.safetensors', [
        'pretrain', *SMALL, '--start', str(tmp_path / 'coco.pth'), '--steps', '0', '--out']
    assert main([*arguments, str(out), '--classes', 'lvs']) == 1
    error = capfd.readouterr().err
    assert '81 classes' in error and '--start-classes' in error
    assert main([*arguments, str(out), '--classes', 'lvs', '--start-classes', names]) == 0
    nine = Student.load(out)
    assert nine.classes == LVS
    assert torch.equal(nine.out_conv3.bias[8], first.out_conv3.bias[80])
    assert recipe(out)['start'] == {'file': 'coco.pth', 'recipe': None}
    assert metadata(out)['licence'] == (
        'scene: rendered by this package; coco.pth: not said')
    # Without --classes those of the weights are kept.
    kept = tmp_path / 'kept.safetensors'
    assert main([*arguments, str(kept), '--start-classes', names]) == 0
    assert Student.load(kept).classes.names == (*COCO_NAMES, 'background')
    assert Student.load(kept).weights_checksum() == first.weights_checksum()
    assert recipe(kept)['classes'] == [*COCO_NAMES, 'background']
    again = tmp_path / 'again.safetensors'
    assert main(['pretrain', *SMALL, '--start', str(out), '--steps', '1',
                 '--out', str(again)]) == 0
    assert recipe(again)['start'] == {'file': 'nine.safetensors', 'recipe': recipe(out)}
    assert metadata(again)['licence'] == metadata(out)['licence']


def test_a_student_of_cocos_classes_can_be_one_of_the_papers(tmp_path, capfd):
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
    out, nine = tmp_path / 'coco.safetensors', tmp_path / 'nine.safetensors'
    data = ['--data', str(tmp_path), *SMALL]
    assert main(['pretrain', *data, '--classes', 'toilet', '--steps', '1', '--out', str(out)]) == 1
    assert 'person, toothbrush' in capfd.readouterr().err
    assert main(['pretrain', *data, '--classes', 'coco', '--steps', '2',
                 '--schedule', 'milestones', '--learning-rate', '0.001', '--out', str(out)]) == 0
    coco = Student.load(out)
    assert coco.classes == ClassTable.of(('background', *COCO_NAMES))
    assert recipe(out)['classes'] == ['background', *COCO_NAMES]
    assert main(['pretrain', *data, '--start', str(out), '--classes', 'lvs', '--steps', '0',
                 '--out', str(nine)]) == 0
    found = Student.load(nine)
    assert found.classes == LVS
    for name, other in (('person', 'person'), ('auto', 'car'), ('background', 'background')):
        assert torch.equal(found.out_conv3.weight[LVS.find(name)],
                           coco.out_conv3.weight[coco.classes.find(other)])


def test_ones_own_classes(tmp_path, folder, capfd):
    out = tmp_path / 'own.safetensors'
    arguments = ['pretrain', '--data', str(folder), 'scene', *SMALL, '--steps', '1', '--out',
                 str(out)]
    # The ids of the folder's labels are 0, 1 and 8.
    assert main([*arguments, '--classes', 'crate, person']) == 1
    assert 'ids of the classes, 0 to 2' in capfd.readouterr().err
    (folder / 'classes.yaml').write_text(
        '{background: floor, classes: [{name: crate, id: 0}, {name: stone, id: 1}, '
        '{name: floor, id: 8}]}')
    assert main([*arguments, '--classes', 'crate, person']) == 0
    assert Student.load(out).classes == ClassTable.of(['crate', 'person'])
    table = tmp_path / 'table.yaml'
    table.write_text('{background: ground, classes: [{name: crate, id: 20}, ground, person]}')
    assert main([*arguments, '--classes', str(table)]) == 0
    assert Student.load(out).classes == load_classes(str(table))


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
    (['--classes', 'pallet'], ["'scene' shows none", 'pallet']),
    (['--classes', '/nowhere.yaml'], ['/nowhere.yaml', 'lvs, coco']),
    (['--classes', 'person, person'], ["'person' is there twice"]),
    (['--start-classes', 'a;;b,c', '--start', 'x.pth'], ["'b,c' is no name"]),
    (['--start', '/nowhere.pth'], ['/nowhere.pth']),
    (['--resume', '--out', '/nowhere/x.safetensors', '--scenes', '1', '--scene-frames', '1',
      '--scene-size', '96x72'], ['x.checkpoint', 'without --resume'])])
def test_what_is_wrong_is_one_line_and_status_1(arguments, words, capfd):
    assert main(['pretrain', *arguments]) == 1
    error = capfd.readouterr().err.strip()
    assert all(word in error for word in words) and '\n' not in error


def test_data_of_other_classes_is_refused(shared, capfd):
    assert main(['pretrain', '--data', str(shared('cases/coco/unknown_names'))]) == 1
    error = capfd.readouterr().err.strip()
    assert 'helmet' in error and 'person' in error and '\n' not in error
