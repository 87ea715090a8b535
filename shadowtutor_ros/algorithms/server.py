"""Algorithm 3 of the paper: the server, which labels key frames and trains the robot's student."""

import copy
import dataclasses
from typing import Callable

import numpy as np
import torch

from shadowtutor_ros.algorithms.student_training import StudentTrainer, TrainingSettings
from shadowtutor_ros.models.student import Student
from shadowtutor_ros.models.teachers.base import Teacher, TeacherPrediction
from shadowtutor_ros.wire.encodings import ENCODINGS
from shadowtutor_ros.wire.key_frame import KeyFrame, KeyFrameError
from shadowtutor_ros.wire.weight_update import (
    NO_TENSORS, pack, PackedTensors, Scope, unpack, UpdateRejected, WeightUpdate)


@dataclasses.dataclass
class ServerSettings(TrainingSettings):
    """
    How key frames are answered: how the student is trained, and how its weights are sent.

    :ivar encoding: of the weights, one of ``wire.encodings.ENCODINGS``.
    """

    encoding: str = 'int4'


class Server:
    """
    One robot's session on the server.

    :param student: the weights that a new session starts from; copied.
    :param teacher: labels key frames; may be shared with other sessions.
    :param settings: are read at each call, so that they can change at run time.
    :param clock: gives the time in seconds; only differences count.
    :param device: of PyTorch, that the student is trained on.
    """

    def __init__(
            self, student: Student, teacher: Teacher, settings: ServerSettings,
            clock: Callable[[], float], device: str = 'cpu'):
        self.settings = settings
        self._teacher = teacher
        self._clock = clock
        self._initial = copy.deepcopy(student.state_dict())
        self._student = copy.deepcopy(student).to(device).eval()
        self._trainer = StudentTrainer(self._student, settings)
        self._model_id = student.model_id
        self._session_id: int | None = None

    def warm_up(self, height: int, width: int) -> None:
        """Train a copy on an empty frame, so that the first key frame is no slower than any."""
        frame = np.zeros((height, width, 3), np.uint8)
        teaching = TeacherPrediction(np.zeros((height, width), np.uint8), np.zeros((0, 4)))
        settings = dataclasses.replace(self.settings, threshold=1.0, max_updates=1)
        StudentTrainer(copy.deepcopy(self._student), settings)(frame, teaching)

    def on_key_frame(
            self, key_frame: KeyFrame, on_step: Callable[[], None] = lambda: None
    ) -> WeightUpdate:
        """
        Label a key frame, train the student on it and answer with its weights (Algorithm 3).

        No weights are sent where training changed none. A robot that does not run the weights
        that this session would go on from gets them all: a snapshot sets it right.

        :param key_frame: a new session's sets the student back to the weights it began with.
        :param on_step: called after every training step.
        :raises KeyFrameError: if the robot runs another model, or training gave weights that
            cannot be sent.
        :raises ValueError: if the teacher cannot label the frame, or its label does not fit it.
        """
        if key_frame.model_id != self._model_id:
            raise KeyFrameError(
                f'a key frame is from a student with the model {key_frame.model_id[:40]}, this '
                f"teacher's is {self._model_id}: start both with the same package version")
        if key_frame.session_id != self._session_id:
            self._session_id = key_frame.session_id
            self._student.assign(self._initial)
            self._trainer.forget()
        # As they are now: they may change while the student is trained.
        settings = self._trainer.settings = dataclasses.replace(self.settings)
        in_step = key_frame.weights_checksum == self._student.weights_checksum()
        # What the robot holds, if it is in step: what differences are taken from.
        base = {name: tensor.detach().clone()
                for name, tensor in self._student.tensors(settings.scope).items()}

        begin = self._clock()
        teaching = self._teacher(key_frame.frame)
        labelled = self._clock()
        # What will not be sent need not be trained.
        result = self._trainer(
            key_frame.frame, teaching, on_step, ENCODINGS[settings.encoding].share)
        trained = self._clock()

        scope, tensors, metric_after = Scope.NONE, NO_TENSORS, result.metric_after
        if not in_step:
            # Exact, so that what is not trained is not rounded.
            scope, tensors = Scope.FULL, self._pack('full', 'fp32', base)
        elif result.changed:
            packed = self._pack(settings.scope, settings.encoding, base)
            if settings.encoding != 'fp32':
                metric_after = self._trainer.metric()
            if metric_after > result.metric_before:
                everything = len(base) == len(self._student.tensors())
                scope, tensors = Scope.FULL if everything else Scope.PARTIAL, packed
            else:  # the coding loses all that was gained
                self._student.load_state_dict(base, strict=False)
                metric_after = result.metric_before
        return WeightUpdate(
            session_id=key_frame.session_id,
            key_frame_number=key_frame.number,
            model_id=key_frame.model_id,
            base_version=key_frame.weights_version,
            new_version=key_frame.weights_version + (scope != Scope.NONE),
            weights_checksum=self._student.weights_checksum(),
            scope=scope,
            tensors=tensors,
            classes=self._trainer.classes,
            metric_before=result.metric_before,
            metric_after=metric_after,
            threshold=settings.threshold,
            steps=result.steps,
            max_updates=settings.max_updates,
            teacher_seconds=labelled - begin,
            training_seconds=trained - labelled)

    def _pack(
            self, scope: str, encoding: str, base: dict[str, torch.Tensor]) -> PackedTensors:
        """Pack a scope's tensors, and go on from exactly what the robot will unpack."""
        own = self._student.tensors(scope)
        base = {**own, **base} if scope == 'full' else base
        packed = pack(own, encoding, base)
        try:
            unpacked = unpack(packed, base)
        except UpdateRejected as rejected:
            self._student.assign(self._initial)
            self._trainer.forget()
            raise KeyFrameError(
                f'training gave weights that cannot be sent ({rejected}), so it begins anew: '
                'lower learning_rate, or choose encoding fp32') from None
        self._student.load_state_dict(unpacked, strict=False)
        return packed
