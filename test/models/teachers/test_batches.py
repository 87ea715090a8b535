"""Teachers that label several frames at once label each as they label it alone."""

import numpy as np
from onnx_files import write_onnx
import pytest
import torch
from torch import nn

from shadowtutor_ros.algorithms.labelling import label_together
from shadowtutor_ros.classes import ClassTable, LVS
from shadowtutor_ros.models.teachers import load_teacher
from shadowtutor_ros.models.teachers.base import OneSize, TeacherPrediction
from shadowtutor_ros.wire.key_frame import KeyFrameError

RANDOM = np.random.default_rng(0)
FRAMES = [RANDOM.integers(0, 256, (48, 64, 3), np.uint8) for _ in range(3)]
OTHER = ClassTable.of(['animal: dog, cat, bird', 'person'])
TABLES = [LVS, OTHER, LVS]


def count_runs(module: nn.Module):
    runs = []
    module.register_forward_hook(lambda *args: runs.append(1))
    return runs


def check(teacher, runs, frames=FRAMES, differing=0.0):
    """Check that frames of one size cost one pass, and get the labels of their own passes."""
    alone = [teacher(frame, classes) for frame, classes in zip(frames, TABLES)]
    runs.clear()
    together = label_together(teacher, frames, TABLES)
    assert len(runs) == 1
    for one, other in zip(alone, together):
        assert np.mean(one.label != other.label) <= differing
        np.testing.assert_allclose(one.boxes, other.boxes, atol=0.05)
    labels = {one.label.tobytes() for one in together}
    assert len(labels) == len(frames), 'a test of frames that all look alike finds nothing out'


def test_semantic_network_of_torchvision(tmp_path):
    models = pytest.importorskip('torchvision').models
    torch.manual_seed(0)
    name = 'lraspp_mobilenet_v3_large'
    torch.save(models.get_model(name, weights=None, weights_backbone=None).state_dict(),
               tmp_path / 'a.pth')
    teacher, outputs = load_teacher(name, str(tmp_path / 'a.pth')), []
    teacher._network.register_forward_hook(
        lambda network, inputs, output: outputs.append(output['out']))
    alone = [teacher(frame, classes) for frame, classes in zip(FRAMES, TABLES)]
    together = label_together(teacher, FRAMES, TABLES)
    *each, of_all = outputs
    assert len(each) == 3 and not torch.allclose(each[0], each[1], atol=1e-3)
    torch.testing.assert_close(of_all, torch.cat(each), atol=1e-4, rtol=1e-4)
    for one, other in zip(alone, together):
        assert np.mean(one.label != other.label) <= 0.01


def test_mask_rcnn(monkeypatch):
    models = pytest.importorskip('torchvision').models
    from shadowtutor_ros.models.teachers import instance

    class Bright(nn.Module):
        """Finds a person wherever red is bright, as a network that is given a list does."""

        def forward(self, images):
            return [{
                'masks': (image[0] > 0.9).float()[None, None], 'scores': torch.tensor([0.9]),
                'boxes': torch.tensor([[0., 0., 64., 48.]]), 'labels': torch.tensor([1]),
            } for image in images]

    monkeypatch.setattr(instance, 'load_network', lambda name, *args, **options: (
        Bright(), models.get_model_weights(name).DEFAULT))
    teacher = load_teacher('maskrcnn_resnet50_fpn')
    check(teacher, count_runs(teacher._network))


@pytest.mark.parametrize('name', ['segformer', 'mask2former'])
def test_transformers(checkpoint, name):
    options = {} if name == 'segformer' else {'score_threshold': 0.0}
    teacher = load_teacher(f'hf:{checkpoint(name)}', **options)
    check(teacher, count_runs(teacher._model), differing=0.01)


def identity(tmp_path, batch):
    """Write a network whose categories are the brightest of red, green and blue."""
    return load_teacher(write_onnx(
        tmp_path / 'a.onnx', [...], [(batch, 3, 'h', 'w')], names=['void', 'dog', 'person'],
        mean=[0, 0, 0], std=[1, 1, 1]))


def counting(teacher, monkeypatch):
    runs, run = [], teacher._network.run
    monkeypatch.setattr(
        teacher._network, 'run', lambda values: runs.append(len(values)) or run(values))
    return runs


def test_onnx_with_a_free_batch(tmp_path, monkeypatch):
    teacher = identity(tmp_path, 'n')
    check(teacher, counting(teacher, monkeypatch))


@pytest.mark.parametrize('batch', [1, 2])
def test_onnx_with_a_fixed_batch_labels_one_by_one(tmp_path, monkeypatch, batch):
    teacher = identity(tmp_path, batch)
    runs = counting(teacher, monkeypatch)
    assert len(label_together(teacher, FRAMES, TABLES)) == 3 and runs == [1, 1, 1]


def test_onnx_whose_free_batch_is_a_promise_alone(tmp_path, monkeypatch):
    # Constants: for two images it gives no more than for one.
    logits = np.zeros((1, 3, 12, 16), np.float32)
    teacher = load_teacher(write_onnx(
        tmp_path / 'a.onnx', [logits], [('n', 3, 'h', 'w')], names=['void', 'dog', 'person']))
    runs = counting(teacher, monkeypatch)
    label_together(teacher, FRAMES, TABLES)
    assert runs == [1, 1, 1]


class Somebodys(OneSize):
    """A teacher that notes what it was asked for."""

    def __init__(self):
        self.asked = []

    def label_batch(self, frames, tables):
        self.asked.append(len(frames))
        if any(frame.max() == 0 for frame in frames):
            raise ValueError('nothing is to be seen')
        return [TeacherPrediction(np.full(frame.shape[:2], frame[0, 0, 0] % 2, np.uint8),
                                  np.zeros((0, 4), np.float32)) for frame in frames]


def test_frames_of_other_sizes_are_labelled_by_themselves_and_all_in_their_order():
    teacher = Somebodys()
    frames = [FRAMES[0], FRAMES[1][:40], FRAMES[2], FRAMES[0][:40]]
    labels = label_together(teacher, frames, [LVS] * 4)
    assert teacher.asked == [2, 2]
    assert [one.label.shape for one in labels] == [frame.shape[:2] for frame in frames]
    assert [one.label[0, 0] for one in labels] == [frame[0, 0, 0] % 2 for frame in frames]


def test_a_frame_that_cannot_be_labelled_takes_no_other_along():
    teacher = Somebodys()
    first, dark, last = label_together(
        teacher, [FRAMES[0], np.zeros_like(FRAMES[0]), FRAMES[2]], TABLES)
    assert isinstance(dark, KeyFrameError) and dark.reason == 'unlabelled'
    assert 'nothing is to be seen' in str(dark) and isinstance(dark.__cause__, ValueError)
    assert first.label.shape == last.label.shape == (48, 64)


def test_a_plain_function_labels_one_by_one():
    asked = []

    def teacher(frame, classes):
        asked.append(classes)
        return TeacherPrediction(np.zeros(frame.shape[:2], np.uint8), np.zeros((0, 4)))

    assert len(label_together(teacher, FRAMES, TABLES)) == 3 and asked == TABLES
