"""What is seen of a soak: no ROS here."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from shadowtutor_ros.reliability.account import Account, Happening, Totals


@dataclass(frozen=True)
class SoakSettings:
    """
    What is run.

    :ivar robots: their number.
    :ivar seconds: for how long.
    :ivar videos: what they see, in turn; see :func:`robots.frames_of`.
    :ivar teacher, teacher_weights: as the parameters of the teacher node.
    :ivar width, fps: of the frames.
    :ivar fault_every: seconds from the beginning of a fault to that of the next; 0: none.
    :ivar seed: of which faults come when, and to whom.
    :ivar parameters: of student and teacher nodes, other than their defaults.
    """

    robots: int
    seconds: float
    videos: tuple[str, ...] = ('scene',)
    teacher: str = 'scene'
    teacher_weights: str = 'DEFAULT'
    width: int = 320
    fps: float = 5.0
    fault_every: float = 10.0
    seed: int = 0
    parameters: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Served:
    """
    A key frame that the teacher has answered, by its status; times in seconds.

    :ivar time: when that was known.
    :ivar robot: whose it was.
    :ivar waiting: that it waited.
    :ivar service: from then on to its answer.
    :ivar teacher, training: parts of that.
    """

    time: float
    robot: str
    waiting: float
    service: float
    teacher: float
    training: float


@dataclass
class Sample:
    """
    How things stood at a time.

    :ivar totals: by robot.
    :ivar teacher_bytes, robots_bytes: memory of the processes; None where it is not known.
    :ivar remembered_bytes: that the teacher's key frames take of it.
    """

    time: float
    totals: dict[str, Totals]
    teacher_bytes: int | None
    robots_bytes: int | None
    remembered_bytes: int


@dataclass
class Record:
    """
    All that was seen, on one clock.

    :ivar begin, end: of what counts.
    :ivar videos: what each robot has seen.
    :ivar missed: key frames that were answered between two statuses of the teacher, so that their
        times are not among those of :attr:`served`.
    :ivar wrong: what ended it or went wrong by itself.
    """

    settings: SoakSettings
    begin: float = 0.0
    end: float = 0.0
    videos: dict[str, str] = field(default_factory=dict)
    accounts: dict[str, Account] = field(default_factory=dict)
    samples: list[Sample] = field(default_factory=list)
    served: list[Served] = field(default_factory=list)
    missed: int = 0
    happenings: list[Happening] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


def sums(totals: dict[str, Totals]) -> Totals:
    """Return what all robots have done together."""
    return sum(totals.values(), Totals(refused=Counter(), rejected=Counter()))
