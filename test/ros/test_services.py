"""The student's services, and what the teacher says of itself, over DDS."""

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from helpers import wait_for
import numpy as np
import pytest
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from std_srvs.srv import SetBool, Trigger

from shadowtutor_ros.msg import KeyFrame, TeacherStatus, TutorStatus
from shadowtutor_ros.nodes.images import to_message
from shadowtutor_ros.nodes.student_node import StudentNode
from shadowtutor_ros.nodes.teacher_node import TeacherNode
from shadowtutor_ros.world.scenes import Scene


class Robot:
    """A student, what it publishes, and its services."""

    def __init__(self, ros, **parameters):
        self.ros = ros
        self.node = ros.start(
            StudentNode, threads=1, min_stride=1000, max_stride=1000, drift=0.0, still=0.0,
            status_period=0.1, update_timeout=100.0, **parameters)
        self.masks = ros.collect(Image, 'segmentation/mask')
        self.statuses = ros.collect(TutorStatus, 'student/status')
        self.key_frames = ros.collect(KeyFrame, 'key_frames')
        self.images = ros.publisher(Image, 'image')
        self._scene = Scene(1, 'day', 160, 96)
        self.shown = 0

    def show(self):
        header = Header()
        header.stamp.sec = self.shown = self.shown + 1
        self.images.publish(to_message(self._scene.render(self.shown).image, 'bgr8', header))

    def play(self, frames=1):
        for _ in range(frames):
            before = len(self.masks)
            self.show()
            wait_for(lambda: len(self.masks) > before)

    def call(self, kind, name, **fields):
        client = self.ros.probe.create_client(kind, f'student/{name}')
        assert client.wait_for_service(120)
        future = client.call_async(kind.Request(**fields))
        return wait_for(future.done) and future.result()


def test_disabled_it_takes_no_images_and_keeps_what_it_has_learnt(ros):
    ros.start(TeacherNode, teacher='scene', threads=1, max_updates=1)
    robot = Robot(ros)
    wait_for(lambda: robot.node.client.connected and robot.node._mask.subscribers)
    robot.play(2)
    wait_for(lambda: robot.node._updates or robot.node.client.weights_version)
    robot.play()
    client, weights = robot.node.client, robot.node.client._weights_checksum
    answer = robot.call(SetBool, 'enable', data=False)
    assert answer.success and 'no image is taken' in answer.message
    # The camera has nobody to send to.
    wait_for(lambda: robot.images.get_subscription_count() == 0)
    wait_for(lambda: robot.statuses[-1].state == TutorStatus.STATE_DISABLED)
    received = robot.node._images_received
    for _ in range(3):
        robot.show()
    assert not robot.call(Trigger, 'request_key_frame').success
    before = len(robot.statuses)
    wait_for(lambda: len(robot.statuses) > before + 2)
    assert robot.node._images_received == received and len(robot.masks) == 3
    assert robot.call(SetBool, 'enable', data=True).success
    assert robot.call(SetBool, 'enable', data=True).success, 'twice is once'
    # The first subscription stays until the one that asks as is offered has brought an image.
    wait_for(robot.images.get_subscription_count)
    robot.play(2)
    assert robot.node.client is client and client._weights_checksum == weights
    assert client.counters.frames == 5 and robot.node._images.images_lost == 0
    wait_for(lambda: robot.statuses[-1].state == TutorStatus.STATE_TUTORED)


def test_a_key_frame_on_request(ros):
    robot = Robot(ros)
    wait_for(lambda: robot.node._mask.subscribers)
    robot.play()
    answer = robot.call(Trigger, 'request_key_frame')
    assert not answer.success and 'no teacher' in answer.message
    ros.start(TeacherNode, teacher='scene', threads=1, max_updates=1)
    wait_for(lambda: robot.node.client.connected)
    robot.play()
    wait_for(lambda: len(robot.key_frames) == 1)
    wait_for(lambda: robot.node._updates)
    robot.play(3)
    assert robot.node.client.counters.key_frames_sent == 1
    assert robot.call(Trigger, 'request_key_frame').success
    robot.play()
    wait_for(lambda: len(robot.key_frames) == 2)
    robot.play(2)
    assert robot.node.client.counters.key_frames_sent == 2, 'one was asked for'


@pytest.mark.parametrize('size', [(160, 96), (32, 32)])
def test_the_teacher_says_how_it_does(ros, size):
    teacher = ros.start(
        TeacherNode, teacher='scene', threads=1, max_updates=1, status_period=0.1,
        robots=['', 'absent'])
    arrays = ros.collect(DiagnosticArray, '/diagnostics')
    statuses = ros.collect(TeacherStatus, 'teacher/status')
    robot = Robot(ros)

    def shown(name):
        found = [status for array in list(arrays) for status in array.status
                 if status.name.startswith(f'/teacher: {name}')]
        return found and {'level': found[-1].level, 'message': found[-1].message, **{
            value.key: value.value for value in found[-1].values}}
    whole = wait_for(lambda: shown('teaching'))
    assert (whole['robots'], whole['robots_served'], whole['teacher']) == ('2', '0', 'scene')
    assert float(whole['resident_megabytes']) > 50
    wait_for(lambda: robot.node.client.connected and robot.node._mask.subscribers)
    if size == (32, 32):  # nothing that a teacher could label
        image = np.full((96, 160, 3), 90, np.uint8)
        robot.images.publish(to_message(image, 'bgr8', Header()))
        seen = wait_for(lambda: shown('robot'))
        wait_for(lambda: shown('robot')['refusals'] == 'unlabelled 1')
        assert shown('robot')['level'] == DiagnosticStatus.WARN
        assert shown('robot')['student'] == '/student' == seen['student']
        served = wait_for(lambda: [
            one for one in statuses[-1].robots if list(one.refusal_reasons) == ['unlabelled']])[0]
        assert served.name == '' and list(served.refusal_counts) == [1]
        assert not served.key_frames_answered
        return
    robot.play()
    wait_for(lambda: shown('robot') and shown('robot')['key_frames_answered'] == '1')
    seen = shown('robot')
    assert seen['level'] == DiagnosticStatus.OK and seen['student'] == '/student'
    assert 'giraffe' in seen['classes'] and 0 <= float(seen['metric_after']) <= 1
    assert float(seen['training_seconds']) > 0 and float(seen['replay_megabytes']) > 0
    assert shown('teaching')['robots_served'] == '1'
    wait_for(lambda: statuses[-1].robots[0].key_frames_answered)
    status = statuses[-1]
    assert status.teacher == 'scene' and status.resident_bytes > 50e6
    served, absent = status.robots
    assert (served.name, absent.name) == ('', 'absent') and served.student == '/student'
    assert served.key_frames_answered == 1 and not served.key_frames_waiting
    assert 0 <= served.waiting_seconds < served.total_seconds and served.share == 1.0
    assert served.metric == pytest.approx(float(seen['metric_after']), abs=1e-3)
    assert not absent.key_frames_answered and np.isnan(absent.metric)
    assert teacher._robots
