"""From instances to a label map, and from a label map to boxes."""

from collections.abc import Iterable

import cv2
import numpy as np

from shadowtutor_ros.labels import BACKGROUND


def paint_instances(
        size: tuple[int, int], masks: Iterable[np.ndarray], ids: Iterable[int]) -> np.ndarray:
    """
    Paint instances into one label map.

    Only instances of our classes are given: an object of another class, such as a bag that a
    person carries, hides nothing.

    :param size: (H, W) of the label.
    :param masks: of the instances, H×W bool, the surest first: it covers the others.
    :param ids: the class id of each.
    :returns: H×W uint8, background where no instance is.
    """
    label = np.full(size, BACKGROUND, np.uint8)
    for mask, class_id in reversed(list(zip(masks, ids))):
        label[mask] = class_id
    return label


def region_boxes(label: np.ndarray, min_area: float = 0) -> np.ndarray:
    """
    Find the boxes of the connected regions of each object class.

    :param label: H×W uint8 class ids; neither background nor ids that are no class have boxes.
    :param min_area: regions of fewer pixels are left out.
    :returns: N×4 float32, ``x1, y1, x2, y2`` in pixels, the edges around the regions.
    """
    boxes = []
    for class_id in range(BACKGROUND):
        mask = (label == class_id).astype(np.uint8)
        statistics = cv2.connectedComponentsWithStats(mask, connectivity=8)[2]
        # The first component is all that is not of this class.
        boxes += [
            (x, y, x + width, y + height)
            for x, y, width, height, area in statistics[1:] if area >= min_area]
    return np.array(boxes, np.float32).reshape(-1, 4)
