"""A student and a teacher as processes, to be disturbed, and what the disturbing needs."""

from contextlib import contextmanager, ExitStack
import os
from pathlib import Path
import secrets
import signal
import time
from typing import Callable, Iterator

from shadowtutor_ros.nodes.processes import Nodes, ProcessError
from shadowtutor_ros.reliability.camera import Camera
from shadowtutor_ros.reliability.ledger import Entry
from shadowtutor_ros.reliability.relay import Relay, STUDENT_SIDE
from shadowtutor_ros.reliability.veth import VethLink

#: Frames a second, and their size: little work, so that the camera limits the masks.
RATE, SIZE = 10.0, (320, 180)

#: Seconds: the student's update_timeout. Short, so that time-outs are met often.
UPDATE_TIMEOUT = 3.0

#: Seconds in which a process starts and whatever should happen happens, on a busy machine.
PATIENCE = 60.0


class Rig:
    """
    Exists from ``with`` to its end; adapted and undisturbed at its beginning.

    :param out: folder for the logs.
    :param wiring: how student and teacher are connected: 'direct', 'relay', or 'link', a veth pair
        in whose robot's end the process is.
    :param link: of that wiring.

    :ivar nodes: the processes.
    :ivar camera: feeds the student and listens to it.
    :ivar relay: between student and teacher, where they are wired so.
    """

    def __init__(self, out: Path, wiring: str = 'direct', link: VethLink | None = None):
        self.relay: Relay | None = None
        self.link = link
        self._relayed = wiring == 'relay'
        self._stack = ExitStack()
        self._started: set[str] = set()
        self._running: set[str] = set()
        self._namespace = f'/shadowtutor_faults_{secrets.token_hex(3)}'
        self._out = out
        # The link's packets must not go through memory.
        self._teacher_command = () if link is None else (
            'ip', 'netns', 'exec', link.workstation, 'env', 'FASTDDS_BUILTIN_TRANSPORTS=UDPv4')

    def __enter__(self) -> 'Rig':
        self._out.mkdir(parents=True, exist_ok=True)
        self._fault = self._out / 'teacher_fault.txt'
        self.break_teacher('')
        namespace = self._namespace
        student = {
            'status_period': 0.1, 'threads': 1, 'update_timeout': UPDATE_TIMEOUT,
            # Often a key frame, whatever the scene does.
            'min_stride': 8, 'max_stride': 12, 'stride_rate': 0.0, 'still': 0.0,
            'qos_overrides': {
                # Large images over best effort get lost even on one machine.
                f'{namespace}/image': {'subscription': {'reliability': 'reliable'}},
                f'{namespace}/segmentation/mask': {'publisher': {'depth': 100}}}}
        teacher = {
            # What comes by the relay alone.
            'robots': [''], 'state_folder': '',
            'teacher': 'shadowtutor_ros.reliability.faulty_teacher:FaultyTeacher',
            'teacher_weights': str(self._fault), 'threads': 1,
            # Seldom good enough, so that nearly every answer brings weights, soon.
            'threshold': 0.98, 'max_updates': 4}
        parameters = {
            'student': student, 'student2': student, 'teacher': teacher,
            # It trains another student of the same.
            'teacher2': {**teacher, 'learning_rate': 0.01}}
        with ExitStack() as stack:
            self.nodes = stack.enter_context(
                Nodes(namespace, parameters, self._out, self._out))
            self.start('teacher')
            if self._relayed:
                self.relay = stack.enter_context(Relay(namespace))
            self.camera = stack.enter_context(Camera(namespace, RATE, SIZE))
            self.camera.playing = True
            with self.no_student():
                self.start('student')
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exception) -> None:
        self._stack.close()

    # --- processes -------------------------------------------------------------------------------

    def start(self, name: str) -> None:
        """Start one of student, student2, teacher, teacher2, and wait until it says it works."""
        kind = name.rstrip('2')
        words = {'student': 'segmenting', 'teacher': 'answering'}[kind]
        log = self.nodes.log(name)
        said = log.read_text(errors='replace').count(words) if name in self._started else 0
        arguments = []
        if name != kind:
            arguments += ['-r', f'__node:={name}', '-r', f'segmentation/mask:={name}/mask']
        if self._relayed and kind == 'student':
            for topic in ('key_frames', 'weight_updates'):
                arguments += ['-r', f'{topic}:={STUDENT_SIDE}/{topic}']
        self.nodes.start(
            name, self._teacher_command if kind == 'teacher' else (), tuple(arguments), kind)
        self._started.add(name)
        self._running.add(name)
        self.wait(lambda: log.read_text(errors='replace').count(words) > said,
                  f'the {name} to start')

    def stop(self, name: str, number: int = signal.SIGTERM) -> None:
        """End a process by a signal."""
        self._running.discard(name)
        self.nodes.signal(name, number)
        self.nodes.wait(name, PATIENCE)

    def wait(self, condition: Callable[[], bool], what: str) -> None:
        """
        Wait until a condition holds.

        :param what: is waited for, for the error.
        :raises ProcessError: if it does not hold in time, or a process ends meanwhile.
        """
        end = time.monotonic() + PATIENCE
        while not condition():
            self.nodes.check(*self._running)
            if time.monotonic() > end:
                raise ProcessError(f'waited {PATIENCE:.0f} s for {what}: see {self._out}/*.log')
            time.sleep(0.05)

    @contextmanager
    def no_student(self) -> Iterator[None]:
        """Expect no masks for the images that come from ``with`` to its end."""
        ledger, self.camera.expected = self.camera.ledger, False
        yield
        count = ledger.mask_count
        self.wait(lambda: ledger.mask_count > count, 'a mask')
        self.camera.expected = True

    def break_teacher(self, fault: str) -> None:
        """Give the teacher a fault of :class:`FaultyTeacher`; none with ''."""
        # A rename: it reads all or nothing.
        new = self._fault.with_suffix('.new')
        new.write_text(fault)
        os.replace(new, self._fault)

    # --- what is seen ----------------------------------------------------------------------------

    def mark(self) -> Entry:
        """Wait for the next status, and return its entry."""
        last = self.camera.ledger.last
        self.wait(lambda: self.camera.ledger.last is not last, 'a status of the student')
        return self.camera.ledger.last

    def complaints(self) -> list[str]:
        """Return what must never be: processes that ended by themselves, tracebacks in logs."""
        found = [f'the {name} ended by itself' for name in sorted(self._running)
                 if not self.nodes.running(name)]
        return found + [f'a traceback in {log.name}' for log in sorted(self._out.glob('*.log'))
                        if 'Traceback' in log.read_text(errors='replace')]
