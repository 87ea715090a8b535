"""
The paper's student: a small encoder-decoder that is split into a front end and a back end.

The network is that of the first implementation of ShadowTutor, after JITNet (Mullapudi et al.,
ICCV 2019): an encoder and a decoder. What a teacher trains and sends is a scope, the end of the
decoder (``dec2`` to ``out_conv3``) in the paper's partial distillation.
"""

import copy
from typing import ClassVar, NamedTuple

import torch
from torch import nn
import torch.nn.functional as F

from shadowtutor_ros.classes import ClassTable, LVS
from shadowtutor_ros.models.student.base import Student, Weights
from shadowtutor_ros.models.student.tail import apply_tail, merge_tail, MergedTail, SCALE

#: Mean of the pixels that the student was trained on: BGR, 0 to 255.
PIXEL_MEAN = (103.53, 116.28, 123.675)

#: The blocks of the network, in the order of computation.
ENCODER = ('in_conv1', 'in_conv2', 'enc1', 'enc2', 'enc3')
DECODER = ('dec1', 'dec2', 'dec3', 'out_conv1', 'out_conv2', 'out_conv3')

#: Channels of the first two convolutions.
STEM = 8

#: In inference what one block hands to the next is multiplied by this. Every block begins with a
#: batch normalisation, which undoes it, and no digit is lost to a power of two. Without it the
#: features of the shipped student reach 48,576 on real videos, and float16 ends at 65,504.
SHRINK = 2. ** -5
_SHRUNK = 'enc1', 'enc2', 'enc3', 'dec1', 'dec2'


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


class Widths(NamedTuple):
    """Channels of what the blocks make."""

    enc1: int = 64
    enc2: int = 64
    enc3: int = 128
    dec1: int = 64
    dec2: int = 32
    dec3: int = 32


class Features(NamedTuple):
    """
    What the encoder hands to the decoder, for images of H×W.

    :ivar enc1: N×C×H/8×W/8.
    :ivar enc2: N×C×H/16×W/16.
    :ivar enc3: N×C×H/32×W/32.
    """

    enc1: torch.Tensor
    enc2: torch.Tensor
    enc3: torch.Tensor


def initialise(network: nn.Module) -> None:
    """Draw the weights of all convolutions."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
            nn.init.zeros_(module.bias)


def resize(x: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Enlarge N×C×h×w bilinearly to a size (H, W)."""
    return F.interpolate(x, size=size, mode='bilinear', align_corners=False)


class Shadow(Student):
    """
    The paper's student.

    With nine classes it has 483,873 parameters: 210,473 in the decoder, 103,465 of them in the
    part that the paper trains (scope 'partial').
    """

    architecture = 'shadow'
    encoder, decoder, partial = ENCODER, DECODER, DECODER[1:]
    pixel_mean = PIXEL_MEAN
    widths: ClassVar[Widths] = Widths()

    def __init__(self, classes: ClassTable = LVS):
        super().__init__(classes)
        wide = self.widths
        self.in_conv1 = nn.Conv2d(3, STEM, 3, stride=2, padding=1)
        self.in_conv2 = nn.Conv2d(STEM, STEM, 3, stride=2, padding=1)
        self.enc1 = Block(STEM, wide.enc1, stride=2)
        self.enc2 = Block(wide.enc1, wide.enc2, stride=2)
        self.enc3 = Block(wide.enc2, wide.enc3, stride=2)
        self.dec1 = Block(wide.enc3, wide.dec1, stride=1)
        self.dec2 = Block(wide.dec1 + wide.enc2, wide.dec2, stride=1)
        self.dec3 = Block(wide.dec2 + wide.enc1, wide.dec3, stride=1)
        self.out_conv1 = nn.Conv2d(wide.dec3, wide.dec3, 3, padding=1)
        self.out_conv2 = nn.Conv2d(wide.dec3, wide.dec3, 3, padding=1)
        self.out_conv3 = nn.Conv2d(wide.dec3, len(classes), 1)
        self.register_buffer('_mean', torch.tensor(PIXEL_MEAN).view(1, 3, 1, 1), persistent=False)
        initialise(self)

    def front(self, x: torch.Tensor) -> Features:
        """
        Run the encoder, the front end; see :meth:`Student.front`.

        Where a side is no multiple of 8 the border is repeated until it is: only then can the last
        layers be computed as one.
        """
        return self.encode(self.stem(self.padded(x) - self._mean))

    def stem(self, centred: torch.Tensor) -> torch.Tensor:
        """Run the first two convolutions on pixels whose mean was subtracted."""
        return self.in_conv2(self.in_conv1(centred))

    def encode(self, x: torch.Tensor) -> Features:
        """Run the front end on what comes out of :meth:`stem`."""
        enc1 = self.enc1(x)
        enc2 = self.enc2(enc1)
        return Features(enc1, enc2, self.enc3(enc2))

    def coarse_logits(
            self, features: Features, rows: tuple[int, ...] | None = None) -> torch.Tensor:
        """
        Run the decoder, the back end, to half the size; see :meth:`Student.coarse_logits`.

        The first implementation enlarges before its 1×1 convolution. Both are linear and a
        bilinear enlargement's weights sum to one, so the order does not matter to the result; this
        way the convolution has a quarter of the pixels and the enlargement fewer channels.
        """
        # Merging anew for every training step spares a CPU arithmetic; a GPU it costs twice the
        # time of the step, in small kernels.
        if features[0].device.type == 'cpu':
            return self.merged_logits(features, self.merged(rows))
        return self.separate_logits(features, rows)

    def portable_logits(self, x: torch.Tensor) -> torch.Tensor:
        """Compute logits with no layers merged; see :meth:`Student.portable_logits`."""
        return self.separate_logits(self.front(x), None)

    def merged(self, rows: tuple[int, ...] | None = None) -> tuple[torch.Tensor, ...]:
        """Return what :meth:`merged_logits` needs: the layers after ``dec3`` as one."""
        return merge_tail(self.out_conv1, self.out_conv2, *self._head(rows))

    def merged_logits(
            self, features: Features, merged: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """Compute logits with the last layers merged by :meth:`merged`."""
        return apply_tail(MergedTail(*merged), self.decode(features))

    def separate_logits(
            self, features: Features, rows: tuple[int, ...] | None) -> torch.Tensor:
        """Compute logits with the last layers one by one."""
        return F.conv2d(self._before_head(self.decode(features)), *self._head(rows))

    def decode(self, features: Features) -> torch.Tensor:
        """Run the blocks of the decoder, the last that are not linear: N×C×H/8×W/8."""
        enc1, enc2, enc3 = features[:3]
        dec1 = resize(self.dec1(enc3), enc2.shape[2:])
        dec2 = resize(self.dec2(torch.cat([dec1, enc2], dim=1)), enc1.shape[2:])
        return self.dec3(torch.cat([dec2, enc1], dim=1))

    def _before_head(self, dec3: torch.Tensor) -> torch.Tensor:
        enlarged = resize(dec3, (SCALE * dec3.shape[2], SCALE * dec3.shape[3]))
        return self.out_conv2(self.out_conv1(enlarged))

    def _head(self, rows: tuple[int, ...] | None) -> tuple[torch.Tensor, torch.Tensor]:
        weight, bias = self.out_conv3.weight, self.out_conv3.bias
        if rows is None or len(rows) == len(bias):
            return weight, bias
        return weight[list(rows)], bias[list(rows)]

    def plain_logits(self, x: torch.Tensor) -> torch.Tensor:
        """
        Compute logits layer by layer, in the order of the first implementation's arithmetic.

        :param x: as for :meth:`forward`.
        :returns: likewise; the two differ by rounding, and where a side is no multiple of 8.
        """
        half = (x.shape[2] + 1) // 2, (x.shape[3] + 1) // 2
        features = self.encode(self.stem(x - self._mean))
        y = self.out_conv2(self.out_conv1(resize(self.decode(features), half)))
        return self.out_conv3(resize(y, tuple(x.shape[2:])))

    def fast_path(self, device: torch.device, dtype: torch.dtype) -> 'FastShadow':
        """Make what inference runs; see :meth:`Student.fast_path`."""
        return FastShadow(self, device, dtype)


class FastShadow:
    """
    The network as inference runs it; see :class:`.base.FastPath`.

    Its features are what ``enc3`` makes, times :data:`SHRINK`: 1×C×⌈H/32⌉×⌈W/32⌉.
    """

    def __init__(self, student: Shadow, device: torch.device, dtype: torch.dtype):
        self._dtype = dtype
        self._network = copy.deepcopy(student).to(device, memory_format=torch.channels_last)
        for name, block in self._network.named_children():
            # Rounding hurts most in the first two convolutions, and there is little to gain.
            if not name.startswith('in_'):
                block.to(dtype)
            if isinstance(block, Block):
                block.preact_path[0].eps *= SHRINK ** 2
        self._mean = torch.tensor(PIXEL_MEAN, device=device)
        self._merged: tuple[torch.Tensor, ...] = ()

    def swap(self, tensors: Weights) -> None:
        """See :class:`.base.FastPath`."""
        own = self._network.state_dict()
        for name, tensor in tensors.items():
            own[name].copy_(SHRINK * tensor if _ends_block(name) else tensor)

    def offer(self, student: Shadow, rows: tuple[int, ...]) -> None:
        """See :class:`.base.FastPath`."""
        merged = tuple(
            part.to(self._mean.device, self._dtype) for part in student.merged(rows))
        if [part.shape for part in merged] == [part.shape for part in self._merged]:
            # In place: a CUDA graph has been recorded with these.
            for own, part in zip(self._merged, merged):
                own.copy_(part)
        else:
            self._merged = merged

    def __call__(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See :class:`.base.FastPath`."""
        height, width = pixels.shape[:2]
        # Whole rows at a time, which takes a fraction of the time of three values at a time.
        rows = pixels.view(height, -1).float()
        rows -= self._mean.repeat(width)
        # A permuted H×W×3 image is a channels_last batch of one.
        x = rows.view(1, height, width, 3).permute(0, 3, 1, 2)
        features = self._network.encode(self._network.stem(x).to(self._dtype))
        return self._network.merged_logits(features, self._merged)[0], features.enc3


def _ends_block(name: str) -> bool:
    """Tell whether a tensor belongs to a layer whose output goes to another block's input."""
    block, _, layer = name.partition('.')
    # After dec3 comes what does not begin with a batch normalisation of all its inputs.
    return block == 'in_conv2' or (
        block in _SHRUNK and layer.startswith(('short_path.', 'long_path.3.')))
