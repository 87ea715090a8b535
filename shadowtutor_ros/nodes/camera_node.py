"""The camera node: plays a video, a folder of images, a camera or the built-in scene."""

if __name__ == '__main__':
    # Before the imports below, which take seconds.
    from shadowtutor_ros.nodes.start import camera_node
    raise SystemExit(camera_node())

import threading
import time

import numpy as np
from rclpy.time import Time
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from shadowtutor_ros.nodes.camera_parameters import CAMERA
from shadowtutor_ros.nodes.image_topics import ImagePublisher
from shadowtutor_ros.nodes.parameters import ParameterNode, Parameters
from shadowtutor_ros.nodes.running import Finished, join, qos, run, steady_clock
from shadowtutor_ros.sources.videos import open_source, SourceError

#: Seconds that lock-step waits for a mask before it publishes the frame again: longer than a
#: student waits for an update with the default update_timeout.
PATIENCE = 30.0


class CameraNode(ParameterNode):
    """
    Publishes frames at a rate, or in lock-step with the masks; ends when its source does.

    In lock-step the stamps advance by the source's own period, as those of a recording do.
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
        rate = rate if rate > 0 else self._source.rate
        self.get_logger().info(
            f'playing {self._source.name} to {self._images.topic_name} '
            + ('in lock-step with the masks' if self._lock_step else f'at {rate:g} frames/s'))
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
        start, start_stamp, index = time.monotonic(), self.get_clock().now(), 0
        while not self._closed.is_set():
            for frame in self._source:
                due = start + index / rate
                if self._lock_step:
                    stamp = Time(nanoseconds=start_stamp.nanoseconds + round(index * 1e9 / rate))
                    self._publish_until_masked(frame, stamp)
                else:
                    if self._closed.wait(max(0.0, due - time.monotonic())):
                        return
                    self._publish(frame, self.get_clock().now())
                index += 1
                if self._closed.is_set() or index == self.parameters['frames']:
                    return
            if not self.parameters['loop']:
                return

    def _wait_for_student(self) -> None:
        """Wait until a student subscribes to the images and offers masks."""
        while not self._closed.wait(0.1):
            if self._images.subscribers and self.count_publishers(self._masks.topic_name):
                return

    def _publish_until_masked(self, frame: np.ndarray, stamp: Time) -> None:
        seconds_nanoseconds = stamp.seconds_nanoseconds()
        while not self._closed.is_set():
            self._publish(frame, stamp)
            with self._mask_came:
                if self._mask_came.wait_for(
                        lambda: self._closed.is_set() or self._mask_stamp == seconds_nanoseconds,
                        PATIENCE):
                    return
            self.get_logger().warning(
                f'no mask on {self._masks.topic_name} for {PATIENCE:.0f} s: publishing the frame '
                'again')

    def _publish(self, frame: np.ndarray, stamp: Time) -> None:
        header = Header(stamp=stamp.to_msg(), frame_id=self.parameters['frame_id'])
        self._images.publish(frame, header, self.parameters['jpeg_quality'])


def main(args: list[str] | None = None) -> int:
    """Run the camera node."""
    return run(CameraNode, args)
