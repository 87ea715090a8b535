"""With SROS 2 enforced a fleet runs, and a stranger can neither ask its teacher nor answer it."""

from contextlib import contextmanager
import subprocess
import sys
import time

import domains
from helpers import wait_for
import pytest
from rcl_interfaces.srv import GetParameters
from sensor_msgs.msg import Image
from std_srvs.srv import Trigger

from shadowtutor_ros.commands.main import main
from shadowtutor_ros.msg import KeyFrame, TeacherStatus, TutorStatus, WeightUpdate
from shadowtutor_ros.nodes.processes import Nodes
from shadowtutor_ros.nodes.running import Observer, qos

#: What strangers have no business with.
TOPICS = {KeyFrame: '/robot1/key_frames', WeightUpdate: '/robot1/weight_updates'}

#: Seconds in which a stranger tries.
PATIENCE = 6.0

ENCLAVES = ('/robot1', '/robot2', '/teacher', '/dashboard', '/viewer')

PROBE = ('import rclpy; rclpy.init(args=["--ros-args", "--enclave", "/viewer"]); '
         'rclpy.create_node("rosbag2_recorder")')


class Party(Observer):
    """Somebody who takes part, or tries to."""

    @property
    def node(self):
        return self._node

    def collect(self, kind, topic):
        messages = []
        self.node.create_subscription(kind, topic, messages.append, **qos(depth=100))
        return messages

    def call(self, kind, name, request):
        client = self.node.create_client(kind, name)
        wait_for(client.service_is_ready)
        future = client.call_async(request)
        wait_for(future.done)
        return future.result()


def make_keystore(folder):
    """Make keys and permissions for two robots, as docs/security.md has it."""
    keystore = pytest.importorskip(
        'sros2.keystore', reason='the ROS package sros2 is not on PyPI: source a ROS 2 install')
    policy = folder / 'policy.xml'
    assert main(['security', '--robots', '/robot1,/robot2', '--out', str(policy)]) == 0
    keystore.create_keystore(folder / 'keys')
    for enclave in ENCLAVES:
        keystore.create_enclave(folder / 'keys', enclave)
        keystore.create_permission(folder / 'keys', enclave, policy)
    return folder / 'keys'


@contextmanager
def secured(keystore):
    """Let what is started here enforce security with these keys; None: let it have no keys."""
    with pytest.MonkeyPatch.context() as patch:
        if keystore is None:
            patch.delenv('ROS_SECURITY_ENABLE')
        else:
            patch.setenv('ROS_SECURITY_ENABLE', 'true')
            patch.setenv('ROS_SECURITY_STRATEGY', 'Enforce')
            patch.setenv('ROS_SECURITY_KEYSTORE', str(keystore))
        yield


@pytest.fixture(scope='module')
def keystore(tmp_path_factory):
    """Return a keystore, in an environment that enforces it; skip where that cannot be."""
    folder = tmp_path_factory.mktemp('secure')
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('ROS_DOMAIN_ID', str(domains.draw()))
        patch.setenv('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
        patch.setenv('OMP_NUM_THREADS', '1')
        patch.setenv('ROS_HOME', str(folder / 'ros'))
        keys = make_keystore(folder)
        with secured(keys):
            probe = subprocess.run(
                [sys.executable, '-c', PROBE], stderr=subprocess.PIPE, text=True, timeout=60)
            if "doesn't have the security libraries" in probe.stderr:
                pytest.skip('Fast DDS is built without security here (-DSECURITY=ON)')
            assert probe.returncode == 0, probe.stderr
            yield keys


@pytest.fixture(scope='module')
def fleet(keystore, weights, tmp_path_factory):
    """Start a robot and a teacher, each in its enclave."""
    folder = tmp_path_factory.mktemp('nodes')
    common = {'weights': weights, 'threads': 1, 'status_period': 0.5}
    robot = {
        'student': {**common, 'min_stride': 4, 'max_stride': 8},
        'camera': {'source': 'scene', 'rate': 4.0, 'width': 160, 'height': 96}}
    teacher = {'teacher': {**common, 'teacher': 'scene', 'max_updates': 1}}
    with Nodes('/', teacher, folder, folder) as workstation, \
            Nodes('/robot1', robot, folder, folder) as nodes:
        workstation.start('teacher', arguments=('--enclave', '/teacher'))
        for name in robot:
            nodes.start(name, arguments=('--enclave', '/robot1'))
        yield lambda: (workstation.check('teacher'), nodes.check(*robot))


def party(enclave, name='dashboard', space='/'):
    """Return a node in an enclave, with a name that its policy knows."""
    return Party(name, space, ['--ros-args', '--enclave', enclave])


@pytest.fixture(scope='module')
def seen(fleet):
    """Return what one in the dashboard's enclave sees: masks, and both statuses."""
    with party('/dashboard') as looking:
        seen = {
            'masks': looking.collect(Image, '/robot1/segmentation/mask'),
            'student': looking.collect(TutorStatus, '/robot1/student/status'),
            'teacher': looking.collect(TeacherStatus, '/teacher/status')}

        def runs():
            fleet()
            return (seen['masks'] and seen['student']
                    and seen['student'][-1].updates_applied >= 2 and seen['teacher'])
        wait_for(runs)
        yield seen


def refused(seen):
    """Return how many key frames of the first robot its teacher has refused."""
    return sum(sum(robot.refusal_counts) for robot in seen['teacher'][-1].robots
               if robot.name == '/robot1')


def rejected(seen):
    """Return how many updates the first robot has rejected."""
    return seen['student'][-1].updates_rejected


def attack(node, until=lambda: False):
    """
    Send key frames and updates that are none.

    :returns: how many of both could be published at all.
    """
    publishers = []
    for kind, topic in TOPICS.items():
        try:
            publishers.append((kind, node.create_publisher(kind, topic, **qos())))
        except RuntimeError:  # of rcl: it has no right to
            pass
    end, number = time.monotonic() + PATIENCE, 0
    while time.monotonic() < end and publishers and not until():
        number += 1
        for kind, publisher in publishers:
            publisher.publish(KeyFrame(
                model_id='nonsense', student_id=7, session_id=7, key_frame_number=number)
                if kind is KeyFrame else WeightUpdate(session_id=7))
        time.sleep(0.1)
    return len(publishers)


def test_a_robot_is_taught(seen):
    robot, = (one for one in seen['teacher'][-1].robots if one.name == '/robot1')
    assert robot.student == '/robot1/student' and robot.key_frames_answered >= 2
    assert refused(seen) == rejected(seen) == 0


def test_who_steers_may_call_services(seen):
    with party('/dashboard') as steering:
        for node in ('/robot1/student', '/teacher'):
            answer = steering.call(
                GetParameters, f'{node}/get_parameters', GetParameters.Request(names=['weights']))
            assert answer.values[0].string_value
        assert steering.call(Trigger, '/robot1/student/save_weights', Trigger.Request()).success


def test_who_views_may_see(seen):
    with party('/viewer', 'rosbag2_recorder') as viewing:
        masks = viewing.collect(Image, '/robot1/segmentation/mask')
        wait_for(lambda: masks)
        with pytest.raises(RuntimeError):
            viewing.node.create_client(Trigger, '/robot1/student/reset')


@pytest.mark.parametrize('enclave, name, space', [
    ('/dashboard', 'dashboard', '/'), ('/viewer', 'rosbag2_recorder', '/'),
    ('/robot2', 'student', '/robot2')])
def test_who_has_other_rights_cannot_even_try(seen, enclave, name, space):
    before = refused(seen), rejected(seen)
    with party(enclave, name, space) as stranger:
        assert attack(stranger.node) == 0
        for kind, topic in TOPICS.items():
            with pytest.raises(RuntimeError):
                stranger.collect(kind, topic)
    assert (refused(seen), rejected(seen)) == before


@pytest.mark.parametrize('own', [False, True], ids=['no keys', 'keys of its own'])
def test_a_stranger_reaches_nobody(seen, tmp_path, own):
    before, count = (refused(seen), rejected(seen)), len(seen['student'])
    keys = make_keystore(tmp_path) if own else None
    with secured(keys), party('/robot1', 'student', '/robot1') as robot, \
            party('/teacher', 'teacher') as teacher:
        heard = [robot.collect(WeightUpdate, TOPICS[WeightUpdate]),
                 teacher.collect(KeyFrame, TOPICS[KeyFrame])]
        assert attack(robot.node) >= 1 and attack(teacher.node) >= 1
        # Such as they are, they hear each other.
        assert {message.model_id for message in heard[1]} == {'nonsense'}
        assert all(message.key_frame_number == 0 for message in heard[0])
    wait_for(lambda: len(seen['student']) > count + 2)
    assert (refused(seen), rejected(seen)) == before


def test_who_has_the_right_would_have_reached_them(seen):
    # What the tests above found not to happen does, with the keys of robot and teacher.
    for who, count in ((('/robot1', 'camera', '/robot1'), refused),
                       (('/teacher', 'teacher'), rejected)):
        before = count(seen)
        with party(*who) as one:
            assert attack(one.node, lambda: count(seen) > before) == 1
        wait_for(lambda: count(seen) > before)
