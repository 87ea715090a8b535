"""What a teacher is: anything that turns a frame into a label map and the boxes of its objects."""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Protocol, Sequence

import numpy as np

from shadowtutor_ros.classes import ClassTable


@dataclass(frozen=True)
class TeacherPrediction:
    """
    What a teacher says of one frame.

    :ivar label: H×W uint8, classes by their places in the table that was asked for, or ``IGNORE``;
        at the frame's size.
    :ivar boxes: N×4 float32 boxes of the objects of the table's classes, ``x1, y1, x2, y2`` in
        pixels of the frame; where they lie (a little enlarged) the loss weighs more.
    :ivar scores: how sure it is of each object, (N,) float32, 0 to 1; None where it does not say.
    """

    label: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray | None = None


class Teacher(Protocol):
    """
    A network, or anything else, that labels frames.

    :ivar vocabulary: names of what it can tell apart; None where any phrase may be asked for.
    """

    vocabulary: tuple[str, ...] | None

    def __call__(self, frame: np.ndarray, classes: ClassTable) -> TeacherPrediction:
        """
        Label a frame.

        :param frame: H×W×3 uint8, BGR.
        :param classes: that it is labelled with; what is none of them is background.
        :returns: the label and the boxes, at the frame's size.
        :raises ValueError: if it cannot label the frame.
        """


class BatchTeacher(Teacher, Protocol):
    """A teacher that labels several frames in one pass of its network."""

    def batch_key(self, frame: np.ndarray, classes: ClassTable) -> Hashable | None:
        """
        Say with which others a frame may be labelled: those with an equal key.

        :param frame, classes: as for :meth:`__call__`; the frame may be none that it can label.
        :returns: None where it has to be labelled alone.
        """

    def label_batch(
            self, frames: Sequence[np.ndarray], tables: Sequence[ClassTable]
    ) -> list[TeacherPrediction]:
        """
        Label frames whose keys are equal, as :meth:`__call__` labels each, but for rounding.

        :param frames: H×W×3 uint8, BGR; one at least.
        :param tables: the classes that each is labelled with.
        :raises ValueError: if it cannot label one of them.
        """


class OneSize:
    """What a :class:`BatchTeacher` is whose network takes frames of one size together."""

    def __call__(self, frame: np.ndarray, classes: ClassTable) -> TeacherPrediction:
        """Label a frame, as :class:`Teacher` has it."""
        return self.label_batch([frame], [classes])[0]

    def batch_key(self, frame: np.ndarray, classes: ClassTable) -> Hashable | None:
        """Say with which others a frame may be labelled: those of its size."""
        return frame.shape
