"""Topics of images as image_transport has them, over DDS."""

import cv2
from helpers import wait_for
import numpy as np
import pytest
from rclpy.parameter import Parameter
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

from shadowtutor_ros.models.student.base import Student
from shadowtutor_ros.models.student.inference import InferenceEngine
from shadowtutor_ros.nodes.camera_node import CameraNode
from shadowtutor_ros.nodes.image_topics import scaled
from shadowtutor_ros.nodes.images import to_bytes, to_message
from shadowtutor_ros.nodes.running import qos
from shadowtutor_ros.nodes.student_node import StudentNode


def header(sec=7):
    stamped = Header(frame_id='eye')
    stamped.stamp.sec = sec
    return stamped


def calibration(width=96, height=64):
    """Return a calibration of which every number is another."""
    info = CameraInfo(width=width, height=height, distortion_model='plumb_bob')
    info.d = [0.1, 0.2, 0.3, 0.4, 0.5]
    info.k = [100.0, 1.0, 48.0, 2.0, 110.0, 32.0, 0.0, 0.0, 1.0]
    info.r = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
    info.p = [120.0, 3.0, 47.0, -9.0, 4.0, 130.0, 31.0, -8.0, 0.0, 0.0, 1.0, 0.0]
    return info


def start(ros, weights, remap=(), **parameters):
    return ros.start(StudentNode, remap, weights=weights, **parameters)


def play_until(ros, frame, condition):
    """Publish frames, each when the last one's mask has come, and return the masks."""
    masks, images = ros.collect(Image, 'segmentation/mask'), ros.publisher(Image, 'image')
    for sec in range(1000):
        images.publish(to_message(frame, 'bgr8', header(sec)))
        wait_for(lambda: len(masks) > sec)
        if condition(masks):
            return masks
    raise AssertionError('not true after 1000 frames')


# --- names ---------------------------------------------------------------------------------------

@pytest.mark.parametrize('remap, expected', [
    ((), '/image/compressed'),
    (('image:=/camera/image_raw',), '/camera/image_raw/compressed'),
    (('image:=front',), '/front/compressed'),
    (('image/compressed:=/other',), '/other'),
    (('image:=/camera/image_raw', 'image/compressed:=/other'), '/other')])
def test_compressed_images_go_where_the_images_go(ros, weights, frame, remap, expected):
    start(ros, weights, remap, image_transport='compressed')
    masks = ros.collect(Image, 'segmentation/mask')
    images = ros.publisher(CompressedImage, expected)
    images.publish(CompressedImage(
        header=header(), format='jpeg', data=to_bytes(cv2.imencode('.jpg', frame)[1])))
    wait_for(lambda: masks)


def test_outputs_and_the_camera_are_remapped_with_their_compressed_form(ros, weights):
    node = start(ros, weights, ['segmentation/mask:=/seen', '__ns:=/robot'])
    camera = ros.start(CameraNode, ['image:=/front/image_raw'], width=96, height=64, frames=1)
    topics = {name for name, _ in node.get_topic_names_and_types()}
    assert {'/seen', '/seen/compressed', '/robot/segmentation/overlay/compressed',
            '/front/image_raw', '/front/image_raw/compressed'} <= topics
    assert camera.count_publishers('/image/compressed') == 0


# --- compressed ----------------------------------------------------------------------------------

def test_compressed_masks_are_those_of_the_masks_and_overlays_are_jpeg(ros, weights, frame):
    start(ros, weights)
    files = ros.collect(CompressedImage, 'segmentation/mask/compressed')
    colors = ros.collect(Image, 'segmentation/color_mask')
    color_files = ros.collect(CompressedImage, 'segmentation/color_mask/compressed')
    overlays = ros.collect(CompressedImage, 'segmentation/overlay/compressed')
    # What tells them how many subscribe is not instantaneous.
    masks = play_until(ros, frame, lambda masks: files and colors and color_files and overlays)

    file = files[-1]
    assert (file.format, file.header.frame_id) == ('mono8; png compressed ', 'eye')
    stamps = {mask.header.stamp.sec: mask for mask in masks}
    mask = stamps[file.header.stamp.sec]
    read = cv2.imdecode(np.frombuffer(file.data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(read, np.frombuffer(mask.data, np.uint8).reshape(64, 96))

    assert color_files[-1].format == 'rgb8; png compressed bgr8'
    read = cv2.imdecode(np.frombuffer(color_files[-1].data, np.uint8), cv2.IMREAD_COLOR)
    color = np.frombuffer(colors[-1].data, np.uint8).reshape(64, 96, 3)
    assert np.array_equal(read[:, :, ::-1], color)

    overlay = overlays[-1]
    assert overlay.format == 'rgb8; jpeg compressed bgr8'
    assert bytes(overlay.data[:2]) == b'\xff\xd8'
    assert cv2.imdecode(np.frombuffer(overlay.data, np.uint8), cv2.IMREAD_COLOR).shape == (
        64, 96, 3)


def test_nothing_is_compressed_for_nobody(ros, weights, frame, monkeypatch):
    def refuse(*arguments):
        raise AssertionError('compressed for nobody')

    monkeypatch.setattr(cv2, 'imencode', refuse)
    node = start(ros, weights)
    node.client.connected = False  # no key frame either
    play_until(ros, frame, lambda masks: len(masks) == 3)


# --- size ----------------------------------------------------------------------------------------

@pytest.mark.parametrize('mask_size, shape', [('camera', (64, 96)), ('inference', (48, 72))])
def test_masks_have_the_size_of_the_camera_or_of_inference(ros, weights, frame, mask_size, shape):
    start(ros, weights, inference__width=72, mask_size=mask_size)
    came = {topic: ros.collect(Image, f'segmentation/{topic}')
            for topic in ('mask', 'color_mask', 'overlay', 'confidence')}
    play_until(ros, frame, lambda masks: all(came.values()))
    for messages in came.values():
        assert (messages[-1].height, messages[-1].width) == shape
    engine = InferenceEngine(Student.load(weights), width=72)
    engine.enlarge = mask_size == 'camera'
    assert np.array_equal(
        np.frombuffer(came['mask'][-1].data, np.uint8).reshape(shape), engine(frame))


def test_the_size_can_be_changed_at_run_time(ros, weights, frame):
    node = start(ros, weights, inference__width=72)
    masks, images = ros.collect(Image, 'segmentation/mask'), ros.publisher(Image, 'image')
    for index, size in enumerate(('camera', 'inference', 'camera')):
        assert node.set_parameters([Parameter('mask_size', value=size)])[0].successful
        images.publish(to_message(frame, 'bgr8', header(index)))
        wait_for(lambda: len(masks) > index)
    assert [mask.width for mask in masks] == [96, 72, 96]
    refused = node.set_parameters([Parameter('mask_size', value='half')])[0]
    assert refused.reason == "mask_size is 'half': expected one of camera, inference"


# --- calibration ---------------------------------------------------------------------------------

def calibrations(ros, frame, info):
    """Publish a calibration and images until one comes with a mask; return masks and these."""
    infos = ros.collect(CameraInfo, 'segmentation/camera_info')
    ros.publisher(CameraInfo, 'camera_info').publish(info)
    return play_until(ros, frame, lambda masks: infos), infos


def test_the_calibration_has_the_header_of_the_mask(ros, weights, frame):
    start(ros, weights)
    masks, infos = calibrations(ros, frame, calibration())
    assert infos[0].header.frame_id == 'eye'
    assert infos[0].header.stamp in [mask.header.stamp for mask in masks]
    expected = calibration()
    expected.header = infos[0].header
    assert infos[0] == expected


def test_the_calibration_is_scaled_with_the_mask(ros, weights, frame):
    start(ros, weights, inference__width=72, mask_size='inference')
    _, infos = calibrations(ros, frame, calibration())
    info = infos[0]
    assert (info.width, info.height) == (72, 48)
    assert list(info.k) == [75.0, 0.75, 36.0, 1.5, 82.5, 24.0, 0.0, 0.0, 1.0]
    assert list(info.p) == [90.0, 2.25, 35.25, -6.75, 3.0, 97.5, 23.25, -6.0, 0.0, 0.0, 1.0, 0.0]
    assert list(info.d) == list(calibration().d)


@pytest.mark.parametrize('remap, topic', [
    ((), '/camera_info'), (('image:=/camera/image_raw',), '/camera/camera_info'),
    (('image:=/camera/image_raw', 'camera_info:=/calibration'), '/calibration'),
    (('__ns:=/robot',), '/robot/camera_info')])
def test_the_calibration_is_looked_for_beside_the_images(ros, weights, remap, topic):
    node = start(ros, weights, remap)
    assert node.count_subscribers(topic) == 1


def test_a_calibration_of_another_size_is_not_passed_on(ros, weights, frame):
    node = start(ros, weights)
    said = []
    node._camera_info._logger = type('', (), {
        'warning': staticmethod(lambda text, **throttle: said.append(text))})
    infos = ros.collect(CameraInfo, 'segmentation/camera_info')
    ros.publisher(CameraInfo, 'camera_info').publish(calibration(1280, 720))
    play_until(ros, frame, lambda masks: said)
    assert not infos
    assert '/camera_info is of images of 1280x720, but they are 96x64' in said[0]


def test_a_calibration_of_the_whole_sensor_is_for_its_bins_and_its_region():
    whole = calibration(192, 128)
    whole.binning_x = whole.binning_y = 2
    whole.roi.x_offset, whole.roi.width, whole.roi.height = 10, 100, 60
    half = scaled(whole, 0.5, 0.25, header())
    assert (half.width, half.height, half.binning_x) == (96, 32, 2)
    assert (half.roi.x_offset, half.roi.width, half.roi.height) == (5, 50, 15)
    assert (half.k[0], half.k[4]) == (50.0, 27.5)
    assert whole.k[0] == 100.0  # the camera's own stays as it is


def test_an_image_in_bins_fits_the_calibration_of_the_sensor(ros, weights, frame):
    start(ros, weights)
    info = calibration(192, 128)
    info.binning_x = info.binning_y = 2
    _, infos = calibrations(ros, frame, info)
    assert infos[0].width == 192


def test_topics_have_their_own_overrides(ros, weights):
    node = start(ros, weights, **{
        'qos_overrides__/segmentation/mask/compressed__publisher__reliability': 'best_effort'})
    found = {info.node_name: info.qos_profile.reliability.name
             for info in node.get_publishers_info_by_topic('/segmentation/mask/compressed')}
    assert found == {'student': 'BEST_EFFORT'}
    assert qos()['qos_profile'].reliability.name == 'RELIABLE'
