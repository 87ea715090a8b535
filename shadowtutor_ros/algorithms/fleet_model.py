"""
How many robots a teacher can serve: a queueing model of key frames that wait for one another.

A robot sends a key frame, waits for its answer while it goes on inferring, and sends the next one
``period`` seconds after the last or, if the answer comes later than that, with the first frame
after it. So there are never more key frames under way than robots: a closed queueing network of
one server (the teacher, which takes one key frame at a time) and a delay (the robot, and the
network).

Solved by mean value analysis (Reiser and Lavenberg, 1980): what an arriving key frame finds is
what is there on average with one robot less. For service times that are not exponential, with the
correction for what is left of the one in service (Reiser, 1979, as in Pollaczek and Khinchine).
"""

from collections.abc import Sequence
from dataclasses import dataclass
import math

import numpy as np


@dataclass(frozen=True)
class Service:
    """
    What a key frame takes of the teacher.

    :ivar mean: seconds, above 0.
    :ivar variation: its variance over the square of the mean; 0: always the same.
    """

    mean: float
    variation: float = 0.0

    @classmethod
    def of(
            cls, t_ti: float, t_sd: float, max_updates: int, steps: float | None = None
    ) -> 'Service':
        """
        Return the service of a teacher that takes some steps of at most MAX_UPDATES.

        :param t_ti: seconds of the teacher's inference.
        :param t_sd: seconds of a training step.
        :param steps: that a key frame takes on average; half of MAX_UPDATES where it is not known.
            Their spread is taken as if all numbers from 0 on were as frequent.
        :raises ValueError: if a time or a number is below 0, or all of it takes no time.
        """
        steps = max_updates / 2 if steps is None else steps
        if not (t_ti >= 0 and t_sd >= 0 and 0 <= steps <= max_updates) or t_ti + steps * t_sd <= 0:
            raise ValueError(
                f't_ti {t_ti}, t_sd {t_sd} and {steps} of {max_updates} steps: give times of 0 or '
                'above, not all 0, and no more steps than there are at most')
        mean = t_ti + steps * t_sd
        return cls(mean, (max_updates * t_sd) ** 2 / 12 / mean ** 2)


@dataclass(frozen=True)
class Load:
    """
    How a teacher does with so many robots.

    :ivar robots: their number.
    :ivar utilisation: share of the time that it is at work, 0 to 1.
    :ivar waiting: seconds that a key frame waits for others.
    :ivar answer: seconds from a key frame to its update: network, waiting and service.
    :ivar period: seconds from a robot's key frame to its next; longer than it wants where the
        teacher is overloaded.
    """

    robots: int
    utilisation: float
    waiting: float
    answer: float
    period: float


def teacher_load(
        robots: int, service: Service, t_net: float, period: float | Sequence[float],
        frame: float = 0.0) -> Load:
    """
    Compute how a teacher does with so many robots that are alike.

    :param robots: 1 or more.
    :param service: of a key frame.
    :param t_net: seconds that a key frame and its update are on the network.
    :param period: seconds from a key frame to the next that a robot wants: its mean, or some that
        were measured. Where these differ much and answers take about as long, the mean alone says
        too little: short ones wait for the answer, and long ones leave the teacher without work.
    :param frame: seconds from a frame of a robot to the next.
    :raises ValueError: if a number is out of its range.
    """
    periods = np.atleast_1d(np.asarray(period, float))
    if robots < 1 or service.mean <= 0 or t_net < 0 or frame < 0 or not (
            periods.size and periods.min() > 0):
        raise ValueError(
            f'{robots} robots, {service.mean} s of service, {t_net} s of network, {periods.size} '
            f'periods from {periods.min(initial=math.inf)} s on, a frame every {frame} s: '
            'expected one robot or more, and times above 0')
    # The robot thinks for what the answer leaves of the period: where that is nothing, it sends
    # with the next frame, half a frame later on average. The longer it thinks the sooner answers
    # come, but by no more than that, so the right time can be enclosed.
    low, high = frame / 2, max(frame / 2, float(periods.max()))
    while high - low > 1e-6 * periods.mean():
        think = (low + high) / 2
        answer = t_net + _response(robots, service, t_net + think)
        if think < np.maximum(frame / 2, periods - answer).mean():
            low = think
        else:
            high = think
    response = _response(robots, service, t_net + high)
    cycle = high + t_net + response
    return Load(
        robots, robots * service.mean / cycle, response - service.mean,
        t_net + response, cycle)


def _response(robots: int, service: Service, delay: float) -> float:
    """Return the seconds that a key frame is at the teacher, by mean value analysis."""
    mean = service.mean
    there = busy = 0.0  # key frames at the teacher on average, and the share of time it works
    response = mean
    for count in range(1, robots + 1):
        left = busy * mean * (1 + service.variation) / 2
        # It cannot do more than be at work all the time.
        response = max(mean + max(0.0, there - busy) * mean + left, count * mean - delay)
        rate = count / (delay + response)
        there, busy = rate * response, rate * mean
    return response


def most_robots(
        service: Service, t_net: float, period: float, answer: float,
        most: int = 10000) -> int:
    """
    Compute how many robots can be served so that answers come in time.

    :param answer: seconds from a key frame to its update that are still good enough.
    :param most: to look for.
    :returns: 0 where even one has to wait longer.
    """
    low, high = 0, 1
    while high <= most and teacher_load(high, service, t_net, period).answer <= answer:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        if teacher_load(middle, service, t_net, period).answer <= answer:
            low = middle
        else:
            high = middle
    return min(low, most)
