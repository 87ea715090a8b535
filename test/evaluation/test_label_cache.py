"""The cache of a teacher's labels."""

import numpy as np
import pytest

from shadowtutor_ros.evaluation.label_cache import label_video
from shadowtutor_ros.models.teachers.base import TeacherPrediction

FRAMES = [np.full((4, 6, 3), value, np.uint8) for value in range(5)]


def teacher(frame):
    """Say the frame's own value everywhere, with as many boxes."""
    value = int(frame[0, 0, 0])
    return TeacherPrediction(
        np.full(frame.shape[:2], value, np.uint8), np.full((value, 4), value, np.float32))


@pytest.fixture
def video(tmp_path):
    path = tmp_path / 'film.mp4'
    path.write_bytes(b'film')
    return str(path)


def label(video, folder, make=lambda: teacher, key='4x6', names=('t',)):
    return label_video(iter(FRAMES), make, video, names, key, folder)


def refuse():
    raise AssertionError('the teacher was asked')


def same(labels, others):
    return len(labels) == len(others) and all(
        np.array_equal(one.label, other.label) and np.array_equal(one.boxes, other.boxes)
        for one, other in zip(labels, others))


def test_a_teacher_labels_a_video_once(video, tmp_path):
    first = label(video, tmp_path / 'cache')
    assert same(first, list(map(teacher, FRAMES)))
    assert same(label(video, tmp_path / 'cache', refuse), first)


def test_another_video_teacher_or_size_is_labelled_anew(video, tmp_path):
    label(video, tmp_path / 'cache')
    for changed in ({'key': '8x12'}, {'names': ('u',)}):
        with pytest.raises(AssertionError):
            label(video, tmp_path / 'cache', refuse, **changed)
    with open(video, 'ab') as file:
        file.write(b'more')
    with pytest.raises(AssertionError):
        label(video, tmp_path / 'cache', refuse)


def test_a_broken_file_is_made_anew(video, tmp_path):
    first = label(video, tmp_path / 'cache')
    (path,) = (tmp_path / 'cache').glob('*.npz')
    path.write_bytes(path.read_bytes()[:100])
    assert same(label(video, tmp_path / 'cache'), first)


def test_an_interrupted_run_leaves_nothing(video, tmp_path):
    def interrupted(frame):
        if frame[0, 0, 0] == 3:
            raise KeyboardInterrupt
        return teacher(frame)

    with pytest.raises(KeyboardInterrupt):
        label(video, tmp_path / 'cache', lambda: interrupted)
    assert same(label(video, tmp_path / 'cache'), list(map(teacher, FRAMES)))
