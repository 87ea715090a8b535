"""The teacher of the built-in scene, with faults that it is told to have."""

from pathlib import Path
import time

import numpy as np
import torch

from shadowtutor_ros.algorithms import student_training
from shadowtutor_ros.classes import ClassTable
from shadowtutor_ros.models.teachers.base import TeacherPrediction
from shadowtutor_ros.models.teachers.scene import SceneTeacher


class FaultyTeacher(SceneTeacher):
    """
    Has the fault that a file names, from one frame to the next: none where it is empty.

    ``raise`` at every frame; ``sleep SECONDS`` before each; a loss that is ``nan``; ``memory``
    that a training step has not enough of.

    :param weights: path of the file, which the parameter ``teacher_weights`` gives.
    """

    def __init__(self, weights: str):
        super().__init__()
        self.vocabulary = None  # it is handed the table
        self._path = Path(weights)
        self._true_loss = student_training.weighted_cross_entropy
        # The one part of a training step that has a name of its own.
        student_training.weighted_cross_entropy = self._loss

    def __call__(self, frame: np.ndarray, classes: ClassTable) -> TeacherPrediction:
        """Label a frame; see :class:`SceneTeacher`."""
        fault, _, value = self._path.read_text().partition(' ')
        if fault == 'raise':
            raise RuntimeError('this teacher fails at every frame, as it was told to')
        if fault == 'sleep':
            time.sleep(float(value))
        return super().__call__(frame, classes)

    def _loss(self, *arguments: torch.Tensor) -> torch.Tensor:
        loss, fault = self._true_loss(*arguments), self._path.read_text()
        if fault == 'memory':
            raise torch.cuda.OutOfMemoryError('out of memory, as it was told to be')
        return loss * torch.nan if fault == 'nan' else loss
