"""
Simulated robots: student nodes in one process, with their cameras in memory.

Each is the real node with its threads, client and inference, and its key frames and updates cross
DDS; the camera's images alone are handed over without it, as JPEG.
"""

from functools import lru_cache
import gc
import heapq
import random
import threading
import time

import cv2
import numpy as np
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.parameter import Parameter
from rclpy.time import Time
from sensor_msgs.msg import CompressedImage
from std_msgs.msg import Header

from shadowtutor_ros.memory import give_back_memory
from shadowtutor_ros.msg import KeyFrame as KeyFrameMessage
from shadowtutor_ros.msg import WeightUpdate as WeightUpdateMessage
from shadowtutor_ros.nodes.images import to_bytes
from shadowtutor_ros.nodes.student_node import StudentNode
from shadowtutor_ros.reliability.account import Account
from shadowtutor_ros.reliability.relay import Lane
from shadowtutor_ros.sources.videos import Clip
from shadowtutor_ros.wire.key_frame import KeyFrame
from shadowtutor_ros.wire.weight_update import UpdateRejected
from shadowtutor_ros.world.scenes import FRAME_RATE, LOOKS, Scene

#: Seconds of a clip that are played, again and again: what a camera delivers must not be made
#: meanwhile, since making it is no work of a robot's.
CLIP_SECONDS = 60.0

#: Seconds within which robots begin: as many as lie between two key frames.
BEGIN = 6.0

#: Quality of the camera's JPEG images.
_JPEG = 90

#: Seconds in which a robot must have ended.
_END_TIMEOUT = 10.0


def frames_of(video: str, robot: int, width: int, fps: float, seconds: float) -> list[bytes]:
    """
    Return what a robot's camera delivers, as JPEG files.

    :param video: as for :class:`Clip`; of the built-in scene each robot sees another one.
    :param robot: its number, from 0.
    :param width: of the frames in pixels.
    :param fps: frames a second.
    :param seconds: to play, at most :data:`CLIP_SECONDS` of them.
    :raises ValueError: if the video cannot be read.
    """
    count = max(1, round(fps * min(seconds, CLIP_SECONDS)))
    if video == 'scene':
        scene = Scene(robot + 1, LOOKS[robot % len(LOOKS)], width, 8 * round(width * 9 / 128))
        return [_jpeg(scene.render(round(index * FRAME_RATE / fps)).image)
                for index in range(count)]
    frames = _clip(video, width, fps, count)
    # Those that see the same are not at the same place of it.
    begin = robot * len(frames) // 7 % len(frames)
    return frames[begin:] + frames[:begin]


@lru_cache(maxsize=None)
def _clip(video: str, width: int, fps: float, count: int) -> list[bytes]:
    return [_jpeg(frame) for frame in Clip(video, width, count, fps).open()]


def _jpeg(frame: np.ndarray) -> bytes:
    return cv2.imencode('.jpg', frame, [cv2.IMWRITE_JPEG_QUALITY, _JPEG])[1].tobytes()


class _Student(StudentNode):
    """The student node, which keeps its robot's account and can lose what it sends and gets."""

    def __init__(self, robot: 'Robot', **kwargs):
        self._robot = robot
        super().__init__(**kwargs)

    @property
    def queued(self) -> int:
        """Updates that have come and were not looked at yet."""
        return len(self._updates) + len(self._refused)

    def take(self, image: CompressedImage) -> None:
        """Take an image, as from the camera's topic."""
        self._on_image(image)

    def take_update(self, message: WeightUpdateMessage) -> None:
        """Take an update, as from its topic."""
        super()._on_update(message)

    def publish_key_frame(self, message: KeyFrameMessage) -> None:
        """Publish a key frame."""
        super()._publish_key_frame(message)

    def request_key_frame(self) -> None:
        """Send the next image that no answer is awaited at as a key frame."""
        self._key_frame_requested.set()

    def reset(self) -> None:
        """Begin a new session with the next image."""
        self._reset.set()

    def _begin_session(self) -> None:
        super()._begin_session()
        self._robot.account.begin_session(self.client.counters)

    def _infer(self, message: CompressedImage, arrival: float) -> None:
        super()._infer(message, arrival)
        self._robot.account.add_mask(
            Time.from_msg(message.header.stamp).nanoseconds, time.monotonic())

    def _send(self, key_frame: KeyFrame) -> None:
        client, settings = self.client, self.settings
        stride = max(settings.min_stride, min(settings.max_stride, client.stride))
        self._robot.account.add_key_frame(
            key_frame.session_id, key_frame.number, time.monotonic(), client.patience,
            # In seconds; at a rate of 0 strides count the camera's frames.
            stride / (settings.stride_rate or self._robot.fps))
        super()._send(key_frame)

    def _publish_key_frame(self, message: KeyFrameMessage) -> None:
        self._robot.account.add_bytes_up(len(message.image.data))
        self._robot.key_frames(message)

    def _on_update(self, message: WeightUpdateMessage) -> None:
        self._robot.updates(message)

    def _say_rejected(self, rejected: UpdateRejected) -> None:
        super()._say_rejected(rejected)
        self._robot.account.add_rejection(rejected.reason, time.monotonic())


class Robot:
    """
    A simulated robot, which can be started again.

    :param namespace: of its node.
    :param name: for people, and in the account.
    :param frames: that its camera delivers, again and again; see :func:`frames_of`.
    :param fps: how many a second.
    :param parameters: of its student node.

    :ivar account: over all its lives.
    :ivar key_frames, updates: what passes these on, and can be disturbed.
    """

    def __init__(
            self, namespace: str, name: str, frames: list[bytes], fps: float, parameters: dict,
            context: Context):
        self.namespace, self.name, self.fps = namespace, name, fps
        self.account = Account(name, 1 / fps)
        self.key_frames = Lane(self._publish_key_frame)
        self.updates = Lane(self._take_update)
        self._frames = [to_bytes(frame) for frame in frames]
        self._parameters = parameters
        self._context = context
        self._index = 0
        self._node: _Student | None = None

    @property
    def sees_teacher(self) -> bool:
        """Whether it has found a teacher."""
        node = self._node
        return node is not None and node.client.connected

    def start(self, resume: bool) -> None:
        """Start it; it goes on with the weights that it kept if ``resume`` says so."""
        parameters = {**self._parameters, 'resume': resume}
        node = _Student(
            self, namespace=self.namespace, context=self._context, parameter_overrides=[
                Parameter(name, value=value) for name, value in parameters.items()])
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(node)
        self._thread = threading.Thread(target=self._spin, name=self.name, daemon=True)
        self._thread.start()
        self._node = node

    def stop(self) -> None:
        """End it; what comes meanwhile is lost."""
        node, self._node = self._node, None
        if node is None:
            return
        self._executor.shutdown()
        self._thread.join(_END_TIMEOUT)
        node.destroy_node()
        self.account.end_robot(node.queued)
        del node
        # Nothing is left of a robot whose process has ended; nodes refer to themselves.
        gc.collect()
        give_back_memory()

    def take_frame(self, now: float) -> None:
        """Let the camera deliver the next image, where the robot is running."""
        if (node := self._node) is None:
            return
        stamp = time.time_ns()
        header = Header(stamp=Time(nanoseconds=stamp).to_msg(), frame_id='camera')
        image = CompressedImage(
            header=header, format='jpeg', data=self._frames[self._index % len(self._frames)])
        self._index += 1
        self.account.add_frame(stamp, now)
        node.take(image)

    def request_key_frame(self) -> None:
        """Ask for a key frame at once."""
        if (node := self._node) is not None:
            node.request_key_frame()

    def reset(self) -> None:
        """Let it begin a new session."""
        if (node := self._node) is not None:
            node.reset()

    def _publish_key_frame(self, message: KeyFrameMessage) -> None:
        if (node := self._node) is not None:
            node.publish_key_frame(message)

    def _take_update(self, message: WeightUpdateMessage) -> None:
        if (node := self._node) is not None:
            self.account.add_update(
                message.session_id, message.key_frame_number, time.monotonic(),
                message.total_seconds, len(message.blob) + len(message.label))
            node.take_update(message)

    def _spin(self) -> None:
        try:
            self._executor.spin()
        except ExternalShutdownException:
            pass


class Cameras:
    """
    Hand robots their images, each at a steady rate, from ``with`` to its end.

    They are not in step: each has its own part of the time between two images. Nor do they begin
    at once: robots that all send their first key frame at the same moment wait for one another,
    and would go on to do so as long as their strides are alike.
    """

    def __init__(self, robots: list[Robot], fps: float):
        self._robots = robots
        self._period = 1 / fps
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._play, name='cameras', daemon=True)

    def __enter__(self) -> 'Cameras':
        self._thread.start()
        return self

    def __exit__(self, *exception) -> None:
        self._closed.set()
        self._thread.join()

    def _play(self) -> None:
        begin, count = time.monotonic(), len(self._robots)
        due = sorted((
            begin + index * self._period / count + random.Random(index).uniform(0, BEGIN), index)
            for index in range(count))
        while True:
            at, index = due[0]
            if self._closed.wait(max(0.0, at - time.monotonic())):
                return
            now = time.monotonic()
            self._robots[index].take_frame(now)
            # What is late makes the next ones late: no camera catches up.
            heapq.heapreplace(due, (max(at, now - self._period) + self._period, index))
