"""A student as ONNX computes what it computes in PyTorch."""

from dataclasses import replace
import json
import sys

import numpy as np
import pytest
from shadowtutor_ros.classes import ClassTable
from shadowtutor_ros.models.student.base import Student
from shadowtutor_ros.models.student.inference import InferenceEngine
from shadowtutor_ros.models.student.onnx_export import (
    compare, Comparison, export_onnx, OnnxExportError)
from shadowtutor_ros.models.student.shadow import Shadow
from shadowtutor_ros.models.student.shadow_sizes import ShadowL, ShadowS
from tiny import Tiny
import torch

pytest.importorskip('onnx', reason='the package onnx is not installed, which exports need')
onnxruntime = pytest.importorskip(
    'onnxruntime', reason='onnxruntime is not installed, which exports are checked with')

TABLE = ClassTable.of(
    ['person', 'box', 'cat'], ids={0: 7, 2: 100}, colors={1: (1, 2, 3)})


def frames(height, width, count=1):
    random = np.random.default_rng(height * width)
    return random.integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def session(file):
    return onnxruntime.InferenceSession(file, providers=['CPUExecutionProvider'])


@pytest.fixture(params=[Shadow, ShadowS, ShadowL, Tiny])
def student(request):
    torch.manual_seed(3)
    return request.param(TABLE).eval()


@pytest.mark.parametrize('size', [(64, 96), (61, 99)])
def test_of_one_size(student, size):
    file = export_onnx(student, size)
    one, = compare(file, student, frames(*size))
    assert one.agrees and one.size == size and one.equal > 0.9999
    image, = session(file).get_inputs()
    assert (image.name, image.type, image.shape) == ('image', 'tensor(float)', [1, 3, *size])
    mask, logits = session(file).get_outputs()
    assert (mask.name, mask.type, mask.shape) == ('mask', 'tensor(int32)', [1, *size])
    assert (logits.name, logits.type) == ('logits', 'tensor(float)')


def test_of_any_size_and_number(student):
    file = export_onnx(student, None)
    for height, width, count in ((64, 96, 3), (96, 64, 1), (128, 200, 2)):
        found = compare(file, student, frames(height, width, count))
        assert len(found) == count and all(one.agrees for one in found)


def test_the_mask_has_the_ids_of_the_table(student):
    file, (frame,) = export_onnx(student, (64, 96)), frames(64, 96)
    blob = frame.transpose(2, 0, 1)[None].astype(np.float32)
    mask = session(file).run(['mask'], {'image': blob})[0][0]
    assert (mask == TABLE.published(InferenceEngine(student)(frame))).mean() > 0.999
    assert set(np.unique(mask)) <= set(TABLE.ids) and len(np.unique(mask)) > 1


def test_the_file_says_what_it_is(student):
    student.about = {'licence': 'CC0', 'recipe': '{}', 'session': 'nobody elses business'}
    said = session(export_onnx(student, (64, 96))).get_modelmeta().custom_metadata_map
    assert json.loads(said['names']) == {
        '0': 'background', '7': 'person', '1': 'box', '100': 'cat'}
    assert json.loads(said['colors'])[str(TABLE.ids[2])] == list(TABLE.colors[2])
    assert said['background'] == str(TABLE.ids[TABLE.background])
    assert (said['licence'], said['recipe']) == ('CC0', '{}') and 'session' not in said
    assert said['architecture'] == student.architecture and 'BGR' in said['input']


def test_the_student_stays_as_it_was(student):
    before, checksum = str(student), student.weights_checksum()
    export_onnx(student, (64, 96))
    assert (str(student), student.weights_checksum()) == (before, checksum)


def test_a_file_of_other_weights_does_not_agree(student):
    file = export_onnx(student, (64, 96))
    with torch.no_grad():
        for tensor in student.tensors('partial').values():
            tensor.mul_(1.01)
    one, = compare(file, student, frames(64, 96))
    assert not one.agrees


@pytest.mark.parametrize('change', [
    {'difference': 0.011}, {'equal': 0.998}, {'difference': float('nan')}])
def test_what_counts_as_a_difference(change):
    one = Comparison((64, 96), 0.009, 10.0, 0.9995)
    assert one.agrees and not replace(one, **change).agrees


def test_what_cannot_be_exported_is_one_clear_error(student, monkeypatch):
    def inverse(self, x):
        return torch.linalg.eig(x[:, :, :3, :3])[0].real[..., None]

    monkeypatch.setattr(type(student), 'portable_logits', inverse)
    with pytest.raises(OnnxExportError, match='portable_logits') as raised:
        export_onnx(student, (64, 96))
    assert '\n' not in str(raised.value)


@pytest.mark.parametrize('missing', ['onnx', 'onnxruntime'])
def test_a_package_that_is_missing_is_named(student, monkeypatch, missing):
    file = export_onnx(student, (64, 96))
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(OnnxExportError, match=f'pip install .{missing}>='):
        export_onnx(student, (64, 96))
        compare(file, student, frames(64, 96))


def test_a_file_that_does_not_run_is_one_clear_error(student):
    with pytest.raises(OnnxExportError, match='cannot run the file'):
        compare(b'no file', student, frames(64, 96))


def test_the_student_that_is_shipped():
    student = Student.load('')
    one, = compare(export_onnx(student, (64, 96)), student, frames(64, 96))
    assert one.agrees and one.difference < 1e-4 * one.largest
