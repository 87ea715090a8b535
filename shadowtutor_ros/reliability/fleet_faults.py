"""
The faults of a fleet. Each is a generator function that puts a fault in, and out again.

What it yields in between is how long the fault lasts: seconds, or what tells that it has happened.
A new one needs its function alone. Those of a single student and its teacher are in faults.py.
"""

from dataclasses import dataclass
import random
import signal
from threading import Timer
from typing import Any, Callable, Iterator, Protocol

from shadowtutor_ros.reliability import relay
from shadowtutor_ros.reliability.robots import Robot

Lasting = float | Callable[[], bool]


class Fleet(Protocol):
    """
    What faults are put into.

    :ivar robots: all of them.
    :ivar chance: that faults are drawn by.
    :ivar moment: seconds that a fault of some time lasts: less than from one fault to the next.
    """

    robots: list[Robot]
    chance: random.Random
    moment: float

    def kill_teacher(self) -> None:
        """Kill the teacher's process."""

    def start_teacher(self) -> Callable[[], bool]:
        """Start it again; what is returned tells whether it answers."""

    def signal_teacher(self, number: int) -> None:
        """Send the teacher's process a signal."""

    def break_teacher(self, fault: str) -> None:
        """Let the teacher's network fail, see :class:`FaultyTeacher`; '' mends it."""

    def block_state(self, blocked: bool) -> None:
        """Let the teacher find a file in the place of its state folder, or the folder again."""


@dataclass(frozen=True)
class FleetFault:
    """
    A fault by its name.

    :ivar text: for people.
    :ivar inject: the generator function; it is handed a robot.
    :ivar of_all: whether it concerns all robots, not that one alone.
    """

    name: str
    text: str
    inject: Callable[[Fleet, Robot], Iterator[Lasting]]
    of_all: bool


#: All faults by name.
FLEET_FAULTS: dict[str, FleetFault] = {}

#: What asks for a teacher whose network can be told to fail.
NEEDS_FAULTY_TEACHER = 'teacher-raises'


def _fault(text: str, of_all: bool = False) -> Callable:
    def register(inject: Callable[[Fleet, Robot], Iterator[Lasting]]) -> Callable:
        name = inject.__name__.strip('_').replace('_', '-')
        FLEET_FAULTS[name] = FleetFault(name, text, inject, of_all)
        return inject
    return register


# --- Messages ------------------------------------------------------------------------------------

def _next(lane: relay.Lane, *how: Any) -> Iterator[Lasting]:
    """Treat the next message of a lane by a rule."""
    yield lane.disturb(*how)
    lane.pass_on()


def _some_time(fleet: Fleet, lanes: tuple[relay.Lane, ...], rule: relay.Rule) -> Iterator[Lasting]:
    """Treat messages by a rule for some time."""
    for lane in lanes:
        lane.disturb(rule)
    yield fleet.moment
    for lane in lanes:
        lane.pass_on()


def _late(fleet: Fleet, lane: relay.Lane) -> Iterator[Lasting]:
    """Pass a message on late, maybe after the next one."""
    passed: list[Any] = []

    def later(message: Any) -> list:
        def pass_on() -> None:
            lane.publish(message)
            passed.append(message)
        Timer(fleet.moment, pass_on).start()
        return []
    lane.disturb(later, 1)
    yield lambda: bool(passed)
    lane.pass_on()


@_fault('a key frame is lost')
def _key_frame_lost(fleet: Fleet, robot: Robot) -> Iterator[Lasting]:
    return _next(robot.key_frames, relay.lose, 1)


@_fault('an update is lost')
def _update_lost(fleet: Fleet, robot: Robot) -> Iterator[Lasting]:
    return _next(robot.updates, relay.lose, 1)


@_fault('a key frame comes late')
def _key_frame_late(fleet: Fleet, robot: Robot) -> Iterator[Lasting]:
    return _late(fleet, robot.key_frames)


@_fault('an update comes late')
def _update_late(fleet: Fleet, robot: Robot) -> Iterator[Lasting]:
    return _late(fleet, robot.updates)


@_fault('the image of a key frame is corrupted')
def _key_frame_corrupted(fleet: Fleet, robot: Robot) -> Iterator[Lasting]:
    return _next(robot.key_frames, relay.corrupt_image, 1)


@_fault('a bit of an update is flipped')
def _bit_flipped(fleet: Fleet, robot: Robot) -> Iterator[Lasting]:
    return _next(robot.updates, relay.flip_a_bit, 1, relay.has_weights)


@_fault('key frames and updates come twice')
def _messages_doubled(fleet: Fleet, robot: Robot) -> Iterator[Lasting]:
    return _some_time(fleet, (robot.key_frames, robot.updates), relay.double)


@_fault('before each update comes one of another session')
def _another_session(fleet: Fleet, robot: Robot) -> Iterator[Lasting]:
    return _some_time(fleet, (robot.updates,), relay.from_another_session)


@_fault('the robot is out of reach')
def _out_of_reach(fleet: Fleet, robot: Robot) -> Iterator[Lasting]:
    return _some_time(fleet, (robot.key_frames, robot.updates), relay.lose)


# --- Robots --------------------------------------------------------------------------------------

@_fault('the robot is started again, and goes on with what it kept')
def _robot_restarted(fleet: Fleet, robot: Robot) -> Iterator[Lasting]:
    robot.stop()
    robot.start(resume=True)
    yield lambda: robot.sees_teacher


@_fault('the robot is started again, with the weights file')
def _robot_begins_anew(fleet: Fleet, robot: Robot) -> Iterator[Lasting]:
    robot.stop()
    robot.start(resume=False)
    yield lambda: robot.sees_teacher


@_fault('the robot is reset')
def _robot_reset(fleet: Fleet, robot: Robot) -> Iterator[Lasting]:
    robot.reset()
    yield 0.0


@_fault('all robots send a key frame at once', of_all=True)
def _burst(fleet: Fleet, robot: Robot) -> Iterator[Lasting]:
    for each in fleet.robots:
        each.request_key_frame()
    yield 0.0


# --- The teacher ---------------------------------------------------------------------------------

@_fault('the teacher is killed (SIGKILL) and started again', of_all=True)
def _teacher_killed(fleet: Fleet, robot: Robot) -> Iterator[Lasting]:
    fleet.kill_teacher()
    yield fleet.moment / 2
    yield fleet.start_teacher()


@_fault('the teacher hangs (SIGSTOP) and goes on (SIGCONT)', of_all=True)
def _teacher_hung(fleet: Fleet, robot: Robot) -> Iterator[Lasting]:
    fleet.signal_teacher(signal.SIGSTOP)
    yield fleet.moment
    fleet.signal_teacher(signal.SIGCONT)


@_fault("the teacher's network raises on frames", of_all=True)
def _teacher_raises(fleet: Fleet, robot: Robot) -> Iterator[Lasting]:
    fleet.break_teacher('raise')
    yield fleet.moment
    fleet.break_teacher('')


@_fault('sessions cannot be saved', of_all=True)
def _sessions_unsaved(fleet: Fleet, robot: Robot) -> Iterator[Lasting]:
    fleet.block_state(True)
    yield fleet.moment
    fleet.block_state(False)
