"""Bags as sources of frames."""

import shutil
import subprocess
import sys

from bag_files import BEGIN, compressed, image, only_file, SECOND, text, write_bag
import cv2
import numpy as np
import pytest

from shadowtutor_ros.sources.videos import Clip, open_source, SourceError

STORAGES = ('mcap', 'sqlite3')


def picture(index):
    """Return 40×56 BGR whose every channel, row and column differs, a little more each time."""
    y, x = np.mgrid[:40, :56]
    return np.dstack([3 * x + 5 * index, 4 * y + 20, 2 * (x + y) + index]).astype(np.uint8)


def grey(index):
    return cv2.cvtColor(picture(index), cv2.COLOR_BGR2GRAY)


def mosaic(index):
    """Look at a picture through a Bayer filter, rggb."""
    frame, through = picture(index), np.empty((40, 56), np.uint8)
    for place, letter in enumerate('rggb'):
        row, column = divmod(place, 2)
        through[row::2, column::2] = frame[row::2, column::2, 'bgr'.index(letter)]
    return through


KINDS = {
    'bgr8': lambda index, stamp: image(picture(index), 'bgr8', stamp, 56),
    'padded': lambda index, stamp: image(picture(index), 'bgr8', stamp, 56, padding=8),
    'rgb8': lambda index, stamp: image(picture(index)[..., ::-1], 'rgb8', stamp, 56),
    'mono8': lambda index, stamp: image(grey(index), 'mono8', stamp, 56, padding=3),
    'bayer': lambda index, stamp: image(mosaic(index), 'bayer_rggb8', stamp, 56),
    'jpeg': lambda index, stamp: compressed(picture(index), stamp),
    'png': lambda index, stamp: compressed(picture(index), stamp, '.png')}


def at(index):
    """Return when an image was recorded: 5 a second, which came 20 ms later than it was taken."""
    return BEGIN + index * SECOND // 5 + SECOND // 50


def images(kind='bgr8', count=6):
    return [(at(index), KINDS[kind](index, at(index) - SECOND // 50)) for index in range(count)]


def expected(kind, index):
    if kind == 'mono8':
        return cv2.cvtColor(grey(index), cv2.COLOR_GRAY2BGR)
    if kind == 'jpeg':
        return cv2.imdecode(cv2.imencode('.jpg', picture(index))[1], cv2.IMREAD_COLOR)
    return picture(index)


@pytest.fixture
def bag(tmp_path):
    """Return a function that makes a bag with a topic of images, and what else is named."""
    def make(kind='bgr8', storage='mcap', compression=None, **topics):
        return write_bag(
            tmp_path / 'drive', {'/camera/image': images(kind), **topics}, storage, compression)
    return make


def error_of(source):
    with pytest.raises(SourceError) as error:
        list(open_source(str(source)))
    assert '\n' not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize('storage', STORAGES)
@pytest.mark.parametrize('kind', KINDS)
def test_images_are_read_from_the_beginning_each_time(bag, kind, storage):
    folder = bag(kind, storage)
    for path in (folder, only_file(folder)):
        source = open_source(str(path))
        assert (source.name, source.count, source.endless) == (path.name, 6, False)
        assert source.rate == pytest.approx(5)
        for _ in range(2):
            frames = list(source)
            assert len(frames) == 6
            for index, frame in enumerate(frames):
                assert frame.shape == (40, 56, 3) and frame.dtype == np.uint8
                assert frame.flags.writeable
                # Of a Bayer pattern the outermost pixels are known from one side alone.
                inside = slice(2, -2) if kind == 'bayer' else slice(None)
                differs = np.abs(frame.astype(int) - expected(kind, index))[inside, inside]
                assert differs.max() <= (5 if kind == 'bayer' else 0)


def test_frames_have_what_was_recorded_of_them(bag):
    recorded = list(open_source(str(bag()), frames=4).recorded())
    assert [one.time for one in recorded] == [at(index) for index in range(4)]
    assert [one.stamp for one in recorded] == [at(index) - SECOND // 50 for index in range(4)]
    assert {one.frame_id for one in recorded} == {'eye'}
    assert np.array_equal(recorded[3].decode(), picture(3))


def test_without_stamps_the_time_of_recording_stands_for_them(tmp_path):
    folder = write_bag(tmp_path / 'a', {'/image': [
        (at(index), KINDS['bgr8'](index, 0)) for index in range(3)]})
    assert [one.stamp for one in open_source(str(folder)).recorded()] == [at(0), at(1), at(2)]


def test_videos_know_no_stamps(tmp_path):
    cv2.imwrite(str(tmp_path / '1.png'), picture(1))
    assert open_source(str(tmp_path)).recorded is None


def test_size_length_and_rate(bag):
    path = str(bag())
    source = open_source(path, (112, 0), frames=2)
    assert source.count == 2 and [frame.shape for frame in source] == [(80, 112, 3)] * 2
    clip = Clip(path, 56, fps=2.5).open()
    assert (clip.rate, clip.count) == (pytest.approx(2.5), 3)
    assert [int(frame[0, 0, 2]) for frame in clip] == [0, 2, 4]
    assert open_source(path, frames=99).count == 6
    with pytest.raises(SourceError, match='would be 40x29, which is too small: 33x33'):
        open_source(path, (40, 0))


def test_images_of_several_sizes_are_brought_to_that_of_the_first(tmp_path):
    folder = write_bag(tmp_path / 'a', {'/image': [
        (at(0), KINDS['bgr8'](0, at(0))),
        (at(1), image(np.zeros((80, 120, 3), np.uint8), 'bgr8', at(1), 120))]})
    assert [frame.shape for frame in open_source(str(folder))] == [(40, 56, 3)] * 2


def test_the_rate_is_that_of_the_topic(tmp_path):
    # Others may have been recorded for longer, before and after.
    folder = write_bag(tmp_path / 'a', {
        '/image': images(), '/words': [
            (BEGIN - 90 * SECOND, text('a')), (BEGIN + 900 * SECOND, text('b'))]})
    assert open_source(str(folder)).rate == pytest.approx(5)
    alone = write_bag(tmp_path / 'b', {'/image': images(count=1)})
    assert open_source(str(alone)).rate == 25 and len(list(open_source(str(alone)))) == 1


@pytest.mark.parametrize('storage', STORAGES)
def test_a_topic_on_which_nothing_came_is_none(bag, storage):
    folder = bag('bgr8', storage, **{'/other': []})
    assert open_source(str(folder)).count == open_source(str(only_file(folder))).count == 6
    assert "'/other' of bag" in error_of(f'{folder}:/other')


@pytest.mark.parametrize('storage', STORAGES)
def test_of_several_topics_one_is_named(bag, storage):
    folder = bag('bgr8', storage, **{
        '/camera/image/compressed': images('jpeg'), '/words': [(at(0), text('hello'))]})
    for path in (folder, only_file(folder)):
        error = error_of(path)
        assert f"as in '{path}:/camera/image'" in error
        assert '/camera/image, /camera/image/compressed' in error and '/words' not in error
        source = open_source(f'{path}:/camera/image/compressed')
        assert source.name == f'{path.name}:/camera/image/compressed'
        assert np.array_equal(next(iter(source)), expected('jpeg', 0))
        assert 'has no images' in error_of(f'{path}:/nothing')
        assert 'is of type std_msgs/msg/String' in error_of(f'{path}:/words')


def test_a_file_may_have_any_name(bag, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(only_file(bag()), '12:30 😀.mcap')
    assert open_source('12:30 😀.mcap:/camera/image').count == 6
    assert open_source('./12:30 😀.mcap').count == 6
    assert "'12:30 😀.mcap:/no'" not in error_of('12:30 😀.mcap:/no')


@pytest.mark.parametrize('compression, storage', [
    ('file', 'mcap'), ('file', 'sqlite3'), ('message', 'mcap'), ('message', 'sqlite3'),
    ('storage', 'mcap')])
def test_compressed_bags_are_read(bag, compression, storage):
    folder = bag(storage=storage, compression=compression)
    frames = list(open_source(str(folder)))
    assert len(frames) == 6 and np.array_equal(frames[5], picture(5))
    if compression == 'message':
        assert "give the bag's folder" in error_of(only_file(folder))
    if compression == 'file':
        (path,) = folder.glob('*.zstd')
        assert "give the bag's folder" in error_of(path)


def test_a_bag_in_several_files_is_one(bag, tmp_path):
    folder = bag()
    other = write_bag(tmp_path / 'other', {
        '/camera/image': [(time + 10 * SECOND, message) for time, message in images()]})
    shutil.copy(only_file(other), folder / 'drive_1.mcap')
    metadata = (folder / 'metadata.yaml').read_text()
    (folder / 'metadata.yaml').write_text(metadata.replace(
        '  - drive.mcap\n', '  - drive.mcap\n  - drive_1.mcap\n'))
    assert len(list(open_source(str(folder)))) == 12


# --- what is wrong -------------------------------------------------------------------------------

@pytest.mark.parametrize('storage', STORAGES)
def test_a_cut_file_is_one_clear_error(bag, tmp_path, storage):
    whole = only_file(bag(storage=storage))
    data, cut = whole.read_bytes(), tmp_path / f'cut{whole.suffix}'
    for end in [*range(0, len(data), len(data) // 40), len(data) - 1]:
        cut.write_bytes(data[:end])
        try:
            frames = list(open_source(str(cut)))
        except SourceError as error:
            assert str(cut) in str(error) and '\n' not in str(error) and 'reindex' in str(error)
        else:  # SQLite's last page may be one that nobody needs
            assert storage == 'sqlite3' and len(frames) == 6


@pytest.mark.parametrize('storage', STORAGES)
def test_a_damaged_file_is_one_clear_error_or_none(bag, tmp_path, storage):
    random = np.random.default_rng(0)
    whole = only_file(bag(storage=storage))
    damaged = tmp_path / f'damaged{whole.suffix}'
    for _ in range(60):
        data = bytearray(whole.read_bytes())
        for place in random.integers(0, len(data), 40):
            data[place] = random.integers(256)
        damaged.write_bytes(data)
        try:
            list(open_source(str(damaged)))
        except SourceError as error:
            assert str(damaged) in str(error) and '\n' not in str(error)


def test_a_folder_without_metadata_says_what_to_do(bag):
    folder = bag()
    (folder / 'metadata.yaml').unlink()
    error = error_of(folder)
    assert 'no metadata.yaml' in error and 'reindex' in error and 'drive.mcap' in error


@pytest.mark.parametrize('old, new, word', [
    ('storage_identifier: mcap', 'storage_identifier: tape', "'tape'"),
    ('version: 8', 'version: 99', '99'), ('drive.mcap', 'gone.mcap', 'gone.mcap'),
    ('cdr', 'xml', 'xml'), ('message_count', 'x', 'message_count'),
    ('rosbag2_bagfile_information:', 'rosbag2_bagfile_information: [', 'YAML')])
def test_metadata_that_is_not_understood_is_one_clear_error(bag, old, new, word):
    folder = bag()
    path = folder / 'metadata.yaml'
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    assert word in error_of(folder)


def test_a_bag_without_images_names_what_it_has(tmp_path):
    folder = write_bag(tmp_path / 'a', {'/words': [(at(0), text('hello'))]})
    assert 'has no images' in error_of(folder) and '/words' in error_of(folder)


def test_an_image_that_cannot_be_converted_is_named(tmp_path):
    folder = write_bag(tmp_path / 'a', {'/image': [
        *images(count=2), (at(2), image(picture(2), 'rainbow', at(2), 56))]})
    error = error_of(folder)
    assert 'message 3 of /image' in error and "'rainbow'" in error and str(folder) in error


def test_types_of_anybody_do_not_matter(tmp_path, bag):
    # What rosbag2 records of a topic whose type nobody here knows.
    data = only_file(bag(**{'/words': [(at(0), text('hello'))]})).read_bytes()
    path = tmp_path / 'odd.mcap'
    path.write_bytes(data.replace(b'std_msgs/msg/String', b'nobody/msg/Whatever'))
    assert len(list(open_source(str(path)))) == 6


@pytest.mark.parametrize('name, word', [('a.bag', 'rosbags-convert'), ('a.mcap', 'magic'),
                                        ('a.db3', 'not a database'), ('a.db3.zstd', 'folder')])
def test_what_is_no_bag_at_all(tmp_path, name, word):
    (tmp_path / name).write_bytes(b'#ROSBAG V2.0\n' * 100)
    assert word in error_of(tmp_path / name)


def test_a_video_has_no_topics(tmp_path):
    cv2.imwrite(str(tmp_path / '1.png'), picture(1))
    assert 'is no bag' in error_of(f'{tmp_path}:/camera/image')


def test_a_data_set_with_metadata_of_its_own_is_a_folder_of_images(tmp_path):
    cv2.imwrite(str(tmp_path / '1.png'), picture(1))
    (tmp_path / 'metadata.yaml').write_text('licence: CC0')
    assert open_source(str(tmp_path)).count == 1


def test_bags_need_rosbags_and_say_so(bag):
    code = ("import sys; sys.modules['rosbags'] = None; sys.modules['rclpy'] = None\n"
            'from shadowtutor_ros.sources.videos import open_source\n'
            "print(next(iter(open_source('scene'))).shape)\n"
            'open_source(sys.argv[1])')
    done = subprocess.run(
        [sys.executable, '-c', code, str(bag())], capture_output=True, text=True, timeout=120)
    assert done.stdout == '(360, 640, 3)\n'
    assert 'pip install "rosbags' in done.stderr.splitlines()[-1]


def test_bags_need_no_ros(bag):
    code = ('import sys; from shadowtutor_ros.sources.videos import open_source\n'
            'assert len(list(open_source(sys.argv[1]))) == 6\n'
            "assert not {'rclpy', 'sensor_msgs', 'std_msgs', 'torch'} & {*sys.modules}")
    subprocess.run([sys.executable, '-c', code, str(bag())], check=True, timeout=120)
