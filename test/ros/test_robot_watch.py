"""Robots are found in the graph."""

import os
from pathlib import Path

from helpers import Said, wait_for
import numpy as np
import pytest
from test_teacher_node import key_frame, start

from shadowtutor_ros.models.student.base import Student
from shadowtutor_ros.msg import KeyFrame, TutorStatus, WeightUpdate
from shadowtutor_ros.nodes import robot_watch
from shadowtutor_ros.nodes.robot_watch import GONE, is_pattern, RobotWatch

KEY_FRAME = 'shadowtutor_ros/msg/KeyFrame'


class Graph:
    """A node that sees what the test says."""

    def __init__(self, *topics):
        self.topics = {topic: [KEY_FRAME] for topic in topics}
        self.without = set()

    def get_topic_names_and_types(self):
        return list(self.topics.items())

    def count_publishers(self, topic):
        return int(topic not in self.without)


@pytest.mark.parametrize('patterns, found', [
    (['auto'], ['/', '/fleet/a', '/fleet/b', '/robot1']), (['/fleet/*'], ['/fleet/a', '/fleet/b']),
    (['fleet/[ax]', '/robot?'], ['/fleet/a', '/robot1']), (['/other*'], []), ([], [])])
def test_namespaces_that_match(patterns, found):
    graph = Graph(
        '/key_frames', '/fleet/a/key_frames', '/fleet/b/key_frames', '/robot1/key_frames')
    assert RobotWatch(graph, patterns).poll(0.0) == (found, [])


def test_what_looks_like_key_frames_alone_is_no_robot():
    graph = Graph('/a/key_frames', '/b/my_key_frames', '/c/key_frames', '/d/key_frames')
    graph.topics['/c/key_frames'] = ['std_msgs/msg/String']
    graph.without = {'/d/key_frames'}  # only a teacher's subscription
    assert RobotWatch(graph, ['auto']).poll(0.0) == (['/a'], [])


def test_a_robot_is_gone_after_a_while_and_comes_again():
    graph = Graph('/a/key_frames')
    watch = RobotWatch(graph, ['auto'])
    watch.poll(0.0)
    graph.without = {'/a/key_frames'}
    assert watch.poll(GONE) == ([], [])
    graph.without = set()
    assert watch.poll(GONE + 1) == (['/a'], [])  # it was only out of reach
    graph.without = {'/a/key_frames'}
    assert watch.poll(2 * GONE + 2) == ([], ['/a'])
    assert watch.poll(2 * GONE + 3) == ([], [])


def test_patterns_are_told_from_names():
    assert all(map(is_pattern, ('auto', '/robot*', '/r?', '/[ab]')))
    assert not any(map(is_pattern, ('', '/robot1', 'automatic')))


# --- over DDS ------------------------------------------------------------------------------------

def test_robots_that_come_are_served_and_have_sessions_of_their_own(ros, weights, frame):
    node = start(ros, weights)
    student = Student.load(weights)
    for number, name in enumerate(('/fleet/a', '/b')):
        updates = ros.collect(WeightUpdate, f'{name}/weight_updates')
        publisher = ros.publisher(KeyFrame, f'{name}/key_frames')
        publisher.publish(key_frame(student, np.roll(frame, 9 * number, 1), session=7 + number))
        assert wait_for(lambda: updates)[0].session_id == 7 + number
    robots = {robot.name: robot for robot in node._robots}
    assert set(robots) == {'', '/fleet/a', '/b'}
    desks = {name: node._workers.desks[robot.teacher_id] for name, robot in robots.items()}
    assert desks['/b'].server.session is not desks['/fleet/a'].server.session


def test_a_robot_that_is_gone_is_forgotten_and_found_again(ros, weights, frame, monkeypatch):
    monkeypatch.setattr(robot_watch, 'GONE', 0.0)
    node = start(ros, weights)
    student = Student.load(weights)
    updates = ros.collect(WeightUpdate, '/a/weight_updates')
    for session in (1, 2):
        publisher = ros.publisher(KeyFrame, '/a/key_frames')
        publisher.publish(key_frame(student, frame, session=session))
        wait_for(lambda: [one for one in updates if one.session_id == session])
        ros.probe.destroy_publisher(publisher)
        wait_for(lambda: [robot.name for robot in node._robots] == [''])
        # It is kept on the disk, until the robot comes back.
        kept = Path(os.environ['ROS_HOME']) / 'shadowtutor' / '%2Fa%2Fkey_frames.session'
        wait_for(kept.exists)
    assert node.count_publishers('/a/weight_updates') == 0
    assert node.count_subscribers('/a/key_frames') == 0


def test_no_more_robots_than_allowed(ros, weights, capfd):
    node = start(ros, weights, max_robots=2)
    first = ros.publisher(KeyFrame, '/a/key_frames')
    ros.probe.create_publisher(KeyFrame, '/b/key_frames', 1)
    wait_for(lambda: '/b is not served, as 2 robots are' in capfd.readouterr().err)
    assert [robot.name for robot in node._robots] == ['', '/a']
    assert first.get_subscription_count() == 1


def test_names_alone_find_nobody_else(ros, weights):
    node = start(ros, weights, robots=['/a'])
    ros.publisher(KeyFrame, '/a/key_frames')
    ros.probe.create_publisher(KeyFrame, '/b/key_frames', 1)
    wait_for(lambda: node.count_publishers('/b/key_frames'))
    assert [robot.name for robot in node._robots] == ['/a']
    assert not [timer for timer in node.timers if timer.callback == node._look_for_robots]


def test_a_robot_whose_topics_cannot_be_had_costs_no_other(ros, weights, frame, capfd):
    node, said = start(ros, weights, robots=['/*']), Said(capfd)
    make, asked = node.create_publisher, []

    def refuse(kind, topic, **options):  # as DDS does where the policy of SROS 2 has no right
        asked.append(topic)
        if topic == '/a/weight_updates':
            raise RuntimeError('no right')
        return make(kind, topic, **options)

    node.create_publisher = refuse
    ros.publisher(KeyFrame, '/a/key_frames', subscribers=0)
    wait_for(lambda: '/a is not served, since its topics cannot be had: no right' in said())
    updates = ros.collect(WeightUpdate, '/b/weight_updates')
    ros.publisher(KeyFrame, '/b/key_frames').publish(key_frame(Student.load(weights), frame))
    wait_for(lambda: updates)
    assert asked == ['/a/weight_updates', '/b/weight_updates']  # each once


def test_the_teachers_own_topics_are_no_robot(ros, weights):
    node = start(ros, weights)
    ros.probe.create_publisher(TutorStatus, '/x/student/status', 1)
    wait_for(lambda: node.count_publishers('/x/student/status'))
    node._look_for_robots()
    assert [robot.name for robot in node._robots] == ['']
