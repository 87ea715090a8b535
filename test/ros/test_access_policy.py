"""The policy for SROS 2 allows what running nodes do, and by name nothing that they do not."""

import asyncio
import fnmatch

from helpers import wait_for
import pytest

from shadowtutor_ros.dashboard.model import Fleet
from shadowtutor_ros.dashboard.watcher import Watcher
from shadowtutor_ros.nodes.access_policy import DASHBOARD, make_policy, TEACHER
from shadowtutor_ros.nodes.camera_node import CameraNode
from shadowtutor_ros.nodes.student_node import StudentNode
from shadowtutor_ros.nodes.teacher_node import TeacherNode

ROBOT = '/robot1'
POLICY = make_policy([ROBOT], images=['image'])

#: What nodes may do besides, as with use_sim_time or a driver for a camera.
MORE = {'/clock', f'{ROBOT}/image/compressed', '/parameter_events'}


@pytest.fixture
def nodes(ros, weights):
    """Return a student, a teacher and a camera in lock-step, by profile."""
    def named(kind, space, **parameters):
        return ros.start(kind, remap=[f'__ns:={space}'], **parameters)
    learning, filming, _ = POLICY[ROBOT]
    teaching, = POLICY[TEACHER]
    return [
        (teaching, named(TeacherNode, '/', weights=weights, teacher='scene', threads=1,
                         robots=['auto'])),
        (learning, named(StudentNode, ROBOT, weights=weights, status_period=0.2)),
        (filming, named(CameraNode, ROBOT, width=96, height=64, rate=0.0))]


def done(node):
    """Return what a node does, by right."""
    name = node.get_name(), node.get_namespace()
    return {right: {topic for topic, _ in ask(*name)} for right, ask in (
        ('publish', node.get_publisher_names_and_types_by_node),
        ('subscribe', node.get_subscriber_names_and_types_by_node),
        ('reply', node.get_service_names_and_types_by_node),
        ('request', node.get_client_names_and_types_by_node))}


def test_nodes_may_do_what_they_do_and_no_more(nodes):
    teacher = nodes[0][1]
    wait_for(lambda: f'{ROBOT}/key_frames' in done(teacher)['subscribe'])
    for profile, node in nodes:
        for right, names in done(node).items():
            assert names == {name for name in names if profile.allows(right, name)}, node
            stated = {profile.absolute(name) for name in getattr(profile, right)} - MORE
            assert not [one for one in stated if not fnmatch.filter(names, one)], (node, right)


def test_the_dashboard_may_do_what_it_does(nodes, ros, monkeypatch):
    monkeypatch.setenv('ROS_DOMAIN_ID', str(ros.context.get_domain_id()))
    fleet, student = Fleet(), f'{ROBOT}/student'

    async def look():
        with Watcher(fleet, asyncio.get_running_loop(), lambda names: None) as watcher:
            while fleet.node(student) is None or fleet.node('/teacher') is None:
                await asyncio.sleep(0.1)
            for view in fleet.node(student).seen.views.values():
                await watcher.subscribe(view, lambda: None)
            for name in (student, '/teacher'):
                await watcher.read_parameters(name)
                await watcher.set_parameters(name, {})
            return done(watcher._node)

    profile, = POLICY[DASHBOARD]
    does = asyncio.run(look())
    assert {f'{ROBOT}/segmentation/overlay/compressed', f'{student}/status'} <= does['subscribe']
    assert {f'{student}/get_parameters', '/teacher/set_parameters_atomically'} <= does['request']
    for right, names in does.items():
        assert names == {name for name in names if profile.allows(right, name)}, right
