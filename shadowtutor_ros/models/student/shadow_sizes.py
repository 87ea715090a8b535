"""A smaller and a sharper student than the paper's, otherwise alike."""

from typing import NamedTuple

import torch
from torch import nn
import torch.nn.functional as F

from shadowtutor_ros.classes import ClassTable, LVS
from shadowtutor_ros.models.student.base import Student
from shadowtutor_ros.models.student.shadow import (
    DECODER, ENCODER, initialise, resize, Shadow, STEM, Widths)
from shadowtutor_ros.models.student.tail import apply_tail, MergedTail


class ShadowS(Shadow):
    """
    For computers that are too slow for the paper's: less than half the time.

    What the first two convolutions of the paper's do, linear as they are, one does alone.
    """

    architecture = 'shadow-s'
    encoder = tuple(block for block in ENCODER if block != 'in_conv2')
    widths = Widths(enc1=24, enc2=48, enc3=96, dec1=48, dec2=16, dec3=16)

    def __init__(self, classes: ClassTable = LVS):
        super().__init__(classes)
        del self.in_conv2
        self.in_conv1 = nn.Conv2d(3, STEM, 6, stride=4, padding=1)
        initialise(self.in_conv1)

    def stem(self, centred: torch.Tensor) -> torch.Tensor:
        """Run the first convolution on pixels whose mean was subtracted."""
        return self.in_conv1(centred)


class FineFeatures(NamedTuple):
    """
    What the encoder of :class:`ShadowL` hands to the decoder, for images of H×W.

    :ivar enc1, enc2, enc3: as of :class:`.shadow.Features`.
    :ivar stem: N×8×H/4×W/4, from the first two convolutions.
    """

    enc1: torch.Tensor
    enc2: torch.Tensor
    enc3: torch.Tensor
    stem: torch.Tensor


class Refinement(nn.Module):
    """
    What the decoder makes, looked at again at a quarter of the image's size.

    At first it adds nothing, so that a :class:`ShadowL` can begin with weights of the paper's.

    :param channels: of what the decoder makes.
    """

    def __init__(self, channels: int):
        super().__init__()
        inner = 24
        self.reduce = nn.Conv2d(channels, inner - STEM, 1)
        self.preact_path = nn.Sequential(
            nn.BatchNorm2d(inner, track_running_stats=False), nn.ReLU())
        self.long_path = nn.Sequential(
            nn.Conv2d(inner, inner, 3, padding=1), nn.ReLU(),
            nn.Conv2d(inner, inner, (1, 3), padding=(0, 1)),
            nn.Conv2d(inner, inner, (3, 1), padding=(1, 0)), nn.ReLU())
        self.expand = nn.Conv2d(inner, channels, 1)

    def forward(self, dec3: torch.Tensor, stem: torch.Tensor) -> torch.Tensor:
        """Map N×C×H/8×W/8 and N×8×H/4×W/4 to N×C×H/4×W/4."""
        small = resize(self.reduce(dec3), stem.shape[2:])
        return self.expand(self.long_path(self.preact_path(torch.cat([small, stem], dim=1))))


class ShadowL(Shadow):
    """Sharper where objects are small: the decoder goes on to a quarter of the image's size."""

    architecture = 'shadow-l'
    decoder = (*DECODER[:3], 'refine', *DECODER[3:])
    partial = decoder[1:]

    def __init__(self, classes: ClassTable = LVS):
        super().__init__(classes)
        self.refine = Refinement(self.widths.dec3)
        initialise(self.refine)
        nn.init.zeros_(self.refine.expand.weight)

    def encode(self, x: torch.Tensor) -> FineFeatures:
        """Run the front end on what comes out of :meth:`stem`."""
        return FineFeatures(*super().encode(x), x)

    def merged(self, rows: tuple[int, ...] | None = None) -> tuple[torch.Tensor, ...]:
        """See :meth:`.Shadow.merged`; and the head, for what is refined."""
        return *super().merged(rows), self._head(rows)[0]

    def merged_logits(
            self, features: FineFeatures, merged: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """See :meth:`.Shadow.merged_logits`."""
        *tail, head = merged
        dec3 = self.decode(features)
        coarse = apply_tail(MergedTail(*tail), dec3)
        fine = F.conv2d(self.refine(dec3, features.stem), head)
        return coarse + resize(fine, coarse.shape[2:])

    def separate_logits(
            self, features: FineFeatures, rows: tuple[int, ...] | None) -> torch.Tensor:
        """See :meth:`.Shadow.separate_logits`."""
        dec3 = self.decode(features)
        coarse = self._before_head(dec3)
        fine = resize(self.refine(dec3, features.stem), coarse.shape[2:])
        return F.conv2d(coarse + fine, *self._head(rows))

    def plain_logits(self, x: torch.Tensor) -> torch.Tensor:
        """Compute logits as ever: the first implementation has no such network."""
        return Student.plain_logits(self, x)
