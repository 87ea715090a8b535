"""The books of a simulated robot: what became of its frames, key frames and updates."""

import pytest

from shadowtutor_ros.algorithms.client import ClientCounters
from shadowtutor_ros.reliability.account import (
    Account, between, Happening, in_words, quantile, SETTLING)


@pytest.fixture
def account():
    """Return the account of a robot with five frames a second, in its first session."""
    account = Account('robot1', 0.2)
    account.counters = ClientCounters()
    account.begin_session(account.counters)
    return account


def send(account, number, now, patience=10.0, stride=1.0, session=7):
    account.add_key_frame(session, number, now, patience, stride)
    account.counters.key_frames_sent += 1


def answer(account, number, now, session=7):
    account.add_update(session, number, now, 0.3, 1000)
    account.counters.updates_applied += 1


def test_a_mask_is_in_time_before_the_next_frame_is_due(account):
    for stamp, late in ((1, 0.1), (2, 0.25), (3, None)):
        account.add_frame(stamp, float(stamp))
        if late is not None:
            account.add_mask(stamp, stamp + late)
    account.add_mask(2, 2.3)  # again
    account.add_mask(99, 2.4)  # of nobody
    done = account.totals(5.0)
    assert (done.frames, done.masks, done.masks_in_time) == (3, 2, 1)


def test_sessions_are_counted_together_and_time_from_time_to_time(account):
    send(account, 1, 1.0)
    answer(account, 1, 1.5)
    account.counters.updates_rejected['session'] = 2
    before = account.totals(2.0)
    counters = ClientCounters(key_frames_sent=3, updates_rejected={'session': 1, 'teacher': 4})
    account.begin_session(counters)
    account.add_bytes_up(500)
    done = account.totals(5.0) - before
    assert (done.time, done.key_frames, done.applied) == (3.0, 3, 0)
    assert done.rejected == {'session': 1, 'teacher': 4} and done.bytes_up == 500
    assert account.totals(5.0).rejected['session'] == 3


def test_fates(account):
    for number, sent in enumerate((1.0, 20.0, 40.0, 90.0, 95.0), 1):
        send(account, number, sent)
    answer(account, 1, 2.0)
    answer(account, 5, 96.0)
    fault = Happening('a', 'a fault', 'robot1', 25.0, 26.0)
    assert account.fates(0.0, 98.0, [fault]) == {
        'answered': 2, 'waiting': 1, 'taken': 1, 'lost': 1}
    # Later nobody waits for it any more.
    assert account.fates(0.0, 200.0, [fault])['lost'] == 2
    assert account.fates(50.0, 98.0, [fault]) == {
        'answered': 1, 'waiting': 1, 'taken': 0, 'lost': 0}


@pytest.mark.parametrize('robot, begin, end, taken', [
    ('robot1', 25.0, 26.0, 1), ('', 25.0, 26.0, 1), ('robot2', 25.0, 26.0, 0),
    ('robot1', 29.9, 40.0, 1), ('robot1', 30.1, 40.0, 0),
    ('robot1', 5.0, 20.1 - SETTLING, 1), ('robot1', 5.0, 19.9 - SETTLING, 0),
    ('robot1', 5.0, float('inf'), 1)])
def test_a_fault_takes_what_it_concerns_while_it_is_waited_for(account, robot, begin, end, taken):
    send(account, 1, 20.0)
    fates = account.fates(0.0, 100.0, [Happening('a', 'a fault', robot, begin, end)])
    assert fates['taken'] == taken and fates['lost'] == 1 - taken


def test_what_comes_twice_is_answered_once_and_counts_twice(account):
    send(account, 1, 1.0)
    answer(account, 1, 1.5)
    account.add_update(7, 1, 1.6, 0.3, 1000)
    account.add_update(8, 1, 1.7, 0.3, 1000)  # of another session
    [one] = account.answered(0.0)
    assert one.answered == 1.5 and one.total_seconds == 0.3
    assert account.totals(2.0).updates == 3 and account.totals(2.0).bytes_down == 3000


def test_books_that_come_out(account):
    send(account, 1, 1.0)
    answer(account, 1, 1.5)
    send(account, 2, 2.0)
    account.add_update(7, 2, 2.5, 0.3, 0)
    account.counters.key_frames_refused['unreadable'] = 1
    send(account, 3, 3.0)
    account.add_update(7, 3, 3.5, 0.3, 0)
    account.counters.updates_rejected['checksum'] = 1
    account.add_rejection('checksum', 3.6)
    account.add_update(7, 9, 3.7, 0.3, 0)
    account.end_robot(1)
    assert account.faults(0.0, [Happening('a', 'a fault', '', 3.0, 3.1)]) == []


def test_books_that_do_not(account):
    send(account, 1, 1.0)
    account.add_update(7, 1, 2.0, 0.3, 0)
    [line] = account.faults(0.0, [])
    assert '1 updates came' in line and 'together 0' in line
    account.add_rejection('checksum', 2.0)
    assert 'without a fault: 1 checksum' in account.faults(0.0, [])[0]
    assert any('1 rejections were said, and 0' in line for line in account.faults(0.0, []))
    account.counters.key_frames_sent = 2
    assert any('1 key frames were sent, and 2' in line for line in account.faults(0.0, []))


def test_a_rejection_has_to_have_a_reason(account):
    send(account, 1, 10.0)
    account.add_update(7, 1, 19.0, 0.3, 0)
    account.counters.updates_rejected['key_frame'] = 1
    account.add_rejection('key_frame', 19.0)

    def lines(*arguments):
        return account.faults(0.0, [Happening('a', 'a fault', *arguments)])
    # It may answer what was sent before the fault was over, for as long as that is waited for.
    assert lines('robot1', 5.0, 6.0) == [] and lines('', 18.0, 30.0) == []
    assert len(lines('robot2', 18.0, 30.0)) == len(lines('robot1', 1.0, 2.0)) == 1
    assert account.faults(20.0, []) == []  # it is not judged


def test_the_period_that_is_wanted(account):
    send(account, 1, 0.0)
    answer(account, 1, 0.5)
    send(account, 2, 1.2, stride=1.1)    # when it was due, at the next frame
    answer(account, 2, 3.0)
    send(account, 3, 3.2, stride=1.1)    # it waited for the answer: else in 1.2 s
    answer(account, 3, 3.5)
    send(account, 4, 3.8, stride=6.4)    # early
    send(account, 5, 15.0, stride=1.0)   # the one before was never answered
    account.begin_session(ClientCounters())
    send(account, 1, 16.0, session=8)    # of another session
    assert [wanted for *_, wanted in account.periods] == pytest.approx([1.2, 1.2, 0.6])
    assert [passed for _, passed, _ in account.periods] == pytest.approx([1.2, 2.0, 0.6])


def test_words_and_numbers():
    assert in_words({'b': 2, 'a': 1, 'c': 0}) == '1 a, 2 b'
    assert quantile([], 0.5) is None and quantile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert quantile(range(100), 0.95) == 95 and quantile([1.0], 0.95) == 1.0
    assert between([(1.0, 'a'), (2.0, 'b'), (3.0, 'c')], 1.5, 3.0) == [(2.0, 'b')]
