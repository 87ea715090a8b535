"""A camera that can be disturbed, and that listens to the student that it feeds."""

import itertools
import threading
import time

from rclpy.time import Time
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from std_srvs.srv import Trigger

from shadowtutor_ros.msg import TutorStatus
from shadowtutor_ros.nodes.images import to_message
from shadowtutor_ros.nodes.running import Observer, qos
from shadowtutor_ros.reliability.ledger import Ledger
from shadowtutor_ros.world.scenes import Scene


class Camera(Observer):
    """
    Plays the built-in scene at a steady rate, from ``with`` to its end.

    :param namespace: of the student.
    :param rate: frames a second.
    :param size: (width, height) of the frames in pixels.

    :ivar ledger: of the student.
    :ivar playing: whether it publishes images.
    :ivar expected: whether masks are expected for them.
    :ivar stamp_offset: seconds that its clock is off.
    """

    def __init__(self, namespace: str, rate: float, size: tuple[int, int]):
        super().__init__('camera', namespace)
        self.ledger = Ledger()
        self.resize(size)
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

    def resize(self, size: tuple[int, int]) -> None:
        """Play frames of another size, (width, height) in pixels, from the next one on."""
        # Painted here, so that no frame is late for it.
        self._scene = Scene(1, 'day', *size)

    def reset_student(self) -> None:
        """Call the student's service ``~/reset``; the call is answered later."""
        self._reset.call_async(Trigger.Request())

    def _play(self) -> None:
        due = time.monotonic()
        for index in itertools.count():
            # What is late makes the next ones late: no camera catches up.
            due = max(due + 1 / self._rate, time.monotonic())
            if self._closed.wait(due - time.monotonic()):
                return
            if not self.playing:
                continue
            now = time.time_ns() + int(self.stamp_offset * 1e9)
            header = Header(stamp=Time(nanoseconds=now).to_msg(), frame_id='camera')
            message = to_message(self._scene.render(index).image, 'bgr8', header)
            if self.expected:
                self.ledger.add_image(_stamp(message), time.monotonic())
            self._image.publish(message)

    def _on_mask(self, mask: Image) -> None:
        self.ledger.add_mask(_stamp(mask))

    def _on_status(self, status: TutorStatus) -> None:
        self.ledger.add_status(status, self._rate, time.monotonic())


def _stamp(message: Image) -> tuple[int, int]:
    return message.header.stamp.sec, message.header.stamp.nanosec
