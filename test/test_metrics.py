import math

import numpy as np
import pytest
from shadowtutor_ros.classes import IGNORE
from shadowtutor_ros.metrics import class_iou, confusion_matrix, mean_iou, mean_iou_present
import torch

LABEL = np.array([
    [0, 0, 1, 1],
    [0, 0, 1, 1],
    [8, 8, 8, 8]], np.uint8)


def changed(*pixels, to):
    result = LABEL.copy()
    for pixel in pixels:
        result[pixel] = to
    return result


def test_equals_the_first_implementation(shared):
    golden = np.load(shared('golden/miou.npz'))
    for prediction, label, miou in zip(golden['pred'], golden['label'], golden['miou']):
        assert mean_iou(prediction, label, 9) == pytest.approx(miou, abs=1e-6)


def test_is_one_where_all_is_right():
    assert mean_iou(LABEL, LABEL, 9) == 1


def test_is_zero_where_all_is_wrong():
    assert mean_iou(np.full_like(LABEL, 5), LABEL, 9) == 0


def test_is_the_mean_over_the_classes():
    # One pixel of class 0 is called 1: 3 of 4, 4 of 5, 4 of 4.
    prediction = changed((0, 0), to=1)
    assert mean_iou(prediction, LABEL, 9) == pytest.approx((3 / 4 + 4 / 5 + 1) / 3)


def test_does_not_confuse_prediction_and_label():
    prediction = changed((0, 0), (2, 0), to=1)
    confusion = confusion_matrix(prediction, LABEL, 9)
    assert confusion[0, 1] == 1 and confusion[8, 1] == 1 and confusion[1, 0] == 0
    assert int(confusion.sum()) == LABEL.size


def test_stray_pixels_of_an_absent_class_are_a_class_at_zero():
    prediction = changed((0, 0), to=5)
    assert mean_iou(prediction, LABEL, 9) == pytest.approx((3 / 4 + 1 + 1 + 0) / 4)
    assert mean_iou_present(prediction, LABEL, 9) == pytest.approx((3 / 4 + 1 + 1) / 3)


def test_a_class_that_is_missed_counts():
    prediction = np.where(LABEL == 1, 8, LABEL)
    assert mean_iou(prediction, LABEL, 9) == pytest.approx((1 + 0 + 4 / 8) / 3)
    assert mean_iou_present(prediction, LABEL, 9) == pytest.approx((1 + 0 + 4 / 8) / 3)


def test_a_class_that_is_in_neither_has_no_iou():
    iou = class_iou(confusion_matrix(LABEL, LABEL, 9))
    assert [c for c in range(9) if not math.isnan(iou[c])] == [0, 1, 8]


def test_ignored_pixels_do_not_count():
    label = changed((0, 0), (2, 3), to=IGNORE)
    assert mean_iou(changed((0, 0), (2, 3), to=5), label, 9) == 1
    assert mean_iou(changed((0, 1), to=1), label, 9) == pytest.approx((2 / 3 + 4 / 5 + 1) / 3)


def test_is_nan_where_no_pixel_counts():
    nothing = np.full_like(LABEL, IGNORE)
    assert math.isnan(mean_iou(LABEL, nothing, 9))
    assert math.isnan(mean_iou_present(LABEL, nothing, 9))


@pytest.mark.parametrize('dtype', [np.uint8, np.int16, np.int32, np.int64])
@pytest.mark.parametrize('convert', [np.asarray, torch.as_tensor])
def test_takes_every_integer_array_and_tensor(dtype, convert):
    prediction = convert(changed((0, 0), to=1).astype(dtype))
    label = convert(changed((2, 0), to=IGNORE).astype(dtype))
    assert mean_iou(prediction, label, 9) == pytest.approx((3 / 4 + 4 / 5 + 1) / 3)
    assert mean_iou(prediction, LABEL, 9) == pytest.approx((3 / 4 + 4 / 5 + 1) / 3)


def test_leaves_its_input_as_it_is():
    prediction, label = LABEL.copy(), changed((0, 0), to=IGNORE)
    before = label.copy()
    mean_iou(prediction, label, 9)
    assert (prediction == LABEL).all() and (label == before).all()


@pytest.mark.parametrize('function', [mean_iou, mean_iou_present, confusion_matrix])
def test_refuses_different_shapes(function):
    with pytest.raises(ValueError, match=r'\(3, 4\).*\(4, 3\)'):
        function(LABEL, LABEL.T, 9)


@pytest.mark.parametrize('wrong', [-1, 9, 254])
def test_refuses_classes_out_of_range(wrong):
    strange = LABEL.astype(np.int64)
    strange[1, 1] = wrong
    for pair in ((strange, LABEL), (LABEL, strange)):
        with pytest.raises(ValueError, match=str(wrong)):
            mean_iou(*pair, 9)


def test_refuses_ignore_in_a_prediction():
    with pytest.raises(ValueError, match='255'):
        mean_iou(changed((0, 0), to=IGNORE), LABEL, 9)
