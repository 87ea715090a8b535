"""Whom a teacher serves next."""

import math

import pytest

from shadowtutor_ros.algorithms.serving import Serving, Waiting


def waiting(robot, since=0.0, useful=10.0, metric=0.8):
    return Waiting(robot, since, useful, metric)


def chosen(serving, now, *those):
    return serving.choose(those, now).robot


def test_nobody_waits():
    assert Serving().choose([], 0.0) is None


def test_who_came_first_is_served_first():
    # However bad the others' students are.
    assert chosen(Serving(), 3.0, waiting('b', 1.0, metric=0.1), waiting('a', 0.5)) == 'a'


def test_of_those_that_waited_long_it_is_the_one_that_loses_most():
    first, worst = waiting('a', 0.0, metric=0.9), waiting('b', 2.0, metric=0.3)
    late = waiting('c', 7.0, metric=0.1)
    assert chosen(Serving(), 8.0, first, worst, late) == 'b'
    assert chosen(Serving(), 8.0, first, late) == 'a'
    # Long enough, and the best student's turn comes too.
    assert chosen(Serving(), 30.0, first, waiting('b', 29.0, 0.1, metric=0.3)) == 'a'


def test_of_a_student_that_nothing_is_known_of_the_worst_is_thought():
    assert chosen(Serving(), 9.0, waiting('a', 0.0, metric=0.5),
                  waiting('b', 1.0, metric=math.nan)) == 'b'


def test_time_is_forgotten():
    serving = Serving()
    serving.served('a', 10.0, 0.0)
    serving.served('b', 5.0, 0.0)
    assert serving.share('a', 0.0) == pytest.approx(2 / 3)
    serving.served('b', 5.0, 300.0)
    assert serving.share('a', 300.0) < 0.02 and serving.share('c', 300.0) == 0.0
    serving.served('b', 1.0, 3000.0)
    assert list(serving._had) == ['b']


def simulate(services, useful, seconds):
    """Let robots send a key frame a second after each answer; return how often each had one."""
    serving, now = Serving(), 0.0
    came = {robot: 0.0 for robot in services}
    answers, longest = dict.fromkeys(services, 0), dict.fromkeys(services, 0.0)
    while now < seconds:
        there = [waiting(robot, since, useful) for robot, since in came.items() if since <= now]
        if not there:
            now = min(came.values())
            continue
        robot = serving.choose(there, now).robot
        longest[robot] = max(longest[robot], now - came[robot])
        now += services[robot]
        serving.served(robot, services[robot], now)
        answers[robot] += 1
        came[robot] = now + 1.0
    return answers, longest, serving, now


def test_a_robot_with_large_frames_starves_no_others():
    services = {'large': 5.0, **{f'robot{number}': 0.2 for number in range(9)}}
    answers, longest, serving, now = simulate(services, 10.0, 300.0)
    # In turn the large one would have had 5.0 of every 6.8 seconds, and each other 44 answers.
    assert serving.share('large', now) < 0.35
    assert min(count for robot, count in answers.items() if robot != 'large') > 80
    assert answers['large'] > 5, 'it is served too'
    assert max(longest.values()) < 60.0


def test_equal_robots_are_served_equally():
    answers, longest, _, _ = simulate({number: 1.0 for number in range(5)}, 10.0, 300.0)
    assert max(answers.values()) - min(answers.values()) <= 1
    assert max(longest.values()) <= 4.0


def test_alone_a_robot_has_all_the_time():
    answers, _, serving, now = simulate({'large': 5.0}, 10.0, 60.0)
    assert answers['large'] == 10 and serving.share('large', now) == 1.0


def together(serving, now, most, *those):
    return [one.robot for one in serving.choose_together(those, now, most)]


def test_those_served_at_once_are_those_that_would_be_served_one_after_another():
    those = waiting('c', 2.0), waiting('a', 0.0), waiting('b', 1.0)
    assert together(Serving(), 3.0, 2, *those) == ['a', 'b']
    assert together(Serving(), 3.0, 9, *those) == ['a', 'b', 'c']
    assert together(Serving(), 3.0, 9) == []
    urgent = waiting('worst', 3.0, metric=0.1), waiting('first', 0.0, metric=0.9)
    assert together(Serving(), 9.0, 2, *urgent) == ['worst', 'first']


def test_who_had_more_than_a_share_joins_nobody_and_is_served_alone():
    serving = Serving()
    for robot, seconds in (('greedy', 8.0), ('a', 1.0), ('b', 1.0)):
        serving.served(robot, seconds, 0.0)
    assert together(
        serving, 1.0, 4, waiting('greedy', 0.0), waiting('a', 0.5), waiting('b', 0.6)
    ) == ['a', 'b']
    serving.served('hungry', 8.0, 0.0)
    assert together(serving, 1.0, 4, waiting('greedy', 0.0), waiting('hungry', 0.5)) == ['greedy']
