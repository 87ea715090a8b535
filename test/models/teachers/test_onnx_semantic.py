"""Semantic segmentation in ONNX files that are written here."""

import json

import cv2
import numpy as np
from onnx_files import write_onnx
import pytest

from shadowtutor_ros.classes import ClassTable, IGNORE
from shadowtutor_ros.models.teachers import load_teacher, TeacherError

NAMES = ('void', 'dog', 'Person', 'cat')
CLASSES = ClassTable.of(['person', 'pet: cat, dog'])  # 0 is the background
FRAME = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)

LABEL = np.zeros((12, 16), np.int64)  # a quarter of the frame
LABEL[:, 8:] = 1
LABEL[6:, :4] = 2
LABEL[6:, 4:8] = 3

EXPECTED = np.array([0, 2, 1, 2], np.uint8)[LABEL].repeat(4, 0).repeat(4, 1)


def one_hot(label):
    return 5 * np.eye(len(NAMES), dtype=np.float32)[label].transpose(2, 0, 1)[None]


def refusal(path, *args):
    with pytest.raises(TeacherError) as caught:
        load_teacher(str(path), *args)
    assert '\n' not in str(caught.value) and str(path) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize('output', (
    one_hot(LABEL), one_hot(LABEL).astype(np.float16), LABEL[None], LABEL[None, None],
    LABEL[None].astype(np.int32), LABEL[None].astype(np.uint8)))
def test_logits_and_label_maps(tmp_path, output):
    teacher = load_teacher(write_onnx(tmp_path / 'a.onnx', [output], names=NAMES))
    assert teacher.vocabulary == NAMES
    prediction = teacher(FRAME, CLASSES)
    np.testing.assert_array_equal(prediction.label, EXPECTED)
    assert prediction.label.dtype == np.uint8 and prediction.scores is None
    assert sorted(prediction.boxes.tolist()) == [[0, 24, 16, 48], [16, 0, 64, 48]]


def test_logits_are_resized_before_the_choice(tmp_path):
    logits = np.zeros((1, 2, 2, 2), np.float32)
    logits[0, 1] = [[3, -1], [3, -1]]
    teacher = load_teacher(write_onnx(tmp_path / 'a.onnx', [logits], names=['void', 'dog']))
    label = teacher(FRAME, CLASSES).label
    # Between the cells' centres, at 16 and 48 of 64 pixels, the logit passes 0 at three quarters.
    np.testing.assert_array_equal(label, np.tile(np.where(np.arange(64) < 40, 2, 0), (48, 1)))


def test_what_has_no_name_does_not_count(tmp_path):
    label = np.zeros((1, 48, 64), np.int64)
    label[0, :4], label[0, 4:8], label[0, 8:12], label[0, 12:16] = 255, -1, 4, 2
    teacher = load_teacher(write_onnx(tmp_path / 'a.onnx', [label], names=NAMES))
    found = teacher(FRAME, CLASSES).label
    assert (found[:12] == IGNORE).all() and (found[12:16] == 1).all() and not found[16:].any()


def test_numbers_from_one(tmp_path):
    label = np.full((1, 48, 64), 2, np.uint8)
    path = write_onnx(tmp_path / 'a.onnx', [label], names={1: 'dog', 2: 'person'})
    assert (load_teacher(path)(FRAME, CLASSES).label == 1).all()


def test_first_of_several_outputs(tmp_path):
    # As torchvision's networks have them with their auxiliary classifier.
    path = write_onnx(tmp_path / 'a.onnx', [one_hot(LABEL), one_hot(0 * LABEL)], names=NAMES)
    np.testing.assert_array_equal(load_teacher(path)(FRAME, CLASSES).label, EXPECTED)


def test_names_beside(tmp_path):
    path = write_onnx(tmp_path / 'model.onnx', [one_hot(LABEL)])
    message = refusal(path)
    assert 'does not name its categories' in message and 'model.txt' in message
    # As Hugging Face's Optimum exports.
    (tmp_path / 'config.json').write_text(json.dumps(
        {'model_type': 'segformer', 'id2label': {str(i): n for i, n in enumerate(NAMES)}}))
    assert load_teacher(path).vocabulary == NAMES
    (tmp_path / 'model.txt').write_text('\n'.join(NAMES[::-1]))
    assert load_teacher(path).vocabulary == NAMES[::-1]
    (tmp_path / 'model.txt').write_text('dog\ncat\n')
    assert 'has 4 categories, but 2 names' in refusal(path)


def what_is_shown(tmp_path, size=('h', 'w'), **metadata):
    """Return the input of a network that gives its input as logits."""
    path = write_onnx(tmp_path / 'same.onnx', [...], [(1, 3, *size)],
                      names=['red', 'green', 'blue'], **metadata)
    teacher = load_teacher(path)
    shown = []
    run = teacher._network.run
    teacher._network.run = lambda values: shown.append(values) or run(values)
    label = teacher(FRAME, ClassTable.of(['red', 'green', 'blue'])).label
    return shown[0], label


def test_input(tmp_path):
    rgb = cv2.resize(FRAME, (64, 64))[:, :, ::-1].transpose(2, 0, 1) / 255  # 48 is no 32·n
    mean, std = np.reshape((0.485, 0.456, 0.406, 0.229, 0.224, 0.225), (2, 3, 1, 1))
    np.testing.assert_allclose(what_is_shown(tmp_path)[0][0], (rgb - mean) / std, atol=1e-5)
    shown = what_is_shown(tmp_path, mean=[0, 0, 0], std='[1, 1, 1]')[0]
    np.testing.assert_allclose(shown[0], rgb, atol=1e-6)
    (tmp_path / 'preprocessor_config.json').write_text(json.dumps(
        {'image_mean': [0.5, 0.5, 0.5], 'image_std': [0.5, 0.5, 0.5]}))
    np.testing.assert_allclose(what_is_shown(tmp_path)[0][0], 2 * rgb - 1, atol=1e-6)


def test_input_of_fixed_size(tmp_path):
    shown, label = what_is_shown(tmp_path, (100, 36))
    assert shown.shape == (1, 3, 100, 36) and label.shape == (48, 64)
    assert what_is_shown(tmp_path, (48, 64), mean=[0, 0, 0], std=[1, 1, 1])[1].tolist() == (
        1 + FRAME[:, :, ::-1].argmax(2)).tolist()


@pytest.mark.parametrize('metadata', (
    {'mean': [1, 2]}, {'mean': 'bright'}, {'std': [1, 0, 1]}, {'std': [1, 1, float('nan')]}))
def test_strange_normalisation(tmp_path, metadata):
    path = write_onnx(tmp_path / 'a.onnx', [one_hot(LABEL)], names=NAMES, **metadata)
    assert 'wanted three numbers' in refusal(path)


def test_other_networks(tmp_path):
    path = tmp_path / 'a.onnx'
    write_onnx(path, [one_hot(LABEL)], names=NAMES)
    assert 'has no scores' in refusal(path, 'DEFAULT', 'cpu', 0.5)
    write_onnx(path, [LABEL[None, None].astype(np.float32)], names=NAMES)
    assert 'outputs of the shapes [(1, 1, 12, 16)]; wanted' in refusal(path)
    write_onnx(path, [], names=NAMES)
    assert str(path) in refusal(path)


def test_what_is_no_frame(tmp_path):
    teacher = load_teacher(write_onnx(tmp_path / 'a.onnx', [one_hot(LABEL)], names=NAMES))
    for frame in (None, FRAME[..., 0], FRAME.astype(float), FRAME[:0]):
        with pytest.raises(ValueError, match='wanted'):
            teacher(frame, CLASSES)
