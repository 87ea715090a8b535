"""Key frames as they cross the network, and the coding of their images."""

from collections.abc import Callable
from dataclasses import dataclass
import math
import re

import cv2
import numpy as np
import PIL

from shadowtutor_ros.classes import LVS
from shadowtutor_ros.limits import MIN_SIDE
from shadowtutor_ros.wire.avif import decode_avif, encode_avif, has_avif
from shadowtutor_ros.wire.image_files import decode_file, ImageFileError
from shadowtutor_ros.wire.video import has_video, VideoDecoder, VideoEncoder, VideoError

#: How the image of a key frame can be coded by itself.
FORMATS = ('jpeg', 'webp', 'avif', 'png', 'raw')

#: By what has changed since the key frame before it.
VIDEO = 'video'

#: As video where robot and teacher can, else as WebP.
AUTO = 'auto'

#: What a student can be told.
CHOICES = (AUTO, VIDEO, *FORMATS)

#: How it is by default; docs/evaluation.md shows what that costs.
DEFAULT_FORMAT, DEFAULT_QUALITY = 'webp', 50

#: Larger frames from the network are refused before memory is taken for them (4K UHD): to train
#: on one takes some GB.
MAX_PIXELS = 3840 * 2160

#: Bytes of a key frame's image at most: those of the largest that is raw.
MAX_BYTES = 3 * MAX_PIXELS


class KeyFrameError(ValueError):
    """
    A key frame that cannot be read, or cannot be answered.

    :ivar reason: one of ``weight_update.REFUSALS``, to count by.
    :ivar needed_seconds: that an answer would have taken, where it would have come too late.
    """

    def __init__(self, text: str, reason: str = 'unreadable', needed_seconds: float = 0.0):
        super().__init__(text)
        self.reason = reason
        self.needed_seconds = needed_seconds


@dataclass(frozen=True)
class KeyFrame:
    """
    A frame that a robot's student sends to its teacher, with what the student runs.

    :ivar session_id: the student's session, 0 to 2^64 − 1.
    :ivar number: of this key frame in its session, from 1.
    :ivar frame_index: of this frame in its session, from 0.
    :ivar model_id: layout of the student network, see ``Student.model_id``.
    :ivar classes_digest: of the class table that is wanted, see ``ClassTable.digest``.
    :ivar classes, background: the table itself, as ``ClassTable.of`` takes it; empty where the
        teacher knows it, by having answered one before or from the weights file.
    :ivar initial_checksum: CRC-32 of the weights in the student's weights file, as they are there.
    :ivar weights_version: how often the weights have changed since, from 0.
    :ivar weights_checksum: CRC-32 of the weights that the student runs, with rows for the table.
    :ivar frame: H×W×3 uint8, BGR.
    :ivar student_id, student: the student's number, the same in all its sessions, and its name.
    :ivar teacher_id: the teacher that this is for; 0 for any.
    :ivar useful_seconds: for how long an answer is of use.
    :ivar image: the frame as it came, its format and the bytes, which are fewer; empty where it
        came otherwise.
    :ivar answered: the last key frame of the session that the teacher which is followed has
        answered, so that this may refer to it; 0: none.
    """

    session_id: int
    number: int
    frame_index: int
    model_id: str
    initial_checksum: int
    weights_version: int
    weights_checksum: int
    frame: np.ndarray
    student_id: int = 0
    student: str = ''
    teacher_id: int = 0
    useful_seconds: float = math.inf
    classes_digest: int = LVS.digest
    classes: tuple[str, ...] = ()
    background: int = 0
    image: tuple[str, bytes] = ('', b'')
    answered: int = 0


def encode_image(
        frame: np.ndarray, image_format: str = 'jpeg', quality: int = 90,
        max_width: int = 0) -> tuple[str, np.ndarray]:
    """
    Code a frame for the network.

    :param frame: H×W×3 uint8, BGR.
    :param image_format: one of :data:`FORMATS`.
    :param quality: of JPEG, WebP and AVIF, 1 to 100, the last on WebP's scale; at 100 both still
        lose.
    :param max_width: a wider frame is reduced to this width, in pixels; 0 sets no limit. A frame
        of more than :data:`MAX_PIXELS`, which no teacher takes, is reduced in any case.
    :returns: the format as KeyFrame.msg has it, and the bytes (1-D uint8).
    :raises KeyFrameError: if the format is unknown, or :func:`format_fault` has something to say.
    """
    frame = _reduce(frame, max_width)
    if image_format == 'raw':
        return f'raw; {frame.shape[0]}x{frame.shape[1]}', np.ascontiguousarray(frame).reshape(-1)
    if fault := format_fault(image_format):
        raise KeyFrameError(fault)
    if image_format == 'avif':
        return image_format, np.frombuffer(encode_avif(frame, quality), np.uint8)
    options = {
        'jpeg': [cv2.IMWRITE_JPEG_QUALITY, quality],
        'webp': [cv2.IMWRITE_WEBP_QUALITY, quality],
        # Level 1 is several times as fast as OpenCV's default for a few per cent more bytes.
        'png': [cv2.IMWRITE_PNG_COMPRESSION, 1],
    }
    if image_format not in options:
        raise KeyFrameError(
            f"key-frame format '{image_format}' is unknown: choose one of {', '.join(FORMATS)}")
    return image_format, cv2.imencode(f'.{image_format}', frame, options[image_format])[1]


class KeyFrameEncoder:
    """
    Codes the key frames of a student, one after another, for the network.

    :ivar no_video: whether the teacher cannot read video, so that :data:`AUTO` is not it.
    """

    def __init__(self) -> None:
        self.no_video = False
        self._video: VideoEncoder | None = None
        #: What the stream of pictures is of, and the number of its last key frame.
        self._stream: tuple = ()
        self._last = 0

    def __call__(
            self, key_frame: KeyFrame, image_format: str, quality: int,
            max_width: int) -> tuple[str, np.ndarray]:
        """
        Code a key frame's image.

        As video it refers to those before it if the last of them was answered, so that whoever
        answers has all of them; else a stream begins.

        :param image_format: one of :data:`CHOICES`.
        :param quality, max_width: as in :func:`encode_image`; video is on WebP's scale too.
        :returns: the format as KeyFrame.msg has it, and the bytes (1-D uint8).
        :raises KeyFrameError: if it cannot be coded.
        """
        if image_format == AUTO:
            image_format = 'webp' if self.no_video or format_fault(VIDEO) else VIDEO
        if image_format != VIDEO:
            self._video = None
            return encode_image(key_frame.frame, image_format, quality, max_width)
        if fault := format_fault(VIDEO):
            raise KeyFrameError(fault)
        frame = _reduce(key_frame.frame, max_width)
        stream = key_frame.session_id, frame.shape, quality
        if self._video is None or self._stream != stream or key_frame.answered != self._last:
            self._video, self._stream = VideoEncoder(*frame.shape[:2], quality), stream
            self._last = 0
        height, width = frame.shape[:2]
        said = f'{VIDEO}; {height}x{width}; {self._last}'
        try:
            data = self._video(frame)
        except VideoError as error:
            self._video = None
            raise KeyFrameError(f'a key frame cannot be sent as video: {error}') from None
        self._last = key_frame.number
        return said, np.frombuffer(data, np.uint8)


class KeyFrameDecoder:
    """Reads the key frames of a robot, one after another; they are not trusted."""

    def __init__(self) -> None:
        self._video: VideoDecoder | None = None
        #: Session and size of the stream of pictures, the number of its last key frame, and what
        #: that was read as.
        self._stream: tuple = ()
        self._last = 0
        self._read: tuple[np.ndarray, tuple[str, bytes]] | None = None

    def __call__(
            self, session_id: int, number: int, image_format: str, data: bytes | np.ndarray
    ) -> tuple[np.ndarray, tuple[str, bytes]]:
        """
        Read a key frame's image.

        :param session_id, number: of the key frame.
        :param image_format, data: as in KeyFrame.msg.
        :returns: H×W×3 uint8, BGR; and the image as :func:`decode_image` reads it by itself.
        :raises KeyFrameError: if it is none, too large, cannot be read on this machine, or
            follows a key frame other than the last that was read here.
        """
        if not image_format.startswith(VIDEO):
            return decode_image(image_format, data), (image_format, bytes(data))
        match = re.fullmatch(
            rf'{VIDEO}; ([1-9]\d{{0,5}})x([1-9]\d{{0,5}}); (0|[1-9]\d{{0,9}})', image_format)
        if not match:
            raise KeyFrameError(
                f"key-frame format '{image_format[:40]}' is not "
                f"'{VIDEO}; <height>x<width>; <key frame before it>'")
        if fault := format_fault(VIDEO):
            raise KeyFrameError(f'a key frame of a video cannot be read: {fault}', 'format')
        height, width, before = map(int, match.groups())
        _check_bytes(data)
        _check_size(height, width)
        stream, decoder = (session_id, height, width), self._video
        if decoder is not None and (self._stream, self._last) == (stream, number):
            return self._read  # it came twice
        if not before:
            decoder = VideoDecoder(height, width)
        elif decoder is None or (self._stream, self._last) != (stream, before):
            raise KeyFrameError(
                f'it says what has changed since key frame {before}, which is not the last that '
                'was read here: the next one begins anew')
        self._video = None  # unless this goes well
        try:
            frame = decoder(bytes(data))
        except VideoError as error:
            raise KeyFrameError(
                f'a key frame of {len(data)} bytes is not whole: {error}') from None
        self._video, self._stream, self._last = decoder, stream, number
        said, image = encode_image(frame, 'png')
        self._read = frame, (said, image.tobytes())
        return self._read


def format_fault(image_format: str) -> str:
    """Say what this machine lacks for one of :data:`CHOICES`; '' if nothing."""
    if image_format == VIDEO and not has_video():
        return (
            "there is no PyAV with AV1 here: pip install 'av>=15', or set the student's parameter "
            'key_frame.format to webp')
    if image_format != 'avif' or has_avif():
        return ''
    return (
        f"Pillow {PIL.__version__} here has no AVIF: pip install 'pillow>=11.3', or set the "
        "student's parameter key_frame.format to webp")


def _reduce(frame: np.ndarray, max_width: int) -> np.ndarray:
    height, width = frame.shape[:2]
    new = min(max_width or width, math.isqrt(MAX_PIXELS * width // height))
    if new >= width:
        return frame
    size = new, max(MIN_SIDE, min(round(height * new / width), MAX_PIXELS // new))
    return cv2.resize(frame, size, interpolation=cv2.INTER_AREA)


def encode_label(label: np.ndarray) -> bytes:
    """Code a label, H×W uint8 class ids, as a PNG file."""
    return cv2.imencode('.png', label)[1].tobytes()


def decode_label(data: bytes, most: tuple[int, int]) -> np.ndarray:
    """
    Read a label of :func:`encode_label`.

    :param data: not trusted.
    :param most: height and width at most, those of the frame; a larger label is not decoded.
    :returns: H×W uint8.
    :raises KeyFrameError: if it is not such a label, is cut short or too large.
    """
    def check_size(height: int, width: int) -> None:
        _check_size(height, width)
        if height > most[0] or width > most[1]:
            raise KeyFrameError(
                f'{height}x{width} pixels are more than the {most[0]}x{most[1]} of its frame',
                'too_large')

    return _decode(data, 'png', check_size, grey=True)


def decode_image(image_format: str, data: bytes | np.ndarray) -> np.ndarray:
    """
    Read an image of :func:`encode_image`, or a file that others have made.

    Any JPEG, WebP or PNG file is taken, and an AVIF file of one plain picture.

    :param image_format: as KeyFrame.msg has it.
    :param data: the bytes, not trusted.
    :returns: H×W×3 uint8, BGR.
    :raises KeyFrameError: if it is not such an image, is cut short or too large, or cannot be read
        on this machine.
    """
    _check_bytes(data)
    if image_format.startswith('raw'):
        match = re.fullmatch(r'raw; ([1-9]\d{0,5})x([1-9]\d{0,5})', image_format)
        size = len(data)
        if not match:
            raise KeyFrameError(
                f"key-frame format '{image_format[:40]}' is not 'raw; <height>x<width>'")
        height, width = int(match[1]), int(match[2])
        _check_size(height, width)
        if size != height * width * 3:
            raise KeyFrameError(
                f'a raw key frame of {height}x{width} has {size} bytes, not {height * width * 3}')
        return np.frombuffer(data, np.uint8).reshape(height, width, 3)
    if image_format not in FORMATS:
        raise KeyFrameError(
            f"key-frame format '{image_format[:40]}' is unknown: expected {', '.join(FORMATS)}")
    if fault := format_fault(image_format):
        raise KeyFrameError(f'an AVIF key frame cannot be read: {fault}', 'format')
    return _decode(data, image_format, _check_size)


def _decode(
        data: bytes | np.ndarray, image_format: str,
        check_size: Callable[[int, int], None], grey: bool = False) -> np.ndarray:
    data = bytes(data)
    try:
        if image_format == 'avif':
            return decode_avif(data, check_size)
        return decode_file(data, image_format, check_size, grey)
    except ImageFileError as error:
        raise KeyFrameError(
            f'a key frame of {len(data)} bytes is not a whole {image_format} image: {error}'
        ) from None


def _check_bytes(data: bytes | np.ndarray) -> None:
    if len(data) > MAX_BYTES:
        raise KeyFrameError(
            f'a key frame of {len(data)} bytes is larger than the limit of {MAX_BYTES}: lower '
            "the student's parameter key_frame.max_width", 'too_large')


def _check_size(height: int, width: int) -> None:
    if height * width > MAX_PIXELS:
        raise KeyFrameError(
            f'a key frame of {height}x{width} pixels is larger than the limit of {MAX_PIXELS}: '
            "lower the student's parameter key_frame.max_width", 'too_large')
    if min(height, width) < MIN_SIDE:
        raise KeyFrameError(
            f'a key frame of {height}x{width} pixels is too small: {MIN_SIDE}x{MIN_SIDE} at least')
