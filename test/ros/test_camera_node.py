"""The camera node over DDS."""

import time

from bag_files import BEGIN, compressed, image, SECOND, write_bag
import cv2
from helpers import wait_for
import numpy as np
import pytest
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from shadowtutor_ros.commands.demo_bag import BagWriter
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


def mask_each(ros, images, frames, pause=0.1, **parameters):
    """Start a camera in lock-step, and mask its images one by one; each has to wait for that."""
    masks = ros.probe.create_publisher(Image, 'segmentation/mask', 10)
    camera = ros.start(CameraNode, rate=0.0, **parameters)
    for count in range(1, frames + 1):
        wait_for(lambda: len(images) == count)
        time.sleep(pause)
        assert len(images) == count and not ended(camera)
        masks.publish(to_message(np.zeros((40, 48), np.uint8), 'mono8', images[-1].header))
    wait_for(lambda: ended(camera))


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
    images = ros.collect(Image, 'image')
    mask_each(ros, images, 4, source=folder)
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


# --- bags ----------------------------------------------------------------------------------------

#: When images were taken, in ns after the first: not in even steps. Each came 20 ms later.
TAKEN = [0, SECOND // 10, SECOND // 2, SECOND // 2 + SECOND // 10]


@pytest.fixture
def bag(tmp_path):
    """Return a bag of four images, each of one grey level, on two topics."""
    greys = [np.full((40, 48, 3), 50 * index, np.uint8) for index in range(4)]
    return str(write_bag(tmp_path / 'drive', {
        '/raw': [(BEGIN + taken + SECOND // 50, image(grey, 'bgr8', BEGIN + taken, 48, padding=6))
                 for taken, grey in zip(TAKEN, greys)],
        '/raw/compressed': [
            (BEGIN + taken + SECOND // 50, compressed(grey, BEGIN + taken, '.png', 'other_eye'))
            for taken, grey in zip(TAKEN, greys)]}, 'sqlite3'))


def stamp_of(message):
    return message.sec * SECOND + message.nanosec


@pytest.mark.parametrize('topic, frame_id', [('/raw', 'eye'), ('/raw/compressed', 'other_eye')])
def test_a_bag_is_played_as_it_was_recorded(ros, bag, topic, frame_id):
    messages = ros.collect(Image, 'image')
    camera = ros.start(CameraNode, source=f'{bag}:{topic}', loop=True)
    wait_for(lambda: len(messages) >= 9)
    # The first may have been published before anybody listened.
    start = next(index for index, message in enumerate(messages)
                 if stamp_of(message.header.stamp) == BEGIN)
    for taken, grey, message in zip(TAKEN, (0, 50, 100, 150), messages[start:]):
        assert stamp_of(message.header.stamp) == BEGIN + taken
        assert message.header.frame_id == frame_id and message.encoding == 'bgr8'
        assert (to_bgr(message) == grey).all() and message.step == 3 * 48
    assert not ended(camera)


@pytest.mark.parametrize('rate, steps', [
    (-1.0, [0.1, 0.4, 0.1, 0.2, 0.1, 0.4, 0.1]), (20.0, [0.05] * 7)])
def test_a_bag_is_played_at_the_pace_of_its_recording(ros, bag, monkeypatch, rate, steps):
    due = []
    monkeypatch.setattr(CameraNode, '_wait', lambda self, until, last, one: due.append(until))
    camera = ros.start(CameraNode, source=f'{bag}:/raw', rate=rate, loop=True, frames=8)
    wait_for(lambda: ended(camera))
    # From one turn to the next it is the mean period.
    assert np.diff(due) == pytest.approx(steps, abs=1e-6)


def test_lock_step_keeps_the_stamps_of_a_bag(ros, bag):
    images = ros.collect(Image, 'image')
    mask_each(ros, images, 4, source=f'{bag}:/raw')
    assert [stamp_of(one.header.stamp) - BEGIN for one in images] == TAKEN


def test_lock_step_waits_though_all_stamps_are_the_same(ros, tmp_path):
    bag = write_bag(tmp_path / 'still', {'/raw': [
        (BEGIN + index, image(np.zeros((40, 48, 3), np.uint8), 'bgr8', BEGIN, 48))
        for index in range(3)]})
    mask_each(ros, ros.collect(Image, 'image'), 3, pause=0.2, source=str(bag))


def test_lock_step_waits_for_all_that_are_to_take_the_images(ros, folder):
    masks = ros.probe.create_publisher(Image, 'segmentation/mask', 10)
    first = ros.collect(Image, 'image')
    camera = ros.start(
        CameraNode, source=folder, rate=0.0, wait_matching_subscriptions=2)
    wait_for(lambda: camera._images.subscribers == 1)
    time.sleep(0.5)
    assert not first
    second = ros.collect(Image, 'image')
    wait_for(lambda: first and second)
    assert first[0] == second[0]
    for count in range(1, 5):
        wait_for(lambda: len(first) == count)
        masks.publish(to_message(np.zeros((40, 48), np.uint8), 'mono8', first[-1].header))
    wait_for(lambda: ended(camera))
    assert wait_for(lambda: len(second) == 4)


def test_a_bag_may_get_new_headers(ros, bag):
    images = ros.collect(Image, 'image')
    before = time.time_ns()
    ros.start(CameraNode, source=f'{bag}:/raw', headers='new', frame_id='mine', loop=True)
    wait_for(lambda: len(images) >= 3)
    assert {one.header.frame_id for one in images} == {'mine'}
    stamps = [stamp_of(one.header.stamp) for one in images]
    assert before <= stamps[0] < stamps[1] < stamps[2] <= time.time_ns()


def test_the_clock_of_a_bag_goes_on_between_its_images(ros, bag):
    times, images = [], ros.collect(Image, 'image')
    ros.probe.create_subscription(
        Clock, '/clock', lambda message: times.append(stamp_of(message.clock)), 100)
    camera = ros.start(CameraNode, source=f'{bag}:/raw', clock=50.0, loop=True)
    wait_for(lambda: len(images) >= 9)
    assert all(BEGIN <= one - SECOND // 50 <= BEGIN + TAKEN[-1] for one in times)
    # It goes back where the bag begins anew, and there alone; within a turn it takes small steps.
    steps = np.diff(times)
    back = [after for after, step in zip(times[1:], steps) if step < 0]
    assert back and all(one < BEGIN + SECOND // 10 for one in back)
    assert (steps[steps > 0] < SECOND // 10).sum() > 5
    assert not ended(camera)


def test_a_clock_needs_a_bag(ros, folder):
    with pytest.raises(ParameterError, match='is no bag'):
        ros.start(CameraNode, source=folder, clock=40.0)


def test_a_bag_that_breaks_off_ends_the_camera_with_an_error(ros, bag, tmp_path):
    bag = write_bag(tmp_path / 'odd', {'/raw': [
        (BEGIN + index, image(np.zeros((40, 48, 3), np.uint8), encoding, BEGIN, 48))
        for index, encoding in enumerate(('bgr8', 'rainbow'))]})
    camera = ros.start(CameraNode, source=str(bag))
    wait_for(lambda: ended(camera))
    assert camera.exit_status == 1


def test_a_bag_that_the_demo_has_written_is_played(ros, tmp_path):
    frame = np.random.default_rng(0).integers(0, 256, (40, 48, 3), np.uint8)
    with BagWriter(tmp_path / 'out.mcap', {'/image': Image, '/mask': Image}) as writer:
        for index in range(3):
            header = Header(frame_id='eye')
            header.stamp.sec = 100 + index
            writer.write('/image', to_message(frame + index, 'bgr8', header))
            writer.write('/mask', to_message(frame[..., 0], 'mono8', header))
    images = ros.collect(Image, 'image')
    ros.start(CameraNode, source=f'{tmp_path}/out.mcap:/image', loop=True, rate=20.0)
    wait_for(lambda: len(images) >= 6)
    for one in images:
        assert one.header.frame_id == 'eye' and one.header.stamp.sec in (100, 101, 102)
        assert np.array_equal(to_bgr(one), frame + (one.header.stamp.sec - 100))
