"""Sources of frames: a video, a folder of images, a bag, a camera, the built-in scene."""

from dataclasses import dataclass, replace
from functools import partial
import math
from pathlib import Path
import re
from typing import Iterable, Iterator, TypeVar

import cv2
import numpy as np

from shadowtutor_ros.limits import MIN_SIDE
from shadowtutor_ros.sources.bags import is_bag, open_bag, split_topic
from shadowtutor_ros.sources.base import DEFAULT_RATE, resize, Source, SourceError
from shadowtutor_ros.world.scenes import FRAME_RATE, LOOKS, Scene

#: What is taken for an image in a folder.
IMAGE_SUFFIXES = ('.bmp', '.jpeg', '.jpg', '.png', '.webp')

_DEFAULT_SCENE_SIZE = 640, 360

_Item = TypeVar('_Item')


def open_source(
        source: str, size: tuple[int, int] = (0, 0), frames: int = 0, seed: int = 0,
        look: str = 'day', enlarge: int = cv2.INTER_LINEAR) -> Source:
    """
    Open a source of frames.

    :param source: the path of a video file or of a folder of images; that of a bag, with ':/topic'
        behind it where several of its topics have images; a V4L2 device such as '/dev/video0'; or
        'scene'.
    :param size: (width, height) of the frames in pixels; 0 for the source's own, or for what the
        source's aspect ratio gives.
    :param frames: stop after this many; 0 for no limit.
    :param seed, look: of the built-in scene.
    :param enlarge: how OpenCV enlarges; it reduces by areas.
    :raises SourceError: if it is missing or cannot be read; one line says what and what to do.
    """
    if any(0 < length < MIN_SIDE for length in size):
        raise SourceError(
            f'a size of {size[0]}x{size[1]} is too small: {MIN_SIDE}x{MIN_SIDE} at least')
    path, topic = split_topic(source)
    if source == 'scene':
        opened = _open_scene(size, seed, look)
    elif source.startswith('/dev/'):
        opened = _open_device(source, size)
    elif is_bag(Path(path)) and Path(path).exists():
        opened = open_bag(Path(path), topic, size, enlarge)
    elif topic:
        raise SourceError(f"'{path}' is no bag, so it has no topic {topic}")
    elif Path(source).is_dir():
        opened = _open_folder(Path(source), size, enlarge)
    elif Path(source).is_file():
        opened = _open_video(source, size, enlarge)
    else:
        raise SourceError(
            f"source '{source}' is not there: give a video file, a folder of images, a bag, a "
            "device such as /dev/video0, or 'scene'")
    count = opened.count
    if frames:
        count = frames if count is None else min(frames, count)
    recorded = opened.recorded
    return replace(
        opened, count=count, read=lambda: map(partial(_checked, opened), _first(opened, frames)),
        endless=opened.endless and not frames,
        recorded=recorded and (lambda: _first(recorded(), frames)))


def _first(items: Iterable[_Item], count: int) -> Iterator[_Item]:
    """Yield the first items, or all of them where ``count`` is 0."""
    # Not islice, which would keep the source from closing its file when the last is out.
    for index, item in enumerate(items, 1):
        yield item
        if index == count:
            return


def _checked(source: Source, frame: np.ndarray) -> np.ndarray:
    height, width = frame.shape[:2]
    if min(height, width) < MIN_SIDE:
        raise SourceError(
            f"'{source.name}' has a frame of {width}x{height}, which is too small: "
            f'{MIN_SIDE}x{MIN_SIDE} at least')
    return frame


@dataclass(frozen=True)
class Clip:
    """
    The part of a source that is evaluated, as data.

    :ivar video: a source, as for :func:`open_source`, that gives the same frames each time.
    :ivar width: that frames are brought to, in pixels; the height follows, as a multiple of 8.
    :ivar frames: stop after this many; 0: all.
    :ivar fps: frames a second that are taken of it; 0, or more than it has: all.
    :ivar jpeg: quality of the JPEG images that the camera delivers, 1 to 100; 0: it delivers the
        frames as they are.
    """

    video: str
    width: int
    frames: int = 0
    fps: float = 0.0
    jpeg: int = 0

    def delivered(self) -> Source:
        """Open it as the camera delivers it to the student."""
        source = self.open()
        return replace(source, read=lambda: map(self._compress, source)) if self.jpeg else source

    def _compress(self, frame: np.ndarray) -> np.ndarray:
        options = [cv2.IMWRITE_JPEG_QUALITY, self.jpeg]
        return cv2.imdecode(cv2.imencode('.jpg', frame, options)[1], cv2.IMREAD_COLOR)

    def open(self) -> Source:
        """
        Open it; rate and count are those of the frames that are taken.

        :raises SourceError: if it cannot be read, or is not fit to be evaluated.
        """
        if self.video.startswith('/dev/'):
            raise SourceError(
                f"'{self.video}' gives other frames each time: record a video of it first")
        height, width = next(iter(open_source(self.video))).shape[:2]
        # A multiple of 8, and by areas, as in the first implementation's figures.
        size = self.width, 8 * round(height * self.width / width / 8)
        if min(size) < MIN_SIDE:
            raise SourceError(
                f"frames of '{self.video}' would be {size[0]}x{size[1]}: give a larger width, as "
                f'the student needs {MIN_SIDE}x{MIN_SIDE} at least')
        source = open_source(self.video, size, enlarge=cv2.INTER_AREA)
        rate = min(self.fps or source.rate, source.rate)
        count = source.count and math.ceil(source.count * rate / source.rate - 1e-9)
        if self.frames:
            count = min(self.frames, count or self.frames)
        if source.endless and not self.frames:
            raise SourceError(f"'{self.video}' has no end: give a number of frames")
        # The count is what the file's header says, which need not be so.
        return Source(source.name, rate, count, lambda: _sample(source, rate, self.frames))


def _sample(source: Source, rate: float, count: int) -> Iterator[np.ndarray]:
    """Read ``count`` frames at a rate, or all where it is 0."""
    taken = 0
    for index, frame in enumerate(source):
        # The frame that is due, or the first one after.
        if index / source.rate < taken / rate - 1e-9:
            continue
        yield frame
        taken += 1
        if taken == count:
            return


def _open_scene(size: tuple[int, int], seed: int, look: str) -> Source:
    if look not in LOOKS:
        raise SourceError(f"look '{look}' is unknown: choose one of {', '.join(LOOKS)}")
    width, height = size
    default_width, default_height = _DEFAULT_SCENE_SIZE
    width = width or (round(height * default_width / default_height) or default_width)
    height = height or round(width * default_height / default_width)
    scene = Scene(seed=seed, look=look, width=width, height=height)

    def read() -> Iterator[np.ndarray]:
        index = 0
        while True:
            yield scene.render(index).image
            index += 1

    return Source(f'scene ({look}, seed {seed})', FRAME_RATE, None, read, endless=True)


def images_of(folder: Path) -> list[Path]:
    """List the images of a folder as people count: frame2 before frame10; no hidden files."""
    def key(path: Path) -> tuple:
        # Every other part is a number.
        parts = re.split('([0-9]+)', path.name)
        return [int(part) if index % 2 else part for index, part in enumerate(parts)], path.name

    return sorted((
        path for path in folder.iterdir()
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith('.')), key=key)


def _open_folder(folder: Path, size: tuple[int, int], enlarge: int) -> Source:
    paths = images_of(folder)
    if not paths:
        raise SourceError(
            f"folder '{folder}' holds no image: wanted files that end in "
            f"{', '.join(IMAGE_SUFFIXES)}")

    def read() -> Iterator[np.ndarray]:
        first_size = size
        for path in paths:
            frame = cv2.imread(str(path))
            if frame is None:
                raise SourceError(f"image '{path}' cannot be read: remove it from the folder")
            frame = resize(frame, first_size, enlarge)
            # Images of several sizes are brought to the size of the first.
            first_size = frame.shape[1], frame.shape[0]
            yield frame

    return Source(folder.resolve().name, DEFAULT_RATE, len(paths), read)


def _capture(source: str, what: str) -> cv2.VideoCapture:
    # Absolute, since FFmpeg takes what stands before a colon, as in 12:30.mp4, for a protocol.
    capture = cv2.VideoCapture(str(Path(source).absolute()))
    if not capture.isOpened():
        raise SourceError(
            f"{what} '{source}' cannot be opened: is it a {what} that OpenCV reads, "
            'and may it be read?')
    return capture


def _open_video(path: str, size: tuple[int, int], enlarge: int) -> Source:
    capture = _capture(path, 'video')
    rate = capture.get(cv2.CAP_PROP_FPS)
    count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    readable = capture.grab()
    capture.release()
    if not readable:
        raise SourceError(f"video '{path}' holds no frame that OpenCV can decode")

    def read() -> Iterator[np.ndarray]:
        capture = _capture(path, 'video')
        try:
            while True:
                there, frame = capture.read()
                if not there:
                    return
                yield resize(frame, size, enlarge)
        finally:
            capture.release()

    return Source(
        Path(path).name, rate if 0 < rate < 1000 else DEFAULT_RATE,
        count if count > 0 else None, read)


def _open_device(path: str, size: tuple[int, int]) -> Source:
    capture = _capture(path, 'device')
    if size[0]:
        capture.set(cv2.CAP_PROP_FRAME_WIDTH, size[0])
    if size[1]:
        capture.set(cv2.CAP_PROP_FRAME_HEIGHT, size[1])
    rate = capture.get(cv2.CAP_PROP_FPS)

    def read() -> Iterator[np.ndarray]:
        while True:
            there, frame = capture.read()
            if not there:
                raise SourceError(f"device '{path}' gives no more images: is it still plugged in?")
            yield resize(frame, size)

    return Source(path, rate if 0 < rate < 1000 else DEFAULT_RATE, None, read, endless=True)
