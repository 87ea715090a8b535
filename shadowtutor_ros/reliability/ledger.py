"""What a student under test did, kept over all its sessions: no ROS here."""

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Entry:
    """
    What a student had done by one of its statuses, its earlier sessions included.

    :ivar time: seconds, monotonic clock, at which the status came.
    :ivar key_frames, applied, lost: key frames sent, answers applied, key frames given up.
    :ivar answered: key frames sent up to the last one whose answer was applied.
    :ivar bytes_up, bytes_down: payload of the key frames and of the updates.
    :ivar rejected: updates by the reason of their rejection.
    """

    time: float = 0.0
    key_frames: int = 0
    applied: int = 0
    lost: int = 0
    answered: int = 0
    bytes_up: int = 0
    bytes_down: int = 0
    rejected: Counter = field(default_factory=Counter)


class Ledger:
    """
    Statuses, images and masks as they come; one thread may write while another reads.

    :ivar entries: one a status, in the order of time.
    :ivar ended: the last of the sessions before this one.
    """

    def __init__(self) -> None:
        self.entries = [Entry()]
        self.ended = Entry()
        self._session_id: int | None = None
        self._images: list[tuple[float, tuple[int, int]]] = []
        self._masks: set[tuple[int, int]] = set()

    @property
    def last(self) -> Entry:
        """The last entry."""
        return self.entries[-1]

    def add_status(self, status: Any, rate: float, now: float) -> None:
        """
        Take a status in.

        :param status: a TutorStatus.
        :param rate: frames a second of the camera.
        """
        if status.session_id != self._session_id:
            # Its counters begin anew.
            self.ended, self._session_id = self.last, status.session_id
        ended, last = self.ended, self.last
        key_frames = ended.key_frames + status.key_frames_sent
        applied = ended.applied + status.updates_applied
        answered = last.answered
        if applied > last.applied:
            # A key frame much younger than the round trip was sent after the answered one.
            younger = 2 * status.frames_since_key_frame < rate * status.round_trip_seconds
            answered = key_frames - younger
        self.entries.append(Entry(
            now, key_frames, applied, ended.lost + status.updates_lost, answered,
            ended.bytes_up + status.bytes_up, ended.bytes_down + status.bytes_down,
            ended.rejected + Counter(dict(
                zip(status.rejection_reasons, map(int, status.rejection_counts))))))

    def add_image(self, stamp: tuple[int, int], now: float) -> None:
        """Take an image in that should get a mask."""
        self._images.append((now, stamp))

    def add_mask(self, stamp: tuple[int, int]) -> None:
        """Take a mask in."""
        self._masks.add(stamp)

    @property
    def mask_count(self) -> int:
        """Masks that have come, of images that should get one and of others."""
        return len(self._masks)

    def masks(self, begin: float, end: float) -> tuple[int, int]:
        """Return how many images came from ``begin`` to ``end``, and how many have masks."""
        images = self._images[bisect_left(self._images, (begin,)):
                              bisect_left(self._images, (end,))]
        return len(images), sum(stamp in self._masks for _, stamp in images)

    def first_answered(self, since: Entry) -> Entry | None:
        """Return the entry by which a key frame sent after another entry was answered, or None."""
        return next((entry for entry in self.entries[self._index(since):]
                     if entry.answered > since.key_frames), None)

    def longest_gap(self, since: Entry, until: Entry) -> int:
        """
        Count the key frames from one whose answer was applied to the next one; the largest count.

        The last key frame sent may still be answered: without an answer it does not count.
        """
        gaps, last = [0], since
        # Where the answer to one sent before is the first to come, that is no gap.
        answered = since.key_frames
        for entry in self.entries[self._index(since):self._index(until) + 1]:
            if entry.applied > last.applied:
                gaps.append(entry.answered - answered)
                answered, last = max(answered, entry.answered), entry
        return max(*gaps, until.key_frames - answered - 1)

    def _index(self, entry: Entry) -> int:
        return bisect_left(self.entries, entry.time, key=lambda other: other.time)
