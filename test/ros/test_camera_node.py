"""The camera node over DDS."""

import time

import cv2
from helpers import wait_for
import numpy as np
import pytest
from sensor_msgs.msg import CompressedImage, Image

from shadowtutor_ros.nodes.camera_node import CameraNode
from shadowtutor_ros.nodes.images import to_bgr, to_message
from shadowtutor_ros.nodes.parameters import ParameterError
from shadowtutor_ros.sources.videos import SourceError
from shadowtutor_ros.world.scenes import read_timecode


@pytest.fixture
def folder(tmp_path):
    """Return a folder of four images, each of one grey level."""
    for index in range(4):
        cv2.imwrite(str(tmp_path / f'{index}.png'), np.full((40, 48, 3), 50 * index, np.uint8))
    return str(tmp_path)


def ended(camera):
    return camera._played.is_set()


def test_plays_a_folder_at_a_rate(ros, folder):
    images = ros.collect(Image, 'image')
    camera = ros.start(CameraNode, source=folder, rate=20.0, frame_id='eye', loop=True)
    wait_for(lambda: len(images) >= 6)
    grey = [to_bgr(image)[0, 0, 0] for image in images]
    start = grey.index(0)
    assert grey[start:start + 4] == [0, 50, 100, 150][:len(grey) - start]
    assert images[0].header.frame_id == 'eye' and images[0].encoding == 'bgr8'
    assert not ended(camera)


def test_lock_step_waits_for_each_mask(ros, folder):
    masks = ros.probe.create_publisher(Image, 'segmentation/mask', 10)
    images = []
    ros.probe.create_subscription(Image, 'image', images.append, 10)
    camera = ros.start(CameraNode, source=folder, rate=0.0)
    mask = np.zeros((40, 48), np.uint8)
    for count in range(1, 5):
        wait_for(lambda: len(images) == count)
        time.sleep(0.1)
        assert len(images) == count and not ended(camera)
        masks.publish(to_message(mask, 'mono8', images[-1].header))
    wait_for(lambda: ended(camera))
    stamps = [image.header.stamp.sec + image.header.stamp.nanosec / 1e9 for image in images]
    assert np.allclose(np.diff(stamps), 1 / 25, atol=1e-6)


def test_scene_carries_its_timecode_also_compressed(ros):
    compressed = ros.collect(CompressedImage, 'image/compressed')
    ros.start(CameraNode, width=320, height=180, rate=10.0, scene__seed=3, scene__look='dusk')
    frame = to_bgr(wait_for(lambda: compressed)[0])
    assert frame.shape == (180, 320, 3)
    assert read_timecode(frame)[:2] == (3, 'dusk')


def test_ends_after_so_many_frames(ros, folder):
    camera = ros.start(CameraNode, source=folder, rate=100.0, frames=2)
    wait_for(lambda: ended(camera))


@pytest.mark.parametrize('parameters, word', [
    ({'source': '/nowhere.mp4'}, '/nowhere.mp4'), ({'scene__look': 'psychedelic'}, 'psychedelic'),
    ({'source': '/dev/video99'}, '/dev/video99'), ({'width': 8}, '8')])
def test_what_is_wrong_is_one_clear_error(ros, parameters, word):
    with pytest.raises((SourceError, ParameterError)) as error:
        ros.start(CameraNode, **parameters)
    assert word in str(error.value) and '\n' not in str(error.value)
