"""Key frames as they cross the network, and the coding of their images."""

from dataclasses import dataclass
import io
import re

import cv2
import numpy as np
from PIL import Image

from shadowtutor_ros.models.student import MIN_SIDE

#: How the image of a key frame can be coded.
FORMATS = ('jpeg', 'webp', 'png', 'raw')

#: How it is by default; docs/evaluation.md shows what that costs.
DEFAULT_FORMAT, DEFAULT_QUALITY = 'webp', 50

#: Seconds after which a key frame that could not be delivered is of no use any more.
LIFESPAN = 10.0

#: Larger frames from the network are refused before memory is taken for them (4K UHD): to train
#: on one takes some GB.
MAX_PIXELS = 3840 * 2160

#: A progressive JPEG has some ten scans; each is decoded over the whole image.
_MAX_SCANS = 100


class KeyFrameError(ValueError):
    """A key frame that cannot be read, or cannot be answered."""


@dataclass(frozen=True)
class KeyFrame:
    """
    A frame that a robot's student sends to its teacher, with what the student runs.

    :ivar session_id: the student's session, 0 to 2^64 − 1.
    :ivar number: of this key frame in its session, from 1.
    :ivar frame_index: of this frame in its session, from 0.
    :ivar model_id: layout of the student network, see ``Student.model_id``.
    :ivar weights_version: version of the weights that the student runs, from 0.
    :ivar weights_checksum: CRC-32 of these weights.
    :ivar frame: H×W×3 uint8, BGR.
    """

    session_id: int
    number: int
    frame_index: int
    model_id: str
    weights_version: int
    weights_checksum: int
    frame: np.ndarray


def encode_image(
        frame: np.ndarray, image_format: str = 'jpeg', quality: int = 90,
        max_width: int = 0) -> tuple[str, np.ndarray]:
    """
    Code a frame for the network.

    :param frame: H×W×3 uint8, BGR.
    :param image_format: one of :data:`FORMATS`.
    :param quality: of JPEG and WebP, 1 to 100; at 100 WebP still loses.
    :param max_width: a wider frame is reduced to this width, in pixels; 0 keeps every frame.
    :returns: the format as KeyFrame.msg has it, and the bytes (1-D uint8).
    :raises KeyFrameError: if the format is unknown.
    """
    height, width = frame.shape[:2]
    if 0 < max_width < width:
        size = max_width, max(MIN_SIDE, round(height * max_width / width))
        frame = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
    if image_format == 'raw':
        return f'raw; {frame.shape[0]}x{frame.shape[1]}', np.ascontiguousarray(frame).reshape(-1)
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


def decode_image(image_format: str, data: bytes | np.ndarray) -> np.ndarray:
    """
    Read an image of :func:`encode_image`, or any JPEG, WebP or PNG file.

    :param image_format: as KeyFrame.msg has it.
    :param data: the bytes, not trusted.
    :returns: H×W×3 uint8, BGR.
    :raises KeyFrameError: if it is not such an image, is cut short or too large.
    """
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
    if image_format == 'jpeg' and bytes(data).count(b'\xff\xda') > _MAX_SCANS:
        raise KeyFrameError(f'a JPEG key frame has more than {_MAX_SCANS} scans')
    try:
        # Pillow, not OpenCV: it tells the size before it decodes, and refuses a file that is cut.
        with Image.open(io.BytesIO(data), formats=[image_format.upper()]) as image:
            _check_size(image.height, image.width)
            rgb = np.asarray(image.convert('RGB'))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        if isinstance(error, KeyFrameError):
            raise
        raise KeyFrameError(
            f'a key frame of {len(data)} bytes is not a whole {image_format} image') from None
    return np.ascontiguousarray(rgb[:, :, ::-1])


def _check_size(height: int, width: int) -> None:
    if height * width > MAX_PIXELS:
        raise KeyFrameError(
            f'a key frame of {height}x{width} pixels is larger than the limit of {MAX_PIXELS}: '
            "lower the student's parameter key_frame.max_width")
    if min(height, width) < MIN_SIDE:
        raise KeyFrameError(
            f'a key frame of {height}x{width} pixels is too small: {MIN_SIDE}x{MIN_SIDE} at least')
