"""Models of Hugging Face transformers: opened, without running code of theirs, and loaded."""

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from PIL import Image
import torch
from torch import nn

from shadowtutor_ros.models.teachers.checks import check_frame, one_line, TeacherError
from shadowtutor_ros.models.teachers.networks import to_device


class Checkpoint:
    """
    A model on huggingface.co or in a folder.

    :param source: its id, or the path of a folder that holds what ``save_pretrained`` writes.
    :ivar config: the model's configuration.
    :raises TeacherError: if transformers cannot be imported, or nothing like that is there.
    """

    def __init__(self, source: str):
        self.source = source
        self.transformers = _transformers(source)
        path = Path(source).expanduser()
        if path.is_dir():
            self._path = str(path)
        elif source.startswith(('.', '/', '~')) or source.count('/') > 1:
            raise TeacherError(
                f"the teacher 'hf:{source}' is not a folder: give one with a config.json, or the "
                'id of a model on huggingface.co')
        else:
            self._path = source
        # False, not the default: that asks on the terminal.
        self.config = self._read(
            self.transformers.AutoConfig.from_pretrained, trust_remote_code=False)

    def model(self, maker: Any, device: str) -> nn.Module:
        """
        Load the model.

        :param maker: a class of transformers with ``from_pretrained``.
        :param device: where it runs, in PyTorch's notation.
        :raises TeacherError: if it has no safetensors, is of another kind, or cannot run there.
        """
        self._check_kind(maker)
        model = self._read(maker.from_pretrained, use_safetensors=True, dtype=torch.float32)
        return to_device(model, device, f'hf:{self.source}')

    def _check_kind(self, maker: Any) -> None:
        """Check that all weights will be there; transformers makes random ones for the rest."""
        made = maker
        if hasattr(maker, '_model_mapping'):  # of an Auto class
            made = maker._model_mapping[type(self.config)]
        # SAM for videos holds the one for images.
        names = {architecture.replace('VideoModel', 'Model')
                 for architecture in self.config.architectures or (made.__name__,)}
        if made.__name__ not in names:
            raise TeacherError(
                f"the teacher 'hf:{self.source}' is a {min(names)}, wanted a {made.__name__}: "
                'choose a model that was trained to segment images')

    def processor(self, maker: Any) -> Any:
        """
        Load what turns an image, and text, into the model's input.

        :param maker: a class of transformers with ``from_pretrained``.
        :raises TeacherError: if it is not there.
        """
        return self._read(maker.from_pretrained, trust_remote_code=False)

    def _read(self, read: Any, **options: Any) -> Any:
        try:
            return read(self._path, **options)
        except Exception as error:  # of the hub, of files and of whatever transformers wants
            reason, remedy = _explained(error, self._path)
            raise TeacherError(
                f"the teacher 'hf:{self.source}' cannot be loaded ({reason}): {remedy}") from None


def pil_image(frame: np.ndarray) -> Image.Image:
    """
    Turn a frame into what all processors of transformers take.

    :param frame: H×W×3 uint8, BGR.
    :raises ValueError: if the frame is something else.
    """
    check_frame(frame)
    return Image.fromarray(np.ascontiguousarray(frame[:, :, ::-1]))


def _transformers(source: str) -> ModuleType:
    try:
        return importlib.import_module('transformers')
    except (ImportError, OSError, RuntimeError) as error:
        raise TeacherError(
            f"the teacher 'hf:{source}' needs transformers, which cannot be imported "
            f"({one_line(error)}): pip install 'transformers>=4.56,<6' scipy") from None


def _explained(error: BaseException, path: str) -> tuple[str, str]:
    """Return why a model cannot be loaded, and what to do."""
    chain, cause = [], error
    while cause is not None and cause not in chain:
        chain.append(cause)
        cause = cause.__cause__ or cause.__context__
    kinds = {type(cause).__name__ for cause in chain}
    text = str(error)
    if 'GatedRepoError' in kinds or 'gated repo' in text:
        return ('it is given only to who has accepted its licence',
                f'accept it at https://huggingface.co/{path} and log in with hf auth login')
    if 'LocalEntryNotFoundError' in kinds or 'offline mode' in text:
        return ('huggingface.co cannot be reached, and it is not in the cache here',
                'connect to the internet, or give the path of a folder with a copy of it')
    if 'RepositoryNotFoundError' in kinds:
        return ('there is no such model on huggingface.co, or it is private',
                'check the id, or log in with hf auth login')
    if 'safetensors' in text:
        return ('it has no weights in safetensors',
                'choose one that has; pickled weights are not opened')
    if 'trust_remote_code' in text:
        return ('it wants code of its own to be run', 'choose one that transformers itself knows')
    if 'not recognize this architecture' in text:
        return one_line(error), 'pip install -U transformers'
    if isinstance(error, ImportError):
        lines = [' '.join(line.split()) for line in text.splitlines() if line.strip()]
        return ' '.join(lines)[:160], 'install what it needs'
    return (one_line(error)[:200],
            'wanted a model that the transformers here knows, with config.json, '
            'model.safetensors and its preprocessor')
