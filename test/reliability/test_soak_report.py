"""What is made of a soak, on robots and a teacher that are made up; a real one in test_soak.py."""

import heapq
import json
import random

import cv2
import pytest

from shadowtutor_ros.algorithms.client import ClientCounters
from shadowtutor_ros.reliability.account import Account, Happening
from shadowtutor_ros.reliability.record import Record, Sample, Served, SoakSettings
from shadowtutor_ros.reliability.soak_report import compare, make_report
from shadowtutor_ros.reliability.soak_tables import (
    as_markdown, count_rows, COUNT_HEAD, last_fault, time_rows, TIME_HEAD, write_report)


def live(robots=3, seconds=240, service=0.3, t_net=0.05, period=2.0, fps=5.0, teacher_bytes=None,
         late=0.0, seed=0):
    """
    Return what a fleet does whose teacher takes one key frame after the other.

    :param teacher_bytes: tells its memory at a time.
    :param late: share of the masks that come late.
    """
    chance = random.Random(seed)
    record = Record(SoakSettings(robots, seconds, fps=fps), 1000.0, 1000.0 + seconds)
    counters = {}
    for number in range(robots):
        name = f'robot{number + 1}'
        record.videos[name], record.accounts[name] = 'scene', Account(name, 1 / fps)
        counters[name] = ClientCounters()
        record.accounts[name].begin_session(counters[name])
    events = [(record.begin + chance.uniform(0, period), name, 1) for name in record.accounts]
    for name in record.accounts:
        for index in range(int(seconds * fps)):
            events.append((record.begin + index / fps, name, 0))
    events += [(record.begin + second, '', 2) for second in range(seconds + 1)]
    heapq.heapify(events)
    free = 0.0
    while events:
        now, name, what = heapq.heappop(events)
        if what == 2:
            record.samples.append(Sample(
                now, {name: account.totals(now) for name, account in record.accounts.items()},
                teacher_bytes(now - record.begin) if teacher_bytes else 500_000_000, 600_000_000,
                0))
            continue
        account = record.accounts[name]
        if what == 0:
            account.add_frame(int(now * 1e6), now)
            account.add_mask(int(now * 1e6), now + (0.3 if chance.random() < late else 0.05))
            continue
        counters[name].key_frames_sent += 1
        number = counters[name].key_frames_sent
        account.add_key_frame(1, number, now, 10.0, period)
        arrival = now + t_net / 2
        start = max(free, arrival)
        free = start + service * chance.uniform(0.6, 1.4)
        answer = free + t_net / 2
        account.add_bytes_up(6000)
        account.add_update(1, number, answer, free - arrival, 20_000)
        counters[name].updates_applied += 1
        record.served.append(Served(
            free, name, start - arrival, free - start, 0.1, free - start - 0.1))
        again = max(answer, now + period * chance.uniform(0.5, 1.5))
        if again < record.end:
            heapq.heappush(events, (again, name, 1))
    return record


def test_a_fleet_that_does_well():
    report = make_report(live())
    assert report['wrong'] == []
    assert [one['name'] for one in report['robots']] == ['robot1', 'robot2', 'robot3']
    for one in report['robots']:
        assert one['frames'] == 1200 and one['masks_in_time'] == 1200
        assert one['key_frames_by_fate'] == {
            'answered': one['key_frames'], 'waiting': 0, 'taken': 0, 'lost': 0}
        assert one['bytes_up'] == 6000 * one['key_frames']
        assert 0.3 < one['update_after_s']['median'] < one['update_after_s']['95 %']
    teacher = report['teacher']
    assert 0.4 < teacher['utilisation'] < 0.5 and teacher['missed'] == 0
    assert teacher['key_frames'] == sum(one['key_frames'] for one in report['robots'])
    assert report['memory']['teacher']['flat'] and report['memory']['robots']['flat']


@pytest.mark.parametrize('robots, service', [(1, 0.3), (3, 0.3), (6, 0.2), (8, 0.4)])
def test_the_model_agrees_with_a_fleet_as_it_is_meant_for(robots, service):
    model = compare(live(robots, service=service))
    assert model['wanted_period_s'] == pytest.approx(2.0, rel=0.15)
    assert model['service_s'] == pytest.approx(service, rel=0.1)
    assert model['t_net_s'] == pytest.approx(0.05) and model['t_ti_s'] == pytest.approx(0.1)
    assert all(model['agrees'].values()), model
    # What was missed by the teacher's status took its time as well.
    record = live(robots, service=0.1)
    work = compare(record)['measured']['utilisation']
    record.served, record.missed = record.served[::2], len(record.served) // 2
    assert compare(record)['measured']['utilisation'] == pytest.approx(work, rel=0.25)


def test_a_model_that_does_not_agree_is_said():
    record = live(4)
    for index, one in enumerate(record.served):  # they have waited for something else
        record.served[index] = Served(**{**vars(one), 'waiting': one.waiting + 1})
    model = compare(record)
    assert model['agrees'] == {
        'utilisation': True, 'waiting_s': False, 'update_after_s': True, 'period_s': True}
    text = as_markdown(make_report(record))
    assert text.count('(differs)') == 1 and 'faults' not in text.split('| model')[1]
    record.happenings.append(Happening('burst', 'all at once', '', record.begin, record.begin))
    assert 'without what faults concerned' in as_markdown(make_report(record))


def test_the_model_is_not_held_against_what_a_fault_has_done():
    record = live(4, seconds=480)
    # It hung for ten seconds, and key frames of robot2 came late for a minute.
    hung, late = record.begin + 100.0, record.begin + 200.0
    for index, one in enumerate(record.served):
        if hung <= one.time <= hung + 10:
            record.served[index] = Served(**{**vars(one), 'service': one.service + 10})
        elif one.robot == 'robot2' and late <= one.time <= late + 60:
            record.served[index] = Served(**{**vars(one), 'waiting': one.waiting + 10})
    before = compare(record)
    assert not before['agrees']['waiting_s'] and not before['disturbed']
    record.happenings = [
        Happening('hangs', 'the teacher hangs', '', hung, hung + 10),
        Happening('late', 'key frames come late', 'robot2', late, late + 60)]
    model = compare(record)
    assert model['disturbed'] and all(model['agrees'].values()), model
    assert model['service_s'] == pytest.approx(0.3, rel=0.1)
    # The teacher was at work for other robots meanwhile, and that is what counts.
    left_out = before['key_frames'] - model['key_frames']
    assert 4 * 7.5 + 30 < left_out < 4 * 7.5 + 60
    assert model['measured']['utilisation'] == pytest.approx(0.58, abs=0.06)


def test_too_little_to_compare():
    assert compare(live(1, seconds=10)) is None
    record = live(1, seconds=10)
    record.samples.clear()
    report = make_report(record)
    assert report['model'] is None and report['robots'][0]['frames'] == 0
    assert 'Nothing went wrong' in as_markdown(report)


def test_masks_that_are_late_fail():
    report = make_report(live(late=0.1))
    assert len(report['wrong']) == 3 and 'had a mask in time, 95% are wanted' in report['wrong'][0]


def test_a_key_frame_that_is_lost_fails_but_for_a_fault():
    record = live()
    record.accounts['robot2'].begin_session(ClientCounters(key_frames_sent=1))
    record.accounts['robot2'].add_key_frame(1, 10 ** 6, record.begin + 100.0, 10.0, 1.0)
    [line] = make_report(record)['wrong']
    assert line.startswith('robot2: 1 key frames got no answer in time, without a fault')
    record.happenings.append(Happening(
        'teacher-hung', 'it hangs', '', record.begin + 105, record.begin + 107))
    report = make_report(record)
    assert not any('no answer' in line for line in report['wrong'])
    assert report['robots'][1]['key_frames_by_fate']['taken'] == 1
    assert report['faults'] == [{
        'name': 'teacher-hung', 'text': 'it hangs', 'robot': '', 'begin': 105, 'end': 107}]


def mega(value):
    return int(value * 1e6)


@pytest.mark.parametrize('memory, flat', [
    (lambda at: mega(500), True),
    (lambda at: mega(500 + at / 10), True),             # 4 %
    (lambda at: mega(500 + 3 * min(at, 70)), True),     # it fills what it keeps
    (lambda at: mega(500 + at), False),
    (lambda at: mega(min(500, 20 * at)), True),         # it is loading
    (lambda at: mega(500 + at % 120), None),            # no life is long enough to tell
    (lambda at: None if 20 < at < 30 else mega(50 if at < 32 else 500), True),
    (lambda at: None if 20 < at < 30 else mega(50 if at < 32 else 300 + at), False),
    (lambda at: None, None)])
def test_memory_is_judged_within_a_life_of_a_process(memory, flat):
    def restarted(at):
        value = memory(at)
        return mega(40) if flat is None and value and at % 120 < 2 else value
    report = make_report(live(1, teacher_bytes=restarted))
    assert report['memory']['teacher']['flat'] is flat
    assert any('memory of the teacher' in line for line in report['wrong']) == (flat is False)


def test_key_frames_that_are_remembered_are_no_leak():
    record = live(1, teacher_bytes=lambda at: mega(500 + at))
    for sample in record.samples:
        sample.remembered_bytes = mega(sample.time - record.begin)
    assert make_report(record)['memory']['teacher']['flat']


def test_what_went_wrong_by_itself_is_said():
    record = live(1, seconds=60)
    record.wrong.append('the teacher ended by itself')
    assert make_report(record)['wrong'] == ['the teacher ended by itself']
    assert '- the teacher ended by itself' in as_markdown(make_report(record))


def test_tables_and_files(tmp_path):
    record = live(3, seconds=60)
    counters = record.accounts['robot1']._sessions[0]
    counters.updates_rejected = {'checksum': 2}
    record.samples[-1].totals['robot1'] = record.accounts['robot1'].totals(record.end)
    record.happenings = [
        Happening('burst', 'all at once', '', record.begin + 9, record.begin + 9),
        Happening('robot-reset', 'it is reset', 'robot2', record.begin + 20)]
    assert last_fault(record.happenings) == 'robot2: it is reset' and last_fault([]) == ''
    report, files = write_report(record, tmp_path)
    assert [file.name for file in files] == ['soak.json', 'soak.md', 'soak.png']
    assert json.loads(files[0].read_text()) == json.loads(json.dumps(report))
    assert len(report['samples']) == 61 and report['faults'][1]['end'] == 60
    text = files[1].read_text()
    for head, rows in ((COUNT_HEAD, count_rows(report)), (TIME_HEAD, time_rows(report))):
        assert '| ' + ' | '.join(head) + ' |' in text
        assert {len(row) for row in rows} == {len(head)} and len(rows) == 3
    assert '2 checksum' in time_rows(report)[0] and '| it is reset | 1 |' in text
    picture = cv2.imread(str(files[2]))
    assert picture.shape[0] > 600 and picture.std() > 5
