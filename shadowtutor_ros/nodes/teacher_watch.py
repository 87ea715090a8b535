"""Watches the graph for the teachers that answer a student's key frames."""

from dataclasses import dataclass
from enum import Enum

from rclpy.node import Node

from shadowtutor_ros.nodes.graph import by_node

#: Seconds between two looks at the graph.
POLL_PERIOD = 0.25

#: Seconds without a teacher after which that is said: discovery takes some.
GRACE = 10.0

#: Seconds that an endpoint may be without the name of its node, which may be discovered later.
_NAMELESS = 1.0


class Change(Enum):
    """What can become of a teacher."""

    APPEARED = 'appeared'
    GONE = 'gone'
    #: Another process has taken its name, whether or not the graph still holds the old one.
    RESPAWNED = 'respawned'


@dataclass(frozen=True)
class TeacherEvent:
    """
    What has become of a teacher.

    :ivar name: of its node, fully qualified.
    """

    change: Change
    name: str


class TeacherWatch:
    """
    Knows the teachers by the graph, and says in the log what becomes of them.

    A teacher is a node that both subscribes to key frames and publishes updates, so that a
    recorder of either is none. Where no node does both, a bridge may have split the roles: then
    who publishes updates counts, if somebody subscribes to key frames.

    :param node: looks at the graph and logs.
    :param key_frames: topic, fully qualified.
    :param weight_updates: topic, fully qualified.
    :param now: seconds of a steady clock, as for :meth:`poll`.
    """

    def __init__(self, node: Node, key_frames: str, weight_updates: str, now: float):
        self._node = node
        self._key_frames = key_frames
        self._weight_updates = weight_updates
        #: Ids of the publishers of updates, by name of the teacher.
        self._teachers: dict[str, set[tuple[int, ...]]] = {}
        self._absent_since: float | None = now
        self._nameless_since: float | None = None
        self._said_several: set[tuple[str, ...]] = set()

    @property
    def present(self) -> bool:
        """Whether there is a teacher."""
        return self._absent_since is None

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the teachers, in order."""
        return tuple(sorted(self._teachers))

    def poll(self, now: float) -> list[TeacherEvent]:
        """
        Look at the graph.

        :param now: seconds of a steady clock.
        :returns: what has changed since the last look.
        """
        subscribers = by_node(self._node.get_subscriptions_info_by_topic(self._key_frames))
        publishers = by_node(self._node.get_publishers_info_by_topic(self._weight_updates))
        both = subscribers.keys() & publishers.keys() - {''}
        teachers = {name: publishers[name] for name in both} if both else (
            publishers if subscribers else {})
        if not teachers:
            self._absent_since = now if self.present else self._absent_since
        else:
            self._absent_since = None
        if '' in teachers:
            self._nameless_since = now if self._nameless_since is None else self._nameless_since
            if now - self._nameless_since < _NAMELESS:
                return []
        else:
            self._nameless_since = None
        events = self._compare(teachers)
        self._teachers = teachers
        self._say(events, now)
        return events

    def _compare(self, teachers: dict[str, set]) -> list[TeacherEvent]:
        before = self._teachers
        events = [TeacherEvent(Change.GONE, name) for name in sorted(before.keys() - teachers)]
        for name in sorted(teachers):
            if name not in before:
                events.append(TeacherEvent(Change.APPEARED, name))
            elif teachers[name] - before[name]:
                events.append(TeacherEvent(Change.RESPAWNED, name))
        return events

    def _say(self, events: list[TeacherEvent], now: float) -> None:
        logger, names = self._node.get_logger(), self.names
        for event in events:
            name = event.name or 'without a name, as of a bridge,'
            if event.change is Change.APPEARED:
                logger.info(f'teacher {name} was found')
            elif event.change is Change.RESPAWNED:
                logger.info(f'teacher {name} was started again')
            else:
                logger.warning(f'teacher {name} is gone')
        if len(names) > 1 and names not in self._said_several:
            self._said_several.add(names)
            logger.warning(
                f"several teachers answer {self._key_frames}: {', '.join(filter(None, names))}; "
                'one is enough: end the others, or give each robot a namespace of its own')
        if not self.present and now - self._absent_since >= GRACE:
            logger.warning(
                f'no teacher answers {self._key_frames}, so the student is not trained: '
                "start the teacher; its parameter robots must be 'auto' or name this node's "
                f"namespace, '{self._node.get_namespace()}', and both need the same "
                'ROS_DOMAIN_ID',
                throttle_duration_sec=30.0)
