"""From instances to a label map, and from a label map to boxes."""

from collections.abc import Iterable

import cv2
import numpy as np

from shadowtutor_ros.classes import IGNORE
from shadowtutor_ros.models.teachers.base import TeacherPrediction

#: Of two boxes of one category that overlap by more than this IoU, the surer one stays.
NMS_IOU = 0.6


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


def label_instances(
        masks: np.ndarray, boxes: np.ndarray, scores: np.ndarray, places: np.ndarray,
        background: int) -> TeacherPrediction:
    """
    Label a frame by the surest instance at each pixel.

    :param masks: of N instances, N×H×W bool, in no order.
    :param boxes: N×4, ``x1, y1, x2, y2`` in pixels.
    :param scores: N, 0 to 1.
    :param places: N, the class of each; those of the background are left out.
    :param background: the place of the background.
    """
    ours = np.flatnonzero(places != background)
    order = ours[np.argsort(-scores[ours], kind='stable')]
    return TeacherPrediction(
        paint_instances(masks.shape[1:], masks[order], places[order], background),
        boxes[order].astype(np.float32), scores[order].astype(np.float32))


def mask_boxes(masks: np.ndarray) -> np.ndarray:
    """
    Find the box around each of several masks.

    :param masks: N×H×W bool, none empty.
    :returns: N×4 float32, ``x1, y1, x2, y2`` in pixels, the edges around them.
    """
    # OpenCV gives x, y, width, height.
    boxes = [cv2.boundingRect(mask.view(np.uint8)) for mask in masks]
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return boxes


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


def suppress(
        boxes: np.ndarray, scores: np.ndarray, categories: np.ndarray,
        iou: float = NMS_IOU) -> np.ndarray:
    """
    Suppress boxes that overlap a surer one of the same category.

    :param boxes: N×4, ``x1, y1, x2, y2``.
    :param scores: N.
    :param categories: N integers.
    :param iou: overlaps above it are suppressed, 0 to 1.
    :returns: indices of the boxes that stay, the surest first.
    """
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    waiting = np.argsort(-scores, kind='stable')
    keep = []
    while waiting.size:
        best, waiting = waiting[0], waiting[1:]
        keep.append(best)
        sides = (np.minimum(boxes[best, 2:], boxes[waiting, 2:])
                 - np.maximum(boxes[best, :2], boxes[waiting, :2])).clip(min=0)
        common = sides.prod(axis=1)
        overlaps = common > iou * (areas[best] + areas[waiting] - common)
        waiting = waiting[~(overlaps & (categories[waiting] == categories[best]))]
    return np.array(keep, int)
