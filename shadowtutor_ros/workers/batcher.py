"""A teacher that many threads ask: those that wait for it are labelled together."""

from dataclasses import dataclass
import threading
import time

import numpy as np

from shadowtutor_ros.algorithms.labelling import label_together
from shadowtutor_ros.classes import ClassTable
from shadowtutor_ros.models.teachers.base import Teacher, TeacherPrediction
from shadowtutor_ros.wire.key_frame import KeyFrameError


@dataclass(eq=False)
class _Request:
    frame: np.ndarray
    classes: ClassTable
    label: TeacherPrediction | KeyFrameError | None = None
    seconds: float = 0.0


class Batcher:
    """
    Labels one batch after another: what has come while the one before was labelled.

    :param most: frames of a batch.
    """

    def __init__(self, teacher: Teacher, most: int):
        self._teacher = teacher
        self._most = most
        self._waiting: list[_Request] = []
        self._list, self._network = threading.Lock(), threading.Lock()

    def __call__(
            self, frame: np.ndarray, classes: ClassTable
    ) -> tuple[TeacherPrediction | KeyFrameError, float]:
        """
        Label a frame; may be called by any number of threads.

        :param frame, classes: as for :func:`.labelling.label_together`.
        :returns: what that returns, and this frame's part of the seconds that it took.
        """
        request = _Request(frame, classes)
        with self._list:
            self._waiting.append(request)
        while request.label is None:
            with self._network:
                if request.label is None:
                    self._label_next()
        return request.label, request.seconds

    def _label_next(self) -> None:
        with self._list:
            batch, self._waiting = self._waiting[:self._most], self._waiting[self._most:]
        begin = time.perf_counter()
        labels = label_together(
            self._teacher, [one.frame for one in batch], [one.classes for one in batch])
        seconds = (time.perf_counter() - begin) / len(batch)
        for one, label in zip(batch, labels):
            one.seconds, one.label = seconds, label
