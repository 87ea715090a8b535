"""What a running student measures for the analytic model."""

from dataclasses import astuple
import math
from types import SimpleNamespace

import pytest

from shadowtutor_ros.algorithms.client import ClientSettings
from shadowtutor_ros.nodes.costs import CostMeter, FRAMES, KEY_FRAMES
from shadowtutor_ros.wire.weight_update import Status


def add(meter, *, status=Status.DONE, steps=4, training=0.4, teacher=0.2, round_trip=1.0,
        total=0.7, up=100, down=300):
    meter.add_key_frame(SimpleNamespace(
        status=status, steps=steps, max_updates=8, training_seconds=training,
        teacher_seconds=teacher, tensors=SimpleNamespace(blob=bytes(down))), round_trip, total, up)


def test_nothing_is_known_before_the_first_sample():
    meter = CostMeter()
    assert all(map(math.isnan, astuple(meter.costs())))
    meter.add_frame(0.05)
    assert meter.costs().t_si == 0.05
    for bounds in meter.bounds(ClientSettings()):
        assert math.isnan(bounds.lower) and math.isnan(bounds.upper)


def test_costs_and_bounds_by_hand():
    meter = CostMeter()
    for seconds in (0.1, 0.1, 7.0):
        meter.add_frame(seconds)
    add(meter)
    costs = meter.costs()
    assert astuple(costs) == pytest.approx((0.1, 0.1, 0.2, 0.3, 100, 300))
    throughput, traffic = meter.bounds(ClientSettings(4, 8, stride_rate=0.0, drift=0.0, still=0.0))
    assert throughput.lower == pytest.approx(4 / (0.4 + 0.8 + 0.2 + 0.3))
    assert throughput.upper == pytest.approx(8 / (0.4 + 0.5))
    assert traffic.lower == pytest.approx(3200 / (0.8 + 0.8 + 0.2 + 0.3))
    assert traffic.upper == pytest.approx(3200 / 0.5)

    # A key frame may come early where the scene drifts, and late where it is still.
    wide = meter.bounds(ClientSettings(
        4, 8, stride_rate=0.0, drift=0.4, still=0.1, still_stride=64))
    assert wide[0].lower == pytest.approx(1 / (0.1 + 0.8 + 0.2 + 0.3))
    assert wide[1].lower == pytest.approx(3200 / (6.4 + 0.8 + 0.2 + 0.3))

    # Strides that count five a second are twice as many frames of a tenth of one.
    timed = meter.bounds(ClientSettings(4, 8, stride_rate=5.0, drift=0.0, still=0.0))
    assert timed[0].lower == pytest.approx(8 / (0.8 + 0.8 + 0.2 + 0.3))
    assert timed[1].lower == pytest.approx(3200 / (1.6 + 0.8 + 0.2 + 0.3))
    assert timed[1].upper == pytest.approx(3200 / 0.8)


def test_one_slow_sample_does_not_count_and_old_ones_are_forgotten():
    meter = CostMeter()
    for round_trip in (1.0, 1.0, 60.0):
        add(meter, round_trip=round_trip)
    assert meter.costs().t_net == pytest.approx(0.3)
    for _ in range(KEY_FRAMES):
        add(meter, round_trip=2.7)
    for _ in range(FRAMES // 2 + 1):
        meter.add_frame(1.0)
    for _ in range(FRAMES):
        meter.add_frame(0.5)
    assert meter.costs().t_net == pytest.approx(2.0) and meter.costs().t_si == 0.5


@pytest.mark.parametrize('useless', [
    {'status': Status.NOTHING_TO_GAIN, 'down': 0}, {'steps': 0}, {'total': 1.1},
    {'total': math.nan}, {'total': -1.0},
    {'total': -math.inf}, {'teacher': -1.0}, {'training': math.inf}])
def test_what_tells_nothing_or_nonsense_is_left_out(useless):
    meter = CostMeter()
    add(meter, **useless)
    assert math.isnan(meter.costs().t_net) and meter.max_updates == 8
    add(meter)
    assert meter.costs().t_net == pytest.approx(0.3)
