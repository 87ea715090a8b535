"""
The faults. Each is a generator function: up to its ``yield`` it puts the fault in, after it out.

What it yields is how long the fault lasts: seconds, or what tells that it has happened; None if it
is over and has begun a new session of the student. A new one needs its function alone.
"""

from dataclasses import dataclass
import signal
from typing import Callable, Iterator

from shadowtutor_ros.reliability import relay
from shadowtutor_ros.reliability.rig import Rig, SIZE, UPDATE_TIMEOUT

Lasting = float | Callable[[], bool] | None


@dataclass(frozen=True)
class Fault:
    """
    A fault by its name.

    :ivar name: of the fault, for the command line.
    :ivar text: for people.
    :ivar inject: the generator function.
    :ivar wiring: of the :class:`Rig` that it needs.
    :ivar goes_on: whether adaptation has to go on during the fault, not only after it.
    """

    name: str
    text: str
    inject: Callable[[Rig], Iterator[Lasting]]
    wiring: str
    goes_on: bool


#: All faults by name, in the order in which they are tried: those of one wiring follow one
#: another, so that they can share processes.
FAULTS: dict[str, Fault] = {}

#: Seconds of a fault that lasts: some key frames.
LONG = 6.0

#: Seconds of a fault that outlasts a time-out.
_OUTLASTING = 1.5 * UPDATE_TIMEOUT


def fault(text: str, wiring: str = 'direct', goes_on: bool = False) -> Callable:
    """Register a function as a fault: see :class:`Fault`."""
    def register(inject: Callable[[Rig], Iterator[Lasting]]) -> Callable:
        name = inject.__name__.strip('_').replace('_', '-')
        FAULTS[name] = Fault(name, text, inject, wiring, goes_on)
        return inject
    return register


# --- Processes -----------------------------------------------------------------------------------

@fault('the teacher is absent when the student starts')
def _teacher_absent(rig: Rig) -> Iterator[Lasting]:
    with rig.no_student():
        rig.stop('student')
        rig.stop('teacher')
        rig.start('student')
    yield LONG
    rig.start('teacher')


@fault('the teacher is killed (SIGKILL) and started again')
def _teacher_killed(rig: Rig) -> Iterator[Lasting]:
    rig.stop('teacher', signal.SIGKILL)
    yield _OUTLASTING
    rig.start('teacher')


@fault('the teacher hangs (SIGSTOP) and goes on (SIGCONT)')
def _teacher_hung(rig: Rig) -> Iterator[Lasting]:
    rig.nodes.signal('teacher', signal.SIGSTOP)
    yield _OUTLASTING
    rig.nodes.signal('teacher', signal.SIGCONT)


def _broken(rig: Rig, how: str, seconds: float = LONG) -> Iterator[Lasting]:
    """Let the teacher have one of the faults of a FaultyTeacher."""
    rig.break_teacher(how)
    yield seconds
    rig.break_teacher('')


@fault('the teacher is slower than the time-out', goes_on=True)
def _teacher_slow(rig: Rig) -> Iterator[Lasting]:
    return _broken(rig, f'sleep {1.2 * UPDATE_TIMEOUT}', 6 * UPDATE_TIMEOUT)


@fault('the teacher raises on frames')
def _teacher_raises(rig: Rig) -> Iterator[Lasting]:
    return _broken(rig, 'raise')


@fault('the loss turns NaN')
def _loss_nan(rig: Rig) -> Iterator[Lasting]:
    return _broken(rig, 'nan')


@fault('training runs out of memory')
def _out_of_memory(rig: Rig) -> Iterator[Lasting]:
    return _broken(rig, 'memory')


@fault('a second, different teacher answers on the same topics', goes_on=True)
def _two_teachers(rig: Rig) -> Iterator[Lasting]:
    rig.start('teacher2')
    yield 2 * LONG
    rig.stop('teacher2')


@fault('a second student is on the same topics', goes_on=True)
def _two_students(rig: Rig) -> Iterator[Lasting]:
    rig.start('student2')
    yield 2 * LONG
    rig.stop('student2')


@fault('the student is killed (SIGKILL) and started again')
def _student_killed(rig: Rig) -> Iterator[Lasting]:
    with rig.no_student():
        rig.stop('student', signal.SIGKILL)
        rig.start('student')
    yield None


@fault('the student is reset')
def _student_reset(rig: Rig) -> Iterator[Lasting]:
    rig.camera.reset_student()
    yield None


# --- The camera ----------------------------------------------------------------------------------

@fault('the camera stops and returns')
def _camera_stops(rig: Rig) -> Iterator[Lasting]:
    rig.camera.playing = False
    yield LONG
    rig.camera.playing = True


@fault('the camera changes the size of its images, twice', goes_on=True)
def _camera_changes_size(rig: Rig) -> Iterator[Lasting]:
    rig.camera.resize((480, 270))
    yield LONG
    rig.camera.resize(SIZE)


@fault('the stamps of the camera jump back by an hour', goes_on=True)
def _stamps_jump_back(rig: Rig) -> Iterator[Lasting]:
    rig.camera.stamp_offset -= 3600.0
    yield LONG


# --- Messages ------------------------------------------------------------------------------------

@fault('an update is lost', wiring='relay')
def _update_lost(rig: Rig) -> Iterator[Lasting]:
    yield rig.relay.updates.disturb(relay.lose, 1, relay.has_weights)


@fault('key frames and updates come twice', wiring='relay', goes_on=True)
def _messages_doubled(rig: Rig) -> Iterator[Lasting]:
    rig.relay.key_frames.disturb(relay.double)
    rig.relay.updates.disturb(relay.double)
    yield LONG
    rig.relay.key_frames.pass_on()
    rig.relay.updates.pass_on()


@fault('an update comes after the next one', wiring='relay')
def _updates_swapped(rig: Rig) -> Iterator[Lasting]:
    yield rig.relay.updates.disturb(relay.swap(), 2, relay.has_weights)


@fault('before each update comes one of another session', wiring='relay', goes_on=True)
def _another_session(rig: Rig) -> Iterator[Lasting]:
    rig.relay.updates.disturb(relay.from_another_session)
    yield LONG
    rig.relay.updates.pass_on()


@fault('a bit of an update is flipped', wiring='relay')
def _bit_flipped(rig: Rig) -> Iterator[Lasting]:
    yield rig.relay.updates.disturb(relay.flip_a_bit, 1, relay.has_weights)


@fault('the image of a key frame is corrupted', wiring='relay')
def _key_frame_corrupted(rig: Rig) -> Iterator[Lasting]:
    yield rig.relay.key_frames.disturb(relay.corrupt_image, 1)


# --- The link ------------------------------------------------------------------------------------

@fault('the link is cut and restored', wiring='link')
def _link_cut(rig: Rig) -> Iterator[Lasting]:
    rig.link.connect(False)
    try:
        yield _OUTLASTING
    finally:  # the link outlives the rig
        rig.link.connect(True)


@fault('the link has 1 Mbit/s', wiring='link', goes_on=True)
def _link_slow(rig: Rig) -> Iterator[Lasting]:
    rig.link.limit(1e6)
    try:
        yield 2 * LONG
    finally:
        rig.link.limit(1e9)
