"""What a student is: any small segmentation network with an encoder and a decoder."""

import hashlib
import importlib
import json
from pathlib import Path
from typing import Any, ClassVar, Protocol
import zlib

import numpy as np
import torch
from torch import nn
import torch.nn.functional as F

from shadowtutor_ros.classes import ClassTable, LVS, name_key
from shadowtutor_ros.files import replacing
from shadowtutor_ros.models.pth import load_pth, UnknownPthError
from shadowtutor_ros.models.safetensors_file import load_file, SafetensorsError, save_file

#: Where the weights are that the package ships, made by `shadowtutor pretrain`: by architecture.
_SHIPPED = Path(__file__).parents[2] / 'weights'
SHIPPED_WEIGHTS = _SHIPPED / 'shadow.safetensors'

#: The architectures by name, as module and class; :func:`register` adds others.
ARCHITECTURES: dict[str, tuple[str, str]] = {
    'shadow': ('shadowtutor_ros.models.student.shadow', 'Shadow'),
    'shadow-s': ('shadowtutor_ros.models.student.shadow_sizes', 'ShadowS'),
    'shadow-l': ('shadowtutor_ros.models.student.shadow_sizes', 'ShadowL'),
}

#: What can be trained and sent, by name: the paper's part of the decoder, the decoder, all.
SCOPES = ('partial', 'decoder', 'full')

Weights = dict[str, torch.Tensor]

#: What a weights file says in any case.
_OWN = 'architecture', 'classes', 'pixel_mean'


class WeightsError(ValueError):
    """A weights file, or a set of tensors, that does not fit the student."""


def checksum(weights: Weights) -> int:
    """
    Compute the CRC-32 of weights.

    :param weights: float32 tensors by name, in the order of the student's state dict.
    """
    value = 0
    for tensor in weights.values():
        # C order, so that the memory format in use here does not matter.
        value = zlib.crc32(tensor.detach().cpu().contiguous().numpy(), value)
    return value


class FastPath(Protocol):
    """A student's network as inference runs it; never trained."""

    def swap(self, tensors: Weights) -> None:
        """Replace weights: float32, by the student's names; none of the head, see below."""

    def offer(self, student: 'Student', rows: tuple[int, ...]) -> None:
        """Compute these rows of the head alone; all weights are those of the student now."""

    def __call__(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Compute logits and features.

        :param pixels: H×W×3 uint8, BGR, on the device; H and W multiples of the student's
            ``multiple``.
        :returns: logits, rows×h×w, which are enlarged to H×W; and 1×C×h'×w' features of the
            encoder, by which scenes are compared.
        """


class Student(nn.Module):
    """
    A student network; its architectures are subclasses.

    Each has blocks, which are its direct children by name: those of the encoder are the front end,
    those of the decoder the back end, the last of them the head: a convolution, whose weight and
    bias have a row a class.

    :cvar architecture: its name.
    :cvar encoder, decoder: names of their blocks, in the order of computation.
    :cvar partial: those of the decoder that the paper's partial distillation trains.
    :cvar pixel_mean: BGR, 0 to 255, subtracted from pixels.
    :cvar multiple: height and width are padded to multiples of it.

    :ivar about: what its file says of it besides, such as ``licence`` and ``recipe``; texts.

    :param classes: that it chooses from.
    """

    architecture: ClassVar[str]
    encoder: ClassVar[tuple[str, ...]]
    decoder: ClassVar[tuple[str, ...]]
    partial: ClassVar[tuple[str, ...]]
    pixel_mean: ClassVar[tuple[float, float, float]]
    multiple: ClassVar[int] = 8

    def __init__(self, classes: ClassTable = LVS):
        super().__init__()
        self.classes = classes
        self.about: dict[str, str] = {}

    def front(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """
        Run the encoder, the front end.

        :param x: N×3×H×W float, BGR, 0 to 255.
        :returns: a tuple of tensors (or named tuple), N first.
        """
        raise NotImplementedError

    def coarse_logits(
            self, features: tuple[torch.Tensor, ...],
            rows: tuple[int, ...] | None = None) -> torch.Tensor:
        """
        Run the decoder, the back end, but for the enlargement at its end.

        :param features: of :meth:`front`.
        :param rows: classes that logits are computed of, alone; None: all.
        :returns: logits, N×rows×h×w, an integer part of the padded size.
        """
        raise NotImplementedError

    def back(
            self, features: tuple[torch.Tensor, ...], size: tuple[int, int],
            rows: tuple[int, ...] | None = None) -> torch.Tensor:
        """
        Run the decoder, the back end.

        :param features, rows: as for :meth:`coarse_logits`.
        :param size: (H, W) of the images, which is the size of the result.
        :returns: logits, N×rows×H×W.
        """
        padded = tuple(side + -side % self.multiple for side in size)
        logits = F.interpolate(
            self.coarse_logits(features, rows), size=padded, mode='bilinear', align_corners=False)
        return logits[:, :, :size[0], :size[1]]

    def padded(self, x: torch.Tensor) -> torch.Tensor:
        """Repeat the border of images, N×C×H×W, until H and W are multiples of ``multiple``."""
        bottom, right = (-side % self.multiple for side in x.shape[2:])
        return F.pad(x, (0, right, 0, bottom), mode='replicate') if bottom or right else x

    def plain_logits(self, x: torch.Tensor) -> torch.Tensor:
        """Compute the logits of all classes layer by layer; parameters as for :meth:`forward`."""
        return self(x)

    def portable_logits(self, x: torch.Tensor) -> torch.Tensor:
        """
        Compute the logits of all classes in operations that other runtimes have.

        :param x: as for :meth:`forward`.
        :returns: N×classes×h×w, as of :meth:`coarse_logits`.
        """
        return self.coarse_logits(self.front(x))

    def fast_path(self, device: torch.device, dtype: torch.dtype) -> FastPath:
        """Make what inference runs, in a precision."""
        raise NotImplementedError

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """
        Compute logits.

        :param x: N×3×H×W float, BGR, 0 to 255, H and W at least ``MIN_SIDE``.
        :returns: N×classes×H×W.
        """
        return self.back(self.front(x), tuple(x.shape[2:]))

    # --- blocks and tensors ----------------------------------------------------------------------

    @classmethod
    def blocks_of(cls, scope: str) -> tuple[str, ...]:
        """
        Return the blocks of a scope.

        :param scope: one of :data:`SCOPES`, or names of blocks separated by commas.
        :raises ValueError: if it is neither.
        """
        blocks = cls.encoder + cls.decoder
        scopes = dict(zip(SCOPES, (cls.partial, cls.decoder, blocks)))
        names = scopes.get(scope) or tuple(name.strip() for name in scope.split(','))
        unknown = [name for name in names if name not in blocks]
        if unknown:
            raise ValueError(
                f"scope '{scope}' is unknown: choose {', '.join(scopes)}, or blocks separated by "
                f"commas, of {', '.join(blocks)}")
        return names

    def tensors(self, scope: str = 'full') -> Weights:
        """
        Return the tensors of a scope by name; they are the parameters themselves, not copies.

        :param scope: as for :meth:`blocks_of`, which raises ValueError for any other.
        """
        blocks = self.blocks_of(scope)
        return {
            name: tensor for name, tensor in self.state_dict(keep_vars=True).items()
            if name.split('.')[0] in blocks}

    @classmethod
    def has_rows(cls, name: str) -> bool:
        """Tell whether a tensor is of the head, and so has a row a class."""
        return name.partition('.')[0] == cls.decoder[-1]

    @property
    def model_id(self) -> str:
        """Digest of architecture and layout, whatever the classes: 16 hex digits."""
        layout = [
            (name, tuple(tensor.shape)[self.has_rows(name):], str(tensor.dtype))
            for name, tensor in self.state_dict().items()]
        return hashlib.sha256(repr((self.architecture, layout)).encode()).hexdigest()[:16]

    def weights_checksum(self, changes: Weights | None = None) -> int:
        """
        Compute the CRC-32 of all the weights, see :func:`checksum`.

        :param changes: float32 tensors that stand in for those of the same name.
        """
        return checksum({**self.state_dict(), **(changes or {})})

    def weights(self) -> Weights:
        """Return a copy of all the weights on the CPU, by name; they must not be written to."""
        return {name: tensor.detach().to('cpu', copy=True)
                for name, tensor in self.state_dict().items()}

    # --- classes ---------------------------------------------------------------------------------

    @classmethod
    def with_classes(
            cls, weights: Weights, old: ClassTable, new: ClassTable,
            origin: tuple[Weights, ClassTable]) -> Weights:
        """
        Give weights the rows of other classes, the same wherever it is done.

        A row stays where its name stays; else it is that of the weights file, where this knows the
        name; else that of a class that is part of it or that it is part of, as cars are of auto;
        else it is made from the name alone. The background's stays in any case.

        :param weights: all of them, float32 by name, on the CPU.
        :param old: their classes.
        :param new: those that are wanted.
        :param origin: the weights of the weights file, and its classes.
        :returns: new weights, which share all tensors but the head's.
        """
        if old.digest == new.digest:
            return weights
        first, table = origin
        changed = dict(weights)
        for name, tensor in weights.items():
            if not cls.has_rows(name):
                continue
            fan_in = int(np.prod(weights[f'{cls.decoder[-1]}.weight'].shape[1:]))
            held = (old, tensor), (table, first[name])
            rows = []
            for place, (word, members) in enumerate(zip(new.names, new.members)):
                if place == new.background:
                    rows.append(tensor[old.background])
                    continue
                found = [(one.find(word), one, row) for one, row in held]
                found += [(one.find_like(word, members), one, row) for one, row in held]
                rows.append(next(
                    (row[there] for there, one, row in found
                     if there is not None and there != one.background), None))
                if rows[-1] is None:
                    rows[-1] = _made_row(word, name, tensor.shape[1:], fan_in)
            changed[name] = torch.stack(rows)
        return changed

    def copy_with(self, weights: Weights, classes: ClassTable) -> 'Student':
        """Return a student of the same architecture with other weights and classes."""
        student = type(self)(classes)
        student.load_state_dict(weights)
        return student.to(next(self.parameters()).device).train(self.training)

    # --- files -----------------------------------------------------------------------------------

    @staticmethod
    def load(path: str | Path, classes: ClassTable | None = None) -> 'Student':
        """
        Load a student from a file.

        :param path: a ``.safetensors`` file of :meth:`save`, or a ``.pth`` state dict, such as
            that of the first implementation (read by :func:`.pth.load_pth`); or the name of an
            architecture that the package ships weights of, 'shadow' where it is empty.
        :param classes: of the file, where it does not say; None: the nine of LVS.
        :returns: the student with the file's classes, in evaluation mode on the CPU.
        :raises WeightsError: if the file cannot be read, or is not known and torch is too old to
            open it safely, or does not fit: architecture, names, shapes, dtypes, classes. One line
            says what was got and what was wanted.
        """
        shipped = {file.stem: file for file in sorted(_SHIPPED.glob('*.safetensors'))}
        path = shipped.get(str(path or SHIPPED_WEIGHTS.stem), Path(path))
        if not path.is_file():
            raise WeightsError(
                f"student weights '{path}' are not a file: give a .safetensors or .pth file, or "
                f"one of {', '.join(shipped)}")
        metadata: dict[str, str] = {}
        try:
            if path.suffix == '.safetensors':
                state, metadata = load_file(path)
            else:
                state = load_pth(path)
        except UnknownPthError as error:
            raise WeightsError(f"student weights '{path}' are not opened: {error}") from None
        except SafetensorsError as error:
            raise WeightsError(
                f"student weights '{path}' cannot be read as a .safetensors file: {error}"
            ) from None
        except Exception as error:
            # Garbage makes torch.load raise nearly anything, and what it says may advise to turn
            # the safe loading off.
            raise WeightsError(
                f"student weights '{path}' cannot be read ({type(error).__name__}): expected a "
                '.safetensors file or a .pth state dict of tensors alone') from None
        try:
            kind = architecture(metadata.get('architecture', 'shadow'))
            mean = metadata.get('pixel_mean', json.dumps(kind.pixel_mean))
            if mean != json.dumps(kind.pixel_mean):
                raise WeightsError(
                    f'they were trained on pixels less {mean[:60]}, this package subtracts '
                    f'{list(kind.pixel_mean)}')
            said = _classes_of(metadata) or classes
            if said is None:
                kind.check_rows(state, LVS)
            student = kind(said or LVS)
            student.assign(state)
            student.about = {key: text for key, text in metadata.items() if key not in _OWN}
        except WeightsError as error:
            raise WeightsError(f"student weights '{path}' do not fit: {error}") from None
        return student.eval()

    @classmethod
    def check_rows(cls, state: Any, classes: ClassTable) -> None:
        """
        Check that weights whose classes nobody says can be of a table.

        :raises WeightsError: if they have rows for another number.
        """
        bias = state.get(f'{cls.decoder[-1]}.bias') if isinstance(state, dict) else None
        if isinstance(bias, torch.Tensor) and bias.ndim == 1 and len(bias) != len(classes):
            raise WeightsError(
                f'they are of {len(bias)} classes and do not say which; a file that does is '
                'written by shadowtutor pretrain --steps 0 with them as --start, and all their '
                'classes, in their order, as --start-classes')

    def assign(self, state: Weights) -> None:
        """
        Copy a whole set of weights into this student, all or nothing.

        :param state: tensors by name, exactly those of the state dict, floating point.
        :raises WeightsError: if they do not fit; nothing is changed then.
        """
        own, fitting = self.state_dict(), {}
        if not isinstance(state, dict):
            raise WeightsError(f'got a {type(state).__name__}, wanted a dict of tensors')
        missing = sorted(own.keys() - state.keys())
        unknown = sorted(map(str, state.keys() - own.keys()))
        if missing or unknown:
            raise WeightsError('; '.join(
                f'{len(names)} tensors are {what}, the first is {names[0]}'
                for names, what in ((missing, 'missing'), (unknown, 'unknown')) if names))
        for name, tensor in own.items():
            given = state[name]
            if (not isinstance(given, torch.Tensor) or not given.is_floating_point()
                    or given.layout != torch.strided or given.is_meta):
                raise WeightsError(f'{name} is not a dense floating-point tensor')
            if given.shape != tensor.shape:
                hint = (f'; the last layer has {given.shape[0]} classes, wanted '
                        f'{len(self.classes)}' if self.has_rows(name) and given.ndim else '')
                raise WeightsError(
                    f'{name} has shape {tuple(given.shape)}, wanted {tuple(tensor.shape)}{hint}')
            fitting[name] = given.to(tensor.dtype)
            if not bool(torch.isfinite(fitting[name]).all()):
                raise WeightsError(f'{name} holds values that are not finite in {tensor.dtype}')
        self.load_state_dict(fitting)

    def save(self, path: str | Path, **metadata: str) -> None:
        """
        Save the weights as safetensors, with architecture, classes and pixel statistics.

        :param path: of the file to write, which is there as a whole or not at all.
        :param metadata: strings to keep with them, such as the licence and the recipe.
        :raises OSError: if it cannot be written.
        """
        said = (self.architecture, json.dumps(self.classes.as_dict()), json.dumps(self.pixel_mean))
        with replacing(Path(path)) as new:
            save_file(self.state_dict(), new, {**dict(zip(_OWN, said)), **metadata})


def register(student: type[Student]) -> type[Student]:
    """Make an architecture known by its name, so that weights files of it can be loaded."""
    ARCHITECTURES[student.architecture] = student.__module__, student.__qualname__
    return student


def architecture(name: str) -> type[Student]:
    """
    Return the architecture of a name.

    :raises WeightsError: if it is not known.
    """
    if name not in ARCHITECTURES:
        raise WeightsError(
            f"the architecture '{name[:40]}' is not known: wanted one of "
            f"{', '.join(ARCHITECTURES)}")
    module, kind = ARCHITECTURES[name]
    found: Any = importlib.import_module(module)
    for part in kind.split('.'):
        found = getattr(found, part)
    return found


def _classes_of(metadata: dict[str, str]) -> ClassTable | None:
    """Return the classes that a file says it has; None where it says nothing."""
    text = metadata.get('classes')
    if text is None:
        return None
    if text == ','.join(LVS.names):  # files of earlier versions
        return LVS
    try:
        return ClassTable.from_dict(json.loads(text))
    except (ValueError, RecursionError) as error:
        raise WeightsError(f'its classes are {text[:80]!r} ({error})') from None


def _made_row(word: str, tensor: str, shape: torch.Size, fan_in: int) -> torch.Tensor:
    """
    Make the row of a class that nobody has trained, from its name alone.

    Uniform within 1/√fan_in, as PyTorch's own layers begin, but from a digest: the same numbers
    with every version of every library.
    """
    count = int(np.prod(shape))
    key = f'{name_key(word)}/{tensor}'
    bits = np.frombuffer(hashlib.shake_256(key.encode()).digest(4 * count), '<u4')
    values = (bits.astype(np.float64) / 2 ** 31 - 1) / np.sqrt(fan_in)
    return torch.from_numpy(values.astype(np.float32).reshape(tuple(shape)))
