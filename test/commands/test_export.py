"""The command `shadowtutor export`."""

from dataclasses import replace
import json

import numpy as np
import pytest
from shadowtutor_ros.commands import export
from shadowtutor_ros.commands.main import main
from shadowtutor_ros.models.student.base import Student
from shadowtutor_ros.models.student.shadow import Shadow
import torch

pytest.importorskip('onnx', reason='the package onnx is not installed, which exports need')
onnxruntime = pytest.importorskip(
    'onnxruntime', reason='onnxruntime is not installed, which exports are checked with')


@pytest.fixture
def weights(tmp_path):
    torch.manual_seed(0)
    path = tmp_path / 'mine.safetensors'
    Shadow().save(path, licence='CC0')
    return path


def open_onnx(path):
    return onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider'])


def test_exports_beside_the_weights_and_says_how_it_compares(weights, capfd, monkeypatch):
    monkeypatch.setenv('COLUMNS', '200')
    assert main(['export', str(weights)]) == 0
    said = capfd.readouterr().out
    assert 'a scene of 640x360: logits differ' in said and 'of the pixels are equal' in said
    session = open_onnx(weights.with_suffix('.onnx'))
    assert session.get_inputs()[0].shape == ['n', 3, 'height', 'width']
    assert session.get_modelmeta().custom_metadata_map['licence'] == 'CC0'


def test_of_one_size_and_some_classes(weights, tmp_path):
    out = tmp_path / 'made' / 'robot.onnx'
    assert main(['export', str(weights), '--out', str(out), '--size', '160x96', '--classes',
                 'car; person']) == 0
    session = open_onnx(out)
    assert session.get_inputs()[0].shape == [1, 3, 96, 160]
    names = json.loads(session.get_modelmeta().custom_metadata_map['names'])
    assert names == {'0': 'background', '1': 'car', '2': 'person'}
    image = np.random.default_rng(0).uniform(0, 255, (1, 3, 96, 160)).astype(np.float32)
    _, logits = session.run(None, {'image': image})
    student = Student.load(weights)
    with torch.no_grad():
        own = student.coarse_logits(student.front(torch.from_numpy(image)), (8, 2, 0)).numpy()
    assert np.abs(logits - own).max() < 1e-3 * np.abs(own).max(), 'background, auto, person'


def test_what_does_not_agree_is_not_written(weights, capfd, monkeypatch):
    compare = export.compare
    monkeypatch.setattr(export, 'compare', lambda *arguments: [
        replace(one, difference=1.0, largest=10.0) for one in compare(*arguments)])
    out = weights.with_suffix('.onnx')
    out.write_bytes(b'an earlier one')
    assert main(['export', str(weights), '--size', '96x64']) == 1
    assert 'does not compute what PyTorch does' in capfd.readouterr().err
    assert out.read_bytes() == b'an earlier one'
    assert sorted(path.name for path in out.parent.iterdir()) == [
        'mine.onnx', 'mine.safetensors']


@pytest.mark.parametrize('options, words', [
    (['--out', 'file.pt'], '.onnx'), (['--size', '32x64'], 'below 33x33'),
    (['--classes', 'person, unicorn'], 'has not learnt unicorn')])
def test_what_cannot_be_is_one_clear_line(weights, capfd, options, words):
    assert main(['export', str(weights), *options]) == 1
    said = capfd.readouterr().err
    assert words in said and said.count('\n') == 1 and 'Traceback' not in said


def test_a_file_that_is_no_student(tmp_path, capfd):
    assert main(['export', str(tmp_path / 'none.safetensors')]) == 1
    assert 'are not a file' in capfd.readouterr().err
