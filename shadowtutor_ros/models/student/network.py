"""
The student: a small encoder-decoder that is split into a front end and a back end.

The network is that of the first implementation of ShadowTutor, after JITNet (Mullapudi et al.,
ICCV 2019): an encoder and a decoder. What a teacher trains and sends is a scope, the end of the
decoder (``dec2`` to ``out_conv3``) in the paper's partial distillation.
"""

import hashlib
from pathlib import Path
from typing import NamedTuple
import zlib

import safetensors
import safetensors.torch
import torch
from torch import nn
import torch.nn.functional as F

from shadowtutor_ros.labels import CLASS_NAMES, NUM_CLASSES
from shadowtutor_ros.models.pth import load_pth, UnknownPthError
from shadowtutor_ros.models.student.tail import apply_tail, merge_tail, MergedTail, SCALE

#: The weights that the package ships, made by `shadowtutor pretrain`.
SHIPPED_WEIGHTS = Path(__file__).parents[2] / 'weights' / 'student.safetensors'

#: Mean of the pixels that the student was trained on: BGR, 0 to 255.
PIXEL_MEAN = (103.53, 116.28, 123.675)

#: The blocks of the network, in the order of computation.
ENCODER = ('in_conv1', 'in_conv2', 'enc1', 'enc2', 'enc3')
DECODER = ('dec1', 'dec2', 'dec3', 'out_conv1', 'out_conv2', 'out_conv3')
BLOCKS = ENCODER + DECODER

#: What can be trained and sent, by name: the paper's back end, the decoder, the whole network.
SCOPES = {'partial': DECODER[1:], 'decoder': DECODER, 'full': BLOCKS}


def blocks_of(scope: str) -> tuple[str, ...]:
    """
    Return the blocks of a scope.

    :param scope: one of :data:`SCOPES`, or names of :data:`BLOCKS` separated by commas.
    :raises ValueError: if it is neither.
    """
    names = SCOPES.get(scope) or tuple(scope.split(','))
    unknown = [name for name in names if name not in BLOCKS]
    if unknown:
        raise ValueError(
            f"scope '{scope}' is unknown: choose {', '.join(SCOPES)}, or blocks separated by "
            f"commas, of {', '.join(BLOCKS)}")
    return names


def checksum(weights: dict[str, torch.Tensor]) -> int:
    """
    Compute the CRC-32 over the bytes of weights.

    :param weights: float32 tensors by name, in the order of the student's state dict.
    """
    value = 0
    for tensor in weights.values():
        # C order, so that the memory format in use here does not matter.
        value = zlib.crc32(tensor.detach().cpu().contiguous().numpy(), value)
    return value


class WeightsError(ValueError):
    """A weights file, or a set of tensors, that does not fit the student."""


class Block(nn.Module):
    """
    A residual block with pre-activation and a long path of a 3×3, a 1×3 and a 3×1 convolution.

    Where the number of channels stays, the short path skips the pre-activation too.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int):
        super().__init__()
        self.stride = stride
        # Without running statistics: the frame at hand is normalised by its own, in training and
        # in inference alike, so a weight update need not carry any.
        self.preact_path = nn.Sequential(
            nn.BatchNorm2d(in_channels, track_running_stats=False), nn.ReLU())
        self.short_path = (
            nn.Conv2d(in_channels, out_channels, 1, stride)
            if in_channels != out_channels else None)
        self.long_path = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 3, stride, padding=1), nn.ReLU(),
            nn.Conv2d(out_channels, out_channels, (1, 3), padding=(0, 1)),
            nn.Conv2d(out_channels, out_channels, (3, 1), padding=(1, 0)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map N×in_channels×H×W to N×out_channels×⌈H/stride⌉×⌈W/stride⌉."""
        activated = self.preact_path(x)
        if self.short_path is None:
            short = x[:, :, ::self.stride, ::self.stride]
        else:
            short = self.short_path(activated)
        return short + self.long_path(activated)


class Features(NamedTuple):
    """
    What the encoder hands to the decoder, for images of H×W.

    :ivar enc1: N×64×H/8×W/8.
    :ivar enc2: N×64×H/16×W/16.
    :ivar enc3: N×128×H/32×W/32.
    """

    enc1: torch.Tensor
    enc2: torch.Tensor
    enc3: torch.Tensor


def _resize(x: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    return F.interpolate(x, size=size, mode='bilinear', align_corners=False)


class Student(nn.Module):
    """
    The student network.

    With nine classes it has 483,873 parameters: 210,473 in the decoder, 103,465 of them in the
    part that the paper trains (scope 'partial').
    """

    def __init__(self, num_classes: int = NUM_CLASSES):
        super().__init__()
        self.num_classes = num_classes
        self.in_conv1 = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.in_conv2 = nn.Conv2d(8, 8, 3, stride=2, padding=1)
        self.enc1 = Block(8, 64, stride=2)
        self.enc2 = Block(64, 64, stride=2)
        self.enc3 = Block(64, 128, stride=2)
        self.dec1 = Block(128, 64, stride=1)
        self.dec2 = Block(128, 32, stride=1)
        self.dec3 = Block(96, 32, stride=1)
        self.out_conv1 = nn.Conv2d(32, 32, 3, padding=1)
        self.out_conv2 = nn.Conv2d(32, 32, 3, padding=1)
        self.out_conv3 = nn.Conv2d(32, num_classes, 1)
        self.register_buffer(
            'pixel_mean', torch.tensor(PIXEL_MEAN).view(1, 3, 1, 1), persistent=False)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
                nn.init.zeros_(module.bias)

    def front(self, x: torch.Tensor) -> Features:
        """
        Run the encoder, the front end.

        :param x: N×3×H×W float, BGR, 0 to 255.
        """
        return self.encode(self.stem(x - self.pixel_mean))

    def stem(self, centred: torch.Tensor) -> torch.Tensor:
        """Run the first two convolutions on pixels whose mean was subtracted."""
        return self.in_conv2(self.in_conv1(centred))

    def encode(self, x: torch.Tensor) -> Features:
        """Run the front end on what comes out of :meth:`stem`."""
        enc1 = self.enc1(x)
        enc2 = self.enc2(enc1)
        return Features(enc1, enc2, self.enc3(enc2))

    def back(self, features: Features, size: tuple[int, int]) -> torch.Tensor:
        """
        Run the decoder, the back end.

        :param features: of :meth:`front`.
        :param size: (H, W) of the images, which is the size of the result.
        :returns: logits, N×num_classes×H×W.
        """
        # The first implementation enlarges before its 1×1 convolution. Both are linear and a
        # bilinear enlargement's weights sum to one, so the order does not matter to the result;
        # this way the convolution has a quarter of the pixels and the enlargement fewer channels.
        return _resize(self.half_size_logits(features, size), size)

    def half_size_logits(
            self, features: Features, size: tuple[int, int],
            tail: MergedTail | None = None) -> torch.Tensor:
        """
        Run the back end but for the last enlargement.

        :param features: of :meth:`front`.
        :param size: (H, W) of the images.
        :param tail: of :meth:`merged_tail`, where it is at hand.
        :returns: logits, N×num_classes×⌈H/2⌉×⌈W/2⌉.
        """
        dec3 = self._decode(features)
        half = (size[0] + 1) // 2, (size[1] + 1) // 2
        # Merging anew for every training step spares a CPU arithmetic; a GPU it costs twice the
        # time of the step, in small kernels.
        mergeable = half == (SCALE * dec3.shape[2], SCALE * dec3.shape[3])
        if mergeable and (tail is not None or dec3.device.type == 'cpu'):
            return apply_tail(tail or self.merged_tail(), dec3)
        # Rounding up somewhere makes the enlargement another than by four.
        return self.out_conv3(self.out_conv2(self.out_conv1(_resize(dec3, half))))

    def _decode(self, features: Features) -> torch.Tensor:
        """Run the blocks of the decoder, the last that are not linear: N×32×⌈H/8⌉×⌈W/8⌉."""
        enc1, enc2, enc3 = features
        dec1 = _resize(self.dec1(enc3), enc2.shape[2:])
        dec2 = _resize(self.dec2(torch.cat([dec1, enc2], dim=1)), enc1.shape[2:])
        return self.dec3(torch.cat([dec2, enc1], dim=1))

    def merged_tail(self) -> MergedTail:
        """Return the last three convolutions and the enlargement before them as one."""
        return merge_tail(self.out_conv1, self.out_conv2, self.out_conv3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """
        Compute logits.

        :param x: N×3×H×W float, BGR, 0 to 255, H and W at least ``MIN_SIDE``.
        :returns: N×num_classes×H×W.
        """
        return self.back(self.front(x), tuple(x.shape[2:]))

    def plain_logits(self, x: torch.Tensor) -> torch.Tensor:
        """
        Compute logits layer by layer, in the order of the first implementation's arithmetic.

        :param x: as for :meth:`forward`.
        :returns: likewise; the two differ by rounding.
        """
        half = (x.shape[2] + 1) // 2, (x.shape[3] + 1) // 2
        y = self.out_conv2(self.out_conv1(_resize(self._decode(self.front(x)), half)))
        return self.out_conv3(_resize(y, tuple(x.shape[2:])))

    def tensors(self, scope: str = 'full') -> dict[str, torch.Tensor]:
        """
        Return the tensors of a scope by name; they are the parameters themselves, not copies.

        :param scope: as for :func:`blocks_of`, which raises ValueError for any other.
        """
        blocks = blocks_of(scope)
        return {
            name: tensor for name, tensor in self.state_dict(keep_vars=True).items()
            if name.split('.')[0] in blocks}

    @property
    def model_id(self) -> str:
        """Digest of the names, shapes and dtypes of the tensors: 16 hex digits."""
        layout = repr([
            (name, tuple(tensor.shape), str(tensor.dtype))
            for name, tensor in self.state_dict().items()])
        return hashlib.sha256(layout.encode()).hexdigest()[:16]

    def weights_checksum(self, changes: dict[str, torch.Tensor] | None = None) -> int:
        """
        Compute the CRC-32 of all the weights, see :func:`checksum`.

        :param changes: float32 tensors that stand in for those of the same name.
        """
        return checksum({**self.state_dict(), **(changes or {})})

    def weights(self) -> dict[str, torch.Tensor]:
        """Return a copy of all the weights on the CPU, by name; they must not be written to."""
        return {name: tensor.detach().to('cpu', copy=True)
                for name, tensor in self.state_dict().items()}

    @classmethod
    def load(cls, path: str | Path, num_classes: int | None = NUM_CLASSES) -> 'Student':
        """
        Load a student from a file.

        :param path: a ``.safetensors`` file of :meth:`save`, or a ``.pth`` state dict, such as
            that of the first implementation (read by :func:`.pth.load_pth`); empty for the weights
            that the package ships.
        :param num_classes: of the last layer; None for as many as the file has.
        :returns: the student, in evaluation mode on the CPU.
        :raises WeightsError: if the file cannot be read, or is not known and torch is too old to
            open it safely, or does not fit: names, shapes, dtypes, classes. One line says what
            was got and what was wanted.
        """
        path = Path(path or SHIPPED_WEIGHTS)
        if not path.is_file():
            raise WeightsError(
                f"student weights '{path}' are not a file: give a .safetensors or .pth file")
        try:
            if path.suffix == '.safetensors':
                with safetensors.safe_open(path, 'pt') as file:
                    metadata = file.metadata() or {}
                    state = {name: file.get_tensor(name) for name in file.keys()}
                classes = metadata.get('classes')
                if classes is not None and classes != ','.join(CLASS_NAMES):
                    raise WeightsError(
                        f"student weights '{path}' are for the classes {classes}; this package's "
                        f"are {','.join(CLASS_NAMES)}: choose weights trained for those")
            else:
                state = load_pth(path)
        except WeightsError:
            raise
        except UnknownPthError as error:
            raise WeightsError(f"student weights '{path}' are not opened: {error}") from None
        except Exception as error:
            # Garbage makes torch.load raise nearly anything, and what it says may advise to turn
            # the safe loading off.
            raise WeightsError(
                f"student weights '{path}' cannot be read ({type(error).__name__}): expected a "
                '.safetensors file or a .pth state dict of tensors alone') from None
        if num_classes is None:
            head = state.get('out_conv3.bias') if isinstance(state, dict) else None
            known = isinstance(head, torch.Tensor) and head.ndim == 1
            num_classes = len(head) if known else NUM_CLASSES
        student = cls(num_classes)
        try:
            student.assign(state)
        except WeightsError as error:
            raise WeightsError(f"student weights '{path}' do not fit: {error}") from None
        return student.eval()

    def assign(self, state: dict[str, torch.Tensor]) -> None:
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
                        f'{self.num_classes}' if name.startswith('out_conv3') else '')
                raise WeightsError(
                    f'{name} has shape {tuple(given.shape)}, wanted {tuple(tensor.shape)}{hint}')
            fitting[name] = given.to(tensor.dtype)
            if not bool(torch.isfinite(fitting[name]).all()):
                raise WeightsError(f'{name} holds values that are not finite in {tensor.dtype}')
        self.load_state_dict(fitting)

    def save(self, path: str | Path, **metadata: str) -> None:
        """
        Save the weights as safetensors.

        :param path: of the file to write.
        :param metadata: strings to keep with them, such as the recipe that made them.
        """
        state = {name: tensor.detach().cpu().contiguous()
                 for name, tensor in self.state_dict().items()}
        safetensors.torch.save_file(
            state, path, {'classes': ','.join(CLASS_NAMES), **metadata})
