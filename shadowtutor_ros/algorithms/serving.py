"""Which of the robots that wait a teacher serves next, so that none has to wait for ever."""

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
import math

#: Seconds after which teaching counts e times less: over some key frames of each robot.
_MEMORY = 60.0

#: A robot that had so many times an equal share of the teacher's time waits for the others.
_MOST = 1.5

#: Whoever has waited for longer than this part of the time that an answer is of use is urgent.
_URGENT = 0.5


@dataclass(frozen=True)
class Waiting:
    """
    A robot whose key frame waits.

    :ivar robot: its name, or whatever tells it from others.
    :ivar since: when the key frame came, in seconds.
    :ivar useful_seconds: for how long from then on an answer is of use.
    :ivar metric: mean IoU on its last key frame, after training, 0 to 1; NaN where there is none.
    """

    robot: Hashable
    since: float
    useful_seconds: float
    metric: float


class Serving:
    """
    Chooses whom to serve, and keeps account of the time that each robot had.

    Who came first is served first. Where that cannot last, since some have waited for half of the
    time that an answer is of use, it is the robot among those that loses most: whose student is
    bad, and has waited long. Robots that had more than their share of the time, large frames say,
    come after all others in any case.
    """

    def __init__(self) -> None:
        #: Seconds that each robot had, and until when they are discounted.
        self._had: dict[Hashable, tuple[float, float]] = {}

    def served(self, robot: Hashable, seconds: float, now: float) -> None:
        """
        Note that a robot was served.

        :param seconds: that it took.
        """
        self._had[robot] = self._time(robot, now) + seconds, now
        for other in [other for other in self._had if self._time(other, now) < 1e-3]:
            del self._had[other]

    def share(self, robot: Hashable, now: float) -> float:
        """Return the share that a robot had of all the teaching of the last minute, 0 to 1."""
        total = sum(self._time(other, now) for other in self._had)
        return self._time(robot, now) / total if total else 0.0

    def choose(self, waiting: Iterable[Waiting], now: float) -> Waiting | None:
        """
        Choose whom to serve.

        :returns: None if nobody waits.
        """
        return next(iter(self.choose_together(waiting, now, 1)), None)

    def choose_together(
            self, waiting: Iterable[Waiting], now: float, most: int) -> list[Waiting]:
        """
        Choose whom to serve at once, and in which order.

        :param most: so many at most, at least 1.
        :returns: the first whoever it is; besides it those alone that had no more than their
            share, so that whoever comes meanwhile does not wait for another's excess.
        """
        waiting = list(waiting)
        robots = {one.robot for one in waiting} | self._had.keys()
        modest = [one for one in waiting if self.share(one.robot, now) * len(robots) <= _MOST]
        most = most if modest else 1
        chosen, left = [], modest or waiting
        while left and len(chosen) < most:
            urgent = [one for one in left if now - one.since > _URGENT * one.useful_seconds]
            chosen.append(max(urgent, key=lambda one: _loss(one, now)) if urgent
                          else min(left, key=lambda one: one.since))
            left.remove(chosen[-1])
        return chosen

    def _time(self, robot: Hashable, now: float) -> float:
        seconds, then = self._had.get(robot, (0.0, now))
        return seconds * math.exp(-max(0.0, now - then) / _MEMORY)


def _loss(one: Waiting, now: float) -> float:
    wrong = 1.0 if math.isnan(one.metric) else 1.0 - one.metric
    return wrong * (now - one.since)
