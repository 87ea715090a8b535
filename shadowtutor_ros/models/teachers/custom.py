"""Anybody's own teacher, named by the path of its class."""

from collections.abc import Hashable
import importlib
import inspect
from typing import Sequence

import numpy as np

from shadowtutor_ros.classes import ClassTable, IGNORE, LVS
from shadowtutor_ros.models.teachers.base import Teacher, TeacherPrediction
from shadowtutor_ros.models.teachers.checks import (
    check_frame, check_prediction, one_line, TeacherError)


class CustomTeacher:
    """
    A teacher of somebody else, with what it returns checked.

    Its class may have a ``vocabulary``: the names of its ids, which are then mapped onto the table
    that is asked for; without one they are those of the table ``lvs``. Where it is None the class
    is called with the table as well, and labels with places in that. A method ``label_batch``, if
    there is one, is given several frames of one size, and with vocabulary None their tables, and
    returns a list.

    :param path: 'package.module:Class'; the package is found as Python finds any.
    :param options: given to the class as far as its signature takes them.
    :raises TeacherError: if the class is not there, fails, or makes no teacher.
    """

    def __init__(self, path: str, **options: str | float | None):
        self._path = path
        module_name, _, class_name = path.partition(':')
        try:
            made_by = getattr(importlib.import_module(module_name), class_name)
        except Exception as error:  # a module that is imported may raise anything
            raise TeacherError(
                f"the teacher '{path}' cannot be imported ({type(error).__name__}: "
                f'{one_line(error)}): wanted package.module:Class, found along PYTHONPATH'
            ) from error
        try:
            teacher: Teacher = made_by(**_accepted(made_by, options))
        except Exception as error:
            raise TeacherError(
                f"the teacher '{path}' cannot be made ({type(error).__name__}: "
                f'{one_line(error)}): its class takes the keywords weights and device, either or '
                'none') from error
        if not callable(teacher):
            raise TeacherError(
                f"the teacher '{path}' makes a {type(teacher).__name__} that cannot be called: "
                'wanted a method __call__(frame) that returns a TeacherPrediction')
        self._teacher = teacher
        vocabulary = getattr(teacher, 'vocabulary', LVS.names)
        if vocabulary is not None and (
                isinstance(vocabulary, str) or not all(isinstance(one, str) for one in vocabulary)
                or not 0 < len(vocabulary) < IGNORE + 1):
            raise TeacherError(
                f"the teacher '{path}' has the vocabulary {str(vocabulary)[:60]!r}: wanted 1 to "
                f'{IGNORE} names, or None for any phrase')
        self.vocabulary = None if vocabulary is None else tuple(vocabulary)

    def __call__(self, frame: np.ndarray, classes: ClassTable) -> TeacherPrediction:
        """
        Label a frame.

        :param frame: H×W×3 uint8, BGR.
        :param classes: that it is labelled with.
        :raises ValueError: if the frame is something else, or :class:`TeacherError` if what the
            teacher returns is no prediction for it.
        """
        check_frame(frame)
        told = self._teacher(frame) if self.vocabulary else self._teacher(frame, classes)
        return self._checked(told, frame, classes)

    def batch_key(self, frame: np.ndarray, classes: ClassTable) -> Hashable | None:
        """Say with which others a frame may be labelled: those of its size, if any."""
        return frame.shape if hasattr(self._teacher, 'label_batch') else None

    def label_batch(
            self, frames: Sequence[np.ndarray], tables: Sequence[ClassTable]
    ) -> list[TeacherPrediction]:
        """
        Label frames of one size.

        :param frames: H×W×3 uint8, BGR.
        :param tables: that each is labelled with.
        :raises ValueError: if a frame is something else, or :class:`TeacherError` if what the
            teacher returns is no prediction for each.
        """
        for frame in frames:
            check_frame(frame)
        told = (self._teacher.label_batch(frames) if self.vocabulary
                else self._teacher.label_batch(frames, tables))
        if not isinstance(told, (list, tuple)) or len(told) != len(frames):
            raise TeacherError(
                f"the teacher '{self._path}' labelled {len(frames)} frames with a "
                f'{type(told).__name__}, wanted a list with a TeacherPrediction for each')
        return [self._checked(*each) for each in zip(told, frames, tables)]

    def _checked(
            self, told: TeacherPrediction, frame: np.ndarray,
            classes: ClassTable) -> TeacherPrediction:
        if self.vocabulary is None:
            return check_prediction(told, frame, self._path, len(classes))
        told = check_prediction(told, frame, self._path, len(self.vocabulary))
        label = classes.translated(told.label, self.vocabulary)
        return TeacherPrediction(label, told.boxes, told.scores)


def _accepted(function, options: dict) -> dict:
    """Return those options that a function's signature takes; those that are None are not set."""
    parameters = inspect.signature(function).parameters.values()
    anything = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    names = {parameter.name for parameter in parameters if parameter.kind in (
        parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)}
    return {
        name: value for name, value in options.items()
        if value is not None and (anything or name in names)}
