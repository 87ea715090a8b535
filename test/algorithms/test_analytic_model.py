"""The analytic model against numbers computed by hand, and against a simulated client."""

from dataclasses import replace
import itertools
import math
import random

import pytest
from shadowtutor_ros.algorithms.analytic_model import (
    Costs, network_times, recommended_min_stride, throughput_bounds, traffic_bounds, Waits, waits)

COSTS = Costs(t_si=0.1, t_sd=0.05, t_ti=0.2, t_net=0.4, s_net=1_000_000)
SETTINGS = {'min_stride': 8, 'max_stride': 64, 'max_updates': 8}


def grid():
    """Yield costs and settings all over their ranges."""
    for t_si, t_sd, t_ti, t_net in itertools.product(
            (1e-3, 0.1, 5.0), (0.0, 0.02, 2.0), (0.0, 0.1, 9.0), (0.0, 0.3, 40.0)):
        for settings in (1, 1, 0), (8, 64, 8), (8, 8, 1), (3, 900, 50):
            yield Costs(t_si, t_sd, t_ti, t_net, 3e6), dict(zip(SETTINGS, settings))


def test_bounds_by_hand():
    throughput = throughput_bounds(COSTS, **SETTINGS)
    assert throughput.lower == pytest.approx(8 / (0.8 + 0.4 + 0.2 + 0.4))  # 4.44
    assert throughput.upper == pytest.approx(64 / (5.6 + 0.8))  # 10: no wait
    traffic = traffic_bounds(COSTS, **SETTINGS)
    assert traffic.lower == pytest.approx(8e6 / (6.4 + 0.4 + 0.2 + 0.4))  # 1.08 Mbit/s
    assert traffic.upper == pytest.approx(8e6 / 0.8)  # 10 Mbit/s


def test_bounds_by_hand_where_the_network_is_waited_for():
    costs = replace(COSTS, t_net=3.0)
    assert throughput_bounds(costs, **SETTINGS).upper == pytest.approx(64 / (5.6 + 3.2))
    assert traffic_bounds(costs, **SETTINGS).upper == pytest.approx(8e6 / 3.2)


def test_bounds_never_cross():
    for costs, settings in grid():
        for bounds in throughput_bounds(costs, **settings), traffic_bounds(costs, **settings):
            assert 0 < bounds.lower <= bounds.upper * (1 + 1e-12)


def test_bounds_fall_with_t_net():
    for bounds in throughput_bounds, traffic_bounds:
        values = [bounds(replace(COSTS, t_net=t), **SETTINGS) for t in (0, 0.1, 0.5, 2, 30)]
        for one, other in zip(values, values[1:]):
            assert one.lower > other.lower and one.upper >= other.upper


def test_any_run_of_a_waiting_client_lies_within_the_bounds():
    draw = random.Random(5)
    for costs, settings in grid():
        frames = seconds = key_frames = 0
        for _ in range(20):
            stride = draw.randint(settings['min_stride'], settings['max_stride'])
            steps = draw.randint(0, settings['max_updates'])
            answered = costs.t_net + costs.t_ti + steps * costs.t_sd
            seconds += max(settings['min_stride'] * costs.t_si, answered)
            seconds += (stride - settings['min_stride']) * costs.t_si
            frames += stride
            key_frames += 1
        throughput = throughput_bounds(costs, **settings)
        traffic = traffic_bounds(costs, **settings)
        within = 1 + 1e-9
        assert throughput.lower <= frames / seconds * within
        assert frames / seconds <= throughput.upper * within
        measured = 8 * costs.s_net * key_frames / seconds
        assert traffic.lower <= measured * within and measured <= traffic.upper * within


def test_waits_by_hand():
    assert waits(COSTS, min_stride=8, max_updates=8) == Waits(0.0, pytest.approx(0.2))
    assert waits(COSTS, min_stride=4, max_updates=8) == Waits(
        pytest.approx(0.2), pytest.approx(0.6))
    assert waits(COSTS, min_stride=10, max_updates=8) == Waits(0.0, pytest.approx(0, abs=1e-9))


def test_recommended_min_stride_is_the_smallest_without_a_wait():
    assert recommended_min_stride(COSTS, max_updates=8) == 10
    for costs, settings in grid():
        stride = recommended_min_stride(costs, max_updates=settings['max_updates'])
        rest = {'max_updates': settings['max_updates']}
        assert waits(costs, min_stride=stride, **rest).most == pytest.approx(0, abs=1e-9)
        if stride > 1:
            assert waits(costs, min_stride=stride - 1, **rest).most > 0


def test_network_times_by_hand():
    times = network_times(COSTS, 8.0, **SETTINGS)
    assert times.possible == pytest.approx(8 - 5.6 - 0.2)
    assert times.sustained == pytest.approx(1 - 0.4 - 0.2)
    assert times.guaranteed is None  # 0.8 s of inference leave 0.2 s, and there are 8 steps


def test_network_times_solve_the_bounds():
    for rate in (0.5, 2.0, 4.0):
        times = network_times(COSTS, rate, **SETTINGS)
        assert times.guaranteed < times.sustained < times.possible
        for time, side in ((times.possible, 'upper'), (times.guaranteed, 'lower')):
            bounds = throughput_bounds(replace(COSTS, t_net=time), **SETTINGS)
            assert getattr(bounds, side) == pytest.approx(rate)


def test_no_network_is_fast_enough_for_more_than_the_student_infers():
    times = network_times(COSTS, 10.1, **SETTINGS)
    assert times.possible is times.sustained is times.guaranteed is None


@pytest.mark.parametrize(
    'name, value', [('t_si', 0), ('s_net', 0), ('t_sd', -1), ('t_ti', math.nan),
                    ('t_net', math.inf)])
def test_costs_out_of_range(name, value):
    with pytest.raises(ValueError, match=f'{name} is {value}'):
        replace(COSTS, **{name: value})


@pytest.mark.parametrize(
    'settings, what', [({'min_stride': 0}, 'MIN_STRIDE'), ({'max_stride': 7}, 'MAX_STRIDE'),
                       ({'max_updates': -1}, 'MAX_UPDATES')])
def test_settings_out_of_range(settings, what):
    for bounds in throughput_bounds, traffic_bounds:
        with pytest.raises(ValueError, match=what):
            bounds(COSTS, **{**SETTINGS, **settings})


@pytest.mark.parametrize('rate', [0, -1, math.nan])
def test_throughput_out_of_range(rate):
    with pytest.raises(ValueError, match='throughput is'):
        network_times(COSTS, rate, **SETTINGS)
