"""The real nodes in lock-step against the same engine on a virtual clock."""

from dataclasses import replace

from helpers import wait_for
import numpy as np
import pytest
from rclpy.node import Node
from sensor_msgs.msg import Image

from shadowtutor_ros.algorithms.client import ClientSettings
from shadowtutor_ros.algorithms.server import ServerSettings
from shadowtutor_ros.classes import LVS
from shadowtutor_ros.evaluation.profile import load_profile
from shadowtutor_ros.evaluation.simulate import Method, Simulation
from shadowtutor_ros.models.student.base import Student
from shadowtutor_ros.models.teachers import load_teacher
from shadowtutor_ros.msg import KeyFrame, WeightUpdate
from shadowtutor_ros.nodes.camera_node import CameraNode
from shadowtutor_ros.nodes.running import qos
from shadowtutor_ros.nodes.student_node import StudentNode
from shadowtutor_ros.nodes.teacher_node import TeacherNode
from shadowtutor_ros.sources.videos import open_source
from shadowtutor_ros.wire.key_frame import format_fault

SIZE, FRAMES, SEED, LOOK = (192, 108), 100, 1, 'day'
MIN_STRIDE = 8
# So low that it is reached, and strides grow; and as many steps on a slow machine.
SERVER = {'threshold': 0.65, 'training_seconds': 0.0}
CLIENT = {'min_stride': MIN_STRIDE, 'stride_rate': 0.0, 'late_update': 'wait',
          'update_timeout': 1e9}

# The defaults, and all that departs from the paper: image format, settings of client and server.
CASES = {
    'defaults': ('webp', {}, {}),
    'video': ('video', {}, {}),
    'everything': ('raw', {'drift': 0.1, 'still': 0.1, 'still_stride': 20}, {
        'learning_rate': 0.01, 'scope': 'full', 'replay': 2, 'encoding': 'int8',
        'share': 1.0})}


class SlowNetwork(Node):
    """
    Hands each update on when the student waits for it: MIN_STRIDE masks after its key frame.

    Real time then no longer decides with which frame an update takes effect.
    """

    def __init__(self, context):
        super().__init__('slow_network', context=context)
        self.masks = []
        self.key_frames = []
        self.updates = []
        self._stamps = []
        self._held = []
        for kind, topic, callback in (
                (Image, 'segmentation/mask', self._on_mask),
                (KeyFrame, 'key_frames', self.key_frames.append),
                (WeightUpdate, 'trained', self._on_update)):
            self.create_subscription(kind, topic, callback, **qos(depth=100))
        self.publisher = self.create_publisher(WeightUpdate, 'weight_updates', **qos())

    def _on_mask(self, message):
        self.masks.append(
            np.frombuffer(message.data, np.uint8).reshape(message.height, message.width))
        self._stamps.append(message.header.stamp)
        self._hand_on()

    def _on_update(self, message):
        self.updates.append(message)
        self._held.append(message)
        self._hand_on()

    def _hand_on(self):
        for message in list(self._held):
            stamp = message.header.stamp
            if stamp in self._stamps and (
                    len(self._stamps) >= self._stamps.index(stamp) + MIN_STRIDE):
                self._held.remove(message)
                self.publisher.publish(message)


def played(ros, image_format, client, server):
    """Play the clip through the nodes and return what the network between them saw."""
    student = ros.start(StudentNode, threads=1, key_frame__format=image_format, **{
        **CLIENT, **client, 'update_timeout': 120.0,
        'qos_overrides__/image__subscription__reliability': 'reliable',
        'qos_overrides__/segmentation/mask__publisher__depth': 100})
    teacher = ros.start(
        TeacherNode, ['weight_updates:=trained'], threads=1, teacher='scene', **SERVER, **server)
    network = ros.add(SlowNetwork(ros.context))
    wait_for(lambda: student._key_frame.get_subscription_count() == 2
             and student._teachers.present
             and student._mask.subscribers
             and network.publisher.get_subscription_count()
             and teacher._robots[0].updates.get_subscription_count())
    camera = ros.start(
        CameraNode, rate=0.0, frames=FRAMES, width=SIZE[0], height=SIZE[1], scene__seed=SEED,
        scene__look=LOOK)
    wait_for(lambda: camera._played.is_set(), 120.0)
    wait_for(lambda: len(network.masks) == FRAMES
             and len(network.updates) == len(network.key_frames))
    return network


def simulated(image_format, client, server):
    """Return the masks and the run of the same clip on a virtual clock."""
    source = open_source('scene', SIZE, FRAMES, SEED, LOOK)
    frames = list(source)
    teacher = load_teacher('scene')
    method = Method(
        'partial', image_format=image_format, client=ClientSettings(**{**CLIENT, **client}),
        server=ServerSettings(**SERVER, **server))
    # So slow that the client waits for every update, and at the camera's own rate.
    profile = replace(load_profile('paper'), t_ti=1000.0, t_si=1 / source.rate)
    masks = {}
    run = Simulation(method, Student.load(''), profile, teacher).run(
        frames, [teacher(frame, LVS) for frame in frames], masks.__setitem__)
    return masks, run


@pytest.mark.parametrize('case', CASES)
def test_nodes_and_evaluator_give_the_same_key_frames_and_masks(ros, case):
    if fault := format_fault(CASES[case][0]):
        pytest.skip(fault)
    network = played(ros, *CASES[case])
    masks, run = simulated(*CASES[case])
    assert [message.frame_index for message in network.key_frames] == [
        record.frame for record in run.key_frames]
    assert [index for index, mask in enumerate(network.masks)
            if not np.array_equal(mask, masks[index])] == []
    assert [(message.metric_before, message.metric_after, message.steps, len(message.blob))
            for message in network.updates] == [
        (record.metric_before, record.metric_after, record.steps, record.bytes_down)
        for record in run.key_frames]
    assert [len(message.image.data) for message in network.key_frames] == [
        record.bytes_up for record in run.key_frames]
    # Or the test would show nothing: weights change, strides differ from MIN_STRIDE, and from
    # what Algorithm 2 says where scenes may be still or drift.
    assert sum(record.bytes_down > 0 for record in run.key_frames) > 1
    strides = np.diff([record.frame for record in run.key_frames])
    departures = strides - [record.next_stride for record in run.key_frames[:-1]]
    assert max(strides) > MIN_STRIDE
    assert (min(departures) < 0 < max(departures)) == (case == 'everything')
