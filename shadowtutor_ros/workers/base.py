"""What a teacher's work is, and what whoever does it has in common."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
import threading
import time
from typing import Any, Protocol

from shadowtutor_ros.algorithms.server import Admitted, Server
from shadowtutor_ros.models.student.base import Weights
from shadowtutor_ros.models.student.inference import cuda_is_lost
from shadowtutor_ros.models.teachers.base import TeacherPrediction
from shadowtutor_ros.wire.key_frame import KeyFrame, KeyFrameError
from shadowtutor_ros.wire.weight_update import WeightUpdate

#: A session as ``Server.export`` returns it.
Kept = tuple[Weights, dict[str, Any]]


class WorkersError(ValueError):
    """Workers that cannot be had, or have failed; one line says why, and what to do."""


@dataclass(frozen=True, eq=False)
class Task:
    """
    A key frame that is to be answered.

    :ivar robot: the number that its updates are signed with; a robot has one task at a time.
    :ivar arrival: when it came, on this process's performance counter.
    :ivar alone: whether no other student is known to send key frames to this robot's place.
    """

    robot: int
    key_frame: KeyFrame
    arrival: float
    alone: bool


@dataclass(frozen=True, eq=False)
class Answer:
    """
    What has become of a task.

    :ivar update: the answer, which may be a refusal; None where it was answered before, or the
        workers have failed.
    :ivar seconds: that the work has taken; a robot's part where it was labelled with others.
    :ivar classes: names of those in force in the robot's session.
    :ivar memory_bytes: that the session's key frames take.
    :ivar error: how the workers have failed; empty where they have not.
    """

    update: WeightUpdate | None
    seconds: float = 0.0
    classes: tuple[str, ...] = ()
    memory_bytes: int = 0
    error: str = ''


@dataclass(frozen=True)
class Cluster:
    """
    What is asked of a cluster.

    :ivar teachers: networks.
    :ivar batch: key frames that one labels together, at most.
    :ivar teacher_gpus, session_gpus: GPUs, or shares of one, for each network and each session.
    :ivar device: of PyTorch, as an actor sees it; with 'cpu' none asks for GPUs.
    :ivar threads: that PyTorch computes with in each actor; 0 for its own choice.
    """

    teachers: int = 1
    batch: int = 4
    teacher_gpus: float = 1.0
    session_gpus: float = 0.1
    device: str = 'auto'
    threads: int = 1


class Workers(Protocol):
    """
    Those who do a teacher's work.

    :ivar vocabulary: of the teacher.
    :ivar room: how many more tasks they take now.
    :ivar keeps: whether a session that is exported is of use to themselves.
    """

    vocabulary: tuple[str, ...] | None
    room: int
    keeps: bool

    def warm_up(self) -> None:
        """Get ready, so that the first key frame is no slower than any."""

    def add(self, robot: int, kept: Kept | None) -> 'Future[tuple[int, int]]':
        """
        Make a robot's place.

        :param robot: the number that its updates are signed with, see ``Server.teacher_id``.
        :param kept: the session that it goes on from; None: it begins.
        :returns: number and last key frame of that session; (0, 0) for a beginning. A
            SessionError is what keeps the robot from going on from it, so that it begins anew.
        """

    def remove(self, robot: int) -> None:
        """Give up a robot's place."""

    def answer(
            self, tasks: Sequence[Task], on_answer: Callable[[Task, Answer], None],
            on_step: Callable[[], None]) -> None:
        """
        Answer key frames of different robots, now or later.

        :param tasks: as many as there is room for, at most.
        :param on_answer: is given each answer as soon as it is there, by any thread.
        :param on_step: may be called after every training step; what it raises breaks off.
        """

    def export(self, robot: int) -> Kept | None:
        """
        Return a robot's session, to be kept; None if there is none.

        It waits while the robot is served, and may be called by any thread.
        """

    def close(self) -> None:
        """Let all go."""


class Desk:
    """
    A server whose refusals are answers like any.

    :ivar lock: to be held while a key frame is answered, and while the session is exported.
    """

    def __init__(self, server: Server):
        self.server = server
        self.lock = threading.Lock()

    def admit(self, key_frame: KeyFrame, waited: float, alone: bool) -> Admitted | Answer:
        """
        Do as ``Server.admit``.

        :returns: an answer where there is nothing to be labelled.
        :raises RuntimeError: if the GPU is lost.
        """
        begin = time.perf_counter()
        try:
            admitted = self.server.admit(key_frame, waited, alone)
        except KeyFrameError as error:
            return self._refused(key_frame, error, begin)
        return Answer(None, time.perf_counter() - begin) if admitted is None else admitted

    def teach(
            self, admitted: Admitted, labelled: TeacherPrediction | KeyFrameError,
            teacher_seconds: float, on_step: Callable[[], None] = lambda: None) -> Answer:
        """
        Do as ``Server.teach``.

        :raises RuntimeError: if the GPU is lost.
        """
        begin = time.perf_counter() - teacher_seconds
        try:
            update = self.server.teach(admitted, labelled, teacher_seconds, on_step)
        except KeyFrameError as error:
            return self._refused(admitted.key_frame, error, begin)
        session = self.server.session
        return Answer(update, time.perf_counter() - begin, session.classes.names,
                      session.trainer.memory_bytes)

    def _refused(self, key_frame: KeyFrame, error: KeyFrameError, begin: float) -> Answer:
        if error.__cause__ is not None and cuda_is_lost(error.__cause__):
            raise error.__cause__
        update = self.server.refuse(
            key_frame.session_id, key_frame.number, key_frame.model_id, error)
        return Answer(update, time.perf_counter() - begin)
