import cv2
import numpy as np
import pytest

from shadowtutor_ros.models.teachers.scene import SceneTeacher
from shadowtutor_ros.world.scenes import Scene


@pytest.mark.parametrize('look, seed, index', (
    ('day', 0, 0), ('night', 9, 512), ('fog', 65535, 9)))
def test_label_is_the_ground_truth(look, seed, index):
    frame = Scene(seed, look, 160, 90).render(index)
    prediction = SceneTeacher()(frame.image)
    np.testing.assert_array_equal(prediction.label, frame.label)
    np.testing.assert_array_equal(prediction.boxes, frame.boxes)


def test_label_of_a_compressed_and_resized_frame():
    frame = Scene(1, 'day', 320, 180).render(222)
    for size in ((160, 90), (227, 128), (480, 270)):
        image = cv2.resize(frame.image, size, interpolation=cv2.INTER_AREA)
        image = cv2.imdecode(
            cv2.imencode('.jpg', image, [cv2.IMWRITE_JPEG_QUALITY, 50])[1], cv2.IMREAD_COLOR)
        prediction = SceneTeacher()(image)
        truth = cv2.resize(frame.label, size, interpolation=cv2.INTER_NEAREST)
        assert prediction.label.shape == truth.shape
        assert np.mean(prediction.label == truth) > 0.97


def test_scenes_can_be_mixed():
    teacher = SceneTeacher()
    scenes = [Scene(seed, look, 160, 90) for seed, look in enumerate(('day', 'dusk', 'fog'))]
    frames = [scenes[i].render(40 * i) for i in (0, 1, 2, 0)]
    for frame in frames:
        np.testing.assert_array_equal(teacher(frame.image).label, frame.label)


def test_frame_without_timecode():
    with pytest.raises(ValueError, match='160x90 carries no readable timecode.*another teacher'):
        SceneTeacher()(np.full((90, 160, 3), 90, np.uint8))


def test_frame_without_its_bottom_edge():
    frame = Scene(0, 'day', 320, 180).render(3).image
    with pytest.raises(ValueError, match='no readable timecode'):
        SceneTeacher()(frame[:-20])
