"""A camera that can be disturbed, and that listens to the student that it feeds."""

import threading
import time

from rclpy.time import Time
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from std_srvs.srv import Trigger

from shadowtutor_ros.evaluation.scenes import Scene
from shadowtutor_ros.msg import TutorStatus
from shadowtutor_ros.nodes.images import to_message
from shadowtutor_ros.nodes.running import Observer, qos
from shadowtutor_ros.reliability.ledger import Ledger


class Camera(Observer):
    """
    Plays the built-in scene at a steady rate, from ``with`` to its end.

    :param namespace: of the student.
    :param rate: frames a second.
    :param size: (width, height) of the frames in pixels.

    :ivar ledger: of the student.
    :ivar size: may change while it plays.
    :ivar playing: whether it publishes images.
    :ivar expected: whether masks are expected for them.
    :ivar stamp_offset: seconds that its clock is off.
    """

    def __init__(self, namespace: str, rate: float, size: tuple[int, int]):
        super().__init__('camera', namespace)
        self.ledger = Ledger()
        self.size = size
        self.playing, self.expected = False, True
        self.stamp_offset = 0.0
        self._rate = rate
        self._closed = threading.Event()
        self._player = threading.Thread(target=self._play, name='player', daemon=True)
        self._image = self._node.create_publisher(Image, 'image', **qos())
        self._node.create_subscription(
            Image, 'segmentation/mask', self._on_mask, **qos(depth=100))
        self._node.create_subscription(
            TutorStatus, 'student/status', self._on_status, **qos(depth=100))
        self._reset = self._node.create_client(Trigger, 'student/reset')

    def __enter__(self) -> 'Camera':
        super().__enter__()
        self._player.start()
        return self

    def __exit__(self, *exception) -> None:
        self._closed.set()
        self._player.join()
        super().__exit__(*exception)

    def reset_student(self) -> None:
        """Call the student's service ``~/reset``; the call is answered later."""
        self._reset.call_async(Trigger.Request())

    def _play(self) -> None:
        scenes: dict[tuple[int, int], Scene] = {}
        begin, index = time.monotonic(), 0
        while not self._closed.wait(max(0.0, begin + index / self._rate - time.monotonic())):
            index += 1
            if not self.playing:
                continue
            size = self.size
            if size not in scenes:
                scenes[size] = Scene(1, 'day', *size)
            now = time.time_ns() + int(self.stamp_offset * 1e9)
            header = Header(stamp=Time(nanoseconds=now).to_msg(), frame_id='camera')
            message = to_message(scenes[size].render(index).image, 'bgr8', header)
            if self.expected:
                self.ledger.add_image(_stamp(message), time.monotonic())
            self._image.publish(message)

    def _on_mask(self, mask: Image) -> None:
        self.ledger.add_mask(_stamp(mask))

    def _on_status(self, status: TutorStatus) -> None:
        self.ledger.add_status(status, self._rate, time.monotonic())


def _stamp(message: Image) -> tuple[int, int]:
    return message.header.stamp.sec, message.header.stamp.nanosec
