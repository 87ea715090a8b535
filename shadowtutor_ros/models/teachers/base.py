"""What a teacher is: anything that turns a frame into a label map and the boxes of its objects."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np


@dataclass(frozen=True)
class TeacherPrediction:
    """
    What a teacher says of one frame.

    :ivar label: H×W uint8 class ids of :mod:`shadowtutor_ros.labels`, at the frame's size.
    :ivar boxes: N×4 float32 boxes of the objects of our eight classes, ``x1, y1, x2, y2`` in
        pixels of the frame; where they lie (a little enlarged) the loss weighs more.
    """

    label: np.ndarray
    boxes: np.ndarray


class Teacher(Protocol):
    """A network, or anything else, that labels frames."""

    def __call__(self, frame: np.ndarray) -> TeacherPrediction:
        """
        Label a frame.

        :param frame: H×W×3 uint8, BGR.
        :returns: the label and the boxes, at the frame's size.
        :raises ValueError: if it cannot label the frame.
        """
