"""Classes changed while masks flow: the real nodes over DDS, on the built-in scene."""

from builtin_interfaces.msg import Time
from helpers import wait_for
import numpy as np
import pytest
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from shadowtutor_ros.msg import KeyFrame, TutorStatus, WeightUpdate
from shadowtutor_ros.nodes.images import to_message
from shadowtutor_ros.nodes.student_node import StudentNode
from shadowtutor_ros.nodes.teacher_node import TeacherNode
from shadowtutor_ros.world.scenes import Scene

SIZE = 160, 96


class Robot:
    """A student at a camera that shows the scene, the next image once the last has its mask."""

    def __init__(self, ros, namespace, **parameters):
        self.ros = ros
        prefix = f'{namespace}/' if namespace else ''
        self.node = ros.start(
            StudentNode, [f'__ns:=/{namespace}'] if namespace else [], threads=1, min_stride=2,
            max_stride=4, stride_rate=0.0, status_period=0.1, update_timeout=60.0, drift=0.0,
            still=0.0, **parameters)
        self.masks = ros.collect(Image, f'{prefix}segmentation/mask')
        self.statuses = ros.collect(TutorStatus, f'{prefix}student/status')
        self.key_frames = ros.collect(KeyFrame, f'{prefix}key_frames')
        self.updates = ros.collect(WeightUpdate, f'{prefix}weight_updates')
        self.prefix = prefix
        self._set = ros.probe.create_client(
            SetParameters, f'{prefix}student/set_parameters')
        self._scene = Scene(1, 'day', *SIZE)
        self._images = None
        self.shown = 0
        #: The table of each mask, as the node had it when the mask had come.
        self.tables = []

    def play(self, frames=1):
        """Show frames, each of which has to have its mask."""
        self._images = self._images or self.ros.publisher(Image, f'{self.prefix}image')
        wait_for(lambda: self.node._mask.subscribers)
        for _ in range(frames):
            image = self._scene.render(40 * self.shown % 2000).image
            self.shown += 1
            self._images.publish(
                to_message(image, 'bgr8', Header(stamp=Time(sec=self.shown))))
            wait_for(lambda: len(self.masks) == self.shown)
            assert self.masks[-1].header.stamp.sec == self.shown
            self.tables.append(self.node.client.classes)

    def play_until(self, condition, frames=60):
        """Show frames until a condition holds, and so many at most; the answers are waited for."""
        for _ in range(frames):
            if condition():
                return
            self.play()
            wait_for(lambda: len(self.updates) == len(self.key_frames))
            wait_for(lambda: len(self.key_frames) == self.node.client.counters.key_frames_sent)
        assert condition(), f'not so after {frames} frames'

    def ask_for(self, **parameters):
        """Set parameters as `ros2 param set` does; return the answer to each."""
        assert self._set.wait_for_service(120)
        future = self._set.call_async(SetParameters.Request(parameters=[
            Parameter(name, value=value).to_parameter_msg()
            for name, value in parameters.items()]))
        return wait_for(future.done) and future.result().results

    @property
    def names(self):
        return self.node.client.classes.names

    def check_masks(self):
        """See that no mask holds what is not in the table that it was made with."""
        for message, table in zip(self.masks, self.tables):
            assert set(np.unique(np.frombuffer(message.data, np.uint8))) <= set(table.ids)


def test_changed_three_times_while_masks_flow(ros):
    ros.start(TeacherNode, teacher='scene', threads=1, max_updates=2)
    robot = Robot(ros, '')
    wait_for(lambda: robot.node.client.connected)
    robot.play_until(lambda: robot.node.client.weights_version)
    for entries in (['person', 'bird'], ['auto', 'person', 'dog'], ['car: auto', 'giraffe']):
        asked = len(robot.key_frames)
        assert robot.ask_for(classes=entries)[0].successful
        wanted = ('background', *(entry.partition(':')[0] for entry in entries))
        robot.play_until(lambda: robot.names == wanted)
        assert len(robot.key_frames) - asked <= 2
        robot.play(2)
    robot.check_masks()
    assert len(robot.masks) == robot.shown
    wait_for(lambda: robot.statuses[-1].classes == list(robot.names))
    assert set(robot.statuses[-1].classes_on_offer) <= set(robot.names)
    counters = robot.node.client.counters
    assert counters.updates_rejected == {} == counters.key_frames_refused


def test_a_name_that_the_teacher_does_not_know(ros):
    ros.start(TeacherNode, teacher='scene', threads=1, max_updates=1)
    robot = Robot(ros, '')
    wait_for(lambda: robot.node.client.connected)
    robot.play_until(lambda: robot.node.client.weights_version)
    before = robot.names
    assert robot.ask_for(classes=['girafe', 'person'])[0].successful
    robot.play_until(lambda: robot.node.client.classes_refused)
    assert "'girafe' (but giraffe" in robot.node.client.classes_refused
    wait_for(lambda: 'girafe' in robot.statuses[-1].classes_refused)
    robot.play(3)
    assert robot.names == before
    robot.check_masks()


def test_what_cannot_be_a_table_is_refused_by_the_node(ros):
    robot = Robot(ros, '')
    for parameters, words in (
            ({'classes': ['dog', 'Dog ']}, 'twice'),
            ({'classes_file': '/no/such.yaml'}, '/no/such.yaml'),
            ({'classes': ['dog'], 'classes_file': 'coco'}, 'both')):
        results = robot.ask_for(**parameters)
        assert not all(result.successful for result in results)
        reason = next(result.reason for result in results if not result.successful)
        assert words in reason or words == 'both'
        robot.ask_for(classes=[''])
        robot.ask_for(classes_file='')
    robot.ask_for(classes=['person: person, bicycle'])
    robot.play(2)
    assert robot.names == ('background', 'person')


def test_two_robots_with_different_tables(ros):
    ros.start(TeacherNode, teacher='scene', threads=1, max_updates=1, robots=['one', 'two'])
    robots = [Robot(ros, 'one', classes=['bird', 'person']),
              Robot(ros, 'two', classes_file='coco')]
    for robot in robots:
        wait_for(lambda: robot.node.client.connected)
    for _ in range(3):
        for robot in robots:
            robot.play_until(lambda: robot.shown % 4 == 3)
            robot.play(1)
    for robot in robots:
        robot.play_until(lambda: robot.node.client.weights_version)
        robot.check_masks()
    assert robots[0].names == ('background', 'bird', 'person')
    # The scene's teacher does not know all of COCO, and the robot goes on with what it had.
    assert robots[1].names == robots[1].node._student.classes.names
    assert robots[1].node.client.classes_refused


def test_ids_of_a_file_and_colours_are_what_is_published(ros, tmp_path):
    path = tmp_path / 'classes.yaml'
    path.write_text(
        'background: nothing\nclasses:\n- {name: nothing, id: 9}\n'
        '- {name: person, id: 40, color: [1, 2, 3]}\n- {name: auto, id: 7}\n')
    robot = Robot(ros, '', classes_file=str(path))
    colors = ros.collect(Image, 'segmentation/color_mask')
    confidences = ros.collect(Image, 'segmentation/confidence')
    wait_for(lambda: robot.node._color_mask.subscribers
             and robot.node._confidence.subscribers)
    robot.play(3)
    wait_for(lambda: len(colors) == len(confidences) == 3)
    mask = np.frombuffer(robot.masks[-1].data, np.uint8).reshape(SIZE[::-1])
    color = np.frombuffer(colors[-1].data, np.uint8).reshape(*SIZE[::-1], 3)
    assert 40 in mask and set(np.unique(mask)) <= {9, 40, 7}
    assert (color[mask == 40] == (1, 2, 3)).all() and not color[mask == 9].any()
    confidence = confidences[-1]
    assert (confidence.encoding, confidence.header) == ('mono8', robot.masks[-1].header)
    sure = np.frombuffer(confidence.data, np.uint8)
    assert sure.size == mask.size and sure.min() >= 255 // 3 and sure.max() > 200


def test_label_info_is_out_before_the_first_mask(ros):
    LabelInfo = pytest.importorskip('vision_msgs.msg').LabelInfo
    robot = Robot(ros, '', classes=['person', 'auto'])
    events = []
    ros.probe.create_subscription(Image, 'segmentation/mask', events.append, 10)
    robot.play(1)
    # Latched: whoever comes later gets it too.
    from rclpy.qos import DurabilityPolicy, QoSProfile
    ros.probe.create_subscription(
        LabelInfo, 'segmentation/label_info', events.append,
        QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL))
    wait_for(lambda: any(isinstance(event, LabelInfo) for event in events))
    info = next(event for event in events if isinstance(event, LabelInfo))
    assert [(one.class_id, one.class_name) for one in info.class_map] == [
        (0, 'background'), (1, 'person'), (2, 'auto')]
