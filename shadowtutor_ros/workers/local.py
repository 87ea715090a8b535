"""A teacher's work in this process: one network, one key frame trained on at a time."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
import time

from shadowtutor_ros.algorithms import SessionError
from shadowtutor_ros.algorithms.labelling import label_together
from shadowtutor_ros.algorithms.server import Server, ServerSettings
from shadowtutor_ros.models.student.base import Student
from shadowtutor_ros.models.teachers.base import Teacher
from shadowtutor_ros.workers.base import Answer, Desk, Kept, Task


class LocalWorkers:
    """
    Answers key frames in the thread that brings them: labels them together, then trains on each.

    :param student: that sessions begin with.
    :param teacher: labels key frames.
    :param settings: are read at each key frame.
    :param device: of PyTorch, that students are trained on.
    :param name: of the teacher, in its answers.
    :param most: key frames that are labelled together, at most.

    :ivar desks: by robot.
    """

    keeps = False

    def __init__(
            self, student: Student, teacher: Teacher, settings: ServerSettings, device: str,
            name: str, most: int):
        self.vocabulary = teacher.vocabulary
        self.room = most
        self.desks: dict[int, Desk] = {}
        self._teacher = teacher
        self._make_server = lambda teacher_id=None: Server(
            student, teacher, settings, time.perf_counter, device, teacher_id, name)

    def warm_up(self) -> None:
        """Train a student that nobody has."""
        self._make_server().warm_up(360, 640)

    def add(self, robot: int, kept: Kept | None) -> 'Future[tuple[int, int]]':
        """Make a robot's place, as :class:`.base.Workers` has it."""
        server, begun = self._make_server(robot), Future()
        self.desks[robot] = Desk(server)
        try:
            if kept is not None:
                server.restore(*kept)
            session = server.session
            begun.set_result((session.id, session.last_number) if session else (0, 0))
        except SessionError as error:
            begun.set_exception(error)
        return begun

    def remove(self, robot: int) -> None:
        """Give up a robot's place."""
        del self.desks[robot]

    def answer(
            self, tasks: Sequence[Task], on_answer: Callable[[Task, Answer], None],
            on_step: Callable[[], None]) -> None:
        """Answer key frames, as :class:`.base.Workers` has it, before this returns."""
        # A robot may be gone by now.
        tasks = [task for task in tasks if task.robot in self.desks]
        desks = [self.desks[task.robot] for task in tasks]
        with ExitStack() as held:
            for desk in desks:
                held.enter_context(desk.lock)
            begin, ahead, admitted = time.perf_counter(), 0.0, []
            for task, desk in zip(tasks, desks):
                one = desk.admit(task.key_frame, begin - task.arrival + ahead, task.alone)
                if isinstance(one, Answer):
                    on_answer(task, one)
                    continue
                # Who is trained after others waits for these, too.
                ahead += desk.server.expected_seconds
                admitted.append((task, desk, one))
            if not admitted:
                return
            begin = time.perf_counter()
            labels = label_together(
                self._teacher, [one.key_frame.frame for _, _, one in admitted],
                [one.classes for _, _, one in admitted])
            seconds = (time.perf_counter() - begin) / len(admitted)
            for (task, desk, one), label in zip(admitted, labels):
                on_answer(task, desk.teach(one, label, seconds, on_step))

    def export(self, robot: int) -> Kept | None:
        """Return a robot's session, as :class:`.base.Workers` has it."""
        desk = self.desks[robot]
        with desk.lock:
            return desk.server.export()

    def close(self) -> None:
        """Do nothing: what is here ends with the process."""
