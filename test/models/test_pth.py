"""Files of PyTorch's own format."""

import hashlib
import os
import pathlib
import shlex
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from shadowtutor_ros.models import pth
from shadowtutor_ros.models.pth import load_pth, UnknownPthError
from shadowtutor_ros.models.student.base import Student, WeightsError
from shadowtutor_ros.models.student.shadow import Shadow
from shadowtutor_ros.models.teachers import load_teacher
from shadowtutor_ros.models.teachers.checks import TeacherError
import torch
from torch.torch_version import TorchVersion

OLD = ['2.1.0', '2.5.1+cu121', '2.6.0', '2.9.1', '2.10.0a0']


@pytest.fixture
def torch_of(monkeypatch):
    """Return a function that changes the version of torch."""
    return lambda version: monkeypatch.setattr(torch, '__version__', TorchVersion(version))


@pytest.fixture
def opened(monkeypatch):
    """Return a list of what torch.load is given."""
    calls, load = [], torch.load

    def record(file, *args, **options):
        calls.append(file)
        assert options['weights_only'] is True
        return load(file, *args, **options)
    monkeypatch.setattr(torch, 'load', record)
    return calls


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "a student's.pth"
    torch.manual_seed(4)
    torch.save(Shadow().state_dict(), path)
    return path


class Trap:
    """Unpickling it makes a folder."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize('version', ['2.10.0', '2.10.1+cpu', '2.14.1+cu130', '3.0.0'])
def test_a_newer_torch_reads_any(path, torch_of, opened, version):
    torch_of(version)
    Student.load(path)
    assert opened == [path]


@pytest.mark.parametrize('version', OLD)
def test_an_older_torch_opens_none_that_is_not_known(tmp_path, torch_of, opened, version):
    torch_of(version)
    proof = tmp_path / 'code_was_run'
    torch.save({'out_conv1.bias': Trap(proof)}, tmp_path / 'trap.pth')
    with pytest.raises(WeightsError, match=version.replace('+', r'\+')) as caught:
        Student.load(tmp_path / 'trap.pth')
    with pytest.raises(TeacherError, match='not opened'):
        load_teacher('lraspp_mobilenet_v3_large', str(tmp_path / 'trap.pth'))
    assert not opened and not proof.exists()
    assert '\n' not in str(caught.value) and 'trap.safetensors' in str(caught.value)


def test_an_older_torch_reads_what_is_known(path, torch_of, monkeypatch):
    torch_of('2.5.1')
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setattr(pth, 'KNOWN', ())
    for known in ((), ('0' + digest,), (digest[1:],)):
        with pytest.raises(UnknownPthError):
            load_pth(path, known)
    assert load_pth(path, ('0' * 64, digest)).keys() == Shadow().state_dict().keys()


def test_the_first_implementations_student_is_known(first_student, torch_of):
    torch_of('2.5.1')
    Student.load(first_student)


def test_torchvisions_own_file_is_known_wherever_it_lies(tmp_path, torch_of, monkeypatch):
    models = pytest.importorskip('torchvision.models')
    name = 'lraspp_mobilenet_v3_large'
    path = tmp_path / 'copied.pth'
    torch.save(models.get_model(name, weights=None, weights_backbone=None).state_dict(), path)
    torch_of('2.5.1')
    # Torchvision names what it offers by the first digits of its SHA-256.
    real = models.get_model_weights(name).DEFAULT
    for digits, known in (('0' * 8, False), (hashlib.sha256(path.read_bytes()).hexdigest(), True)):
        offered = SimpleNamespace(
            url=f'https://example.org/lraspp-{digits[:8]}.pth', meta=real.meta,
            transforms=real.transforms)
        monkeypatch.setattr(
            models, 'get_model_weights', lambda name: SimpleNamespace(DEFAULT=offered))
        if known:
            load_teacher(name, str(path))
        else:
            with pytest.raises(TeacherError, match='not opened'):
                load_teacher(name, str(path))


def test_what_is_hashed_is_what_is_read(path, tmp_path, torch_of, monkeypatch):
    torch_of('2.5.1')
    proof, known = tmp_path / 'code_was_run', hashlib.sha256(path.read_bytes()).hexdigest()
    read = pathlib.Path.read_bytes

    def swap(self):
        data = read(self)
        torch.save({'out_conv1.bias': Trap(proof)}, path)
        return data
    monkeypatch.setattr(pathlib.Path, 'read_bytes', swap)
    assert load_pth(path, (known,)).keys() == Shadow().state_dict().keys()


@pytest.mark.skipif(
    TorchVersion(torch.__version__) < pth.SAFE_TORCH, reason='converting needs a newer torch')
def test_the_command_that_converts_does_so(path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, '__version__', TorchVersion('2.5.1'))
        with pytest.raises(WeightsError) as caught:
            Student.load(path)
    command = str(caught.value).partition(' newer by ')[2].rpartition(' and give')[0]
    program, *arguments = shlex.split(command)
    assert program == 'python3'
    # In a shell, as it is written, but with this interpreter.
    subprocess.run(
        command.replace('python3', shlex.quote(sys.executable), 1), shell=True, check=True)
    expected = torch.load(path, weights_only=True)
    found = Student.load(arguments[-1]).state_dict()
    assert all(np.array_equal(found[name], tensor) for name, tensor in expected.items())
