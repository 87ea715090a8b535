import cv2
import numpy as np
import pytest

from shadowtutor_ros.classes import ClassTable, LVS
from shadowtutor_ros.models.teachers.scene import SceneTeacher
from shadowtutor_ros.world.scenes import Scene

STREET = ClassTable.of(['road', 'building', 'sky', 'tree', 'wheel', 'auto: car, bus, truck'])
PARTS = ClassTable.of(['person', 'head', 'wheel', 'auto', 'animal', 'tree'])


@pytest.mark.parametrize('classes', (LVS, STREET), ids=('lvs', 'street'))
@pytest.mark.parametrize('look, seed, index', (
    ('day', 0, 0), ('night', 9, 512), ('fog', 65535, 9)))
def test_label_is_the_ground_truth(look, seed, index, classes):
    # What the camera renders knows nothing of the classes.
    image = Scene(seed, look, 160, 90).render(index).image
    frame = Scene(seed, look, 160, 90).render(index, classes)
    prediction = SceneTeacher()(image, classes)
    assert len(np.unique(frame.label)) > 2 and len(frame.boxes)
    np.testing.assert_array_equal(prediction.label, frame.label)
    np.testing.assert_array_equal(prediction.boxes, frame.boxes)


def test_vocabulary():
    vocabulary = SceneTeacher().vocabulary
    assert LVS.unknown(vocabulary) == STREET.unknown(vocabulary) == []
    assert ClassTable.of(['wheels']).unknown(vocabulary)[0][1][0] == 'wheel'


@pytest.mark.parametrize('classes, least', ((LVS, 0.97), (PARTS, 0.96)), ids=('lvs', 'parts'))
def test_label_of_a_compressed_and_resized_frame(classes, least):
    frame = Scene(1, 'day', 320, 180).render(222, classes)
    for size in ((160, 90), (227, 128), (480, 270)):
        image = cv2.resize(frame.image, size, interpolation=cv2.INTER_AREA)
        image = cv2.imdecode(
            cv2.imencode('.jpg', image, [cv2.IMWRITE_JPEG_QUALITY, 50])[1], cv2.IMREAD_COLOR)
        prediction = SceneTeacher()(image, classes)
        truth = cv2.resize(frame.label, size, interpolation=cv2.INTER_NEAREST)
        assert prediction.label.shape == truth.shape
        assert np.mean(prediction.label == truth) > least


def test_scenes_can_be_mixed():
    teacher = SceneTeacher()
    scenes = [Scene(seed, look, 160, 90) for seed, look in enumerate(('day', 'dusk', 'fog'))]
    frames = [scenes[i].render(40 * i) for i in (0, 1, 2, 0)]
    for frame in frames:
        np.testing.assert_array_equal(teacher(frame.image, LVS).label, frame.label)


def test_frame_without_timecode():
    with pytest.raises(ValueError, match='160x90 carries no readable timecode.*another teacher'):
        SceneTeacher()(np.full((90, 160, 3), 90, np.uint8), LVS)


def test_frame_without_its_bottom_edge():
    frame = Scene(0, 'day', 320, 180).render(3).image
    with pytest.raises(ValueError, match='no readable timecode'):
        SceneTeacher()(frame[:-20], LVS)
