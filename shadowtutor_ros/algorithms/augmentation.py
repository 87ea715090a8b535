"""Variants of a labelled key frame: what the camera may see in the next second."""

import cv2
import numpy as np

from shadowtutor_ros.classes import IGNORE
from shadowtutor_ros.models.teachers.base import TeacherPrediction

#: Objects are so many times as large at most, or as small.
_SCALE = 1.25
#: The camera moves by this share of width and height at most, either way.
_SHIFT = 0.1


def variant(
        frame: np.ndarray, teaching: TeacherPrediction, random: np.random.Generator
) -> tuple[np.ndarray, TeacherPrediction]:
    """
    Move and scale a labelled frame by chance, and mirror half of them.

    :param frame: H×W×3 uint8, BGR.
    :param teaching: the teacher's label (H×W) and boxes for it.
    :returns: likewise, of the same size. What was not in the image is mirrored at its border, and
        has no label.
    """
    height, width = frame.shape[:2]
    scale = _SCALE ** random.uniform(-1, 1)
    mirror = -1 if random.random() < 0.5 else 1
    right, down = random.uniform(-_SHIFT, _SHIFT, 2) * (width, height)
    # About the centre.
    moved = np.array([
        [mirror * scale, 0, (1 - mirror * scale) * width / 2 + right],
        [0, scale, (1 - scale) * height / 2 + down]])
    image = cv2.warpAffine(
        frame, moved, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    label = cv2.warpAffine(
        teaching.label, moved, (width, height), flags=cv2.INTER_NEAREST, borderValue=IGNORE)
    boxes = np.asarray(teaching.boxes, np.float32).reshape(-1, 2, 2)
    corners = boxes * np.diag(moved) + moved[:, 2]
    return image, TeacherPrediction(
        label, np.concatenate([corners.min(1), corners.max(1)], 1).astype(np.float32))
