import numpy as np

from shadowtutor_ros.classes import IGNORE, LVS
from shadowtutor_ros.models.teachers.label_maps import (
    label_instances, paint_instances, region_boxes, suppress)

DOG, PERSON, BACKGROUND = (LVS.names.index(name) for name in ('dog', 'person', 'background'))


def test_the_surer_instance_covers_the_other():
    masks = np.zeros((3, 2, 6), bool)
    masks[0, :, 1:3] = masks[1, :, 2:5] = masks[2, 0] = True
    np.testing.assert_array_equal(paint_instances((2, 6), masks, [DOG, PERSON, DOG], BACKGROUND), [
        [DOG, DOG, DOG, PERSON, PERSON, DOG],
        [BACKGROUND, DOG, DOG, PERSON, PERSON, BACKGROUND]])


def test_no_instance_is_background():
    assert (paint_instances((2, 3), [], [], BACKGROUND) == BACKGROUND).all()


def test_suppression_within_a_category():
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 7], [0, 0, 10, 5], [0, 0, 10, 9]], float)
    scores = np.array([0.5, 0.9, 0.8, 0.7])
    np.testing.assert_array_equal(suppress(boxes, scores, np.zeros(4, int)), [1])
    np.testing.assert_array_equal(suppress(boxes, scores, np.array([0, 0, 1, 1])), [1, 2, 3])
    assert suppress(boxes[:0], scores[:0], np.zeros(0, int)).shape == (0,)


def test_instances_by_their_scores():
    masks = np.zeros((3, 2, 6), bool)
    masks[0, :, :3] = masks[1, :, 2:] = masks[2] = True
    boxes = np.arange(12.).reshape(3, 4)
    prediction = label_instances(
        masks, boxes, np.array([0.5, 0.8, 0.9]), np.uint8([DOG, PERSON, BACKGROUND]), BACKGROUND)
    np.testing.assert_array_equal(prediction.label, [[DOG, DOG, *[PERSON] * 4]] * 2)
    np.testing.assert_array_equal(prediction.boxes, boxes[[1, 0]])
    assert prediction.scores.tolist() == np.float32([0.8, 0.5]).tolist()
    assert prediction.boxes.dtype == prediction.scores.dtype == np.float32


def test_boxes_of_regions():
    label = np.full((20, 30), BACKGROUND, np.uint8)
    label[2:6, 3:10] = PERSON
    label[6:8, 10:12] = PERSON  # touches the first at a corner
    label[10:15, 3:10] = PERSON
    label[10:15, 10:20] = DOG
    label[18, 25] = DOG
    label[0] = IGNORE
    boxes = region_boxes(label, BACKGROUND)
    assert boxes.dtype == np.float32
    np.testing.assert_array_equal(
        sorted(boxes.tolist()),
        sorted([[3, 2, 12, 8], [3, 10, 10, 15], [10, 10, 20, 15], [25, 18, 26, 19]]))
    assert len(region_boxes(label, BACKGROUND, min_area=2)) == 3
    assert region_boxes(np.full((4, 4), BACKGROUND, np.uint8), BACKGROUND).shape == (0, 4)
    np.testing.assert_array_equal(
        sorted(region_boxes(np.uint8([[0, 0, 7, 7]]), 0).tolist()), [[2, 0, 4, 1]])
