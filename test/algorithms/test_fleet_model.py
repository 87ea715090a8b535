"""The queueing model of a teacher with many robots, against a simulation of the same."""

import heapq

import numpy as np
import pytest

from shadowtutor_ros.algorithms.fleet_model import most_robots, Service, teacher_load


def simulate(robots, service_times, t_net, periods, count=20000, seed=0, frame=0.0):
    """Play robots and a teacher that takes one key frame at a time; return what it came to."""
    def at_a_frame(time, number):
        """Return when the first frame of a robot comes from a time on."""
        begin = frame * number / robots
        return begin + frame * np.ceil((time - begin) / frame) if frame else time
    random = np.random.default_rng(seed)
    # When each key frame reaches the teacher, and when it was sent.
    sent = random.uniform(0, periods(random), robots)
    queue = [(time + t_net / 2, number) for number, time in enumerate(sent)]
    heapq.heapify(queue)
    free = work = waited = 0.0
    answers, begin = [], None
    for index in range(count):
        arrival, number = heapq.heappop(queue)
        if index == count // 5:  # what it is like at first is not what it is like for long
            begin, work, waited, answers = free, 0.0, 0.0, []
        service = service_times(random)
        start = max(free, arrival)
        waited += start - arrival
        work += service
        free = start + service
        answer = free + t_net / 2
        answers.append(answer - sent[number])
        sent[number] = at_a_frame(max(answer, sent[number] + periods(random)), number)
        heapq.heappush(queue, (sent[number] + t_net / 2, number))
    return work / (free - begin), waited / len(answers), float(np.mean(answers))


@pytest.mark.parametrize('robots', [1, 2, 4, 6, 8, 12, 30])
@pytest.mark.parametrize('steps, max_updates', [(0, 0), (6, 12)])
def test_agrees_with_a_simulation(robots, steps, max_updates):
    t_ti, t_sd, t_net, period = 0.1, 0.02, 0.05, 1.5
    service = Service.of(t_ti, t_sd, max_updates, steps)
    load = teacher_load(robots, service, t_net, period)
    utilisation, waiting, answer = simulate(
        robots, lambda random: t_ti + t_sd * random.uniform(0, max_updates), t_net,
        # As strides are: from close by to far away.
        lambda random: period * random.uniform(0.4, 1.6))
    assert load.utilisation == pytest.approx(utilisation, rel=0.1)
    # Where there is hardly any, within a fifth of the time of service.
    assert load.waiting == pytest.approx(waiting, rel=0.3, abs=0.2 * service.mean)
    assert load.answer == pytest.approx(answer, rel=0.2)


@pytest.mark.parametrize('robots', [2, 3, 4, 5, 6, 10])
@pytest.mark.parametrize('frame', [0.0, 0.2, 0.5])
def test_periods_of_several_kinds_and_frames(robots, frame):
    periods = [1.2, 2.4]
    load = teacher_load(robots, Service(0.4, 0.03), 0.02, periods, frame)
    utilisation, waiting, answer = simulate(
        robots, lambda random: 0.4 * random.uniform(0.7, 1.3), 0.02,
        lambda random: random.choice(periods) - frame / 2, frame=frame)
    assert load.utilisation == pytest.approx(utilisation, rel=0.1)
    assert load.waiting == pytest.approx(waiting, rel=0.3, abs=0.2 * 0.4)
    assert load.answer == pytest.approx(answer, rel=0.2)


def test_the_mean_of_different_periods_says_too_little():
    # As strides are where some scenes are hard: most as short as can be, and some long.
    periods, service = [1.0] * 8 + [6.0] * 2, Service(0.4, 0.03)
    _, waiting, _ = simulate(
        5, lambda random: 0.4 * random.uniform(0.7, 1.3), 0.02, lambda random: random.choice(
            periods))
    assert teacher_load(5, service, 0.02, periods).waiting == pytest.approx(waiting, rel=0.25)
    assert teacher_load(5, service, 0.02, float(np.mean(periods))).waiting > 2 * waiting
    assert teacher_load(5, service, 0.02, [2.0] * 9) == teacher_load(5, service, 0.02, 2.0)


def test_one_robot_waits_for_nobody():
    load = teacher_load(1, Service(0.2), 0.1, 2.0)
    assert load.waiting == 0
    assert load.answer == pytest.approx(0.3)
    assert load.period == pytest.approx(2.0)
    assert load.utilisation == pytest.approx(0.1)


def test_an_overloaded_teacher_works_all_the_time_and_serves_in_turn():
    load = teacher_load(100, Service(0.2), 0.1, 2.0)
    assert load.utilisation == pytest.approx(1.0)
    assert load.period == pytest.approx(100 * 0.2, rel=0.01)
    assert load.answer == pytest.approx(load.period, rel=0.01)


def test_waiting_grows_with_robots():
    loads = [teacher_load(robots, Service(0.2, 0.2), 0.1, 2.0) for robots in range(1, 30)]
    for before, after in zip(loads, loads[1:]):
        assert after.waiting > before.waiting and after.utilisation > before.utilisation - 1e-9


def test_as_many_robots_as_answers_come_in_time():
    service = Service.of(0.1, 0.02, 12)
    most = most_robots(service, 0.05, 1.5, 0.6)
    assert teacher_load(most, service, 0.05, 1.5).answer <= 0.6
    assert teacher_load(most + 1, service, 0.05, 1.5).answer > 0.6
    assert most_robots(service, 0.05, 1.5, 0.1) == 0
    assert most_robots(service, 0.05, 1.5, 1e9, most=500) == 500


def test_service_of_its_parts():
    service = Service.of(0.1, 0.02, 12, 6)
    assert service.mean == pytest.approx(0.22)
    # The variance of a uniform distribution is a twelfth of the square of its width.
    assert service.variation == pytest.approx(0.24 ** 2 / 12 / 0.22 ** 2)
    assert Service.of(0.1, 0.02, 12) == service
    assert Service.of(0.1, 0.0, 12) == Service(0.1, 0.0)


@pytest.mark.parametrize('arguments', [
    (0, Service(0.1), 0.1, 1.0), (1, Service(0.0), 0.1, 1.0), (1, Service(0.1), -0.1, 1.0),
    (1, Service(0.1), 0.1, 0.0), (1, Service(0.1), 0.1, []), (1, Service(0.1), 0.1, [1.0, 0.0]),
    (1, Service(0.1), 0.1, 1.0, -0.1)])
def test_what_cannot_be_is_refused(arguments):
    with pytest.raises(ValueError, match='expected one robot or more'):
        teacher_load(*arguments)


@pytest.mark.parametrize('arguments', [
    (-0.1, 0.1, 8), (0.1, -0.1, 8), (0, 0, 8), (0.1, 0.1, 8, 9)])
def test_service_that_cannot_be_is_refused(arguments):
    with pytest.raises(ValueError, match='give times'):
        Service.of(*arguments)
