"""Variants of a labelled key frame."""

import numpy as np
import pytest
from shadowtutor_ros.algorithms.augmentation import variant
from shadowtutor_ros.classes import IGNORE
from shadowtutor_ros.models.teachers.base import TeacherPrediction


def scene():
    """Return a red box of class 3 before grey, and its label and box."""
    frame = np.full((120, 200, 3), 90, np.uint8)
    label = np.full((120, 200), 8, np.uint8)
    frame[30:70, 60:140], label[30:70, 60:140] = (0, 0, 250), 3
    return frame, TeacherPrediction(label, np.array([[60, 30, 140, 70]], np.float32))


@pytest.mark.parametrize('seed', range(12))
def test_label_and_boxes_go_with_the_image(seed):
    frame, teaching = scene()
    image, other = variant(frame, teaching, np.random.default_rng(seed))
    assert image.shape == frame.shape and image.dtype == other.label.dtype == np.uint8
    assert other.label.shape == teaching.label.shape
    known = other.label != IGNORE
    red = (image[:, :, 2] > 170) & (image[:, :, 0] < 50)
    assert ((other.label == 3) == red)[known].mean() > 0.99
    rows, columns = np.nonzero(other.label == 3)
    x1, y1, x2, y2 = other.boxes[0]
    assert x1 == pytest.approx(columns.min(), abs=1.5)
    assert y1 == pytest.approx(rows.min(), abs=1.5)
    assert x2 == pytest.approx(columns.max() + 1, abs=1.5)
    assert y2 == pytest.approx(rows.max() + 1, abs=1.5)
    assert 0.64 - 0.02 < (other.label == 3).sum() / (40 * 80) < 1.5625 + 0.05


def test_they_differ_are_mirrored_at_times_and_the_same_by_seed():
    frame, teaching = scene()
    frame[30:70, 60:70] = (250, 0, 0)  # its left edge
    random = np.random.default_rng(0)
    several = [variant(frame, teaching, random)[0] for _ in range(20)]
    assert len({image.tobytes() for image in several}) == 20
    sides = [np.nonzero(image[:, :, 0] > 170)[1].mean()
             < np.nonzero(image[:, :, 2] > 170)[1].mean() for image in several]
    assert 4 < sum(sides) < 16
    again = np.random.default_rng(0)
    assert all((variant(frame, teaching, again)[0] == image).all() for image in several)


def test_without_boxes_and_with_what_is_not_known():
    frame, teaching = scene()
    teaching.label[:, :100] = IGNORE
    image, other = variant(
        frame, TeacherPrediction(teaching.label, np.zeros((0, 4), np.float32)),
        np.random.default_rng(1))
    assert other.boxes.shape == (0, 4) and (other.label == IGNORE).mean() > 0.3
