"""
The last layers of the student as one convolution.

After ``dec3`` nothing is nonlinear: a bilinear enlargement by four, two 3×3 convolutions and a
1×1. Seen from the small map that is enlarged, each of its pixels (a *cell*) becomes 4×4 pixels,
and those depend linearly on the 3×3 cells around it. So the whole is one 3×3 convolution to 4×4
times as many channels, followed by a pixel shuffle: a seventh of the multiply-adds, in a shape
that convolution libraries like.

Cells at the border see less: there the enlargement repeats the border and the convolutions pad
with zeros. They have kernels of their own, so that the result is exact everywhere.
"""

from functools import lru_cache
from itertools import product
from typing import NamedTuple

import torch
from torch import nn
import torch.nn.functional as F

#: How much the tail enlarges: height and width.
SCALE = 4

#: Cells first, inside and last in a row or column: which they are, and which cells they see.
_KINDS = (
    (slice(0, 1), slice(0, 3)), (slice(1, -1), slice(None)), (slice(-1, None), slice(-3, None)))


class MergedTail(NamedTuple):
    """
    Weights of the merged convolution, for each kind of cell: first, inside, last.

    :ivar kernels: 3×3 (kind of row, of column) × 16·classes×C×3×3; channels in the order
        class, row, column, which is that of a pixel shuffle.
    :ivar biases: 3×3×16·classes.
    """

    kernels: torch.Tensor
    biases: torch.Tensor


@lru_cache(maxsize=None)
@torch.inference_mode(False)  # what is made in inference mode cannot take part in training
def _paths(dtype: torch.dtype, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Compute along one axis which cells the taps of the two 3×3 convolutions reach.

    Three cells in a row are one of each kind.

    :returns: weight of each cell, by (kind, pixel of it, cell, tap of the second convolution, tap
        of the first), and 0 or 1 by (kind, pixel, tap of the second): whether the tap is inside.
    """
    enlarged = F.interpolate(
        torch.eye(3)[None], scale_factor=SCALE, mode='linear', align_corners=False)[0].T
    taps = [torch.diag(torch.ones(3 * SCALE - abs(tap)), tap) for tap in (-1, 0, 1)]
    reached = torch.stack(
        [torch.stack([second @ first @ enlarged for first in taps], -1) for second in taps], -2)
    inside = torch.stack([tap.sum(1) for tap in taps], -1)
    return (reached.view(3, SCALE, 3, 3, 3).to(device, dtype),
            inside.view(3, SCALE, 3).to(device, dtype))


def merge_tail(
        conv1: nn.Conv2d, conv2: nn.Conv2d, weight: torch.Tensor, bias: torch.Tensor
) -> MergedTail:
    """
    Merge enlargement by four, two 3×3 convolutions with padding 1 and a 1×1, differentiably.

    :param conv1: C to any number of channels, 3×3.
    :param conv2: to any number of channels, 3×3.
    :param weight, bias: of the 1×1 convolution: classes×channels×1×1, and classes.
    """
    # Sums of many products of weights: in full precision, also where training is mixed.
    with torch.autocast(conv1.weight.device.type, enabled=False):
        reached, inside = _paths(conv1.weight.dtype, conv1.weight.device)
        last = weight[:, :, 0, 0]
        second = torch.einsum('om,mkyx->okyx', last, conv2.weight)
        # Capitals are taps of the second convolution, small letters those of the first.
        taps = torch.einsum('okYX,kiyx->oiYyXx', second, conv1.weight)
        rows = torch.einsum('oiYyXx,rpaYy->oirpaXx', taps, reached)
        kernels = torch.einsum('oirpaXx,cqbXx->rcopqiab', rows, reached)
        biases = torch.einsum('okYX,k,rpY,cqX->rcopq', second, conv1.bias, inside, inside)
        biases = biases + (last @ conv2.bias + bias)[:, None, None]
        return MergedTail(kernels.flatten(2, 4), biases.flatten(2))


def apply_tail(tail: MergedTail, x: torch.Tensor) -> torch.Tensor:
    """
    Compute what the layers that were merged compute.

    :param x: N×C×h×w, h and w at least 3.
    :returns: N×classes×4h×4w.
    """
    # Padded to have the size; what that makes of the border is then written over.
    y = F.conv2d(x, tail.kernels[1, 1], tail.biases[1, 1], padding=1)
    for row, column in product(range(3), range(3)):
        if (row, column) != (1, 1):
            (rows, seen_rows), (columns, seen_columns) = _KINDS[row], _KINDS[column]
            y[:, :, rows, columns] = F.conv2d(
                x[:, :, seen_rows, seen_columns], tail.kernels[row, column],
                tail.biases[row, column])
    return F.pixel_shuffle(y, SCALE)
