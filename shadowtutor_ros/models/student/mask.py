"""From logits at half the size of an image to its mask."""

import cv2
import numpy as np
import torch
import torch.nn.functional as F

#: Weights of the four logits around a pixel of the enlarged map: upper left, upper right, lower
#: left, lower right, by the pixel's place between them in the same order.
_BILINEAR = torch.tensor([[9., 3, 3, 1], [3, 9, 1, 3], [3, 1, 9, 3], [1, 3, 3, 9]]) / 16


def mask_of(logits: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """
    Enlarge logits bilinearly and choose the class of the largest at every pixel.

    :param logits: C×⌈H/2⌉×⌈W/2⌉.
    :param size: (H, W) of the result.
    :returns: H×W uint8 class ids, on the device of the logits.
    """
    if logits.device.type == 'cpu' and size == (2 * logits.shape[1], 2 * logits.shape[2]):
        return _doubled(logits.contiguous().float())
    enlarged = F.interpolate(logits[None], size=size, mode='bilinear', align_corners=False)
    return enlarged[0].argmax(0).to(torch.uint8)


def _argmax(logits: torch.Tensor) -> torch.Tensor:
    """Compute ``logits.argmax(0)`` as uint8; several times as fast for few, large planes."""
    best = logits[0].clone()
    labels = torch.zeros(best.shape, dtype=torch.uint8)
    for index in range(1, len(logits)):
        larger = (logits[index] > best).view(torch.uint8)
        torch.maximum(labels, larger * index, out=labels)
        torch.maximum(best, logits[index], out=best)
    return labels


def _doubled(logits: torch.Tensor) -> torch.Tensor:
    """
    Compute the mask of logits that are enlarged by two, on a CPU.

    Where one class has the largest of all four logits around a pixel, it has the largest of their
    mean, whatever the weights. Only pixels on the edges of segments must be interpolated.
    """
    classes, height, width = logits.shape
    # With the border repeated, 2×2 labels meet at each corner, and 2×2 pixels lie between them.
    labels = cv2.copyMakeBorder(_argmax(logits).numpy(), 1, 1, 1, 1, cv2.BORDER_REPLICATE)
    first = labels[:-1, :-1]
    mixed = ((first != labels[:-1, 1:]) | (first != labels[1:, :-1]) | (first != labels[1:, 1:]))
    pixels = first.repeat(2, axis=0).repeat(2, axis=1)

    row, column = np.divmod(np.flatnonzero(mixed), width + 1)
    above, below = np.maximum(row - 1, 0) * width, np.minimum(row, height - 1) * width
    left, right = np.maximum(column - 1, 0), np.minimum(column, width - 1)
    around = np.concatenate([above + left, above + right, below + left, below + right])
    corners = logits.view(classes, -1).index_select(1, torch.from_numpy(around))
    edges = _argmax(_BILINEAR @ corners.view(classes, 4, -1))
    pixels.reshape(height + 1, 2, width + 1, 2)[row, :, column] = edges.numpy().T.reshape(-1, 2, 2)
    return torch.from_numpy(pixels[1:-1, 1:-1])
