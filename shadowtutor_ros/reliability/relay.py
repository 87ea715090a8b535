"""Stands between a student and its teacher, and passes on what it should or should not."""

from copy import copy
import random
import time
from typing import Any, Callable

from shadowtutor_ros.msg import KeyFrame, WeightUpdate
from shadowtutor_ros.nodes.images import to_bytes
from shadowtutor_ros.nodes.running import Observer, qos

#: The student's side of the relay: prefix of its topics ``key_frames`` and ``weight_updates``.
STUDENT_SIDE = 'robot'

#: Seconds between two messages that one makes, so that no queue of one message drops the first.
_APART = 0.05

#: Makes of one message those that are passed on in its place.
Rule = Callable[[Any], list]


def _any(message: Any) -> bool:
    return True


class Lane:
    """
    One direction of the relay.

    :ivar publish: passes a message on.
    """

    def __init__(self, publish: Callable[[Any], None]):
        self.publish = publish
        self._rule: Rule | None = None
        self._wanted: Callable[[Any], bool] = _any
        self._remaining: float = 0

    def disturb(
            self, rule: Rule, messages: float = float('inf'),
            wanted: Callable[[Any], bool] = _any) -> Callable[[], bool]:
        """
        Treat the next messages by a rule.

        :param messages: how many; all until :meth:`pass_on` without it.
        :param wanted: tells which ones.
        :returns: tells whether they have come.
        """
        self._rule, self._wanted, self._remaining = rule, wanted, messages
        return lambda: not self._remaining

    def pass_on(self) -> None:
        """Pass all messages on as they are."""
        self._rule, self._remaining = None, 0

    def __call__(self, message: Any) -> None:
        """Take a message and pass on what the rule makes of it."""
        rule = self._rule  # which another thread may take back meanwhile
        if rule is None or not self._remaining or not self._wanted(message):
            self.publish(message)
            return
        for index, passed in enumerate(rule(message)):
            if index:
                time.sleep(_APART)
            self.publish(passed)
        if self._rule is rule:
            self._remaining -= 1


class Relay(Observer):
    """
    Passes key frames and updates on, from ``with`` to its end.

    :param namespace: of the teacher; the student's topics have the prefix :data:`STUDENT_SIDE`.

    :ivar key_frames, updates: the two directions.
    """

    def __init__(self, namespace: str):
        super().__init__('relay', namespace)
        self.key_frames = self._lane(KeyFrame, f'{STUDENT_SIDE}/key_frames', 'key_frames')
        self.updates = self._lane(
            WeightUpdate, 'weight_updates', f'{STUDENT_SIDE}/weight_updates')

    def _lane(self, kind: type, source: str, sink: str) -> Lane:
        lane = Lane(self._node.create_publisher(kind, sink, **qos(depth=10)).publish)
        self._node.create_subscription(kind, source, lane, **qos(depth=10))
        return lane


# --- What can be made of a message ---------------------------------------------------------------

def lose(message: Any) -> list:
    """Pass nothing on."""
    return []


def double(message: Any) -> list:
    """Pass a message on twice."""
    return [message, message]


def swap() -> Rule:
    """Return a rule that passes two messages on in the other order."""
    held = []

    def rule(message: Any) -> list:
        held.append(message)
        return held[::-1] if len(held) == 2 else []
    return rule


def from_another_session(message: Any) -> list:
    """Pass on what another session would send or be sent, then the message."""
    other = copy(message)
    other.session_id ^= 1
    return [other, message]


def has_weights(update: WeightUpdate) -> bool:
    """Tell whether an update brings weights."""
    return bool(update.blob)


def flip_a_bit(update: WeightUpdate) -> list:
    """Flip a bit of an update's weights."""
    chance = random.Random(0)
    update.blob[chance.randrange(len(update.blob))] ^= 1 << chance.randrange(8)
    return [update]


def corrupt_image(key_frame: KeyFrame) -> list:
    """Put noise in the place of a key frame's image."""
    size = len(key_frame.image.data)
    key_frame.image.data = to_bytes(random.Random(0).randbytes(size))
    return [key_frame]
