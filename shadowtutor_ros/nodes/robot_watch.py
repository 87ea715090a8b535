"""Watches the graph for the robots that ask for a teacher."""

from collections.abc import Sequence
from fnmatch import fnmatchcase

from rclpy.node import Node

from shadowtutor_ros.msg import KeyFrame
from shadowtutor_ros.nodes.graph import type_name

#: Seconds between two looks at the graph.
POLL_PERIOD = 0.5

#: Seconds without anybody who publishes key frames after which a robot is gone: a robot that is
#: restarted, or out of reach for a while, finds its session again.
GONE = 60.0

#: Stands for every robot there is.
AUTO = 'auto'

_TOPIC = '/key_frames'


def is_pattern(name: str) -> bool:
    """Tell whether a name of the parameter ``robots`` stands for several."""
    return name == AUTO or any(character in name for character in '*?[')


class RobotWatch:
    """
    Knows the robots by the graph: the namespaces of the topics ``key_frames`` of their type.

    :param node: looks at the graph.
    :param patterns: that namespaces have to match, one of them; ``'auto'`` matches all, ``*``,
        ``?`` and ``[…]`` are as in the names of files.
    """

    def __init__(self, node: Node, patterns: Sequence[str]):
        self._node = node
        self._patterns = ['*' if pattern == AUTO else '/' + pattern.lstrip('/')
                          for pattern in patterns]
        self._seen: dict[str, float] = {}

    def poll(self, now: float) -> tuple[list[str], list[str]]:
        """
        Look at the graph.

        :param now: seconds of a steady clock.
        :returns: the namespaces that are there, and those that are gone since the last look;
            ``'/'`` is that of nodes without one.
        """
        there = sorted(name for name in self._namespaces() if self._matches(name))
        self._seen.update(dict.fromkeys(there, now))
        gone = [name for name, seen in self._seen.items() if now - seen > GONE]
        for name in gone:
            del self._seen[name]
        return there, gone

    def _namespaces(self) -> list[str]:
        return [topic.removesuffix(_TOPIC) or '/'
                for topic, types in self._node.get_topic_names_and_types()
                if topic.endswith(_TOPIC) and type_name(KeyFrame) in types
                and self._node.count_publishers(topic)]

    def _matches(self, namespace: str) -> bool:
        return any(fnmatchcase(namespace, pattern) for pattern in self._patterns)
