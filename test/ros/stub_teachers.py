"""Teachers of the tests' own."""

import numpy as np

from shadowtutor_ros.models.teachers.base import TeacherPrediction


class HalfPerson:
    """Says that the left half of every frame is a person."""

    def __call__(self, frame):
        height, width = frame.shape[:2]
        label = np.full((height, width), 8, np.uint8)
        label[:, :width // 2] = 0
        return TeacherPrediction(label, np.array([[0, 0, width // 2, height]], np.float32))


class Broken:
    """Fails at every frame."""

    def __call__(self, frame):
        raise RuntimeError('out of memory')
