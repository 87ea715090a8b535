"""Labelling frames of several robots together, where the teacher's network can."""

import logging
from typing import Sequence

import numpy as np

from shadowtutor_ros.classes import ClassTable
from shadowtutor_ros.errors import describe
from shadowtutor_ros.models.teachers.base import Teacher, TeacherPrediction
from shadowtutor_ros.wire.key_frame import KeyFrameError

_LOG = logging.getLogger(__name__)


def label_together(
        teacher: Teacher, frames: Sequence[np.ndarray], tables: Sequence[ClassTable]
) -> list[TeacherPrediction | KeyFrameError]:
    """
    Label frames, those together that the teacher takes together.

    :param teacher: anything that labels a frame; one that labels several at a time is a
        :class:`.base.BatchTeacher`.
    :param frames: H×W×3 uint8, BGR, each of any size.
    :param tables: the classes that each is labelled with.
    :returns: for each frame, in their order, what the teacher says of it, or the error with which
        it failed on that frame, with the teacher's own as its cause.
    """
    batches: dict[object, list[int]] = {}
    for index, (frame, classes) in enumerate(zip(frames, tables)):
        key = teacher.batch_key(frame, classes) if hasattr(teacher, 'batch_key') else None
        batches.setdefault(('alone', index) if key is None else key, []).append(index)
    labels: dict[int, TeacherPrediction | KeyFrameError] = {}
    for batch in batches.values():
        labels.update(zip(batch, _label_batch(
            teacher, [frames[index] for index in batch], [tables[index] for index in batch])))
    return [labels[index] for index in range(len(frames))]


def _label_batch(
        teacher: Teacher, frames: list[np.ndarray], tables: list[ClassTable]
) -> list[TeacherPrediction | KeyFrameError]:
    if len(frames) > 1:
        try:
            return list(teacher.label_batch(frames, tables))
        except Exception as error:  # of one of the frames, or no memory for all of them
            _LOG.warning(
                'the teacher failed on %d frames together (%s), so each is labelled by itself; '
                'teacher_batch says how many go together', len(frames), describe(error))
    return [_label(teacher, *each) for each in zip(frames, tables)]


def _label(
        teacher: Teacher, frame: np.ndarray, classes: ClassTable
) -> TeacherPrediction | KeyFrameError:
    try:
        return teacher(frame, classes)
    except Exception as cause:  # of anybody's code
        error = KeyFrameError(
            f'the teacher failed on the frame ({describe(cause)})', 'unlabelled')
        error.__cause__ = cause
        return error
