"""Many simulated robots and one real teacher, for a long time, with random faults."""

from contextlib import closing, ExitStack
import os
from pathlib import Path
import random
import secrets
import shutil
import signal
import threading
import time
from typing import Callable, Iterator

import rclpy
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node

from shadowtutor_ros.memory import resident_bytes
from shadowtutor_ros.models.student.inference import use_threads
from shadowtutor_ros.msg import TeacherStatus
from shadowtutor_ros.nodes.parameters import Parameter, ParameterError
from shadowtutor_ros.nodes.processes import keep_local, Nodes, ProcessError
from shadowtutor_ros.nodes.running import qos
from shadowtutor_ros.nodes.student_parameters import STUDENT
from shadowtutor_ros.nodes.teacher_parameters import TEACHER
from shadowtutor_ros.reliability.account import Happening
from shadowtutor_ros.reliability.fleet_faults import (
    FLEET_FAULTS, FleetFault, Lasting, NEEDS_FAULTY_TEACHER)
from shadowtutor_ros.reliability.record import Record, Sample, Served, SoakSettings
from shadowtutor_ros.reliability.robots import Cameras, frames_of, Robot

#: Seconds in which the teacher starts, and robots and teacher find one another, on a busy machine.
PATIENCE = 300.0

#: Seconds from one sample to the next.
SAMPLE_PERIOD = 1.0

#: Seconds between two statuses of the teacher: fewer than lie between two key frames of a robot.
_STATUS_PERIOD = 0.2

#: Seconds from one save of a session to the next, so that one that is killed has saved some.
_SAVE_PERIOD = 10.0

#: Robots have computers of their own. Where they share one with the teacher, it gets what they
#: leave of it.
_GIVES_WAY = ('nice', '-n', '5')

#: What the teacher's log says once it answers.
_ANSWERS = 'it knows'

#: The teacher whose network fails when it is told to.
_FAULTY = 'shadowtutor_ros.reliability.faulty_teacher:FaultyTeacher'


class Soak:
    """
    A teacher as a process, and robots in this one; exists from ``with`` to its end.

    :param out: folder for logs, and for what robots and teacher keep.
    :param say: is told what is being done.

    :ivar record: all that is seen.
    """

    def __init__(self, settings: SoakSettings, out: Path, say: Callable[[str], None]):
        self.settings = settings
        self.record = Record(settings)
        self.chance = random.Random(settings.seed)
        self.moment = 0.5 * settings.fault_every
        self.robots: list[Robot] = []
        self._out, self._say = out, say
        self._namespace = f'/shadowtutor_soak_{secrets.token_hex(3)}'
        #: Key frames that the teacher has answered, and bytes that it remembers, by robot.
        self._answered: dict[str, int] = {}
        self._remembered: dict[str, int] = {}
        self._teacher_expected = False
        self._closed = threading.Event()
        self._failed: list[str] = []

    def __enter__(self) -> 'Soak':
        settings, out = self.settings, self._out
        names = {parameter.name for parameter in (*STUDENT, *TEACHER)}
        if unknown := settings.parameters.keys() - names:
            raise ParameterError(f"{', '.join(sorted(unknown))}: no parameter of a node")
        out.mkdir(parents=True, exist_ok=True)
        for log in out.glob('*.log'):  # of a run before
            log.unlink()
        os.environ['ROS_LOG_DIR'] = str(out / 'logs')
        keep_local()
        use_threads(1)
        frames = {}
        for number in range(settings.robots):
            self._say(f'loading what robot {number + 1} of {settings.robots} sees')
            video = settings.videos[number % len(settings.videos)]
            frames[number] = frames_of(
                video, number, settings.width, settings.fps, settings.seconds)
            self.record.videos[f'robot{number + 1}'] = video
        shutil.rmtree(out / 'soak_state', ignore_errors=True)
        self._state = out / 'soak_state' / 'teacher'
        self._fault = out / 'teacher_fault.txt'
        self.break_teacher('')
        with ExitStack() as stack:
            self._nodes = stack.enter_context(
                Nodes(self._namespace, {'teacher': self._teacher_parameters()}, out, out))
            self._say('starting the teacher')
            self.wait(self.start_teacher(), 'the teacher to start')
            context = Context()
            # What the robots say is in a file, as the teacher's.
            rclpy.init(context=context, args=['--ros-args', '--disable-stdout-logs'])
            stack.callback(rclpy.shutdown, context=context)
            self._watch(stack, context)
            for number, images in frames.items():
                name = f'robot{number + 1}'
                self._say(f'starting robot {number + 1} of {settings.robots}')
                robot = Robot(
                    f'{self._namespace}/{name}', name, images, settings.fps,
                    self._student_parameters(), context)
                stack.callback(robot.stop)
                robot.start(resume=False)
                self.robots.append(robot)
                self.record.accounts[name] = robot.account
            stack.enter_context(Cameras(self.robots, settings.fps))
            self._say('waiting until every robot is tutored')
            self.wait(lambda: all(
                account.totals(0.0).applied for account in self.record.accounts.values()),
                'every robot to be tutored')
            self._stack = stack.pop_all()
        self.record.begin = time.monotonic()
        return self

    def __exit__(self, *exception) -> None:
        self.record.end = self.record.end or time.monotonic()
        self._teacher_expected = False
        try:
            self._stack.close()
        except ProcessError as error:
            self.record.wrong.append(str(error))
        for log in self._out.glob('*.log'):
            if 'Traceback' in log.read_text(errors='replace'):
                self.record.wrong.append(f'a traceback in {log.name}')

    def run(self) -> None:
        """Let it run for its time, and take a sample every second."""
        end = self.record.begin + self.settings.seconds
        faults = threading.Thread(target=self._put_faults, name='faults', daemon=True)
        faults.start()
        try:
            at = self.record.begin
            while True:
                sample = self._sample()
                self.record.samples.append(sample)
                if self._failed or sample.time >= end:
                    break
                if self._teacher_expected:
                    self._nodes.check('teacher')
                    if not self._nodes.running('teacher'):
                        raise ProcessError('the teacher ended by itself')
                at += SAMPLE_PERIOD
                time.sleep(max(0.0, min(at, end) - time.monotonic()))
        except ProcessError as error:
            self._failed.append(str(error))
        finally:
            self.record.end = time.monotonic()
            self._closed.set()
            faults.join(PATIENCE)
            self.record.wrong += self._failed

    def wait(self, condition: Callable[[], bool], what: str) -> None:
        """
        Wait until a condition holds.

        :raises ProcessError: if it does not hold in time, or the teacher fails meanwhile.
        """
        end = time.monotonic() + PATIENCE
        while not condition():
            self._nodes.check('teacher')
            if time.monotonic() > end:
                raise ProcessError(f'waited {PATIENCE:.0f} s for {what}: see {self._out}')
            time.sleep(0.05)

    # --- what faults need ------------------------------------------------------------------------

    def kill_teacher(self) -> None:
        """Kill the teacher's process."""
        self._teacher_expected = False
        self._nodes.signal('teacher', signal.SIGKILL)
        self._nodes.wait('teacher', PATIENCE)

    def start_teacher(self) -> Callable[[], bool]:
        """Start the teacher; what is returned tells whether it answers."""
        log = self._nodes.log('teacher')

        def said() -> int:
            return log.read_text(errors='replace').count(_ANSWERS) if log.exists() else 0
        before = said()
        self._nodes.start('teacher', _GIVES_WAY)
        self._teacher_expected = True
        return lambda: said() > before

    def signal_teacher(self, number: int) -> None:
        """Send the teacher's process a signal."""
        self._nodes.signal('teacher', number)

    def break_teacher(self, fault: str) -> None:
        """Let the teacher's network fail, see :class:`FaultyTeacher`; '' mends it."""
        # A rename: it reads all or nothing.
        new = self._fault.with_suffix('.new')
        new.write_text(fault)
        os.replace(new, self._fault)

    def block_state(self, blocked: bool) -> None:
        """Let the teacher find a file in the place of its state folder, or the folder again."""
        aside = self._state.with_suffix('.aside')
        if blocked:
            self._state.mkdir(parents=True, exist_ok=True)
            self._state.rename(aside)
            self._state.touch()
        else:
            self._state.unlink()
            aside.rename(self._state)

    # --- faults ----------------------------------------------------------------------------------

    def _put_faults(self) -> None:
        every = self.settings.fault_every
        if not every:
            return
        try:
            for count, fault in enumerate(self._drawn(), 1):
                at = self.record.begin + every * (count + self.chance.uniform(-0.5, 0.5) / 2)
                if self._closed.wait(max(0.0, at - time.monotonic())):
                    return
                self._put(fault, self.chance.choice(self.robots))
                if self._closed.is_set():
                    return
        except Exception as error:  # which this thread must not keep to itself
            self._failed.append(f'a fault could not be put in ({type(error).__name__}: {error})')

    def _drawn(self) -> Iterator[FleetFault]:
        """Yield faults without an end: each once before any comes again."""
        while True:
            faults = [fault for fault in FLEET_FAULTS.values()
                      if fault.name != NEEDS_FAULTY_TEACHER or self._is_faulty]
            self.chance.shuffle(faults)
            yield from faults

    def _put(self, fault: FleetFault, robot: Robot) -> None:
        """Put a fault in, and out; at the end of the run at once."""
        happening = Happening(
            fault.name, fault.text, '' if fault.of_all else robot.name, time.monotonic())
        self.record.happenings.append(happening)
        with closing(fault.inject(self, robot)) as steps:
            for lasting in steps:
                self._last(lasting)
        happening.end = time.monotonic()

    def _last(self, lasting: Lasting) -> None:
        """Wait for what lasts; for what does not come to happen, such as a key frame, not long."""
        if not callable(lasting):
            self._closed.wait(lasting)
            return
        end = time.monotonic() + PATIENCE
        while not lasting() and time.monotonic() < end and not self._closed.wait(0.05):
            pass

    # --- what is seen ----------------------------------------------------------------------------

    @property
    def _is_faulty(self) -> bool:
        return self.settings.teacher == 'scene' and self.settings.fault_every > 0

    def _student_parameters(self) -> dict:
        return {
            **_of_table(STUDENT, self.settings.parameters), 'threads': 1, 'device': 'cpu',
            'image_transport': 'compressed', 'state_folder': str(self._state.parent / 'robots')}

    def _teacher_parameters(self) -> dict:
        settings = self.settings
        parameters = {
            'robots': [f'{self._namespace}/*'], 'max_robots': settings.robots,
            'teacher': settings.teacher, 'teacher_weights': settings.teacher_weights,
            'threads': 1, 'status_period': _STATUS_PERIOD, 'state_folder': str(self._state),
            **_of_table(TEACHER, settings.parameters)}
        if settings.fault_every:
            parameters['save_period'] = _SAVE_PERIOD
        if self._is_faulty:
            parameters.update(teacher=_FAULTY, teacher_weights=str(self._fault))
        return parameters

    def _watch(self, stack: ExitStack, context: Context) -> None:
        """Listen to the teacher's status, in a thread."""
        node = Node('soak', namespace=self._namespace, context=context)
        node.create_subscription(TeacherStatus, 'teacher/status', self._on_status, **qos(depth=10))
        executor = SingleThreadedExecutor(context=context)
        executor.add_node(node)

        def spin() -> None:
            try:
                executor.spin()
            except ExternalShutdownException:
                pass
        thread = threading.Thread(target=spin, name='soak', daemon=True)
        thread.start()

        def end() -> None:
            executor.shutdown()
            thread.join()
            node.destroy_node()
        stack.callback(end)

    def _on_status(self, status: TeacherStatus) -> None:
        now = time.monotonic()
        for one in status.robots:
            name = one.name.rpartition('/')[2]
            before = self._answered.get(name, 0)
            self._answered[name] = one.key_frames_answered
            self._remembered[name] = one.memory_bytes
            if one.key_frames_answered < before:  # it was started again
                before = 0
            if one.key_frames_answered == before:
                continue
            if self.record.begin:
                self.record.missed += one.key_frames_answered - before - 1
            self.record.served.append(Served(
                now, name, one.waiting_seconds, one.total_seconds - one.waiting_seconds,
                one.teacher_seconds, one.training_seconds))

    def _sample(self) -> Sample:
        now = time.monotonic()
        return Sample(
            now, {name: account.totals(now) for name, account in self.record.accounts.items()},
            _bytes_of(self._nodes.pid('teacher')), _bytes_of('self'),
            sum(self._remembered.values()))


def _bytes_of(pid: int | str) -> int | None:
    """Return the memory of a process; None where there is none, or the system does not say."""
    try:
        return resident_bytes(pid) or None
    except (OSError, IndexError, ValueError):  # it has just ended, say
        return None


def _of_table(table: tuple[Parameter, ...], values: dict) -> dict:
    """Return those values that are of a node's table, as its parameters."""
    return {parameter.name: list(value) if isinstance(value, tuple) else value
            for parameter in table
            if (value := values.get(parameter.name)) is not None}
