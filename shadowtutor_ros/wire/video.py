"""
Pictures as an AV1 video without a clock: each after the first is coded by what has changed.

What a decoder makes of a stream is the same to the bit everywhere, whoever wrote it. PyAV brings
encoder (SVT-AV1) and decoder (dav1d); where it is missing all else works.
"""

from collections.abc import Iterator
import contextlib
from fractions import Fraction
import functools
import os
from types import ModuleType

import cv2
import numpy as np

from shadowtutor_ros.wire.av1 import DELIMITER, FRAME, SEQUENCE, units

#: Effort of the encoder, 0 to 13, the last the fastest.
PRESET = 6

#: The encoder takes no less, in pixels each way.
_LEAST = 64

#: Quality of WebP, and the encoder's quantizer, 1 to 63, for the same PSNR: the mean over the 79
#: key frames of 13 videos.
_QUANTIZERS = np.array([
    (1, 51), (10, 43), (20, 39), (30, 36), (40, 32), (50, 30), (60, 27), (70, 25), (80, 19),
    (90, 10), (95, 6), (100, 4)]).T

#: Each picture refers to those before it alone, is as good as they are, and leaves the encoder at
#: once, in one thread.
_OPTIONS = (
    'rc=0:pred-struct=1:hierarchical-levels=2:lookahead=0:keyint=-1:scd=0:enable-tf=0:aq-mode=0:'
    'use-fixed-qindex-offsets=1:key-frame-qindex-offset=0:qindex-offsets=[0,0,0]:lp=1')


class VideoError(ValueError):
    """A picture that cannot be coded or read; the text is a clause that begins with 'it'."""


@functools.cache
def _av() -> ModuleType | None:
    os.environ.setdefault('SVT_LOG', '0')  # else it writes ten lines for each stream
    try:
        import av
    except Exception:  # missing, or one that does not fit its libraries
        return None
    return av


@functools.cache
def has_video() -> bool:
    """Tell whether PyAV can write and read AV1 here, by trying."""
    if _av() is None:
        return False
    try:
        encoder, decoder = VideoEncoder(64, 64, 50), VideoDecoder(64, 64)
        frame = np.zeros((64, 64, 3), np.uint8)
        return all(decoder(encoder(frame)).shape == frame.shape for _ in range(2))
    except Exception:  # a codec that is not there, or does otherwise
        return False


class VideoEncoder:
    """
    Codes pictures of one size, each by those before it.

    :param height, width: of the pictures, in pixels.
    :param quality: 1 to 100, on the scale of WebP: with about its PSNR.
    """

    def __init__(self, height: int, width: int, quality: int):
        self._pad = _padding(height, width)
        context = _av().CodecContext.create('libsvtav1', 'w')
        context.height, context.width = height + self._pad[0], width + self._pad[1]
        context.pix_fmt, context.thread_count = 'yuv420p', 1
        context.time_base, context.framerate = Fraction(1, 5), Fraction(5)
        quantizer = round(np.interp(quality, *_QUANTIZERS))
        context.options = {
            'preset': str(PRESET), 'svtav1-params': f'{_OPTIONS}:qp={quantizer}'}
        self._context = context
        self._count = 0

    def __call__(self, frame: np.ndarray) -> bytes:
        """
        Code the next picture.

        :param frame: H×W×3 uint8, BGR.
        :raises VideoError: if the encoder fails; it is of no use any more.
        """
        bottom, right = self._pad
        padded = cv2.copyMakeBorder(frame, 0, bottom, 0, right, cv2.BORDER_REPLICATE)
        picture = _av().VideoFrame.from_ndarray(
            cv2.cvtColor(padded, cv2.COLOR_BGR2YUV_I420), format='yuv420p')
        picture.pts, picture.time_base = self._count, Fraction(1, 5)
        self._count += 1
        try:
            with _scheduling_kept():
                packets = self._context.encode(picture)
        except _av().FFmpegError as error:
            raise VideoError(f'it cannot be coded: {error}') from None
        if len(packets) != 1:
            raise VideoError(f'it became {len(packets)} packets instead of one')
        return bytes(packets[0])


@contextlib.contextmanager
def _scheduling_kept() -> Iterator[None]:
    """
    Give all threads of this process the scheduling that the calling one had before.

    Started by root, as in many containers, SVT-AV1 makes its threads and the one that calls it
    real-time ones of the highest priority, and all that they start: one that computes then keeps
    the whole machine, the masks first, from computing.
    """
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        if os.sched_getscheduler(0) != policy:
            for thread in map(int, os.listdir('/proc/self/task')):
                with contextlib.suppress(OSError):  # it has ended
                    if os.sched_getscheduler(thread) == os.SCHED_FIFO:
                        os.sched_setscheduler(thread, policy, parameters)


class VideoDecoder:
    """
    Reads the pictures of a :class:`VideoEncoder`; they are not trusted.

    :param height, width: of the pictures; memory is taken for no larger ones.
    """

    def __init__(self, height: int, width: int):
        self._size = height, width
        self._pad = _padding(height, width)
        self._context = _av().CodecContext.create('libdav1d', 'r')
        self._context.thread_count = 1  # so that each picture leaves it at once
        self._context.options = {
            'max_pixels': str((height + self._pad[0]) * (width + self._pad[1]))}

    def __call__(self, data: bytes) -> np.ndarray:
        """
        Read the next picture.

        :returns: H×W×3 uint8, BGR.
        :raises VideoError: if it is not one picture of this size; nothing that follows can be
            read then.
        """
        try:
            kinds = [kind for kind, _ in units(data)]
            # Many more would be decoded before one of them comes out.
            if kinds not in ([DELIMITER, FRAME], [DELIMITER, SEQUENCE, FRAME]):
                raise ValueError
            pictures = self._context.decode(_av().Packet(data))
        except (ValueError, IndexError, _av().FFmpegError):
            raise VideoError('it is no picture of an AV1 video, or cut') from None
        height, width = self._size
        padded = height + self._pad[0], width + self._pad[1]
        if len(pictures) != 1 or (
                pictures[0].height, pictures[0].width, pictures[0].format.name) != (
                    *padded, 'yuv420p'):
            raise VideoError(f'it is not one picture of {height}x{width}')
        image = cv2.cvtColor(pictures[0].to_ndarray(), cv2.COLOR_YUV2BGR_I420)
        return np.ascontiguousarray(image[:height, :width])


def _padding(height: int, width: int) -> tuple[int, int]:
    """Return the rows and columns that are added: colours are of two by two pixels."""
    even = max(_LEAST, height + height % 2), max(_LEAST, width + width % 2)
    return even[0] - height, even[1] - width
