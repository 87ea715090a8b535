"""A teacher's work on a Ray cluster: networks and sessions as actors, which Ray places."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
import dataclasses
import os
import threading
import time
from typing import Any

import numpy as np

from shadowtutor_ros.algorithms import SessionError
from shadowtutor_ros.algorithms.server import Server, ServerSettings
from shadowtutor_ros.classes import ClassTable
from shadowtutor_ros.errors import describe
from shadowtutor_ros.models.student.base import Student
from shadowtutor_ros.models.student.inference import choose_device, cuda_is_lost, use_threads
from shadowtutor_ros.models.teachers import load_teacher
from shadowtutor_ros.models.teachers.base import TeacherPrediction
from shadowtutor_ros.wire.key_frame import KeyFrame, KeyFrameError
from shadowtutor_ros.workers.base import Answer, Cluster, Desk, Kept, Task, WorkersError
from shadowtutor_ros.workers.batcher import Batcher
from shadowtutor_ros.workers.cluster import connect

#: Tasks at a time for each that a teacher labels: some are trained on meanwhile.
_AHEAD = 2

#: Actors and their calls are repeated for ever, on another machine where theirs has died, and lie
#: on as many machines as there are.
_LASTING = {'max_restarts': -1, 'max_task_retries': -1, 'num_cpus': 0,
            'scheduling_strategy': 'SPREAD'}

#: Seconds that a session may take to be exported, since it may be on a machine that has just died.
EXPORT_TIMEOUT = 30.0

#: Seconds that leaving the cluster may take of the time that a node has to end.
CLOSE_TIMEOUT = 0.5


class _Actor:
    """What is common to all actors."""

    def __init__(self, threads: int):
        use_threads(threads)

    @staticmethod
    def end_without_cuda(error: BaseException | None) -> None:
        """End this process after an error that has left it no GPU: Ray makes another."""
        if error is not None and cuda_is_lost(error):
            os._exit(1)


class _TeacherActor(_Actor):
    """A network, with a thread for each key frame that it may be asked to label."""

    def __init__(self, threads: int, batch: int, device: str, arguments: tuple):
        super().__init__(threads)
        self._error = ''
        name, weights, *thresholds = arguments
        try:
            teacher = load_teacher(name, weights, choose_device(device), *thresholds)
        except ValueError as error:  # raised by what is asked first, since actors are made later
            self._error = str(error)
        else:
            self._vocabulary = teacher.vocabulary
            self._label = Batcher(teacher, batch)

    def vocabulary(self) -> tuple[tuple[str, ...] | None, str]:
        """Return the teacher's vocabulary; and why there is no teacher, where that is so."""
        return (None, self._error) if self._error else (self._vocabulary, '')

    def label(
            self, frame: np.ndarray, classes: ClassTable
    ) -> tuple[TeacherPrediction | KeyFrameError, float]:
        """Label a frame, as :class:`.batcher.Batcher` does."""
        labelled, seconds = self._label(frame, classes)
        if isinstance(labelled, KeyFrameError):
            self.end_without_cuda(labelled.__cause__)
        return labelled, seconds


@dataclasses.dataclass(frozen=True)
class _Elsewhere:
    """What a session has to know of a teacher that labels elsewhere."""

    vocabulary: tuple[str, ...] | None


class _SessionActor(_Actor):
    """One robot's session."""

    def __init__(
            self, threads: int, device: str, student: list,
            vocabulary: tuple[str, ...] | None, teacher_id: int, name: str):
        super().__init__(threads)
        self._desk: Desk | None = None
        self._make_server = lambda: Server(
            _fetched(student), _Elsewhere(vocabulary), ServerSettings(), time.perf_counter,
            choose_device(device), teacher_id, name)

    def begin(self, kept: list) -> tuple[int, int, str]:
        """
        Go on from a kept session, if this actor is new; what fails here is tried again.

        :param kept: the reference of one as its only item; empty: there is none.
        :returns: the session's number and last key frame, and why it could not be gone on from.
        """
        problem = ''
        if self._desk is None:
            server = self._make_server()
            try:
                if kept:
                    server.restore(*_fetched(kept))
            except SessionError as error:
                problem = str(error)
            try:
                server.warm_up(360, 640)
            except Exception as error:  # out of memory, say; key frames may do better
                self.end_without_cuda(error)
            self._desk = Desk(server)
        session = self._desk.server.session
        return (session.id, session.last_number, problem) if session else (0, 0, problem)

    def answer(
            self, settings: ServerSettings, key_frame: KeyFrame, waited: float, alone: bool,
            kept: list, teacher: Any) -> Answer:
        """
        Answer a key frame.

        :param settings: that hold for it.
        :param waited: seconds since it came.
        :param kept: as for :meth:`begin`: Ray repeats this call in a new actor if this one dies.
        :param teacher: the actor that labels it.
        """
        import ray
        try:
            self.begin(kept)
            self._desk.server.settings = settings
            admitted = self._desk.admit(key_frame, waited, alone)
            if isinstance(admitted, Answer):
                return admitted
            labelled, seconds = ray.get(teacher.label.remote(key_frame.frame, admitted.classes))
            return self._desk.teach(admitted, labelled, seconds)
        except RuntimeError as error:
            self.end_without_cuda(error)
            raise

    def export(self) -> Kept | None:
        """Return the session; None where there is none yet."""
        return self._desk and self._desk.server.export()


def _fetched(reference: list) -> Any:
    """Return the object of a reference that was handed over as such, alone in a list."""
    import ray
    return ray.get(reference[0])


class RayWorkers:
    """
    Answers key frames on a Ray cluster, each robot's by an actor of its own.

    Where an actor dies, or its machine, Ray makes it again and repeats the call that it was in; a
    session goes on from what was exported last, and the robot's next key frame does the rest.

    :param student: that sessions begin with.
    :param teacher: arguments of ``load_teacher``, without the device.
    :param settings: are read at each key frame.
    :param name: of the teacher, in its answers.
    :param cluster: what is asked of it.
    :raises WorkersError: if there is no cluster, it has too few GPUs, or there is no such teacher.
    """

    keeps = True

    def __init__(
            self, student: Student, teacher: tuple, settings: ServerSettings, name: str,
            cluster: Cluster = Cluster()):
        self._settings = settings
        self._lock = threading.Lock()
        #: The teacher that each robot's task is with.
        self._busy: dict[int, Any] = {}
        self._kept: dict[int, list] = {}
        self._sessions: dict[int, Any] = {}
        self._stay = threading.Event()
        made: Future = Future()
        # What Ray starts ends with the thread that starts it; and in the main thread it would take
        # SIGTERM from the node.
        self._thread = threading.Thread(
            target=self._hold, args=(made,), name='ray', daemon=True)
        self._thread.start()
        self._ray = made.result()
        try:
            self._make_actors(student, teacher, name, cluster)
        except BaseException:
            self.close()
            raise

    def _make_actors(
            self, student: Student, teacher: tuple, name: str, cluster: Cluster) -> None:
        ray, gpus = self._ray, self._gpus(cluster)
        ray_teacher = ray.remote(_TeacherActor).options(
            **_LASTING, num_gpus=gpus * cluster.teacher_gpus,
            max_concurrency=cluster.teachers * cluster.batch * _AHEAD)
        self._teachers = [
            ray_teacher.remote(cluster.threads, cluster.batch, cluster.device, teacher)
            for _ in range(cluster.teachers)]
        self._capacity = cluster.teachers * cluster.batch * _AHEAD
        for actor in self._teachers:
            try:
                self.vocabulary, problem = ray.get(actor.vocabulary.remote())
            except ray.exceptions.RayError as error:
                problem = f'the teacher cannot be loaded on the Ray cluster ({describe(error)})'
            if problem:
                raise WorkersError(problem)
        session = ray.remote(_SessionActor).options(
            **_LASTING, num_gpus=gpus * cluster.session_gpus)
        # The reference itself: the node holds it, so that it is there for whatever is made again.
        shared = [ray.put(student)]
        self._make_session = lambda teacher_id: session.remote(
            cluster.threads, cluster.device, shared, self.vocabulary, teacher_id, name)

    def _hold(self, made: Future) -> None:
        """Connect, and stay as long as this is used."""
        try:
            made.set_result(connect())
        except BaseException as error:
            made.set_exception(error)
            return
        self._stay.wait()
        self._ray.shutdown()

    def _gpus(self, cluster: Cluster) -> int:
        """Return 1 where actors ask for GPUs, 0 where they run without."""
        there = self._ray.cluster_resources().get('GPU', 0.0)
        if cluster.device == 'cpu' or cluster.device == 'auto' and not there:
            return 0
        wanted = cluster.teachers * cluster.teacher_gpus
        if wanted > there:
            raise WorkersError(
                f'{cluster.teachers} teachers with {cluster.teacher_gpus:g} GPUs each need '
                f'{wanted:g}, and the Ray cluster has {there:g}: lower teachers or teacher_gpus, '
                'or choose the device cpu')
        return 1

    @property
    def room(self) -> int:
        """How many more tasks the cluster takes now."""
        with self._lock:
            return max(0, self._capacity - len(self._busy))

    def warm_up(self) -> None:
        """Do nothing: actors get ready as they are made."""

    def add(self, robot: int, kept: Kept | None) -> 'Future[tuple[int, int]]':
        """Make a robot's place, as :class:`.base.Workers` has it; begins without waiting."""
        actor = self._make_session(robot)
        with self._lock:
            self._sessions[robot] = actor
            self._kept[robot] = [] if kept is None else [self._ray.put(kept)]
        begun: Future = Future()

        def tell(asked: Future) -> None:
            try:
                number, last, problem = asked.result()
            except Exception as error:
                begun.set_exception(error)
            else:
                if problem:
                    begun.set_exception(SessionError(problem))
                else:
                    begun.set_result((number, last))

        actor.begin.remote(self._kept[robot]).future().add_done_callback(tell)
        return begun

    def remove(self, robot: int) -> None:
        """Give up a robot's place."""
        with self._lock:
            del self._kept[robot]
            actor = self._sessions.pop(robot)
        self._ray.kill(actor)

    def answer(
            self, tasks: Sequence[Task], on_answer: Callable[[Task, Answer], None],
            on_step: Callable[[], None]) -> None:
        """Hand key frames over; the answers come by threads of Ray's."""
        for task in tasks:
            with self._lock:
                if task.robot not in self._sessions:  # it is gone by now
                    continue
                busy = list(self._busy.values())
                teacher = self._busy[task.robot] = min(self._teachers, key=busy.count)
                actor, kept = self._sessions[task.robot], self._kept[task.robot]
            reference = actor.answer.remote(
                dataclasses.replace(self._settings), task.key_frame,
                time.perf_counter() - task.arrival, task.alone, kept, teacher)
            reference.future().add_done_callback(
                lambda done, task=task: self._done(task, done, on_answer))

    def _done(
            self, task: Task, done: Future, on_answer: Callable[[Task, Answer], None]) -> None:
        with self._lock:
            self._busy.pop(task.robot, None)
        try:
            answer = done.result()
        except Exception as error:  # whatever Ray cannot mend
            answer = Answer(None, error=describe(error))
        on_answer(task, answer)

    def export(self, robot: int) -> Kept | None:
        """
        Return a robot's session, from which it goes on if its actor dies, too.

        :raises WorkersError: if that takes longer than :data:`EXPORT_TIMEOUT`, or cannot be.
        """
        with self._lock:
            actor = self._sessions[robot]
        reference = actor.export.remote()
        try:
            kept = self._ray.get(reference, timeout=EXPORT_TIMEOUT)
        except Exception as error:
            raise WorkersError(
                f'the Ray cluster does not hand it out ({describe(error)})') from None
        if kept is not None:
            # A copy of this process's own: the reference's is lost with the actor's machine.
            copy = [self._ray.put(kept)]
            with self._lock:
                if robot in self._kept:
                    self._kept[robot] = copy
        return kept

    def close(self) -> None:
        """
        Leave the cluster, and end it if it was made here.

        What that does not do within :data:`CLOSE_TIMEOUT` goes on, and ends with this process.
        """
        self._stay.set()
        self._thread.join(CLOSE_TIMEOUT)
