"""What the analytic model asks for, measured while a student runs."""

from collections import deque
from dataclasses import dataclass
import math
from statistics import median

from shadowtutor_ros.algorithms.analytic_model import (
    Bounds, Costs, throughput_bounds, traffic_bounds)
from shadowtutor_ros.algorithms.client import analytic_strides, ClientSettings
from shadowtutor_ros.wire.weight_update import Status, WeightUpdate

#: How many of the latest frames and key frames the costs are the medians of.
FRAMES = 200
KEY_FRAMES = 16

_UNKNOWN = Bounds(math.nan, math.nan)


@dataclass(frozen=True)
class MeasuredCosts:
    """
    Medians, so that what was slow for once does not count; NaN without a sample.

    :ivar t_si, t_sd, t_ti, t_net: in seconds, see :class:`~algorithms.analytic_model.Costs`.
    :ivar key_frame_bytes, update_bytes: of the payload; together they are s_net.
    """

    t_si: float = math.nan
    t_sd: float = math.nan
    t_ti: float = math.nan
    t_net: float = math.nan
    key_frame_bytes: float = math.nan
    update_bytes: float = math.nan


class CostMeter:
    """
    Collects samples; may be read by one thread while another adds.

    Of the key frames only those count whose student was trained and whose answer holds weights:
    they are what the model is about.
    """

    def __init__(self) -> None:
        self._frames: deque[float] = deque(maxlen=FRAMES)
        self._key_frames: deque[tuple[float, ...]] = deque(maxlen=KEY_FRAMES)
        #: MAX_UPDATES of the last answer, 0 before the first.
        self.max_updates = 0

    def add_frame(self, seconds: float) -> None:
        """Add the inference of a frame."""
        self._frames.append(seconds)

    def add_key_frame(
            self, update: WeightUpdate, round_trip: float, total_seconds: float,
            key_frame_bytes: int) -> None:
        """
        Add a key frame that was answered.

        :param update: the answer; its times and total_seconds are not trusted.
        :param round_trip: seconds from the key frame to the answer, on the robot's clock.
        :param total_seconds: what the workstation had of it, by its own clock.
        :param key_frame_bytes: of the key frame's image.
        """
        self.max_updates = update.max_updates
        if not update.steps or update.status != Status.DONE:
            return
        # A difference of durations, each on one clock: the clocks need not agree.
        sample = (
            update.training_seconds / update.steps, update.teacher_seconds,
            round_trip - total_seconds, float(key_frame_bytes), float(len(update.tensors.blob)))
        if total_seconds >= 0 and all(0 <= value < math.inf for value in sample):
            self._key_frames.append(sample)

    def costs(self) -> MeasuredCosts:
        """Return the medians."""
        frames, key_frames = list(self._frames), list(self._key_frames)
        t_si = median(frames) if frames else math.nan
        return MeasuredCosts(t_si, *map(median, zip(*key_frames)))

    def bounds(self, settings: ClientSettings) -> tuple[Bounds, Bounds]:
        """
        Return what the analytic model makes of the medians.

        :param settings: the strides, ``drift`` and ``still``.
        :returns: throughput in frames a second and traffic in bit/s; NaN without a sample.
        """
        measured = self.costs()
        if math.isnan(measured.t_si) or math.isnan(measured.t_net):
            return _UNKNOWN, _UNKNOWN
        costs = Costs(
            measured.t_si, measured.t_sd, measured.t_ti, measured.t_net,
            measured.key_frame_bytes + measured.update_bytes)
        return tuple(
            Bounds.around(bounds(costs, **strides, max_updates=self.max_updates)
                          for strides in analytic_strides(settings, costs.t_si))
            for bounds in (throughput_bounds, traffic_bounds))
