"""
The paper's analytic model: bounds on throughput and traffic, and what follows from them.

The bounds are those of section "Analytic Models" of the paper (ICPP 2020). A key frame and the
frames up to the next one are a cycle. At MIN_STRIDE frames after the key frame the client waits
for its update, which comes after t_net + t_ti plus t_sd for each training step. The bounds hold

- for whole cycles: the last cycle of a run is cut short, which a short run shows;
- for a client that waits (``late_update: wait``): one that goes on has the throughput 1 / t_si,
  whatever the network does. Its traffic has the same bounds;
- where every key frame is answered by s_net bytes in all: a server that sends no weights where
  it took no step undercuts the lower bound of the traffic, and t_net with it.
"""

from dataclasses import dataclass
import math
from typing import Iterable


@dataclass(frozen=True)
class Costs:
    """
    What a frame and a key frame take; the names are the paper's.

    :ivar t_si: seconds of the student's inference of one frame, above 0.
    :ivar t_sd: seconds of one step of distillation (a training step), at least 0.
    :ivar t_ti: seconds of the teacher's inference of one frame, at least 0.
    :ivar t_net: seconds to transfer a key frame and its update, at least 0.
    :ivar s_net: bytes of a key frame and its update together, above 0.
    :raises ValueError: if one is out of its range or not finite.
    """

    t_si: float
    t_sd: float
    t_ti: float
    t_net: float
    s_net: float

    def __post_init__(self):
        for name, value in vars(self).items():
            positive = name in ('t_si', 's_net')
            if not (0 <= value < math.inf) or (positive and value == 0):
                wanted = 'above 0' if positive else '0 or above'
                raise ValueError(f'{name} is {value}: give a finite number, {wanted}')


@dataclass(frozen=True)
class Bounds:
    """What a quantity lies between; ``lower`` is never above ``upper``."""

    lower: float
    upper: float

    @classmethod
    def around(cls, bounds: Iterable['Bounds']) -> 'Bounds':
        """Return what lies around all of them."""
        bounds = list(bounds)
        return cls(min(one.lower for one in bounds), max(one.upper for one in bounds))


@dataclass(frozen=True)
class Waits:
    """
    How long the client waits at MIN_STRIDE, in seconds; 0 where it does not.

    :ivar least: when no training step was needed.
    :ivar most: when MAX_UPDATES steps were.
    """

    least: float
    most: float


@dataclass(frozen=True)
class NetworkTimes:
    """
    The largest t_net, in seconds, that a throughput can be reached with; None if none does.

    :ivar possible: so that the upper bound reaches it.
    :ivar sustained: so that it is reached even if every key frame follows at MIN_STRIDE and
        takes MAX_UPDATES steps, while the client infers as Algorithm 4 does.
    :ivar guaranteed: so that the lower bound reaches it. The paper adds up inference and the
        wait there, as if they never overlapped, so this is stricter than ``sustained``.
    """

    possible: float | None
    sustained: float | None
    guaranteed: float | None


def throughput_bounds(
        costs: Costs, *, min_stride: int, max_stride: int, max_updates: int) -> Bounds:
    """
    Bound the throughput.

    At most, every stride is MAX_STRIDE and no key frame needs a step; at least, every stride is
    MIN_STRIDE, every key frame takes MAX_UPDATES steps, and nothing overlaps.

    :param min_stride: MIN_STRIDE, in frames, at least 1.
    :param max_stride: MAX_STRIDE, in frames, at least ``min_stride``.
    :param max_updates: MAX_UPDATES, training steps a key frame, at least 0.
    :returns: frames a second.
    :raises ValueError: if a stride or ``max_updates`` is out of its range.
    """
    _check(min_stride, max_stride, max_updates)
    wait = max(min_stride * costs.t_si, costs.t_net + costs.t_ti)
    return Bounds(
        lower=min_stride / (
            min_stride * costs.t_si + max_updates * costs.t_sd + costs.t_ti + costs.t_net),
        upper=max_stride / ((max_stride - min_stride) * costs.t_si + wait))


def traffic_bounds(
        costs: Costs, *, min_stride: int, max_stride: int, max_updates: int) -> Bounds:
    """
    Bound the traffic, up and down together.

    :param min_stride, max_stride, max_updates: as for :func:`throughput_bounds`.
    :returns: bits a second.
    :raises ValueError: as :func:`throughput_bounds` does.
    """
    _check(min_stride, max_stride, max_updates)
    bits = 8 * costs.s_net
    return Bounds(
        lower=bits / (
            max_stride * costs.t_si + max_updates * costs.t_sd + costs.t_ti + costs.t_net),
        upper=bits / max(min_stride * costs.t_si, costs.t_net + costs.t_ti))


def waits(costs: Costs, *, min_stride: int, max_updates: int) -> Waits:
    """
    Tell how long the client waits at MIN_STRIDE: MIN_STRIDE · t_si against t_net + t_ti and steps.

    :param min_stride, max_updates: as for :func:`throughput_bounds`.
    :raises ValueError: as :func:`throughput_bounds` does.
    """
    _check(min_stride, min_stride, max_updates)
    least = costs.t_net + costs.t_ti - min_stride * costs.t_si
    return Waits(max(0.0, least), max(0.0, least + max_updates * costs.t_sd))


def recommended_min_stride(costs: Costs, *, max_updates: int) -> int:
    """
    Return the smallest MIN_STRIDE at which even MAX_UPDATES steps are not waited for.

    :param max_updates: as for :func:`throughput_bounds`.
    :returns: frames, at least 1; may be above MAX_STRIDE.
    :raises ValueError: as :func:`throughput_bounds` does.
    """
    _check(1, 1, max_updates)
    frames = (costs.t_net + costs.t_ti + max_updates * costs.t_sd) / costs.t_si
    # A whole number of frames must not become one more by rounding.
    return max(1, math.ceil(frames * (1 - 1e-12)))


def network_times(
        costs: Costs, throughput: float, *, min_stride: int, max_stride: int, max_updates: int
        ) -> NetworkTimes:
    """
    Solve for the largest t_net that a throughput can be reached with.

    :param costs: its t_net is not looked at.
    :param throughput: frames a second, above 0.
    :param min_stride, max_stride, max_updates: as for :func:`throughput_bounds`.
    :raises ValueError: as :func:`throughput_bounds` does, or if the throughput is not above 0.
    """
    _check(min_stride, max_stride, max_updates)
    if not 0 < throughput < math.inf:
        raise ValueError(f'the throughput is {throughput}: give frames a second, above 0')
    if throughput * costs.t_si > 1:
        return NetworkTimes(None, None, None)
    cycle = min_stride / throughput
    worst = max_updates * costs.t_sd + costs.t_ti
    times = (
        max_stride / throughput - (max_stride - min_stride) * costs.t_si - costs.t_ti,
        cycle - worst,
        cycle - worst - min_stride * costs.t_si)
    return NetworkTimes(*(time if time > 0 else None for time in times))


def _check(min_stride: int, max_stride: int, max_updates: int) -> None:
    if not 1 <= min_stride <= max_stride:
        raise ValueError(
            f'the strides are {min_stride} to {max_stride}: MIN_STRIDE has to be 1 or above, and '
            'MAX_STRIDE not below it')
    if max_updates < 0:
        raise ValueError(f'MAX_UPDATES is {max_updates}: it has to be 0 or above')
