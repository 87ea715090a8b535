"""What a student did, kept over its sessions."""

from types import SimpleNamespace

import pytest

from shadowtutor_ros.reliability.ledger import Ledger


class Statuses:
    """A ledger that is given a status every tenth of a second, at ten frames a second."""

    def __init__(self):
        self.ledger = Ledger()
        self.now = 0.0

    def add(self, key_frames, applied, session=1, frames_since=5, round_trip=0.2, rejected=(),
            **counters):
        self.now += 0.1
        reasons = dict(rejected)
        values = {'updates_lost': 0, 'bytes_up': 0, 'bytes_down': 0, **counters}
        self.ledger.add_status(SimpleNamespace(
            session_id=session, key_frames_sent=key_frames, updates_applied=applied,
            frames_since_key_frame=frames_since, round_trip_seconds=round_trip,
            rejection_reasons=list(reasons), rejection_counts=list(reasons.values()),
            **values), 10.0, self.now)
        return self.ledger.last


def test_counters_go_on_over_sessions():
    statuses = Statuses()
    statuses.add(3, 2, bytes_up=30, bytes_down=20, updates_lost=1, rejected={'session': 1})
    last = statuses.add(4, 3, bytes_up=40, bytes_down=30, updates_lost=1, rejected={'session': 1})
    first = statuses.add(1, 0, session=2, bytes_up=10, rejected={'session': 2, 'checksum': 1})
    assert statuses.ledger.ended == last
    assert (first.key_frames, first.applied, first.lost) == (5, 3, 1)
    assert (first.bytes_up, first.bytes_down) == (50, 30)
    assert first.rejected == {'session': 3, 'checksum': 1}
    assert first.rejected - last.rejected == {'session': 2, 'checksum': 1}
    assert statuses.add(2, 1, session=2).applied == 4


def test_the_answered_key_frame_is_the_last_unless_it_is_younger_than_the_round_trip():
    statuses = Statuses()
    assert statuses.add(1, 1).answered == 1
    # Sent in the same tenth of a second in which a slow answer was applied.
    assert statuses.add(3, 2, frames_since=0, round_trip=1.0).answered == 2
    # Nothing was applied: the same as before.
    assert statuses.add(4, 2).answered == 2
    # A quick answer to it.
    assert statuses.add(4, 3, frames_since=1, round_trip=0.1).answered == 4
    assert statuses.add(4, 4, round_trip=float('nan')).answered == 4


def test_back_is_who_answers_a_key_frame_of_afterwards():
    statuses = Statuses()
    statuses.add(2, 1)
    since = statuses.add(3, 1)
    assert statuses.ledger.first_answered(since) is None
    # A late answer to one of before: the one of now is not answered yet.
    statuses.add(4, 2, frames_since=0, round_trip=1.0)
    assert statuses.ledger.first_answered(since) is None
    back = statuses.add(5, 3)
    statuses.add(6, 4)
    assert statuses.ledger.first_answered(since) is back


@pytest.mark.parametrize('counts, gap', [
    ([(2, 2), (3, 3), (4, 4), (5, 4)], 1),
    ([(2, 1), (3, 1), (4, 2), (5, 3), (6, 3)], 3),
    # The last may still be answered, those before it no more.
    ([(2, 2), (3, 2), (4, 2), (5, 2)], 2),
    ([(2, 1), (3, 1)], 1),
    ([(1, 1), (1, 1)], 0)])
def test_the_longest_gap(counts, gap):
    statuses = Statuses()
    since = statuses.add(1, 1)
    for key_frames, applied in counts:
        until = statuses.add(key_frames, applied)
    # What comes later is another matter.
    statuses.add(20, applied + 1)
    assert statuses.ledger.longest_gap(since, until) == gap


def test_masks_are_counted_by_the_time_of_their_images():
    ledger = Ledger()
    for second in range(10):
        ledger.add_image((second, 5), float(second))
        if second != 4:
            ledger.add_mask((second, 5))
    ledger.add_mask((99, 0))  # of an image that was not expected to get one
    assert ledger.masks(0.0, 10.0) == (10, 9)
    assert ledger.masks(2.0, 5.0) == (3, 2)
    assert ledger.masks(5.0, 5.0) == (0, 0)
    assert ledger.mask_count == 10
