"""Sources of frames."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from shadowtutor_ros.sources.videos import Clip, images_of, open_source, SourceError


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
    ((64, 48), (48, 64)), ((48, 0), (36, 48)), ((0, 96), (96, 128)), ((40, 40), (40, 40))])
def test_size(video, size, shape):
    assert next(iter(open_source(video, size))).shape[:2] == shape


def test_frames_limit(video):
    source = open_source(video, frames=3)
    assert source.count == 3 and len(list(source)) == 3
    assert len(list(open_source(video, frames=99))) == 10


def test_folder_in_order_and_at_the_first_ones_size(tmp_path):
    for name, size in (('b.png', (48, 64)), ('a.jpg', (40, 40)), ('notes.txt', None)):
        if size:
            cv2.imwrite(str(tmp_path / name), np.zeros((*size, 3), np.uint8))
    source = open_source(str(tmp_path))
    assert source.count == 2 and [frame.shape for frame in source] == [(40, 40, 3)] * 2


def test_a_folder_is_played_as_people_count(tmp_path):
    # As text 10 is before 2; hidden ones are what macOS leaves behind.
    for name in ('frame1', 'frame2', 'frame10', 'frame11', 'frame12', '._frame1', '.frame3'):
        number = int(name.rpartition('frame')[2])
        cv2.imwrite(str(tmp_path / 'a.png'), np.full((40, 40, 3), 20 * number, np.uint8))
        (tmp_path / 'a.png').rename(tmp_path / f'{name}.png')
    source = open_source(str(tmp_path))
    assert source.count == 5 and values(source) == [1, 2, 10, 11, 12]


def test_names_of_a_folder_may_be_anything(tmp_path):
    names = ['7', '8b', '09', '10', 'a', 'a1b2', 'a1b10', 'a01', '²', '١']
    for name in names:
        (tmp_path / f'{name}.PNG').write_text('')
    assert sorted(path.stem for path in images_of(tmp_path)) == sorted(names)
    assert [path.stem for path in images_of(tmp_path)][:4] == ['7', '8b', '09', '10']


@pytest.mark.parametrize('name', [
    '2024-05-01T12:30:05.mp4', 'rtsp:x.mp4', 'http:', '😀 ünï.mp4', 'a b%03d.mp4', '-.mp4'])
def test_a_video_may_have_any_name(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # MP4, which FFmpeg opens; OpenCV opens this kind of AVI itself.
    writer = cv2.VideoWriter('film.mp4', cv2.VideoWriter_fourcc(*'mp4v'), 10, (64, 48))
    for index in range(10):
        writer.write(np.full((48, 64, 3), 20 * index, np.uint8))
    writer.release()
    Path('film.mp4').rename(name)
    for path in (name, f'./{name}', str(tmp_path / name)):
        source = open_source(path)
        assert source.name == name and values(source) == list(range(10))


@pytest.mark.parametrize('name, rate', [('live.webm', 20), ('raw.mjpeg', 25)])
def test_a_video_that_does_not_say_how_long_it_is_is_read_to_its_end(shared, name, rate):
    path = str(shared(f'cases/videos/{name}'))
    source = open_source(path)
    assert (source.count, source.endless, source.rate) == (None, False, rate)
    assert len(list(source)) == 20
    clip = Clip(path, 64, fps=rate / 2).open()
    assert clip.count is None and len(list(clip)) == 10
    assert open_source(path, frames=5).count == 5 and len(list(open_source(path, frames=5))) == 5


def test_frames_are_large_enough_for_the_student(tmp_path):
    cv2.imwrite(str(tmp_path / 'a.png'), np.zeros((32, 64, 3), np.uint8))
    with pytest.raises(SourceError, match='64x32, which is too small: 33x33 at least'):
        list(open_source(str(tmp_path)))
    with pytest.raises(SourceError, match='32x24 is too small: 33x33 at least'):
        open_source('scene', (32, 24))


def test_scene_has_no_end_and_any_size():
    source = open_source('scene', (100, 60), seed=1, look='dusk')
    assert source.count is None and next(iter(source)).shape == (60, 100, 3)
    assert source.endless and not open_source('scene', frames=5).endless
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


def values(source):
    """Return the indices that the frames of the fixture's video were made with."""
    return [round(frame.mean() / 20) for frame in source]


@pytest.mark.parametrize('options, rate, indices', [
    ({}, 10, list(range(10))), ({'frames': 4}, 10, [0, 1, 2, 3]),
    ({'fps': 5}, 5, [0, 2, 4, 6, 8]), ({'fps': 7}, 7, [0, 2, 3, 5, 6, 8, 9]),
    ({'fps': 5, 'frames': 2}, 5, [0, 2]), ({'fps': 30}, 10, list(range(10))),
    ({'frames': 99}, 10, list(range(10)))])
def test_clip_takes_frames_at_a_rate_and_up_to_a_number(video, options, rate, indices):
    source = Clip(video, 64, **options).open()
    assert source.rate == rate and source.count == len(indices)
    assert values(source) == indices and values(source) == indices


def test_clip_has_a_height_that_eight_divides(video):
    assert next(iter(Clip(video, 100).open())).shape == (72, 100, 3)


def test_a_camera_that_compresses(video):
    clip = Clip(video, 64, jpeg=5)
    seen, frames = list(clip.delivered()), list(clip.open())
    assert len(seen) == len(frames) and seen[3].shape == frames[3].shape
    rough = Clip('scene', 320, 2, jpeg=5)
    assert not np.array_equal(next(iter(rough.delivered())), next(iter(rough.open())))
    assert np.array_equal(next(iter(Clip(video, 64).delivered())), frames[0])


@pytest.mark.parametrize('clip, said', [
    (Clip('/dev/video0', 64), 'record a video'), (Clip('scene', 320), 'number of frames'),
    (Clip('scene', 40), '40x24: give a larger width')])
def test_clips_that_cannot_be_evaluated(clip, said):
    with pytest.raises(SourceError, match=said):
        clip.open()
