"""Frames of a rosbag2: a folder with metadata.yaml, or a .mcap or .db3 file; without ROS."""

from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Iterator

import cv2
import numpy as np

from shadowtutor_ros.limits import MIN_SIDE
from shadowtutor_ros.sources.base import DEFAULT_RATE, Recorded, resize, Source, SourceError
from shadowtutor_ros.wire.image_messages import ImageMessageError, to_bgr

if TYPE_CHECKING:  # installed where bags are used
    from rosbags.interfaces import Connection
    from rosbags.rosbag2 import Reader
    from rosbags.typesys.store import Typestore

_IMAGES = ('sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage')

_FILES = ('.mcap', '.db3')

_METADATA = 'metadata.yaml'

_ZSTD = b'\x28\xb5\x2f\xfd'


def split_topic(source: str) -> tuple[str, str]:
    """Split 'PATH:/TOPIC' into path and topic; the topic is empty where there is none."""
    path, colon, topic = source.rpartition(':/')
    if colon and Path(path).exists() and not Path(source).exists():
        return path, f'/{topic}'
    return source, ''


def is_bag(path: Path) -> bool:
    """Tell whether a file or a folder is a bag, or what is left of one."""
    if not path.is_dir():
        return path.suffix in (*_FILES, '.bag', '.zstd')
    try:
        # Data sets of images have files of this name too.
        return b'rosbag2_bagfile_information' in (path / _METADATA).read_bytes()
    except OSError:
        return bool(_files(path))


def open_bag(
        path: Path, topic: str, size: tuple[int, int], enlarge: int = cv2.INTER_LINEAR) -> Source:
    """
    Open the images of a topic.

    :param path: for which :func:`is_bag`.
    :param topic: of sensor_msgs/Image or sensor_msgs/CompressedImage; empty for the only such one.
    :param size: (width, height) of the frames in pixels; 0 for that of the first image, or for
        what its aspect ratio gives.
    :param enlarge: how OpenCV enlarges.
    :raises SourceError: if it cannot be read, or has no such topic; one line says what to do.
    """
    name = path.resolve().name + (f':{topic}' if topic else '')
    with _reading(path) as reader:
        connections = _connections(reader, path, topic)
        topic = connections[0].topic
        count = sum(connection.msgcount for connection in connections)
        first = next(_messages(reader, connections, path), None)
        if first is None:
            raise SourceError(
                f"bag '{path}' holds none of the {count} images that its index names: copy it "
                'again, or run ros2 bag reindex on it')
        period = (_last_time(reader, connections) - first[0]) / 1e9 / max(1, count - 1)
    height, width = resize(_decode(first[1], 1, topic, path), size).shape[:2]
    if min(height, width) < MIN_SIDE:
        raise SourceError(
            f"frames of '{path}' would be {width}x{height}, which is too small: "
            f'{MIN_SIDE}x{MIN_SIDE} at least')

    def frame(message: Any, number: int) -> np.ndarray:
        # Images of several sizes are brought to the size of the first.
        return resize(_decode(message, number, topic, path), (width, height), enlarge)

    def recorded() -> Iterator[Recorded]:
        with _reading(path) as reader:
            found = _messages(reader, _connections(reader, path, topic), path)
            for number, (time, message) in enumerate(found, 1):
                stamp = message.header.stamp
                yield Recorded(
                    time, stamp.sec * 10**9 + stamp.nanosec or time, message.header.frame_id,
                    partial(frame, message, number))

    return Source(
        name, 1 / period if 0.001 < period else DEFAULT_RATE, count,
        lambda: (one.decode() for one in recorded()), recorded=recorded)


@contextmanager
def _reading(path: Path) -> Iterator['Reader']:
    """Open a bag; whatever its reader raises becomes one clear error."""
    try:
        from rosbags.rosbag2 import Reader
    except ImportError as error:
        raise SourceError(
            f"'{path}' is a bag, and what reads bags cannot be imported ({error}): pip install "
            '"rosbags>=0.11.9,<0.12"') from None
    if path.suffix == '.bag' and path.is_file():
        raise SourceError(
            f"'{path}' is a bag of ROS 1: convert it with rosbags-convert --src {path.name} --dst "
            f'{path.stem}')
    if path.suffix == '.zstd':
        raise SourceError(f"'{path}' is one file of a compressed bag: give the bag's folder")
    if path.is_dir() and not (path / _METADATA).exists():
        raise SourceError(
            f"bag '{path}' has no {_METADATA}, as if its recording had not ended: give one of its "
            f"files ({', '.join(_files(path))}), or run ros2 bag reindex on it")
    try:
        with Reader(path) as reader:
            yield reader
    except SourceError:
        raise
    # SQLite's, zstd's and Python's own errors come through where a file is damaged.
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0].rstrip('.')
        raise SourceError(
            f"bag '{path}' cannot be read ({reason}): if it was cut short, copy it again, or try "
            'ros2 bag reindex, or mcap recover for an .mcap file') from error


def _files(folder: Path) -> list[str]:
    return sorted(
        path.name for path in folder.iterdir() if path.suffix in (*_FILES, '.zstd'))


def _connections(reader: 'Reader', path: Path, topic: str) -> list['Connection']:
    """Return what holds the images of a topic, or of the only one with images."""
    by_topic: dict[str, list[Connection]] = {}
    for connection in reader.connections:
        if connection.msgtype in _IMAGES and connection.msgcount:
            by_topic.setdefault(connection.topic, []).append(connection)
    there = ', '.join(sorted(by_topic)) or 'none'
    if topic in by_topic:
        return by_topic[topic]
    if topic:
        kinds = {one.msgtype for one in reader.connections if one.topic == topic} - {*_IMAGES}
        what = f'is of type {kinds.pop()}' if kinds else 'has no images'
        raise SourceError(
            f"topic '{topic}' of bag '{path}' {what}; its topics with images: {there}")
    if len(by_topic) > 1:
        raise SourceError(
            f"bag '{path}' has several topics with images: give one, as in "
            f"'{path}:{min(by_topic)}', of {there}")
    if not by_topic:
        all_topics = ', '.join(sorted({one.topic for one in reader.connections})) or 'none'
        raise SourceError(
            f"bag '{path}' has no images: wanted {' or '.join(_IMAGES)}; its topics are "
            f'{all_topics}')
    return next(iter(by_topic.values()))


def _messages(
        reader: 'Reader', connections: list['Connection'], path: Path
) -> Iterator[tuple[int, Any]]:
    """Yield when each message was recorded, in ns, and the message."""
    for connection, time, data in reader.messages(connections):
        if data[:4] == _ZSTD:
            raise SourceError(
                f"the messages of '{path}' are compressed: give the bag's folder, whose "
                f'{_METADATA} says so')
        yield time, _types().deserialize_cdr(data, connection.msgtype)


@lru_cache
def _types() -> 'Typestore':
    """Return ROS's own types: those of images are the same in all distributions of ROS 2."""
    from rosbags.typesys import get_typestore, Stores
    return get_typestore(Stores.LATEST)


def _last_time(reader: 'Reader', connections: list['Connection']) -> int:
    """Return when the last message was recorded, in ns, without reading them all."""
    span = 10**9
    while True:
        time = None
        for _, time, _ in reader.messages(connections, start=reader.end_time - span):
            pass
        if time is not None:
            return time
        span *= 8


def _decode(message: Any, number: int, topic: str, path: Path) -> np.ndarray:
    try:
        frame = to_bgr(message)
    except ImageMessageError as error:
        raise SourceError(f"message {number} of {topic} in bag '{path}': {error}") from None
    # As all other frames are; PyTorch warns of others.
    return frame if frame.flags.writeable else frame.copy()
