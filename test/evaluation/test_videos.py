"""Sources of frames."""

import cv2
import numpy as np
import pytest

from shadowtutor_ros.evaluation.videos import open_source, SourceError


@pytest.fixture
def video(tmp_path):
    """Return the path of a video of ten frames of 64x48."""
    path = tmp_path / 'film.avi'
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'MJPG'), 10, (64, 48))
    for index in range(10):
        writer.write(np.full((48, 64, 3), 20 * index, np.uint8))
    writer.release()
    return str(path)


def test_video_is_read_from_the_beginning_each_time(video):
    source = open_source(video)
    assert (source.rate, source.count, source.name) == (10, 10, 'film.avi')
    for _ in range(2):
        frames = list(source)
        assert len(frames) == 10 and frames[0].shape == (48, 64, 3)
        assert [round(frame.mean() / 20) for frame in frames] == list(range(10))


@pytest.mark.parametrize('size, shape', [
    ((32, 24), (24, 32)), ((32, 0), (24, 32)), ((0, 96), (96, 128)), ((30, 30), (30, 30))])
def test_size(video, size, shape):
    assert next(iter(open_source(video, size))).shape[:2] == shape


def test_frames_limit(video):
    source = open_source(video, frames=3)
    assert source.count == 3 and len(list(source)) == 3
    assert len(list(open_source(video, frames=99))) == 10


def test_folder_in_order_and_at_the_first_ones_size(tmp_path):
    for name, size in (('b.png', (48, 64)), ('a.jpg', (32, 32)), ('notes.txt', None)):
        if size:
            cv2.imwrite(str(tmp_path / name), np.zeros((*size, 3), np.uint8))
    source = open_source(str(tmp_path))
    assert source.count == 2 and [frame.shape for frame in source] == [(32, 32, 3)] * 2


def test_scene_has_no_end_and_any_size():
    source = open_source('scene', (100, 60), seed=1, look='dusk')
    assert source.count is None and next(iter(source)).shape == (60, 100, 3)
    assert open_source('scene', frames=5).count == 5


@pytest.mark.parametrize('make', [
    lambda folder: folder / 'nothing.mp4', lambda folder: folder,
    lambda folder: folder / 'garbage.mp4'])
def test_what_cannot_be_read_is_one_clear_error(tmp_path, make, capfd):
    (tmp_path / 'garbage.mp4').write_bytes(bytes(range(256)) * 10)
    (tmp_path / 'folder').mkdir()
    path = make(tmp_path) if make(tmp_path) != tmp_path else tmp_path / 'folder'
    with pytest.raises(SourceError) as error:
        open_source(str(path))
    assert str(path) in str(error.value) and '\n' not in str(error.value)


def test_a_broken_image_in_a_folder_is_named(tmp_path):
    (tmp_path / 'a.png').write_bytes(b'nothing')
    with pytest.raises(SourceError, match='a.png'):
        list(open_source(str(tmp_path)))
