"""Sends images to a student node and takes the time of its masks, for the benchmark."""

from collections import deque
from itertools import cycle, islice
import statistics
import threading
import time
from typing import Callable, Sequence

import numpy as np
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from shadowtutor_ros.msg import TutorStatus
from shadowtutor_ros.nodes.images import to_bytes, to_message
from shadowtutor_ros.nodes.running import Observer, qos

#: Seconds after which an image, its mask or the next status counts as lost.
PATIENCE = 60.0


class Probe(Observer):
    """
    Stands in for a camera, from ``with`` to its end.

    :param namespace: of the student.
    :param frames: H×W×3 uint8, BGR, to be sent in turn.

    :ivar statuses: the last ones of the student, as they came.
    """

    def __init__(self, namespace: str, frames: Sequence[np.ndarray]):
        super().__init__('probe', namespace)
        self.statuses: deque[TutorStatus] = deque(maxlen=10_000)
        self._messages = [to_message(frame, 'bgr8', Header()) for frame in frames]
        self._sent = 0
        self._mask_came = threading.Condition()
        self._masks: list[tuple[int, float]] = []
        self._image = self._node.create_publisher(Image, 'image', **qos())
        self._node.create_subscription(
            Image, 'segmentation/mask', self._on_mask, **qos(depth=100))
        self._node.create_subscription(
            TutorStatus, 'student/status', lambda status: self.statuses.append(status),
            **qos(depth=100))

    @property
    def ready(self) -> bool:
        """Whether the student listens and speaks."""
        return self._image.get_subscription_count() == 1 and bool(self.statuses)

    def _on_mask(self, message: Image) -> None:
        now = time.perf_counter()
        with self._mask_came:
            self._masks.append((message.header.stamp.sec, now))
            self._mask_came.notify()

    def _publish(self, message: Image) -> int:
        """Publish an image with a number for a stamp, and return the number."""
        self._sent += 1
        message.header.stamp.sec = self._sent
        self._image.publish(message)
        return self._sent

    def lock_step(self, count: int, on_mask: Callable[[], None]) -> list[float]:
        """
        Send images one by one, each when the mask of the last has come.

        :returns: seconds from the publication of an image to the arrival of its mask.
        :raises TimeoutError: if a mask does not come.
        """
        latencies = []
        for message in islice(cycle(self._messages), count):
            begin = time.perf_counter()
            number = self._publish(message)
            with self._mask_came:
                if not self._mask_came.wait_for(
                        lambda: self._masks and self._masks[-1][0] == number, PATIENCE):
                    raise TimeoutError(f'no mask came for {PATIENCE:.0f} s')
                latencies.append(self._masks[-1][1] - begin)
                self._masks.clear()
            on_mask()
        return latencies

    def wait_for_status(self) -> None:
        """
        Wait for the next status, which counts what the student did last.

        :raises TimeoutError: if it does not come.
        """
        count, end = len(self.statuses), time.monotonic() + PATIENCE
        while len(self.statuses) == count:
            if time.monotonic() > end:
                raise TimeoutError(f'no status came for {PATIENCE:.0f} s')
            time.sleep(0.05)

    def stream(self, rate: float, duration: float) -> float:
        """
        Send images at a rate, whether or not masks come.

        :param rate: images a second.
        :param duration: seconds.
        :returns: masks a second.
        """
        self._masks.clear()
        begin = time.perf_counter()
        for index, message in enumerate(cycle(self._messages)):
            time.sleep(max(0.0, begin + index / rate - time.perf_counter()))
            if index > rate * duration:
                break
            self._publish(message)
        with self._mask_came:
            if not self._mask_came.wait_for(lambda: len(self._masks) > 1, PATIENCE):
                raise TimeoutError(f'no masks came for {duration + PATIENCE:.0f} s')
            arrivals = [arrival for _, arrival in self._masks]
        return (len(arrivals) - 1) / (arrivals[-1] - arrivals[0])


def measure_assignment(frame: np.ndarray, rounds: int = 5) -> dict[str, float]:
    """
    Compare ways to fill a ``uint8[]`` field.

    :param frame: H×W×3 uint8.
    :returns: medians ``assign_list_ms`` and ``assign_array_ms``.
    """
    def median_ms(convert: Callable[[np.ndarray], object]) -> float:
        times = []
        for _ in range(rounds):
            begin = time.perf_counter()
            Image().data = convert(frame)
            times.append(time.perf_counter() - begin)
        return statistics.median(times) * 1e3

    return {'assign_list_ms': median_ms(lambda image: image.flatten().tolist()),
            'assign_array_ms': median_ms(to_bytes)}
