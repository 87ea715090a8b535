"""Noise from the network, into client and server: nothing may break, and nothing be half done."""

from contextlib import contextmanager
from dataclasses import dataclass, field, replace
import gc
import os
import re
import time
import traceback
from types import ModuleType
from typing import Any, Callable, Iterable, Iterator
import warnings

from hypothesis import given, HealthCheck, Phase, seed as seeded, settings, Verbosity
from hypothesis import strategies as st
import numpy as np
import torch

from shadowtutor_ros.algorithms.client import Client, ClientSettings, PATIENCE
from shadowtutor_ros.algorithms.server import Server, ServerSettings
from shadowtutor_ros.classes import ClassesError, ClassTable, LVS
from shadowtutor_ros.models.student.base import checksum, Student
from shadowtutor_ros.models.student.shadow import Shadow
from shadowtutor_ros.models.teachers.base import TeacherPrediction
from shadowtutor_ros.reliability.fuzz_cases import (
    edited, HEIGHT, Images, key_frame_cases, KeyFrameCase, update_cases, UpdateCase, Updates,
    WIDTH)
from shadowtutor_ros.wire.key_frame import KeyFrame, KeyFrameDecoder, KeyFrameError
from shadowtutor_ros.wire.weight_update import (
    REFUSALS, REJECTION_REASONS, Status, UpdateRejected, WeightUpdate)

#: CPU time in seconds that the reading and refusing of a message may take.
SLOWEST = 0.05

#: Bytes of memory that it may take: the robot's, and the teacher's, which decodes images of
#: ``MAX_PIXELS``, whose bytes are there more than once on the way.
MOST_MEMORY = {'robot': 64e6, 'teacher': 256e6}

#: A session of a robot gets so many updates, one of a teacher so many key frames.
_SESSION = {'robot': 50, 'teacher': 25}

#: Sessions that Hypothesis draws from one seed; more of them would fill its own memory.
_SESSIONS = {'robot': 97, 'teacher': 6}

#: Cases of these.
CHUNK = sum(_SESSION[side] * _SESSIONS[side] for side in _SESSION)

Case = UpdateCase | KeyFrameCase


class FuzzError(ValueError):
    """A message that broke something, with what it takes to see it again."""


@dataclass
class Extreme:
    """A case that took the most of something, and what came of it."""

    value: float
    outcome: str
    case: Case


@dataclass
class Report:
    """
    What came of the cases.

    :ivar outcomes: counts by side, 'robot' or 'teacher', and what came of a message.
    :ivar slowest: CPU seconds of reading and refusing or applying a message, by side. What is slow
        by nature does not count: training, and the decoding of images that are large.
    :ivar waiting: the most seconds by the clock, likewise; a busy machine adds to them.
    :ivar memory: the most bytes that the process grew by during a case, by side; empty where the
        system does not tell.
    :ivar seconds: that all took, to be filled in.
    :ivar growth: bytes that the process has grown by since the first chunk.
    """

    outcomes: dict[str, dict[str, int]] = field(
        default_factory=lambda: {'robot': {}, 'teacher': {}})
    slowest: dict[str, Extreme] = field(default_factory=dict)
    waiting: dict[str, Extreme] = field(default_factory=dict)
    memory: dict[str, Extreme] = field(default_factory=dict)
    seconds: float = 0.0
    growth: int = 0

    @property
    def cases(self) -> int:
        """Number of messages."""
        return sum(sum(counts.values()) for counts in self.outcomes.values())

    def faults(self) -> list[str]:
        """Return what was slower or larger than it may be."""
        faults = [f'{one.value * 1e3:.0f} ms at the {side}, {one.outcome}: {one.case}'
                  for side, one in self.slowest.items() if one.value > SLOWEST]
        return faults + [f'{one.value / 1e6:.0f} MB at the {side}, {one.outcome}: {one.case}'
                         for side, one in self.memory.items() if one.value > MOST_MEMORY[side]]


class _Meter:
    """Measures what a case takes."""

    def __init__(self, report: Report):
        self._report = report
        try:
            self._status = os.open('/proc/self/status', os.O_RDONLY)
            self._clear = os.open('/proc/self/clear_refs', os.O_WRONLY)
        except OSError:  # another system
            self._status = self._clear = None
        self._taken: tuple[float, float, int] = (0.0, 0.0, 0)

    def resident(self) -> tuple[int, int]:
        """Return the bytes of memory that the process has, and has had at most."""
        if self._status is None:
            return 0, 0
        text = os.pread(self._status, 8192, 0)
        return tuple(1024 * int(re.search(name + rb':\s+(\d+)', text)[1])
                     for name in (b'VmRSS', b'VmHWM'))

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Measure what is done within."""
        if self._clear is not None:
            os.write(self._clear, b'5')  # VmHWM begins anew, see proc(5)
        before = self.resident()[0]
        begin = time.perf_counter(), time.thread_time()
        try:
            yield
        finally:
            cpu = time.thread_time() - begin[1]
            self._taken = cpu, time.perf_counter() - begin[0], self.resident()[1] - before

    def count(self, side: str, outcome: str, case: Case, held: bool = True) -> None:
        """
        Count what was measured last.

        :param held: whether its time counts.
        """
        report = self._report
        counts = report.outcomes[side]
        counts[outcome] = counts.get(outcome, 0) + 1
        cpu, seconds, grown = self._taken
        found = [(report.memory, float(grown))] if self._clear is not None else []
        if held:
            found += [(report.slowest, cpu), (report.waiting, seconds)]
        for extremes, value in found:
            if side not in extremes or value > extremes[side].value:
                extremes[side] = Extreme(value, outcome, case)


class Robot:
    """
    A client with what it needs of an engine, but for the inference.

    :param updates: to be sent to it, and the weights that they start from.
    :param model_id: of the student.
    :param messages: the module of the nodes that makes messages of data and back; None to do
        without, where ROS is not there.
    """

    def __init__(
            self, updates: Updates, model_id: str, meter: _Meter, messages: ModuleType | None):
        self._updates = updates
        self._meter = meter
        self._messages = messages
        self.model_id = model_id
        self._weights = {name: tensor.clone() for name, tensor in updates.initial.items()}
        self._swaps = 0
        self._mask = np.zeros((HEIGHT, WIDTH), np.uint8)
        self._mask[:, WIDTH // 2:] = 8
        self._frame = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        self.features, self.encoder_version = torch.ones(1, 8, 2, 3), 0
        self.now = 0.0
        self.asked: KeyFrame | None = None
        self.client = Client(
            self, self._send,
            ClientSettings(min_stride=1, max_stride=3, stride_rate=0.0, drift=0.0, still=0.0),
            session_id=5, student_id=1)
        self._checksum = self.checksum()

    # --- what the client uses of an engine

    classes = LVS
    with_classes = staticmethod(Shadow.with_classes)

    @property
    def student(self) -> 'Robot':
        """See :class:`Client`: what has a model's number and weights."""
        return self

    def weights(self) -> dict[str, torch.Tensor]:
        """Return a copy of the weights in use."""
        return {name: tensor.clone() for name, tensor in self._weights.items()}

    def swap(self, tensors: dict[str, torch.Tensor]) -> None:
        """Replace weights."""
        self._swaps += 1
        for name, tensor in tensors.items():
            self._weights[name].copy_(tensor)

    def restrict(self, classes: tuple[int, ...]) -> None:
        """Choose from these classes, as the engine would."""
        torch.zeros(len(LVS), dtype=torch.bool)[list(classes)] = True

    def __call__(self, frame: np.ndarray) -> np.ndarray:
        """Infer a frame."""
        return self._mask

    # --- what happens to it

    def _send(self, key_frame: KeyFrame) -> None:
        self.asked = key_frame

    def checksum(self) -> int:
        """Return that of the weights in use."""
        return checksum(self._weights)

    def send(self, passed: float) -> KeyFrame:
        """
        Go on to a key frame that awaits its answer.

        :param passed: seconds, before that.
        """
        client = self.client
        for _ in range(2 * client.settings.max_stride + 2):
            if client.awaiting_update:
                break
            self.now += 0.1
            client.on_frame(self._frame, self.now)
        else:
            raise AssertionError('the robot sends no key frames any more')
        self.now += passed
        return self.asked

    def run(self, case: UpdateCase) -> None:
        """Receive the update of a case."""
        key_frame = self.send(case.passed)
        update = self._updates.make(
            case, key_frame.session_id, key_frame.number, key_frame.weights_checksum)
        for _ in range(1 + case.twice):
            outcome = self.receive(update)
            self._meter.count('robot', outcome, case)

    def receive(self, update: WeightUpdate) -> str:
        """
        Receive an update as a node does, and see that it is applied wholly or not at all.

        :returns: what came of it.
        """
        client = self.client
        before = self._state()
        if self._messages:
            update = self._messages.update_to_message(update, self._header(), 1.0)
        try:
            with self._meter():
                update = self._read(update)
                client.on_update(update, self.now)
        except UpdateRejected as rejected:
            assert rejected.reason in REJECTION_REASONS, rejected.reason
            assert self._state() == before, 'a rejected update has changed the robot'
            return f'rejected: {rejected.reason}'
        timeout = client.settings.update_timeout
        assert timeout <= client.patience <= PATIENCE * timeout, client.patience
        assert client.settings.min_stride <= client.stride <= client.settings.max_stride
        if update.status == Status.REFUSED:
            assert self._swaps == before[0] and client.last_update is before[2]
            assert client.offered == tuple(range(len(LVS)))
            return 'refusal taken'
        last = client.last_update
        assert 0 <= last.metric_before <= 1 and 0 <= last.metric_after <= 1, last
        assert list(client.offered) == sorted(set(client.offered)) and client.offered
        assert client.teacher_id == update.teacher_id
        if self._swaps == before[0]:
            return 'metric taken' if update.status == Status.NOTHING_TO_GAIN else 'declined'
        assert update.status == Status.DONE
        assert self.checksum() == update.weights_checksum, 'an update was applied in part'
        self._checksum = update.weights_checksum
        return 'applied'

    def _read(self, update: Any) -> WeightUpdate:
        tensors = update.tensors
        if self._messages:
            self.client.screen(
                update.session_id, update.key_frame_number, len(tensors), len(update.blob),
                len(update.label), len(update.classes))
            return self._messages.update_from_message(update)
        self.client.screen(
            update.session_id, update.key_frame_number, len(tensors.places), len(tensors.blob),
            len(update.label), len(update.classes))
        return update

    def _header(self) -> Any:
        return self._messages.Header()

    def _state(self) -> tuple:
        client = self.client
        return (self._swaps, client.weights_version, client.last_update, client.offered,
                client.counters.updates_applied, client.round_trip, client.teacher_id)

    def finish(self) -> None:
        """See that the weights are still those of the last update that was applied."""
        assert self.checksum() == self._checksum, 'a rejected update has changed weights'


def _with_digest(changes: dict[str, Any]) -> dict[str, Any]:
    """Let classes that are said and can be have the digest that goes with them."""
    said = changes.pop('classes_said', None)
    if said is not None:
        changes['classes'] = said
        try:
            table = ClassTable.of(said, changes.get('background', 0))
            changes.setdefault('classes_digest', table.digest)
        except ClassesError:
            changes.setdefault('classes_digest', 1)
    return changes


class Workstation:
    """
    A server and its robot.

    :param images: that the robot's key frames hold instead of its own.
    """

    def __init__(self, robot: Robot, student: Student, images: Images, meter: _Meter,
                 messages: ModuleType | None):
        self._robot = robot
        self._images = images
        self._meter = meter
        self._messages = messages
        self._decoder = KeyFrameDecoder()
        self._server = Server(
            student, _label, ServerSettings(
                max_updates=1, scope='partial', replay=0, threshold=0.95),
            lambda: robot.now)

    def run(self, case: KeyFrameCase) -> None:
        """Send the key frame of a case, and give the robot the answer."""
        robot, server = self._robot, self._server
        asked = robot.send(case.passed)
        key_frame = replace(asked, **_with_digest(dict(case.changes)))
        said, data = self._images.templates[case.image]
        if case.image_format is not None:
            said = case.image_format
        message = self._message(key_frame, said, edited(data, case.edits))
        for _ in range(1 + case.twice):
            held = case.image not in self._images.large
            try:
                with self._meter():
                    read = self._read(message)
                    update = server.on_key_frame(read, waited=case.waited, alone=case.alone)
            except KeyFrameError as error:
                assert error.reason in REFUSALS, error.reason
                held &= error.reason not in ('unlabelled', 'training')
                self._meter.count('teacher', f'refused: {error.reason}', case, held)
                update = server.refuse(
                    key_frame.session_id, key_frame.number, key_frame.model_id, error)
            else:
                outcome = 'answered before' if update is None else 'answered'
                self._meter.count('teacher', outcome, case, held and update is None)
            if update is None:
                continue
            # Now the robot's side, which has its own cases to be timed.
            outcome = robot.receive(update)
            if case.changes or update.status == Status.REFUSED or 'key_frame' in outcome:
                continue
            assert not outcome.startswith('rejected'), f'a true answer was {outcome}'
            if outcome != 'declined':
                assert robot.checksum() == server.session.student.weights_checksum(), (
                    'robot and teacher hold other weights')

    def _message(self, key_frame: KeyFrame, said: str, data: bytes) -> Any:
        if not self._messages:
            return key_frame, said, data
        message = self._messages.key_frame_to_message(
            key_frame, self._messages.Header(), 'raw', 0, 0)
        message.image.format, message.image.data = said, self._messages.to_bytes(data)
        return message

    def _read(self, message: Any) -> KeyFrame:
        if self._messages:
            return self._messages.key_frame_from_message(message, self._decoder)
        key_frame, said, data = message
        frame, _ = self._decoder(key_frame.session_id, key_frame.number, said, data)
        return replace(key_frame, frame=frame)


def _label(frame: np.ndarray, classes: ClassTable) -> TeacherPrediction:
    if frame.size > 3 * 4 * HEIGHT * WIDTH:
        raise ValueError('to train on it would take long, and is no fault')
    other = int(classes.background == 0)
    label = np.where(frame[:, :, 0] > 127, other, classes.background).astype(np.uint8)
    return TeacherPrediction(label, np.zeros((0, 4), np.float32))


def fuzz(
        cases: int, seed: int, student: Student, messages: ModuleType | None, report: Report,
        tick: Callable[[], None] = lambda: None) -> None:
    """
    Send messages that Hypothesis makes to clients and servers.

    :param cases: at least so many, whole sessions.
    :param seed: of the first :data:`CHUNK` of them; each further chunk has the next.
    :param student: whose weights both sides begin with.
    :param messages: the module of the nodes that makes messages of data and back; None to do
        without, where ROS is not there.
    :param report: is added to.
    :param tick: called after every session.
    :raises FuzzError: if anything but a rejection or a refusal comes of a message, or a part of
        it is applied.
    """
    meter = _Meter(report)
    updates, images = Updates(student), Images()

    def robot() -> Robot:
        return Robot(updates, student.model_id, meter, messages)

    def receive_updates(drawn: Iterable[UpdateCase]) -> None:
        receiver = robot()
        for case in drawn:
            receiver.run(case)
        receiver.finish()

    def receive_key_frames(drawn: Iterable[KeyFrameCase]) -> None:
        receiver = robot()
        workstation = Workstation(receiver, student, images, meter, messages)
        for case in drawn:
            workstation.run(case)
        receiver.finish()

    sides = ('robot', receive_updates, update_cases), (
        'teacher', receive_key_frames, key_frame_cases)
    resident = 0
    with _undisturbed():
        while report.cases < cases:
            part = min(1.0, (cases - report.cases) / CHUNK)
            for side, receive, strategy in sides:
                _draw(receive, st.lists(
                    strategy, min_size=_SESSION[side], max_size=_SESSION[side]),
                    max(3, round(part * _SESSIONS[side])), seed, tick)
                gc.collect()
            seed += 1
            grown = meter.resident()[0]
            resident = resident or grown
            report.growth = grown - resident


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Put off collections of garbage, whose time is no message's, and warnings of odd files."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            yield
    finally:
        gc.enable()
        gc.unfreeze()


def _draw(
        receive: Callable[[Iterable[Case]], None], strategy: st.SearchStrategy, sessions: int,
        seed: int, tick: Callable[[], None]) -> None:
    """Let Hypothesis draw sessions; of one that fails as few messages are told as will do."""
    sent: list[Case] = []

    ended: list[SystemExit] = []

    def noted(drawn: list[Case]) -> Iterator[Case]:
        sent.clear()
        for case in drawn:
            sent.append(case)
            yield case

    # Hypothesis could reduce what fails, by sending thousands of sessions; one try does as well.
    @seeded(seed)
    @settings(
        max_examples=sessions, database=None, deadline=None, verbosity=Verbosity.quiet,
        phases=(Phase.generate,), suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False)
    @given(strategy)
    def play(drawn: list[Case]) -> None:
        try:
            receive(noted(drawn))
        except SystemExit as error:  # which Hypothesis would take for a failure
            ended.append(error)
            raise
        tick()

    try:
        play()
    except Exception as error:
        if ended:
            raise ended[0] from None
        needed = sent
        try:
            receive(sent[-1:])
        except Exception:
            needed = sent[-1:]
        trace = ''.join(traceback.format_exception(error))
        lines = '\n'.join(f'  {case},' for case in needed)
        raise FuzzError(
            f'{trace}after the messages\n{lines}\n'
            f'again: shadowtutor fuzz --seed {seed} --cases {CHUNK}') from error
