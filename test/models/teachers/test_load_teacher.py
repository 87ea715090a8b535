"""Every way to name a teacher, and every way to name one wrongly."""

from pathlib import Path
import subprocess
import sys

import numpy as np
import pytest

from shadowtutor_ros.classes import ClassTable, IGNORE, LVS
from shadowtutor_ros.models.teachers import load_teacher, TeacherError, TEACHERS
from shadowtutor_ros.models.teachers.base import TeacherPrediction
import torch

FRAME = np.zeros((6, 8, 3), np.uint8)


class Constant:
    """A teacher that says the same of every frame."""

    prediction = TeacherPrediction(
        np.full((6, 8), LVS.background, np.uint8), np.zeros((0, 4), np.float32))

    def __init__(self, **options):
        self.options = options

    def __call__(self, frame):
        return self.prediction


class Plain(Constant):
    def __init__(self):
        super().__init__()


class Weighted(Constant):
    def __init__(self, device, weights='mine'):
        super().__init__(device=device, weights=weights)


class Failing:
    def __init__(self):
        raise RuntimeError('the licence\nhas expired')


class NoTeacher:
    pass


def path_of(teacher):
    return f'{__name__}:{teacher.__name__}'


def refusal(*args, **kwargs):
    with pytest.raises(TeacherError) as caught:
        load_teacher(*args, **kwargs)
    assert '\n' not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize('name', ('maskrcnn', '', ':', 'package.module:', 'weights.pth', 'hf:'))
def test_unknown_teacher(name):
    message = refusal(name)
    assert message.startswith(f"unknown teacher '{name}'")
    assert all(known in message for known in (*TEACHERS, '.onnx', "'hf:'", 'package.module:Class'))


def test_what_a_teacher_does_not_take():
    assert "takes no weights, but got 'a.pth'" in refusal('scene', 'a.pth')
    assert 'takes no weights' in refusal('a.onnx', 'a.pth')
    assert 'takes no weights' in refusal('hf:a/b', 'a.pth')
    assert 'has no scores' in refusal('scene', score_threshold=0.5)
    assert 'has no scores' in refusal('fcn_resnet50', score_threshold=0.5)
    assert 'takes no mask_threshold' in refusal('scene', mask_threshold=0.4)
    assert 'takes no mask_threshold' in refusal('a.onnx', mask_threshold=0.4)
    assert 'mask_threshold is 1.0, wanted between 0 and 1' in refusal('hf:a', mask_threshold=1.0)
    assert 'score_threshold is 1.5, wanted 0 to 1' in refusal('a.onnx', score_threshold=1.5)


def test_scene():
    assert type(load_teacher('scene', '', 'cpu')).__name__ == 'SceneTeacher'


def test_nothing_heavy_is_imported_before_it_is_needed():
    code = ('import sys; import shadowtutor_ros.models.teachers; '
            'print(*{"torch", "torchvision", "onnxruntime", "transformers"} & set(sys.modules))')
    output = subprocess.run(
        [sys.executable, '-c', code], check=True, capture_output=True, text=True).stdout
    assert output.strip() == ''


def test_own_class_is_given_what_it_takes():
    def options(teacher, *args):
        return load_teacher(path_of(teacher), *args)._teacher.options
    assert options(Plain, 'a.pth', 'cpu', 0.5) == {}
    assert options(Weighted, 'a.pth', 'cuda') == {'weights': 'a.pth', 'device': 'cuda'}
    assert options(Constant) == {'weights': 'DEFAULT', 'device': 'cpu'}
    assert options(Constant, 'a', 'cpu', 0.4) == {
        'weights': 'a', 'device': 'cpu', 'score_threshold': 0.4}
    assert options(Constant, 'a', 'cpu', 0.4, 0.3)['mask_threshold'] == 0.3


def test_own_class_labels_frames():
    prediction = load_teacher(path_of(Plain))(FRAME, LVS)
    assert prediction.label.shape == (6, 8) and prediction.boxes.shape == (0, 4)


class Known(Constant):
    """A teacher with names of its own."""

    vocabulary = ['grass', 'Car', 'kite']
    prediction = TeacherPrediction(
        np.array([[0, 1, 2, IGNORE]] * 3, np.uint8), np.ones((2, 4), np.float32),
        np.array([0.7, 0.6], np.float32))


class Prompted:
    """A teacher that takes any phrase."""

    vocabulary = None

    def __call__(self, frame, classes):
        label = np.full(frame.shape[:2], classes.background, np.uint8)
        for phrase, place in classes.phrases:
            label[:, len(phrase)] = place
        return TeacherPrediction(label, np.zeros((0, 4), np.float32))


def test_own_class_without_vocabulary_gives_places_of_lvs(monkeypatch):
    assert load_teacher(path_of(Plain)).vocabulary == LVS.names
    label = np.full((6, 8), LVS.names.index('auto'), np.uint8)
    label[0] = IGNORE
    label[1] = LVS.names.index('dog')
    monkeypatch.setattr(Constant, 'prediction', TeacherPrediction(label, np.zeros((0, 4))))
    found = load_teacher(path_of(Plain))(FRAME, ClassTable.of(['auto', 'person'])).label
    assert (found[0] == IGNORE).all() and (found[1] == 0).all() and (found[2:] == 1).all()


def test_own_class_with_a_vocabulary(monkeypatch):
    teacher = load_teacher(path_of(Known))
    assert teacher.vocabulary == ('grass', 'Car', 'kite')
    prediction = teacher(FRAME[:3, :4], ClassTable.of(['person', 'toy: kite, ball', 'car']))
    np.testing.assert_array_equal(prediction.label, [[0, 3, 2, IGNORE]] * 3)
    assert prediction.scores.tolist() == Known.prediction.scores.tolist()
    # An id beyond its names is refused, though the table that is asked for has that place.
    monkeypatch.setattr(Known, 'prediction', TeacherPrediction(
        np.full((3, 4), 3, np.uint8), np.zeros((0, 4), np.float32)))
    with pytest.raises(TeacherError, match='class id 3, wanted 0 to 2'):
        teacher(FRAME[:3, :4], LVS)


def test_the_class_of_the_readme_labels_frames(tmp_path, monkeypatch):
    readme = Path(__file__).parents[3] / 'README.md'
    code = readme.read_text().partition('```python\n')[2].partition('```')[0]
    assert 'self.network = ...' in code
    (tmp_path / 'my_teacher.py').write_text(
        code.replace('self.network = ...', 'self.network = lambda frame: frame[:, :, 0]'))
    monkeypatch.syspath_prepend(tmp_path)
    teacher = load_teacher('my_teacher:MyTeacher')
    frame = np.zeros((6, 8, 3), np.uint8)
    frame[1:3, 2:5], frame[5] = 2, IGNORE
    told = teacher(frame, ClassTable.of(['pallet', 'forklift', 'person']))
    assert (told.label[1:3, 2:5] == 3).all() and (told.label[5] == IGNORE).all()
    assert not told.label[0].any() and told.boxes.tolist() == [[2, 1, 5, 3]]


def test_own_class_that_takes_any_phrase():
    teacher = load_teacher(path_of(Prompted))
    assert teacher.vocabulary is None
    label = teacher(FRAME, ClassTable.of(['pallet', 'door: gate, a gap'])).label
    assert label[0].tolist() == [0, 0, 0, 0, 2, 2, 1, 0]
    with pytest.raises(ValueError, match='wanted'):
        teacher(FRAME[..., 0], LVS)


@pytest.mark.parametrize('vocabulary', ('cat', (), ('cat', 3), tuple(map(str, range(256)))))
def test_vocabulary_that_is_none(monkeypatch, vocabulary):
    monkeypatch.setattr(Known, 'vocabulary', vocabulary)
    assert 'wanted 1 to 255 names, or None' in refusal(path_of(Known))


@pytest.mark.parametrize('name, expected', (
    ('no_such_package.module:Class', "No module named 'no_such_package'"),
    (f'{__name__}:Missing', "no attribute 'Missing'"),
    (path_of(Failing), 'RuntimeError: the licence'),
    (path_of(NoTeacher), 'cannot be called'),
    (f'{__name__}:FRAME', 'cannot be made')))
def test_own_class_that_cannot_be_loaded(name, expected):
    assert expected in refusal(name)


LABEL, BOXES = Constant.prediction.label, Constant.prediction.boxes


@pytest.mark.parametrize('prediction, expected', (
    (None, 'returned a NoneType'),
    ((LABEL, BOXES), 'returned a tuple'),
    (TeacherPrediction(LABEL.tolist(), BOXES), 'label of type list'),
    (TeacherPrediction(LABEL, []), 'boxes of type list'),
    (TeacherPrediction(LABEL.T, BOXES), 'label of shape (8, 6)'),
    (TeacherPrediction(LABEL.astype(int), BOXES), 'dtype int64'),
    (TeacherPrediction(LABEL + np.uint8(3), BOXES), 'class id 11'),
    (TeacherPrediction(LABEL, np.zeros((2, 5), np.float32)), 'boxes of shape (2, 5)'),
    (TeacherPrediction(LABEL, np.zeros((1, 4), int)), 'dtype int64'),
    (TeacherPrediction(LABEL, np.full((1, 4), np.nan, np.float32)), 'not finite'),
    (TeacherPrediction(LABEL, BOXES, np.ones(1)), 'scores of shape (1,)'),
    (TeacherPrediction(LABEL, BOXES, np.ones(0, int)), 'dtype int64')))
def test_what_own_class_returns_is_checked(prediction, expected, monkeypatch):
    monkeypatch.setattr(Constant, 'prediction', prediction)
    with pytest.raises(TeacherError) as caught:
        load_teacher(path_of(Plain))(FRAME, LVS)
    assert expected in str(caught.value) and path_of(Plain) in str(caught.value)


def test_ignored_pixels_and_double_boxes_pass(monkeypatch):
    monkeypatch.setattr(Constant, 'prediction', TeacherPrediction(
        np.full((6, 8), IGNORE, np.uint8), np.ones((2, 4))))
    assert load_teacher(path_of(Plain))(FRAME, LVS).boxes.dtype == np.float32


def test_a_mirrored_label_passes(monkeypatch):
    label = np.arange(48, dtype=np.uint8).reshape(6, 8) % 9
    monkeypatch.setattr(Constant, 'prediction', TeacherPrediction(
        label[:, ::-1], np.zeros((0, 4), np.float32)))
    got = torch.from_numpy(load_teacher(path_of(Plain))(FRAME, LVS).label)
    assert (got.numpy() == label[:, ::-1]).all()
    before = got.clone()
    label[:] = 0  # as a teacher does that fills the same array for every frame
    assert torch.equal(got, before)


@pytest.mark.parametrize('frame', (
    None, FRAME[..., 0], FRAME[:0], FRAME.astype(np.float32), np.zeros((6, 8, 4), np.uint8)))
def test_what_is_no_frame(frame):
    with pytest.raises(ValueError, match='wanted'):
        load_teacher(path_of(Plain))(frame, LVS)
