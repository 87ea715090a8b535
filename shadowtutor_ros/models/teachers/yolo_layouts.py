"""How YOLO-style networks lay out what they found, and one form for all of it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

# Distances of the cells of dense detectors, in pixels: usual networks, and those for 1280 pixels.
_STRIDES = ((8, 16, 32), (8, 16, 32, 64))


@dataclass(frozen=True)
class Detections:
    """
    What was found in one image, in no order.

    :ivar boxes: N×4, ``x1, y1, x2, y2`` in pixels of the network's input.
    :ivar scores: N, 0 to 1.
    :ivar categories: N integers.
    :ivar coefficients: N×K, of the mask prototypes.
    """

    boxes: np.ndarray
    scores: np.ndarray
    categories: np.ndarray
    coefficients: np.ndarray

    def __getitem__(self, which: np.ndarray) -> 'Detections':
        """Return those that a mask or indices choose."""
        return Detections(self.boxes[which], self.scores[which], self.categories[which],
                          self.coefficients[which])


@dataclass(frozen=True)
class Layout:
    """
    A layout.

    :ivar read: takes a network's output, 2-D, and a threshold; returns the detections above it.
    :ivar overlaps: whether one object may be there several times, for suppression to choose from.
    """

    read: Callable[[np.ndarray, float], Detections]
    overlaps: bool = True


def layout_of(
        shape: tuple[int, int], coefficients: int, names: int,
        size: tuple[int, int]) -> Layout | None:
    """
    Recognise a layout by what fits the numbers of mask coefficients and names.

    Rows of a layout are 4 box coordinates, one score a name and the coefficients, as YOLOv8 and
    YOLO11 have them, turned by 90° or not; with an objectness after the box, as YOLOv5 has it; or
    4 box coordinates, score, category and coefficients, as networks without suppression (YOLO26)
    and exports with the suppression in the graph have them.

    :param shape: of the output for an image, rows × columns or columns × rows.
    :param coefficients: K of the prototypes.
    :param names: of categories.
    :param size: (H, W) of that image.
    :returns: None where nothing fits.
    """
    dense, objectness = 4 + names + coefficients, 5 + names + coefficients
    scored = partial(_scored, coefficients)
    final = Layout(partial(_final, coefficients), overlaps=False)
    fitting = [layout for fits, layout in (
        (shape[1] == 6 + coefficients, final),
        (shape[0] == dense, Layout(scored)),
        (shape[1] == dense, Layout(lambda output, threshold: scored(output.T, threshold))),
        (shape[1] == objectness, Layout(partial(_with_objectness, coefficients))),
    ) if fits]
    if len(fitting) > 1 and fitting[0] is final and shape[0] in _dense_rows(size):
        # One name with an objectness, or two without, make rows as long as final ones.
        return fitting[1]
    return fitting[0] if fitting else None


def _dense_rows(size: tuple[int, int]) -> set[int]:
    """Return how many rows a dense detector may have: one or three boxes in each of its cells."""
    cells = [sum(-(-size[0] // stride) * -(-size[1] // stride) for stride in strides)
             for strides in _STRIDES]
    return {boxes * number for boxes in (1, 3) for number in cells}


def _scored(coefficients: int, columns: np.ndarray, threshold: float) -> Detections:
    categories = len(columns) - 4 - coefficients
    columns = columns[:, columns[4:4 + categories].max(axis=0) > threshold]
    scores = columns[4:4 + categories]
    centres, sizes = columns[:2].T, columns[2:4].T
    return Detections(
        np.concatenate([centres - sizes / 2, centres + sizes / 2], axis=1), scores.max(axis=0),
        scores.argmax(axis=0), columns[4 + categories:].T)


def _with_objectness(coefficients: int, rows: np.ndarray, threshold: float) -> Detections:
    rows = rows[rows[:, 4] > threshold]  # no product with it is higher
    columns = np.delete(rows, 4, axis=1).T
    columns[4:len(columns) - coefficients] *= rows[:, 4]
    return _scored(coefficients, columns, threshold)


def _final(coefficients: int, rows: np.ndarray, threshold: float) -> Detections:
    rows = rows[rows[:, 4] > threshold]
    return Detections(rows[:, :4], rows[:, 4], np.rint(rows[:, 5]).astype(int), rows[:, 6:])
