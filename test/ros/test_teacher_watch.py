"""Which teachers there are, by the graph."""

from types import SimpleNamespace

from helpers import wait_for
import pytest
from rclpy.node import Node

from shadowtutor_ros.msg import KeyFrame, WeightUpdate
from shadowtutor_ros.nodes.running import qos
from shadowtutor_ros.nodes.teacher_watch import Change, GRACE, TeacherEvent, TeacherWatch

APPEARED, GONE, RESPAWNED = Change.APPEARED, Change.GONE, Change.RESPAWNED
UNKNOWN = '/_NODE_NAMESPACE_UNKNOWN_/_NODE_NAME_UNKNOWN_'


def endpoints(*nodes):
    """Make endpoints of nodes: their names, or pairs of name and id."""
    pairs = [node if isinstance(node, tuple) else (node, 1) for node in nodes]
    return [SimpleNamespace(
        node_namespace=name.rpartition('/')[0] or '/', node_name=name.rpartition('/')[2],
        endpoint_gid=[number] * 16) for name, number in pairs]


class Graph:
    """Stands for a node: a graph that the test fills, and a log."""

    def __init__(self):
        self.subscribers, self.publishers, self.lines = [], [], []

    def get_subscriptions_info_by_topic(self, topic):
        assert topic == '/key_frames'
        return endpoints(*self.subscribers)

    def get_publishers_info_by_topic(self, topic):
        assert topic == '/weight_updates'
        return endpoints(*self.publishers)

    def get_namespace(self):
        return '/robot1'

    def get_logger(self):
        def log(text, throttle_duration_sec=None):
            self.lines.append(text)
        return SimpleNamespace(info=log, warning=log)


@pytest.fixture
def graph():
    """Return an empty graph."""
    return Graph()


@pytest.fixture
def watch(graph):
    """Return a watch of the graph from time 0 on."""
    return TeacherWatch(graph, '/key_frames', '/weight_updates', 0.0)


def poll(watch, now=0.0):
    return [(event.change, event.name) for event in watch.poll(now)]


def test_a_teacher_is_found_once_and_missed(graph, watch):
    assert poll(watch) == [] and not watch.present and watch.names == ()
    graph.subscribers = graph.publishers = ['/lab/teacher']
    assert poll(watch) == [(APPEARED, '/lab/teacher')]
    assert poll(watch) == [] and watch.present and watch.names == ('/lab/teacher',)
    assert graph.lines == ['teacher /lab/teacher was found']
    graph.publishers = []
    assert poll(watch) == [(GONE, '/lab/teacher')] and not watch.present
    assert graph.lines[1:] == ['teacher /lab/teacher is gone']


@pytest.mark.parametrize('subscribers, publishers, names', [
    (['/recorder'], [], ()), ([], ['/bag'], ()),
    (['/recorder', '/teacher'], ['/teacher'], ('/teacher',)),
    (['/recorder', '/teacher'], ['/teacher', '/bag'], ('/teacher',)),
    (['/bridge_up'], ['/bridge_down'], ('/bridge_down',)),
    (['/b', '/a'], ['/a', '/b'], ('/a', '/b'))])
def test_who_does_both_is_a_teacher_or_two_who_share_it(
        graph, watch, subscribers, publishers, names):
    graph.subscribers, graph.publishers = subscribers, publishers
    watch.poll(0.0)
    assert watch.names == names and watch.present == bool(names)


@pytest.mark.parametrize('after', [['/teacher', ('/teacher', 2)], [('/teacher', 2)]])
def test_a_teacher_that_was_killed_and_respawned_is_noticed(graph, watch, after):
    graph.subscribers = graph.publishers = ['/teacher']
    watch.poll(0.0)
    graph.publishers = after
    assert poll(watch) == [(RESPAWNED, '/teacher')]
    assert graph.lines[-1] == 'teacher /teacher was started again'
    # The graph forgets the old one later, which is no news.
    graph.publishers = [('/teacher', 2)]
    assert poll(watch) == [] and watch.present


def test_several_teachers_are_named_once(graph, watch):
    graph.subscribers = graph.publishers = ['/one', '/two']
    for _ in range(3):
        watch.poll(0.0)
    said = [line for line in graph.lines if 'several' in line]
    assert len(said) == 1 and '/one, /two' in said[0]


def test_absence_is_said_when_discovery_had_its_time(graph, watch):
    for now in (0.0, GRACE / 2, GRACE - 0.1):
        watch.poll(now)
    assert not graph.lines
    watch.poll(GRACE)
    assert 'no teacher answers /key_frames' in graph.lines[0] and "'/robot1'" in graph.lines[0]
    graph.subscribers = graph.publishers = ['/teacher']
    watch.poll(100.0)
    graph.publishers = []
    watch.poll(200.0)
    lines = len(graph.lines)
    watch.poll(200.0 + GRACE - 0.1)
    assert len(graph.lines) == lines
    watch.poll(200.0 + GRACE)
    assert 'no teacher answers' in graph.lines[-1]


def test_a_name_that_is_discovered_late_is_waited_for(graph, watch):
    graph.subscribers = graph.publishers = [UNKNOWN]
    assert poll(watch, 0.0) == [] and watch.present
    graph.subscribers = graph.publishers = ['/teacher']
    assert poll(watch, 0.25) == [(APPEARED, '/teacher')]
    graph.subscribers = graph.publishers = [UNKNOWN]
    watch.poll(1.0)
    assert watch.names == ('/teacher',)
    assert poll(watch, 2.0) == [(GONE, '/teacher'), (APPEARED, '')] and watch.present


def test_with_real_nodes(ros):
    watch = TeacherWatch(ros.probe, '/key_frames', '/weight_updates', 0.0)
    events = []

    def see(*expected):
        wait_for(lambda: events.extend(watch.poll(0.0)) or len(events) >= len(expected))
        assert events == [TeacherEvent(change, '/teacher') for change in expected]

    def teacher():
        node = ros.add(Node('teacher', context=ros.context))
        node.create_subscription(KeyFrame, 'key_frames', print, **qos())
        node.create_publisher(WeightUpdate, 'weight_updates', **qos())
        return node
    first = teacher()
    see(APPEARED)
    # As after a kill, when the graph holds the old one for a while.
    teacher()
    see(APPEARED, RESPAWNED)
    ros.stop(first)
    wait_for(lambda: ros.probe.count_publishers('weight_updates') == 1)
    assert watch.poll(0.0) == [] and watch.present
