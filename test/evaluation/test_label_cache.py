"""The cache of a teacher's labels."""

from pathlib import Path

import numpy as np
import pytest

from shadowtutor_ros.classes import ClassTable, LVS
from shadowtutor_ros.evaluation.label_cache import (
    default_folder, fingerprint, label_video, LabelCacheError, Labels)
from shadowtutor_ros.models.teachers.base import TeacherPrediction

FRAMES = [np.full((4, 6, 3), value, np.uint8) for value in range(5)]


def teacher(frame, classes=LVS):
    """Say the frame's own value everywhere, with as many boxes."""
    value = int(frame[0, 0, 0])
    return TeacherPrediction(
        np.full(frame.shape[:2], value, np.uint8), np.full((value, 4), value, np.float32))


@pytest.fixture
def video(tmp_path):
    path = tmp_path / 'film.mp4'
    path.write_bytes(b'film')
    return str(path)


def label(video, folder, make=lambda: teacher, key='4x6', names=('t',), count=0, classes=LVS):
    return label_video(
        iter(FRAMES[:count or None]), make, video, names, key, folder, classes, count)


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


def test_each_class_table_has_labels_of_its_own(video, tmp_path):
    asked = []

    def noting(frame, classes):
        asked.append(classes.names)
        return teacher(frame)

    tables = LVS, ClassTable.of(['dog']), ClassTable.of(['dog: cat']), ClassTable.of(['dog'])
    for table in tables:
        label(video, tmp_path / 'cache', lambda: noting, count=1, classes=table)
    assert asked == [table.names for table in tables[:3]]


def test_fewer_frames_are_taken_from_the_cache_and_more_are_added(video, tmp_path):
    asked = []

    def counting(frame, classes):
        asked.append(int(frame[0, 0, 0]))
        return teacher(frame)

    every = list(map(teacher, FRAMES))
    assert same(label(video, tmp_path / 'cache', lambda: counting, count=3), every[:3])
    assert same(label(video, tmp_path / 'cache', refuse, count=2), every[:2])
    assert same(label(video, tmp_path / 'cache', lambda: counting), every)
    assert asked == [0, 1, 2, 3, 4]
    # The end of the video is known now.
    assert same(label(video, tmp_path / 'cache', refuse, count=9), every)


def test_another_video_teacher_or_size_is_labelled_anew(video, tmp_path):
    label(video, tmp_path / 'cache')
    for changed in ({'key': '8x12'}, {'names': ('u',)}):
        with pytest.raises(AssertionError):
            label(video, tmp_path / 'cache', refuse, **changed)
    with open(video, 'ab') as file:
        file.write(b'more')
    with pytest.raises(AssertionError):
        label(video, tmp_path / 'cache', refuse)


def test_another_image_in_a_folder_is_labelled_anew(tmp_path):
    folder = tmp_path / 'images'
    folder.mkdir()
    (folder / 'a.png').write_bytes(b'a')
    label(str(folder), tmp_path / 'cache')
    label(str(folder), tmp_path / 'cache', refuse)
    (folder / 'b.png').write_bytes(b'b')
    with pytest.raises(AssertionError):
        label(str(folder), tmp_path / 'cache', refuse)


@pytest.mark.parametrize('content', [b'', b'nonsense', None])
def test_a_broken_file_is_made_anew(video, tmp_path, content):
    first = label(video, tmp_path / 'cache')
    (path,) = (tmp_path / 'cache').glob('*.npz')
    path.write_bytes(path.read_bytes()[:100] if content is None else content)
    assert same(label(video, tmp_path / 'cache'), first)


def test_an_interrupted_run_keeps_what_it_has(video, tmp_path):
    def interrupted(frame, classes):
        if frame[0, 0, 0] == 3:
            raise KeyboardInterrupt
        return teacher(frame)

    def asked_for_the_rest(frame, classes):
        assert frame[0, 0, 0] >= 3
        return teacher(frame)

    with pytest.raises(KeyboardInterrupt):
        label(video, tmp_path / 'cache', lambda: interrupted)
    assert same(label(video, tmp_path / 'cache', lambda: asked_for_the_rest),
                list(map(teacher, FRAMES)))
    assert [path.suffix for path in (tmp_path / 'cache').iterdir()] == ['.npz']


def test_labels_are_held_as_they_were_given():
    rng = np.random.default_rng(0)
    predictions = [TeacherPrediction(
        rng.integers(0, 256, (7, 9), dtype=np.uint8), rng.random((count, 4), np.float32))
        for count in (0, 2)]
    labels = Labels()
    for prediction in predictions:
        labels.append(prediction)
    assert same(labels, predictions) and same(labels.first(1), predictions[:1])
    assert labels[0].boxes.shape == (0, 4)


def test_where_labels_cannot_be_kept_the_teacher_is_not_asked(video, tmp_path):
    (tmp_path / 'file').write_text('')
    for folder in (tmp_path / 'file', tmp_path / 'file' / 'below', Path('/proc/nobody/writes')):
        with pytest.raises(LabelCacheError, match=f"'{folder}'.*set XDG_CACHE_HOME to a folder"):
            label(video, folder, refuse)


@pytest.mark.parametrize('value', [None, '', 'relative', './here'])
def test_the_cache_is_at_home_where_nothing_else_is_said(value, tmp_path, monkeypatch):
    monkeypatch.setenv('HOME', str(tmp_path))
    monkeypatch.delenv('XDG_CACHE_HOME', raising=False)
    if value is not None:
        monkeypatch.setenv('XDG_CACHE_HOME', value)
    assert default_folder() == tmp_path / '.cache' / 'shadowtutor' / 'labels'
    monkeypatch.setenv('XDG_CACHE_HOME', '/else/where')
    assert default_folder() == Path('/else/where/shadowtutor/labels')


def test_who_has_no_home_is_told_what_to_set(monkeypatch):
    monkeypatch.delenv('XDG_CACHE_HOME', raising=False)
    monkeypatch.delenv('HOME')
    monkeypatch.setattr('os.getuid', lambda: 123456)
    with pytest.raises(LabelCacheError, match='set XDG_CACHE_HOME to a folder'):
        default_folder()


def test_another_order_of_a_folders_images_is_labelled_anew(tmp_path):
    # Earlier versions played image10 before image9.
    for name in ('9.png', '10.png', '.10.png', 'notes.txt'):
        (tmp_path / name).write_text('')
    (tmp_path / 'cache').mkdir()
    stats = fingerprint(*map(str, (tmp_path / '9.png', tmp_path / '10.png')))
    assert fingerprint(str(tmp_path)) == stats


def test_a_package_that_fails_is_told_by_who_makes_the_teacher(tmp_path, monkeypatch):
    (tmp_path / 'unlicensed').mkdir()
    (tmp_path / 'unlicensed' / '__init__.py').write_text('raise RuntimeError("no licence")')
    monkeypatch.syspath_prepend(tmp_path)
    assert fingerprint('unlicensed.teacher:Class')


def test_a_changed_class_of_somebodys_own_labels_anew(video, tmp_path, monkeypatch):
    module = tmp_path / 'somebodys_teacher.py'
    module.write_text('class Teacher: ...\n')
    monkeypatch.syspath_prepend(tmp_path)
    names = ('somebodys_teacher:Teacher', '')
    label(video, tmp_path, names=names)
    label(video, tmp_path, refuse, names=names)
    module.write_text('class Teacher:\n    better = True\n')
    with pytest.raises(AssertionError):
        label(video, tmp_path, refuse, names=names)
