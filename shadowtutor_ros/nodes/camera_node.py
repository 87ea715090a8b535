"""The camera node: plays a video, images, a bag, a camera or the built-in scene."""

if __name__ == '__main__':
    # Before the imports below, which take seconds.
    from shadowtutor_ros.nodes.start import camera_node
    raise SystemExit(camera_node())

import threading
import time
from typing import Iterator

from builtin_interfaces.msg import Time as TimeMessage
import numpy as np
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from shadowtutor_ros.nodes.camera_parameters import CAMERA
from shadowtutor_ros.nodes.image_topics import ImagePublisher
from shadowtutor_ros.nodes.parameters import ParameterError, ParameterNode, Parameters
from shadowtutor_ros.nodes.running import Finished, join, qos, run, steady_clock
from shadowtutor_ros.sources.base import Recorded, SourceError
from shadowtutor_ros.sources.videos import open_source

#: Seconds that lock-step waits for a mask before it publishes the frame again: longer than a
#: student waits for an update with the default update_timeout.
PATIENCE = 30.0


class CameraNode(ParameterNode):
    """
    Publishes frames at a rate, or in lock-step with the masks; ends when its source does.

    The images of a bag have the headers that were recorded, unless new ones are asked for. The
    stamps of others are those of their publication, but advance by the source's own period in
    lock-step.
    """

    def __init__(self, **kwargs):
        super().__init__('camera', **kwargs)
        # First what destroy_node needs, should anything below fail.
        self.exit_status = 0
        self._mask_came = threading.Condition()
        self._mask_stamp: tuple[int, int] | None = None
        self._closed = threading.Event()
        self._played = threading.Event()
        self._thread: threading.Thread | None = None

        self.parameters = Parameters(self, CAMERA)
        self._source = open_source(
            self.parameters['source'], (self.parameters['width'], self.parameters['height']),
            seed=self.parameters['scene.seed'], look=self.parameters['scene.look'])
        if self.parameters['clock'] and not self._source.recorded:
            raise ParameterError(
                f"clock is {self.parameters['clock']}, but {self._source.name} is no bag, "
                'which alone has a time of its own: set clock to 0.0')
        self._clock_publisher = self.create_publisher(
            Clock, '/clock', **qos()) if self.parameters['clock'] else None
        self._images = ImagePublisher(self, 'image', 'bgr8', 'jpeg')
        self._lock_step = self.parameters['rate'] == 0
        self.create_timer(0.1, self._end_when_played, clock=steady_clock())
        if self._lock_step:
            self._masks = self.create_subscription(
                Image, 'segmentation/mask', self._on_mask, **qos())
        self._thread = threading.Thread(target=self._play, name='camera', daemon=True)
        self._thread.start()

    def destroy_node(self) -> None:
        """Stop playing and destroy the node."""
        self._closed.set()
        with self._mask_came:
            self._mask_came.notify()
        if self._thread is not None:
            join([self._thread])
        super().destroy_node()

    def _end_when_played(self) -> None:
        if self._played.is_set():
            raise Finished

    def _on_mask(self, mask: Image) -> None:
        with self._mask_came:
            self._mask_stamp = (mask.header.stamp.sec, mask.header.stamp.nanosec)
            self._mask_came.notify()

    def _play(self) -> None:
        rate = self.parameters['rate']
        at = (f'at {rate:g} frames/s' if rate > 0 else 'in lock-step with the masks' if
              self._lock_step else 'at the pace of its recording' if self._source.recorded else
              f'at {self._source.rate:g} frames/s')
        self.get_logger().info(f'playing {self._source.name} to {self._images.topic_name} {at}')
        try:
            self._play_at(rate)
        except Exception as error:
            if not self.context.ok():  # it ends anyway
                return
            known = isinstance(error, SourceError)
            self.get_logger().fatal(str(error) if known else f'{type(error).__name__}: {error}')
            self.exit_status = 1
        self._played.set()

    def _play_at(self, rate: float) -> None:
        if self._lock_step:
            self._wait_for_student()
            rate = self._source.rate
        start, self._start_stamp = time.monotonic(), self.get_clock().now().nanoseconds
        # Seconds from the start to the first frame of a turn, and frames of all turns.
        begin, count = 0.0, 0
        while not self._closed.is_set():
            first = last = None
            for number, one in enumerate(self._recorded()):
                first = first or one
                due = begin + (number / rate if rate > 0 else (one.time - first.time) / 1e9)
                frame = one.decode()
                if not self._lock_step:
                    self._wait(start + due, last or one, one)
                if self._closed.is_set():
                    return
                self._tell_time(one.time)
                header = self._header(one, due)
                if self._lock_step:
                    self._publish_until_masked(frame, header)
                else:
                    self._publish(frame, header)
                count, last = count + 1, one
                if self._closed.is_set() or count == self.parameters['frames']:
                    return
            if not self.parameters['loop'] or last is None:
                return
            begin = due + 1 / (rate if rate > 0 else self._source.rate)

    def _recorded(self) -> Iterator[Recorded]:
        """Yield the frames of one turn; what is no recording comes in even steps."""
        if self._source.recorded:
            yield from self._source.recorded()
            return
        for index, frame in enumerate(self._source):
            yield Recorded(round(index * 1e9 / self._source.rate), 0, '', lambda: frame)

    def _wait(self, until: float, last: Recorded, one: Recorded) -> None:
        """Wait for a time of the monotonic clock; that of the recording goes on meanwhile."""
        begin = time.monotonic()
        while (left := until - time.monotonic()) > 0:
            period = 1 / self.parameters['clock'] if self._clock_publisher else left
            if self._closed.wait(min(left, period)):
                return
            share = (time.monotonic() - begin) / (until - begin)
            if share < 1:
                self._tell_time(last.time + round(share * (one.time - last.time)))

    def _header(self, one: Recorded, due: float) -> Header:
        if self._source.recorded and self.parameters['headers'] == 'recorded':
            return Header(stamp=_time(one.stamp), frame_id=one.frame_id)
        stamp = (self._start_stamp + round(due * 1e9) if self._lock_step else
                 self.get_clock().now().nanoseconds)
        return Header(stamp=_time(stamp), frame_id=self.parameters['frame_id'])

    def _tell_time(self, nanoseconds: int) -> None:
        if self._clock_publisher:
            self._clock_publisher.publish(Clock(clock=_time(nanoseconds)))

    def _wait_for_student(self) -> None:
        """Wait until a student offers masks, and it and who else is expected take the images."""
        while not self._closed.wait(0.1):
            if (self._images.subscribers >= self.parameters['wait_matching_subscriptions']
                    and self.count_publishers(self._masks.topic_name)):
                return

    def _publish_until_masked(self, frame: np.ndarray, header: Header) -> None:
        # Of a recording the last stamp may be this one too.
        self._mask_stamp = None
        wanted = (header.stamp.sec, header.stamp.nanosec)
        while not self._closed.is_set():
            self._publish(frame, header)
            with self._mask_came:
                if self._mask_came.wait_for(
                        lambda: self._closed.is_set() or self._mask_stamp == wanted, PATIENCE):
                    return
            self.get_logger().warning(
                f'no mask on {self._masks.topic_name} for {PATIENCE:.0f} s: publishing the frame '
                'again')

    def _publish(self, frame: np.ndarray, header: Header) -> None:
        self._images.publish(frame, header, self.parameters['jpeg_quality'])


def _time(nanoseconds: int) -> TimeMessage:
    return TimeMessage(**dict(zip(('sec', 'nanosec'), divmod(nanoseconds, 10**9))))


def main(args: list[str] | None = None) -> int:
    """Run the camera node."""
    return run(CameraNode, args)
