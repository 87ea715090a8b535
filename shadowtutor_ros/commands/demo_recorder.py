"""Records what a student and its teacher say to each other, for the demo."""

import time
from typing import Any, Callable, Sequence

import cv2
import numpy as np
from sensor_msgs.msg import Image

from shadowtutor_ros.commands.demo_bag import BagWriter
from shadowtutor_ros.msg import KeyFrame, TutorStatus, WeightUpdate
from shadowtutor_ros.nodes.running import Observer, qos

#: What is listened to, by its name without the namespace.
TOPICS = {
    '/image': Image, '/segmentation/mask': Image, '/key_frames': KeyFrame,
    '/weight_updates': WeightUpdate, '/student/status': TutorStatus}


class Recorder(Observer):
    """
    Listens in a thread of its own, from ``with`` to its end.

    :param namespace: of the student.
    :param rate: frames a second by the stamps of the images, which start at the first mask.
    :param stamps: of the images, in ns, where these are those of a recording and not by that rate.
    :param updates: whether to listen to weight updates, which come over the network once more.
    :param bag: gets all that is heard, and the images; its topics are those of :data:`TOPICS`.

    :ivar masks: PNG file by index of the frame.
    :ivar times: when the mask came, on the monotonic clock, by index of the frame.
    :ivar key_frames: payload bytes by index of the frame.
    :ivar updates: index of the key frame and payload bytes of each update.
    :ivar status: the last.
    """

    def __init__(
            self, namespace: str, rate: float, stamps: Sequence[int] = (), updates: bool = True,
            bag: BagWriter | None = None):
        super().__init__('recorder', namespace)
        self.masks: dict[int, np.ndarray] = {}
        self.times: dict[int, float] = {}
        self.key_frames: dict[int, int] = {}
        self.updates: list[tuple[int, int]] = []
        self.status: TutorStatus | None = None
        self._rate = rate
        self._first_stamp: int | None = None
        self._places = {stamp: index for index, stamp in enumerate(stamps)}
        self._indices: dict[int, int] = {}
        self._bag = bag
        self._listen('segmentation/mask', self._on_mask)
        self._listen('key_frames', self._on_key_frame)
        self._listen('student/status', self._on_status)
        if updates:
            self._listen('weight_updates', self._on_update)
        if bag:
            self._listen('image', lambda image: None)

    def _listen(self, topic: str, callback: Callable[[Any], None]) -> None:
        def hear(message: Any) -> None:
            if self._bag:
                self._bag.write(f'/{topic}', message)
            callback(message)
        # Nothing may be missed here, so keep more than the newest.
        self._node.create_subscription(TOPICS[f'/{topic}'], topic, hear, **qos(depth=100))

    @property
    def ready(self) -> bool:
        """Whether the student speaks and the teacher listens."""
        # The other subscription is the recorder's own.
        return self.status is not None and self._node.count_subscribers('key_frames') == 2

    @property
    def rate(self) -> float:
        """Masks a second, from the first to the last."""
        return (len(self.masks) - 1) / self.duration if self.duration else 0.0

    @property
    def duration(self) -> float:
        """Seconds from the first mask to the last."""
        return max(self.times.values()) - min(self.times.values()) if self.times else 0.0

    def mask(self, index: int) -> np.ndarray:
        """Return the mask of a frame: H×W uint8."""
        return cv2.imdecode(self.masks[index], cv2.IMREAD_GRAYSCALE)

    def wait_for_masks(self, timeout: float) -> None:
        """Wait until the last status counts no mask that has not come."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            if self.status.masks_published == len(self.masks):
                # One more period, in which the last update may be counted.
                time.sleep(0.5)
                return
            time.sleep(0.05)

    def _on_mask(self, message: Image) -> None:
        now = time.monotonic()
        stamp = message.header.stamp.sec * 10**9 + message.header.stamp.nanosec
        if self._first_stamp is None:
            self._first_stamp = stamp
        index = (self._places[stamp] if self._places else
                 round((stamp - self._first_stamp) / 1e9 * self._rate))
        self.times[index] = now
        mask = np.frombuffer(message.data, np.uint8).reshape(message.height, message.width)
        # A mask is a few kB as PNG, and a long video has many.
        self.masks[index] = cv2.imencode('.png', mask, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1]

    def _on_key_frame(self, message: KeyFrame) -> None:
        self.key_frames[message.frame_index] = len(message.image.data)
        self._indices[message.key_frame_number] = message.frame_index

    def _on_update(self, message: WeightUpdate) -> None:
        index = self._indices.get(message.key_frame_number, 0)
        self.updates.append((index, len(message.blob)))

    def _on_status(self, message: TutorStatus) -> None:
        self.status = message
