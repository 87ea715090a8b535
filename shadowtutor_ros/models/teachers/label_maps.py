"""From instances to a label map, and from a label map to boxes."""

from collections.abc import Iterable

import cv2
import numpy as np

from shadowtutor_ros.classes import IGNORE


def paint_instances(
        size: tuple[int, int], masks: Iterable[np.ndarray], places: Iterable[int],
        background: int) -> np.ndarray:
    """
    Paint instances into one label map.

    Only instances of classes in the table are given: an object of another class, such as a bag
    that a person carries, hides nothing.

    :param size: (H, W) of the label.
    :param masks: of the instances, H×W bool, the surest first: it covers the others.
    :param places: the class of each, by its place in the table.
    :param background: the place of the background.
    :returns: H×W uint8, background where no instance is.
    """
    label = np.full(size, background, np.uint8)
    for mask, place in reversed(list(zip(masks, places))):
        label[mask] = place
    return label


def region_boxes(label: np.ndarray, background: int, min_area: float = 0) -> np.ndarray:
    """
    Find the boxes of the connected regions of each object class.

    :param label: H×W uint8; neither the background nor ``IGNORE`` has boxes.
    :param background: the place of the background.
    :param min_area: regions of fewer pixels are left out.
    :returns: N×4 float32, ``x1, y1, x2, y2`` in pixels, the edges around the regions.
    """
    boxes = []
    for place in np.setdiff1d(np.unique(label), (background, IGNORE)):
        mask = (label == place).astype(np.uint8)
        statistics = cv2.connectedComponentsWithStats(mask, connectivity=8)[2]
        # The first component is all that is not of this class.
        boxes += [
            (x, y, x + width, y + height)
            for x, y, width, height, area in statistics[1:] if area >= min_area]
    return np.array(boxes, np.float32).reshape(-1, 4)
