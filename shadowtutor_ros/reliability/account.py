"""What became of a simulated robot's frames, key frames and updates, one by one: no ROS here."""

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field
import math
import threading
from typing import Iterable

from shadowtutor_ros.algorithms.client import ClientCounters

#: Seconds after a fault in which robots and teacher find one another again: what is published
#: before both sides have been discovered reaches nobody.
SETTLING = 5.0


@dataclass
class Happening:
    """
    A fault that was put in.

    :ivar name, text: of the fault.
    :ivar robot: whom it concerned; '' for all of them.
    :ivar begin: seconds, on the clock of the accounts.
    :ivar end: likewise; infinite while it lasts.
    """

    name: str
    text: str
    robot: str
    begin: float
    end: float = math.inf

    def concerns(self, robot: str, since: float, until: float) -> bool:
        """Tell whether it can have taken something of a robot between two times."""
        return (self.robot in ('', robot)
                and self.begin <= until and since <= self.end + SETTLING)


@dataclass
class KeyFrameSent:
    """
    A key frame that was sent.

    :ivar sent, patience: when, and for how many seconds it is waited for, at least.
    :ivar answered: when its first answer came; None where none did.
    :ivar total_seconds: that the teacher had it, by the answer.
    """

    sent: float
    patience: float
    answered: float | None = None
    total_seconds: float = math.nan


@dataclass
class Totals:
    """
    What a robot had done by some time, over all its sessions.

    :ivar time: seconds.
    :ivar frames, masks, masks_in_time: images handed over; with a mask; with one before the next
        image was due.
    :ivar key_frames: that were sent.
    :ivar updates: that came; :ivar applied, declined: of which so many were applied, the ones that
        did no better than the robot's own among them.
    :ivar timed_out: key frames given up.
    :ivar refused, rejected: key frames and updates, by reason.
    :ivar bytes_up, bytes_down: payload.
    """

    time: float = 0.0
    frames: int = 0
    masks: int = 0
    masks_in_time: int = 0
    key_frames: int = 0
    updates: int = 0
    applied: int = 0
    declined: int = 0
    timed_out: int = 0
    refused: Counter = field(default_factory=Counter)
    rejected: Counter = field(default_factory=Counter)
    bytes_up: int = 0
    bytes_down: int = 0

    def __sub__(self, other: 'Totals') -> 'Totals':
        return Totals(**{name: value - getattr(other, name)
                         for name, value in vars(self).items()})

    def __add__(self, other: 'Totals') -> 'Totals':
        return Totals(**{name: value + getattr(other, name)
                         for name, value in vars(self).items()})


class Account:
    """
    The account of a robot, kept by all of its threads.

    :param robot: its name.
    :param frame_seconds: from an image to the next.

    :ivar periods: of each key frame but the first of a session its time, the seconds since the
        last one, and those after which the robot wanted it.
    """

    def __init__(self, robot: str, frame_seconds: float):
        self.robot = robot
        self.periods: list[tuple[float, float, float]] = []
        self._frame_seconds = frame_seconds
        self._lock = threading.Lock()
        self._sessions: list[ClientCounters] = []
        #: Images without a mask, by stamp, and when they were handed over.
        self._unmasked: dict[int, float] = {}
        self._key_frames: dict[tuple[int, int], KeyFrameSent] = {}
        self._last: KeyFrameSent | None = None
        self._rejections: list[tuple[float, str]] = []
        self._queued = 0
        self._totals = Totals()

    # --- what the robot tells --------------------------------------------------------------------

    def begin_session(self, counters: ClientCounters) -> None:
        """Begin a session, whose client counts by these."""
        with self._lock:
            self._sessions.append(counters)
            self._last = None

    def end_robot(self, queued: int) -> None:
        """End, with so many updates that had come and were not looked at yet."""
        with self._lock:
            self._queued += queued

    def add_frame(self, stamp: int, now: float) -> None:
        """Hand an image over."""
        with self._lock:
            self._totals.frames += 1
            self._unmasked[stamp] = now
            # Those that are this old were dropped.
            while len(self._unmasked) > 1000:
                del self._unmasked[next(iter(self._unmasked))]

    def add_mask(self, stamp: int, now: float) -> None:
        """Take the mask of an image."""
        with self._lock:
            given = self._unmasked.pop(stamp, None)
            if given is not None:
                self._totals.masks += 1
                self._totals.masks_in_time += now - given <= self._frame_seconds

    def add_key_frame(
            self, session: int, number: int, now: float, patience: float, stride: float) -> None:
        """
        Take a key frame that is sent.

        :param patience: seconds that it is waited for.
        :param stride: seconds after the last one at which it was due, unless the scene asked for
            it sooner or an answer was waited for.
        """
        with self._lock:
            last = self._last
            if last is not None and last.answered is not None:
                passed = wanted = now - last.sent
                if last.answered - last.sent > stride:  # it waited for the answer
                    # It would have been the first frame that is due.
                    frames = math.ceil(stride / self._frame_seconds - 1e-6)
                    wanted = min(passed, frames * self._frame_seconds)
                self.periods.append((now, passed, wanted))
            self._last = self._key_frames[session, number] = KeyFrameSent(now, patience)

    def add_bytes_up(self, count: int) -> None:
        """Count the payload of a key frame."""
        with self._lock:
            self._totals.bytes_up += count

    def add_update(
            self, session: int, number: int, now: float, total_seconds: float, size: int) -> None:
        """
        Take an update that came.

        :param session, number: of the key frame that it says it answers.
        :param total_seconds: that the teacher says it had that.
        :param size: bytes of its payload.
        """
        with self._lock:
            self._totals.updates += 1
            self._totals.bytes_down += size
            key_frame = self._key_frames.get((session, number))
            if key_frame is not None and key_frame.answered is None:
                key_frame.answered, key_frame.total_seconds = now, total_seconds

    def add_rejection(self, reason: str, now: float) -> None:
        """Take note of an update that was rejected."""
        with self._lock:
            self._rejections.append((now, reason))

    # --- what came of it -------------------------------------------------------------------------

    def totals(self, now: float) -> Totals:
        """Return what the robot has done by now."""
        with self._lock:
            done = Totals() + self._totals
            sessions = list(self._sessions)
        done.time = now
        for counters in sessions:
            done.key_frames += counters.key_frames_sent
            done.applied += counters.updates_applied
            done.declined += counters.updates_declined
            done.timed_out += counters.updates_lost
            # Copies, since its thread counts on.
            done.refused += Counter(dict(counters.key_frames_refused))
            done.rejected += Counter(dict(counters.updates_rejected))
        return done

    def answered(self, since: float) -> list[KeyFrameSent]:
        """Return the key frames sent since then that have an answer."""
        with self._lock:
            return [one for one in self._key_frames.values()
                    if one.sent >= since and one.answered is not None]

    def fates(
            self, since: float, until: float, happenings: Iterable[Happening]) -> dict[str, int]:
        """
        Tell what became of the key frames that were sent from ``since`` to ``until``.

        :param happenings: the faults.
        :returns: how many were ``answered``; had no answer by ``until`` and were ``waiting``
            still; were ``taken`` by a fault; and ``lost``, for no reason that is known.
        """
        fates = dict.fromkeys(('answered', 'waiting', 'taken', 'lost'), 0)
        happenings = list(happenings)
        with self._lock:
            sent = [one for one in self._key_frames.values() if since <= one.sent <= until]
        for one in sent:
            given_up = one.sent + one.patience
            if one.answered is not None:
                fate = 'answered'
            elif any(happening.concerns(self.robot, one.sent, given_up)
                     for happening in happenings):
                fate = 'taken'
            else:
                fate = 'waiting' if given_up >= until else 'lost'
            fates[fate] += 1
        return fates

    def faults(self, since: float, happenings: Iterable[Happening]) -> list[str]:
        """
        Check the books, at the end.

        :param since: what happened before is not judged, as robots and teacher had to find one
            another.
        :returns: a line for each that does not come out: an update with no reason to be rejected,
            one that is neither applied nor refused nor rejected, a key frame that was not counted.
        """
        happenings, wrong, done = list(happenings), [], self.totals(0.0)
        longest = max((one.patience for one in self._key_frames.values()), default=0.0)
        without = Counter(
            reason for time, reason in self._rejections if time >= since and not any(
                happening.concerns(self.robot, time - longest, time) for happening in happenings))
        if without:
            wrong.append(f'rejected updates without a fault: {in_words(without)}')
        told = done.applied + done.refused.total() + done.rejected.total() + self._queued
        if done.updates != told:
            wrong.append(
                f'{done.updates} updates came, and {done.applied} were applied, '
                f'{done.refused.total()} were refusals, {done.rejected.total()} were rejected and '
                f'{self._queued} were not looked at before the end: together {told}')
        if len(self._rejections) != done.rejected.total():
            wrong.append(f'{len(self._rejections)} rejections were said, and '
                         f'{done.rejected.total()} counted')
        if len(self._key_frames) != done.key_frames:
            wrong.append(f'{len(self._key_frames)} key frames were sent, and {done.key_frames} '
                         'counted')
        return wrong


def in_words(counts: Counter) -> str:
    """Return counts by their names: '3 session, 1 teacher'."""
    return ', '.join(f'{count} {name}' for name, count in sorted(counts.items()) if count)


def quantile(values: Iterable[float], share: float) -> float | None:
    """Return the value that so large a share of all are not above; None where there is none."""
    values = sorted(values)
    return values[min(len(values) - 1, int(share * len(values)))] if values else None


def between(values: list[tuple[float, ...]], since: float, until: float) -> list:
    """Return those of a list in the order of time, its first element, from one time to another."""
    return values[bisect_left(values, (since,)):bisect_left(values, (until,))]
