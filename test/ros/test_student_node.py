"""The student node over DDS."""

import time

import cv2
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from helpers import Said, wait_for
import numpy as np
import pytest
from rcl_interfaces.srv import GetParameters
from rclpy.parameter import Parameter
from rclpy.qos import ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header
from std_srvs.srv import Trigger

from shadowtutor_ros.algorithms.analytic_model import Costs, throughput_bounds, traffic_bounds
from shadowtutor_ros.classes import LVS
from shadowtutor_ros.models.student.base import Student, WeightsError
from shadowtutor_ros.models.student.inference import InferenceEngine
from shadowtutor_ros.models.student.shadow import Shadow
from shadowtutor_ros.msg import KeyFrame, TutorStatus, WeightUpdate
from shadowtutor_ros.nodes.images import to_bytes, to_message
from shadowtutor_ros.nodes.messages import update_to_message
from shadowtutor_ros.nodes.parameters import ParameterError
from shadowtutor_ros.nodes.student_node import _fault, StudentNode
from shadowtutor_ros.nodes.student_parameters import STUDENT
from shadowtutor_ros.wire.key_frame import format_fault
from shadowtutor_ros.wire.weight_update import NO_TENSORS, pack, Status, WeightUpdate as Update


def image(frame, sec, frame_id='camera'):
    header = Header(frame_id=frame_id)
    header.stamp.sec = sec
    return to_message(frame, 'bgr8', header)


def answer(key_frame, student, **changes):
    """Answer a key frame with the weights of a student."""
    fields = {
        'session_id': key_frame.session_id, 'key_frame_number': key_frame.key_frame_number,
        'model_id': key_frame.model_id, 'teacher_id': 5, 'teacher': '/teacher',
        'status': Status.DONE, 'base_checksum': key_frame.weights_checksum,
        'weights_checksum': student.weights_checksum(),
        'tensors': pack(student.tensors('full')), 'classes': tuple(range(9)),
        'metric_before': 0.5, 'metric_after': 0.9, 'threshold': 0.8, 'steps': 3, 'max_updates': 8,
        'teacher_seconds': 0.1, 'training_seconds': 0.2, **changes}
    return update_to_message(Update(**fields), key_frame.header, 0.3)


def play(images, masks, frames, sec=0):
    """Publish frames one after the other, each when the last one's mask has come."""
    for index, frame in enumerate(frames):
        before = len(masks)
        images.publish(image(frame, sec + index))
        wait_for(lambda: len(masks) > before)


def start(ros, weights, **parameters):
    # Reliable, since a lost image would be a lost test.
    return ros.start(StudentNode, weights=weights, **{
        'qos_overrides__/image__subscription__reliability': 'reliable', 'stride_rate': 0.0,
        **parameters})


def test_every_frame_has_its_mask_with_its_header(ros, weights, frame):
    start(ros, weights)
    masks, images = ros.collect(Image, 'segmentation/mask'), ros.publisher(Image, 'image')
    frames = [np.roll(frame, shift, 1) for shift in range(5)]
    play(images, masks, frames)
    engine = InferenceEngine(Student.load(weights))
    for index, (mask, sent) in enumerate(zip(masks, frames)):
        assert (mask.header.stamp.sec, mask.header.frame_id) == (index, 'camera')
        assert (mask.encoding, mask.height, mask.width, mask.step) == ('mono8', 64, 96, 96)
        assert np.array_equal(np.frombuffer(mask.data, np.uint8).reshape(64, 96), engine(sent))


@pytest.mark.parametrize('encoding', ['rgb8', 'mono8', 'bgra8', 'bayer_rggb8'])
def test_other_encodings_are_converted(ros, weights, frame, encoding):
    start(ros, weights)
    masks, images = ros.collect(Image, 'segmentation/mask'), ros.publisher(Image, 'image')
    message = image(frame, 1)
    channels = {'rgb8': 3, 'bgra8': 4}.get(encoding, 1)
    message.encoding, message.step = encoding, 96 * channels
    message.data = to_bytes(bytes(64 * 96 * channels))
    images.publish(message)
    wait_for(lambda: masks)
    assert (masks[0].height, masks[0].width) == (64, 96)


def test_compressed_images(ros, weights, frame):
    ros.start(StudentNode, weights=weights, image_transport='compressed')
    masks = ros.collect(Image, 'segmentation/mask')
    images = ros.publisher(CompressedImage, 'image/compressed')
    jpeg = cv2.imencode('.jpg', frame)[1]
    images.publish(CompressedImage(format='jpeg', data=to_bytes(jpeg)))
    wait_for(lambda: masks)
    engine = InferenceEngine(Student.load(weights))
    expected = engine(cv2.imdecode(jpeg, cv2.IMREAD_COLOR))
    assert np.array_equal(np.frombuffer(masks[0].data, np.uint8).reshape(64, 96), expected)


def test_bad_image_loses_nothing(ros, weights, frame):
    start(ros, weights)
    masks, images = ros.collect(Image, 'segmentation/mask'), ros.publisher(Image, 'image')
    bad = image(frame, 1)
    bad.encoding = 'sixteen_bit_rainbow'
    cut = image(frame, 2)
    cut.data = cut.data[:100]
    for message in (bad, cut):
        images.publish(message)
        time.sleep(0.2)
    play(images, masks, [frame], sec=3)
    assert [mask.header.stamp.sec for mask in masks] == [3]


def test_an_override_holds_for_its_topic_alone(ros, weights):
    node = start(ros, weights, **{
        'qos_overrides__/segmentation/mask__publisher__reliability': 'best_effort',
        'qos_overrides__/segmentation/mask__publisher__depth': 7})

    def reliability(topic):
        found = (node.get_publishers_info_by_topic(topic)
                 + node.get_subscriptions_info_by_topic(topic))
        return found[0].qos_profile.reliability if found else None
    topics = ('/segmentation/mask', '/segmentation/overlay', '/student/status', '/weight_updates')
    wait_for(lambda: all(reliability(topic) is not None for topic in topics))
    best_effort, reliable = ReliabilityPolicy.BEST_EFFORT, ReliabilityPolicy.RELIABLE
    assert [reliability(topic) for topic in topics] == [
        best_effort, reliable, reliable, reliable]


def test_status_comes_without_a_clock(ros, weights):
    start(ros, weights, use_sim_time=True, status_period=0.1)
    statuses = ros.collect(TutorStatus, 'student/status')
    wait_for(lambda: len(statuses) > 2)


def test_without_a_teacher_no_key_frame_is_sent_and_masks_go_on(
        ros, weights, frame, capfd, monkeypatch):
    monkeypatch.setattr('shadowtutor_ros.nodes.teacher_watch.GRACE', 1.0)
    node = start(ros, weights, min_stride=1, max_stride=1, status_period=0.1)
    masks, images = ros.collect(Image, 'segmentation/mask'), ros.publisher(Image, 'image')
    play(images, masks, [frame] * 5)
    assert node.client.counters.key_frames_sent == 0
    said = Said(capfd)
    wait_for(lambda: 'no teacher answers /key_frames' in said())
    # Somebody who only listens is no teacher.
    key_frames = ros.collect(KeyFrame, 'key_frames')
    wait_for(lambda: node.count_subscribers('key_frames'))
    play(images, masks, [frame] * 2, sec=5)
    assert node.client.counters.key_frames_sent == 0
    ros.publisher(WeightUpdate, 'weight_updates')
    wait_for(lambda: node._teachers.present)
    play(images, masks, [frame] * 2, sec=7)
    assert wait_for(lambda: key_frames)[0].key_frame_number == 1


def test_key_frame_carries_its_image_and_update_swaps_the_weights(ros, weights, frame):
    node = start(ros, weights, key_frame__format='raw')
    masks, images = ros.collect(Image, 'segmentation/mask'), ros.publisher(Image, 'image')
    key_frames = ros.collect(KeyFrame, 'key_frames')
    updates = ros.publisher(WeightUpdate, 'weight_updates')
    wait_for(lambda: node._teachers.present)
    play(images, masks, [frame], sec=7)
    key_frame = wait_for(lambda: key_frames)[0]
    assert key_frame.header.stamp.sec == 7 and key_frame.image.format == 'raw; 64x96'
    assert key_frame.image.data.tobytes() == frame.tobytes()
    assert key_frame.model_id == Student.load(weights).model_id

    tutored = Shadow()
    updates.publish(answer(key_frame, tutored, metric_after=1.0))
    wait_for(lambda: node._updates)
    play(images, masks, [frame], sec=8)
    assert np.array_equal(
        np.frombuffer(masks[-1].data, np.uint8).reshape(64, 96), InferenceEngine(tutored)(frame))
    assert node.client.weights_version == 1 and node.client.stride == 20


@pytest.mark.parametrize('fault', [
    {'session_id': 1}, {'key_frame_number': 9}, {'model_id': 'x'}, {'base_checksum': 5},
    {'weights_checksum': 0}, {'status': 7}, {'teacher_id': 0}, {'threshold': 2.0},
    {'status': Status.NOTHING_TO_GAIN}, {'tensors': NO_TENSORS}, {'classes': (9,)},
    {'label': b'no PNG'}, {'label': bytes(2 ** 21)}])
def test_a_wrong_update_is_counted_and_changes_nothing(ros, weights, frame, fault):
    node = start(ros, weights)
    masks, images = ros.collect(Image, 'segmentation/mask'), ros.publisher(Image, 'image')
    key_frames = ros.collect(KeyFrame, 'key_frames')
    statuses = ros.collect(TutorStatus, 'student/status')
    updates = ros.publisher(WeightUpdate, 'weight_updates')
    wait_for(lambda: node._teachers.present)
    play(images, masks, [frame])
    before = node.client.engine.student.weights_checksum()
    message = answer(wait_for(lambda: key_frames)[0], Shadow(), **fault)
    updates.publish(message)
    wait_for(lambda: node._updates or node._refused)
    play(images, masks, [frame], sec=1)
    assert node.client.engine.student.weights_checksum() == before
    status = wait_for(lambda: [each for each in statuses if each.updates_rejected])[0]
    assert status.updates_rejected == 1 and list(status.rejection_counts) == [1]
    assert status.updates_applied == 0
    assert status.bytes_down == len(message.blob) + len(message.label)


def test_what_cannot_be_an_answer_takes_the_place_of_none(ros, weights, frame):
    node = start(ros, weights)
    masks, images = ros.collect(Image, 'segmentation/mask'), ros.publisher(Image, 'image')
    key_frames = ros.collect(KeyFrame, 'key_frames')
    updates = ros.publisher(WeightUpdate, 'weight_updates')
    wait_for(lambda: node._teachers.present)
    play(images, masks, [frame])
    good = answer(wait_for(lambda: key_frames)[0], Shadow())
    updates.publish(good)
    wait_for(lambda: node._updates)
    strange = answer(key_frames[0], Shadow(), session_id=1)
    large = answer(key_frames[0], Shadow())
    large.blob = to_bytes(bytes(10 ** 7))
    for count, message in enumerate([strange, large] * 10, 1):
        updates.publish(message)
        wait_for(lambda: len(node._refused) == count)
    assert len(node._updates) == 1
    play(images, masks, [frame], sec=1)
    assert node.client.weights_version == 1
    assert node.client.counters.updates_rejected == {'session': 10, 'size': 10}


def refuse_two(ros, node, frame, refusal, text):
    """Play frames to a node and refuse two key frames; return them."""
    masks, images = ros.collect(Image, 'segmentation/mask'), ros.publisher(Image, 'image')
    key_frames = ros.collect(KeyFrame, 'key_frames')
    updates = ros.publisher(WeightUpdate, 'weight_updates')
    wait_for(lambda: node._teachers.present)
    for count in (1, 2):
        wait_for(lambda: play(images, masks, [frame], sec=len(masks))
                 or len(key_frames) == count)
        updates.publish(answer(
            key_frames[-1], Shadow(), status=Status.REFUSED, refusal=refusal, text=text))
        wait_for(lambda: node._updates)
        play(images, masks, [frame], sec=len(masks))
    return key_frames


def test_a_refusal_is_said_once_and_shown(ros, weights, frame, capfd):
    node = start(ros, weights, status_period=0.1, min_stride=1, max_stride=1)
    statuses = ros.collect(TutorStatus, 'student/status')
    diagnostics = ros.collect(DiagnosticArray, '/diagnostics')
    refuse_two(ros, node, frame, 'unlabelled', 'the network has gone\x07 out')
    status = wait_for(lambda: [one for one in statuses if one.key_frames_refused == 2])[0]
    assert status.state == TutorStatus.STATE_REFUSED
    assert (list(status.refusal_reasons), list(status.refusal_counts)) == (['unlabelled'], [2])
    wait_for(lambda: 'unlabelled 2' in [item.value for item in diagnostics[-1].status[0].values])
    assert diagnostics[-1].status[0].message == 'the teacher refuses key frames'
    said = capfd.readouterr().err
    assert said.count("'/teacher' refused a key frame: the network has gone? out") == 1


def test_classes_are_withheld_while_the_teacher_answers_and_shown(ros, weights, frame):
    node = start(ros, weights, status_period=0.1, update_timeout=60.0)
    masks, images = ros.collect(Image, 'segmentation/mask'), ros.publisher(Image, 'image')
    key_frames = ros.collect(KeyFrame, 'key_frames')
    statuses = ros.collect(TutorStatus, 'student/status')
    updates = ros.publisher(WeightUpdate, 'weight_updates')
    wait_for(lambda: node._teachers.present)
    play(images, masks, [frame])
    updates.publish(answer(wait_for(lambda: key_frames)[0], Shadow(), classes=(8,)))
    wait_for(lambda: node._updates)
    play(images, masks, [frame], sec=1)
    assert set(masks[-1].data) == {8}
    wait_for(lambda: statuses and statuses[-1].classes_on_offer == ['background'])
    assert statuses[-1].teacher == '/teacher'
    ros.probe.destroy_publisher(updates)
    wait_for(lambda: not node.count_publishers('weight_updates'))
    wait_for(lambda: play(images, masks, [frame], sec=len(masks)) or set(masks[-1].data) != {8})
    wait_for(lambda: len(statuses[-1].classes_on_offer) == 9)
    assert statuses[-1].teacher == ''


def test_a_message_lives_as_long_as_an_answer_to_it_is_of_use(ros, weights):
    node = start(ros, weights)

    def lifespans():
        return [info.qos_profile.lifespan.nanoseconds / 1e9
                for info in ros.probe.get_publishers_info_by_topic('key_frames')]
    wait_for(lambda: lifespans() == [100.0])
    assert node.set_parameters([Parameter('update_timeout', value=3.0)])[0].successful
    wait_for(lambda: lifespans() == [30.0])


def test_late_update_wait_holds_the_frame_after_min_stride(ros, weights, frame):
    node = start(
        ros, weights, late_update='wait', min_stride=2, update_timeout=60.0)
    masks, images = ros.collect(Image, 'segmentation/mask'), ros.publisher(Image, 'image')
    key_frames = ros.collect(KeyFrame, 'key_frames')
    updates = ros.publisher(WeightUpdate, 'weight_updates')
    wait_for(lambda: node._teachers.present)
    play(images, masks, [frame] * 2)
    images.publish(image(frame, 2))
    time.sleep(0.7)
    assert len(masks) == 2
    updates.publish(answer(wait_for(lambda: key_frames)[0], Shadow()))
    wait_for(lambda: len(masks) == 3)
    assert node.client.counters.updates_applied == 1


def test_wait_is_bounded(ros, weights, frame):
    node = start(ros, weights, late_update='wait', min_stride=1, update_timeout=0.5)
    masks, images = ros.collect(Image, 'segmentation/mask'), ros.publisher(Image, 'image')
    ros.collect(KeyFrame, 'key_frames')
    ros.publisher(WeightUpdate, 'weight_updates')
    wait_for(lambda: node._teachers.present)
    play(images, masks, [frame] * 3)
    assert node.client.counters.updates_lost >= 1


def test_nothing_is_painted_without_a_subscriber(ros, weights, frame):
    node = start(ros, weights)
    painted = []
    node._color_mask.publish = painted.append
    node._overlay.publish = painted.append
    masks, images = ros.collect(Image, 'segmentation/mask'), ros.publisher(Image, 'image')
    play(images, masks, [frame] * 2)
    assert not painted


def test_color_mask_and_overlay(ros, weights, frame):
    start(ros, weights, overlay_opacity=0.25)
    masks, images = ros.collect(Image, 'segmentation/mask'), ros.publisher(Image, 'image')
    colors = ros.collect(Image, 'segmentation/color_mask')
    overlays = ros.collect(Image, 'segmentation/overlay')
    # Discovery is not instant, and what is not subscribed to is not painted.
    second = iter(range(1000))
    wait_for(lambda: play(images, masks, [frame], next(second)) or (colors and overlays))
    mask = np.frombuffer(masks[-1].data, np.uint8).reshape(64, 96)
    for message, expected in (
            (colors[-1], LVS.colorize(mask)),
            (overlays[-1], LVS.overlay(frame[:, :, ::-1], mask, 0.25))):
        assert message.encoding == 'rgb8'
        assert np.array_equal(
            np.frombuffer(message.data, np.uint8).reshape(64, 96, 3), expected)


def test_parameters_change_together_at_run_time(ros, weights):
    node = start(ros, weights)

    def change(**values):
        return node.set_parameters_atomically(
            [Parameter(name.replace('__', '.'), value=value) for name, value in values.items()])

    refused = change(min_stride=65)
    assert not refused.successful and 'max_stride 64' in refused.reason
    assert change(min_stride=100, max_stride=200).successful
    assert (node.settings.min_stride, node.settings.max_stride) == (100, 200)
    assert not change(late_update='never').successful
    assert not change(key_frame__quality=101).successful
    assert not change(key_frame__max_width=20).successful
    assert change(min_stride=99.0, drift=1).successful
    assert type(node.settings.min_stride) is int and type(node.settings.drift) is float
    assert not change(weights='other.pth').successful
    assert change(inference__width=48).successful and node.client.engine.width == 48
    assert node.settings.min_stride == 99


def test_parameters_answer_while_frames_are_inferred(ros, weights, frame):
    node = start(ros, weights)
    images = ros.publisher(Image, 'image')
    engine = node.client.engine
    infer = type(engine).__call__

    class Slow(type(engine)):
        def __call__(self, frame):
            time.sleep(3)
            return infer(self, frame)

    engine.__class__ = Slow
    images.publish(image(frame, 0))
    time.sleep(0.3)
    client = ros.probe.create_client(GetParameters, 'student/get_parameters')
    assert client.wait_for_service(10)
    begin = time.monotonic()
    future = client.call_async(GetParameters.Request(names=['min_stride']))
    wait_for(future.done)
    assert future.result().values[0].integer_value == 10
    assert time.monotonic() - begin < 2.0
    assert node.client.counters.frames == 0


@pytest.mark.parametrize('parameters, words', [
    ({'min_stride': 8.5}, ('min_stride', 'integer')), ({'min_stride': 0}, ('min_stride', '0')),
    ({'min_stride': 65}, ('min_stride', 'max_stride')),
    ({'late_update': 'never'}, ('late_update', 'continue'))])
def test_a_wrong_parameter_is_one_clear_error(ros, weights, parameters, words):
    with pytest.raises(ParameterError) as error:
        ros.start(StudentNode, weights=weights, **parameters)
    assert all(word in str(error.value) for word in words) and '\n' not in str(error.value)


def test_missing_weights_are_one_clear_error(ros):
    with pytest.raises(WeightsError, match='/nowhere.pth'):
        ros.start(StudentNode, weights='/nowhere.pth')


def test_a_student_without_images_says_so(ros, weights, capfd, monkeypatch):
    monkeypatch.setattr('shadowtutor_ros.nodes.student_node.SILENCE', 0.3)
    start(ros, weights, status_period=0.2)
    said = Said(capfd)
    wait_for(lambda: 'no image' in said())
    text = said()
    assert '/image' in text and 'reliable' in text and 'nobody publishes there' in text


def test_status_tells_images_that_cannot_be_processed(ros, weights, frame, monkeypatch):
    monkeypatch.setattr('shadowtutor_ros.nodes.student_node.SILENCE', 0.5)
    start(ros, weights, status_period=0.1)
    statuses = ros.collect(TutorStatus, 'student/status')
    diagnostics = ros.collect(DiagnosticArray, '/diagnostics')
    masks, images = ros.collect(Image, 'segmentation/mask'), ros.publisher(Image, 'image')
    bad = image(frame, 1)
    bad.encoding = 'sixteen_bit_rainbow'

    def state_after(message, state):
        wait_for(lambda: images.publish(message) or time.sleep(0.05)
                 or statuses and statuses[-1].state == state)
    state_after(bad, TutorStatus.STATE_NO_MASKS)
    assert not masks
    state_after(image(frame, 2), TutorStatus.STATE_WAITING_FOR_TEACHER)
    state_after(bad, TutorStatus.STATE_NO_MASKS)
    wait_for(lambda: diagnostics[-1].status[0].message == 'images cannot be processed')
    assert diagnostics[-1].status[0].level == DiagnosticStatus.ERROR


def test_status_counts(ros, weights, frame):
    start(ros, weights, status_period=0.1)
    statuses = ros.collect(TutorStatus, 'student/status')
    masks, images = ros.collect(Image, 'segmentation/mask'), ros.publisher(Image, 'image')
    assert wait_for(lambda: statuses)[0].state == TutorStatus.STATE_WAITING_FOR_IMAGES
    play(images, masks, [frame] * 3)
    status = wait_for(lambda: [each for each in statuses if each.masks_published == 3])[0]
    assert status.state == TutorStatus.STATE_WAITING_FOR_TEACHER
    assert status.images_received == 3 and status.images_dropped == 0


def test_status_holds_what_was_measured_and_its_bounds(ros, weights, frame):
    node = start(ros, weights, status_period=0.1, min_stride=1, max_stride=4, drift=0.0,
                 still=0.0, key_frame__format='raw')
    statuses = ros.collect(TutorStatus, 'student/status')
    diagnostics = ros.collect(DiagnosticArray, '/diagnostics')
    masks, images = ros.collect(Image, 'segmentation/mask'), ros.publisher(Image, 'image')
    key_frames = ros.collect(KeyFrame, 'key_frames')
    updates = ros.publisher(WeightUpdate, 'weight_updates')
    wait_for(lambda: node._teachers.present)
    play(images, masks, [frame])
    unknown = wait_for(lambda: [each for each in statuses if each.masks_published == 1])[0]
    assert unknown.t_si > 0 and np.isnan([unknown.t_net, unknown.throughput_lower]).all()

    time.sleep(0.5)
    message = answer(wait_for(lambda: key_frames)[0], Shadow())
    # A workstation whose clock is years off: its durations alone count.
    message.header.stamp.sec += 10**8
    updates.publish(message)
    wait_for(lambda: [each for each in statuses if each.images_received == 1])
    play(images, masks, [frame], sec=1)
    status = wait_for(lambda: [each for each in statuses if each.updates_applied == 1])[0]
    assert status.t_net == pytest.approx(status.round_trip_seconds - 0.3, abs=1e-6)
    assert 0.2 <= status.t_net < 20
    assert (status.t_sd, status.t_ti) == pytest.approx((0.2 / 3, 0.1))
    assert (status.key_frame_bytes, status.update_bytes) == (frame.nbytes, len(message.blob))
    assert (status.min_stride, status.max_stride, status.max_updates) == (1, 4, 8)
    costs = Costs(status.t_si, status.t_sd, status.t_ti, status.t_net,
                  frame.nbytes + len(message.blob))
    limits = {'min_stride': 1, 'max_stride': 4, 'max_updates': 8}
    throughput, traffic = throughput_bounds(costs, **limits), traffic_bounds(costs, **limits)
    assert (status.throughput_lower, status.throughput_upper, status.traffic_lower,
            status.traffic_upper) == pytest.approx(
        (throughput.lower, throughput.upper, traffic.lower, traffic.upper), rel=1e-5)
    shown = wait_for(lambda: [
        values for each in diagnostics
        if (values := {item.key: item.value for item in each.status[0].values})['t_net'] != 'nan'])
    assert float(shown[0]['traffic_upper']) == pytest.approx(traffic.upper, rel=1e-5)


def test_diagnostics_follow_the_state(ros, weights, frame):
    start(ros, weights, status_period=0.1)
    diagnostics = ros.collect(DiagnosticArray, '/diagnostics')
    first = wait_for(lambda: diagnostics)[0].status[0]
    assert (first.level, first.message) == (DiagnosticStatus.ERROR, 'no images')
    masks, images = ros.collect(Image, 'segmentation/mask'), ros.publisher(Image, 'image')
    play(images, masks, [frame])
    wait_for(lambda: diagnostics[-1].status[0].level == DiagnosticStatus.WARN)
    assert diagnostics[-1].status[0].name == '/student: tutoring'


def test_status_tells_a_teacher_that_answers_from_one_that_does_not(ros, weights, frame):
    node = start(ros, weights, status_period=0.1, min_stride=1, max_stride=1, update_timeout=0.5)
    statuses = ros.collect(TutorStatus, 'student/status')
    masks, images = ros.collect(Image, 'segmentation/mask'), ros.publisher(Image, 'image')
    key_frames = ros.collect(KeyFrame, 'key_frames')
    updates = ros.publisher(WeightUpdate, 'weight_updates')
    wait_for(lambda: node._teachers.present)

    def play_until(condition):
        wait_for(lambda: play(images, masks, [frame], sec=len(masks)) or condition())
    play(images, masks, [frame])
    updates.publish(answer(wait_for(lambda: key_frames)[0], Shadow()))
    play_until(lambda: statuses and statuses[-1].state == TutorStatus.STATE_TUTORED)
    play_until(lambda: statuses and statuses[-1].state == TutorStatus.STATE_UPDATE_OVERDUE)
    before = len(statuses)
    play_until(lambda: len(statuses) > before + 15)  # more than one time-out
    assert {status.state for status in statuses[before:]} == {TutorStatus.STATE_UPDATE_OVERDUE}


def test_reset_begins_a_new_session_with_the_first_weights(ros, weights, frame):
    node = start(ros, weights)
    masks, images = ros.collect(Image, 'segmentation/mask'), ros.publisher(Image, 'image')
    key_frames = ros.collect(KeyFrame, 'key_frames')
    updates = ros.publisher(WeightUpdate, 'weight_updates')
    wait_for(lambda: node._teachers.present)
    play(images, masks, [frame])
    updates.publish(answer(wait_for(lambda: key_frames)[0], Shadow()))
    wait_for(lambda: node._updates)
    play(images, masks, [frame], sec=1)
    assert node.client.weights_version == 1
    service = ros.probe.create_client(Trigger, 'student/reset')
    assert service.wait_for_service(10)
    future = service.call_async(Trigger.Request())
    wait_for(future.done)
    assert future.result().success
    play(images, masks, [frame], sec=2)
    wait_for(lambda: len(key_frames) == 2)
    assert key_frames[1].session_id != key_frames[0].session_id
    # To the teacher it is the same student.
    assert key_frames[1].student_id == key_frames[0].student_id > 0
    assert key_frames[1].student == '/student'
    assert (key_frames[1].key_frame_number, key_frames[1].weights_version) == (1, 0)
    assert key_frames[1].weights_checksum == Student.load(weights).weights_checksum()


def test_key_frames_go_as_webp_where_the_teacher_cannot_read_video(ros, weights, frame, capfd):
    if fault := format_fault('video'):
        pytest.skip(fault)
    node = start(
        ros, weights, key_frame__format='auto', min_stride=1, max_stride=1)
    key_frames = refuse_two(ros, node, frame, 'format', 'no PyAV')
    assert [one.image.format for one in key_frames] == ['video; 64x96; 0', 'webp']
    said = capfd.readouterr().err
    assert said.count('key frames go as video') == 1
    assert said.count('key frames go as webp: the teacher cannot read video') == 1


@pytest.mark.parametrize('image_format, has', [('avif', 'has_avif'), ('video', 'has_video')])
def test_a_key_frame_format_that_this_machine_lacks_is_refused_in_a_line(
        monkeypatch, image_format, has):
    monkeypatch.setattr(f'shadowtutor_ros.wire.key_frame.{has}', lambda: False)
    values = {parameter.name: parameter.default for parameter in STUDENT}
    assert _fault(values) is None
    said = _fault({**values, 'key_frame.format': image_format})
    assert said.startswith(f"key_frame.format is '{image_format}': ")
    assert 'pip install' in said and 'webp' in said and '\n' not in said
