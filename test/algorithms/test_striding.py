from fractions import Fraction
import itertools
import json
import math

import pytest
from shadowtutor_ros.algorithms.striding import next_stride

METRICS = [i / 50 for i in range(51)]
STRIDES = (1, 7, 8, 9, 20, 40, 63, 64, 100)
LIMITS = ((8, 64), (1, 10), (1, 1), (5, 1000))


def paper(metric, stride, threshold, min_stride, max_stride):
    """Return Algorithm 2's stride in exact arithmetic, before it is rounded down."""
    m, t = Fraction(metric), Fraction(threshold)
    ratio = (m + 1 - 2 * t) / (1 - t) if m > t else m / t
    return min(max(ratio * stride, min_stride), max_stride)


def test_equals_the_first_implementation(shared):
    cases = json.loads(shared('golden/stride.json').read_text())
    assert len(cases) > 100
    for case in cases:
        wanted = case.pop('next_stride')
        assert next_stride(case.pop('metric'), case.pop('stride'), **case) == wanted


@pytest.mark.parametrize('threshold', [0.5, 0.7, 0.8, 0.95])
def test_equals_the_paper(threshold):
    for metric, stride, (low, high) in itertools.product(METRICS, STRIDES, LIMITS):
        result = next_stride(
            metric, stride, threshold=threshold, min_stride=low, max_stride=high)
        exact = paper(metric, stride, threshold, low, high)
        if abs(exact - round(exact)) < 1e-9:  # the last bit of a float decides
            assert result in (round(exact) - 1, round(exact))
        else:
            assert result == math.floor(exact)


def test_stays_within_its_limits():
    for metric, stride, (low, high) in itertools.product(METRICS, STRIDES, LIMITS):
        result = next_stride(metric, stride, min_stride=low, max_stride=high)
        assert low <= result <= high and isinstance(result, int)


@pytest.mark.parametrize('stride', STRIDES)
def test_grows_with_the_metric(stride):
    strides = [next_stride(metric, stride, min_stride=1, max_stride=1000) for metric in METRICS]
    assert strides == sorted(strides)
    assert strides[-1] == 2 * stride or strides[-1] == 2 * stride - 1


def test_shortens_below_the_threshold_and_lengthens_above():
    assert next_stride(0.4, 40) == 20
    assert next_stride(0.8, 40) == 40
    assert next_stride(0.9, 40) in (59, 60)


def test_has_the_defaults_of_the_paper():
    assert next_stride(0.0, 64) == 8
    assert next_stride(1.0, 64) == 64
    assert next_stride(0.79, 40) < 40 < next_stride(0.85, 40)
