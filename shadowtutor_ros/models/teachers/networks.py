"""Torchvision's networks with weights from a file or from torchvision's own download."""

from pathlib import Path
import pickle
import re
import sys
from urllib.parse import urlparse

import numpy as np
import torch
from torch import nn

from shadowtutor_ros.models.pth import KNOWN, load_pth, UnknownPthError
from shadowtutor_ros.models.safetensors_file import load_file, SafetensorsError
from shadowtutor_ros.models.teachers.checks import check_frame, one_line, TeacherError


def load_network(
        name: str, weights: str, device: str, **options: float) -> tuple[nn.Module, object]:
    """
    Build one of torchvision's networks and load its weights.

    :param name: of torchvision's model builder.
    :param weights: 'DEFAULT' for torchvision's download, or the path of a ``.safetensors`` file or
        a ``.pth`` state dict (read by :func:`.pth.load_pth`).
    :param device: where it shall run, in PyTorch's notation.
    :param options: of the model builder.
    :returns: the network, in evaluation mode on the device; and torchvision's description of its
        default weights, whose categories and transforms hold for files too.
    :raises TeacherError: if torchvision cannot be imported, or the weights cannot be downloaded,
        read or do not fit, or the device is not there.
    """
    try:
        from torchvision import models
    except (ImportError, OSError, RuntimeError) as error:  # RuntimeError: made for another torch
        raise TeacherError(
            f"the teacher '{name}' needs torchvision, which cannot be imported "
            f'({one_line(error)}): install the torchvision that goes with torch '
            f'{torch.__version__}') from None
    description = models.get_model_weights(name).DEFAULT
    path = _download(name, description.url) if weights == 'DEFAULT' else Path(weights)
    state = _read(path, description.url)
    network = models.get_model(name, weights=None, weights_backbone=None, **options)
    _assign(network, state, name, path)
    if name == 'maskrcnn_resnet50_fpn':
        # Its weights were trained with 0; torchvision does the same in its own loading
        # (overwrite_eps in torchvision/models/detection/mask_rcnn.py). PyTorch 2.11 refuses 0,
        # and this changes no variance above 1e-30.
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eps = torch.finfo(torch.float32).tiny
    return to_device(network, device, name), description


def to_device(network: nn.Module, device: str, name: str) -> nn.Module:
    """
    Move a network to a device, for inference alone.

    :param device: in PyTorch's notation.
    :param name: of the teacher, for the error.
    :returns: the network.
    :raises TeacherError: if the device is not there.
    """
    try:
        return network.eval().requires_grad_(False).to(device)
    except (AssertionError, RuntimeError) as error:
        raise TeacherError(
            f"the teacher '{name}' cannot run on the device '{device}' ({one_line(error)}): "
            "choose 'cpu', or a device that PyTorch has here") from None


def to_tensor(frame: np.ndarray, device: str) -> torch.Tensor:
    """
    Turn a frame into what torchvision takes.

    :param frame: H×W×3 uint8, BGR.
    :returns: 3×H×W uint8, RGB, on the device.
    :raises ValueError: if the frame is something else.
    """
    check_frame(frame)
    rgb = np.ascontiguousarray(frame[:, :, ::-1].transpose(2, 0, 1))
    return torch.from_numpy(rgb).to(device)


def _download(name: str, url: str) -> Path:
    """Return the path of torchvision's weights, in its own cache; download them if need be."""
    # Not with torchvision's get_state_dict, which unpickles what it downloads up to torch 2.1.
    path = Path(torch.hub.get_dir(), 'checkpoints', Path(urlparse(url).path).name)
    if not path.is_file():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(
                url, str(path), next(iter(_checksum(url)), None), progress=sys.stderr.isatty())
        except (OSError, RuntimeError) as error:
            raise TeacherError(
                f"the weights of the teacher '{name}' cannot be downloaded from {url} "
                f'({one_line(error)}): connect to the internet, or download that file elsewhere '
                'and give its path as teacher_weights') from None
    return path


def _checksum(url: str) -> tuple[str, ...]:
    """Return the first digits of a file's SHA-256, by which torchvision names it; or nothing."""
    return tuple(re.findall(r'-([0-9a-f]{8,})\.', url))


def _read(path: Path, url: str) -> dict[str, torch.Tensor]:
    """Read a file; torchvision's own, of that URL, is known wherever it lies."""
    if not path.is_file():
        raise TeacherError(
            f"teacher weights '{path}' are not a file: give 'DEFAULT' or the path of a .pth or "
            '.safetensors file')
    try:
        if path.suffix == '.safetensors':
            return load_file(path)[0]
        return load_pth(path, (*KNOWN, *_checksum(url)))
    except UnknownPthError as error:
        raise TeacherError(f"teacher weights '{path}' are not opened: {error}") from None
    except (OSError, EOFError, RuntimeError, pickle.UnpicklingError,
            SafetensorsError) as error:
        # PyTorch's own message would advise to turn the safe loading off.
        reason = ('it holds more than tensors, or is none' if isinstance(
            error, pickle.UnpicklingError) else one_line(error))
        raise TeacherError(
            f"teacher weights '{path}' cannot be read ({reason}): expected a .safetensors file or "
            'a .pth state dict of tensors') from None


def _assign(network: nn.Module, state: dict[str, torch.Tensor], name: str, path: Path) -> None:
    """Copy weights into a network, or say in one line why they do not fit."""
    prefix = f"teacher weights '{path}' do not fit {name}: "
    if not isinstance(state, dict):
        raise TeacherError(f'{prefix}got a {type(state).__name__}, wanted a dict of tensors')
    own = network.state_dict()
    # Auxiliary classifiers serve training alone. Frozen batch norms, which torchvision's weights
    # were made with, count no batches.
    state = {
        key: value for key, value in state.items() if not str(key).startswith('aux_classifier.')}
    counters = {key for key in {*own, *state} if str(key).endswith('.num_batches_tracked')}
    missing = sorted(own.keys() - state.keys() - counters)
    unknown = sorted(map(str, state.keys() - own.keys() - counters))
    if missing or unknown:
        raise TeacherError(prefix + '; '.join(
            f'{len(names)} tensors are {what}, the first is {names[0]}'
            for names, what in ((missing, 'missing'), (unknown, 'unknown')) if names)
            + f': choose weights of {name}')
    for key in own.keys() & state.keys():
        if not isinstance(state[key], torch.Tensor):
            raise TeacherError(f'{prefix}{key} is a {type(state[key]).__name__}, wanted a tensor')
        if state[key].shape != own[key].shape:
            raise TeacherError(
                f'{prefix}{key} has shape {tuple(state[key].shape)}, wanted '
                f"{tuple(own[key].shape)}: choose weights for torchvision's own categories")
    network.load_state_dict({key: state.get(key, own[key]) for key in own})
