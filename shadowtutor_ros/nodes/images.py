"""ROS images to arrays and back."""

from array import array
import io
import sys

import cv2
import numpy as np
import PIL.Image
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from shadowtutor_ros.limits import MIN_SIDE

try:
    from cv_bridge import CvBridge
except ImportError:  # not on PyPI; rosbags-image is
    from rosbags.image import message_to_cvimage

    def _convert(message: Image) -> np.ndarray:
        return message_to_cvimage(message, 'bgr8')
else:
    def _convert(message: Image) -> np.ndarray:
        return CvBridge().imgmsg_to_cv2(message, 'bgr8')

#: Larger images are refused, compressed ones before memory is taken for them: the student's own
#: copy of one takes 0.8 GB.
_MAX_PIXELS = 2 ** 26

_NATIVE_BIGENDIAN = sys.byteorder == 'big'


class ImageMessageError(ValueError):
    """An image message that cannot be converted."""


def to_bgr(message: Image | CompressedImage) -> np.ndarray:
    """
    Convert an image message to an array.

    :param message: of any encoding that cv_bridge (or rosbags-image, where there is no cv_bridge)
        converts to bgr8, or a compressed image of any format that OpenCV reads.
    :returns: H×W×3 uint8, BGR. A bgr8 image is not copied: it stays valid as long as the message.
    :raises ImageMessageError: if it cannot be converted; one line says why and what to do.
    """
    if isinstance(message, CompressedImage):
        try:
            # Pillow tells the size before memory is taken for it.
            with PIL.Image.open(io.BytesIO(message.data)) as image:
                _check_size(image.height, image.width)
            frame = cv2.imdecode(np.frombuffer(message.data, np.uint8), cv2.IMREAD_COLOR)
        except (OSError, SyntaxError, PIL.Image.DecompressionBombError):
            frame = None
        if frame is None:
            raise ImageMessageError(
                f"a compressed image of {len(message.data)} bytes, format '{message.format[:40]}'"
                ', cannot be decoded: publish JPEG or PNG')
        return frame
    height, width, step = message.height, message.width, message.step
    _check_size(height, width)
    if len(message.data) != height * step:
        raise ImageMessageError(
            f'an image of {height} rows of {step} bytes has {len(message.data)} bytes: '
            'its publisher is at fault')
    if message.encoding == 'bgr8' and step >= width * 3:
        rows = np.frombuffer(message.data, np.uint8).reshape(height, step)
        return rows[:, :width * 3].reshape(height, width, 3)
    try:
        return _convert(message)
    except Exception as error:  # whatever the library at hand raises
        reason = str(error).partition('\n')[0] or type(error).__name__
        raise ImageMessageError(
            f"an image with encoding '{message.encoding[:40]}' cannot be converted to bgr8 "
            f'({reason[:80]}): publish bgr8, rgb8, mono8, yuv422 or a Bayer encoding') from None


def _check_size(height: int, width: int) -> None:
    if height * width > _MAX_PIXELS:
        raise ImageMessageError(
            f'an image of {width}x{height} pixels is larger than the limit of {_MAX_PIXELS}: '
            'publish smaller ones')
    if min(height, width) < MIN_SIDE:
        raise ImageMessageError(
            f'an image of {width}x{height} pixels is too small: expected {MIN_SIDE}x{MIN_SIDE} at '
            'least')


def to_message(image: np.ndarray, encoding: str, header: Header) -> Image:
    """
    Convert an array to an image message.

    :param image: H×W or H×W×3 uint8.
    :param encoding: 'mono8', 'bgr8' or 'rgb8'.
    """
    message = Image(header=header, encoding=encoding, is_bigendian=_NATIVE_BIGENDIAN)
    message.height, message.width = image.shape[:2]
    message.step = image.strides[0] if image.flags.c_contiguous else image[0].nbytes
    message.data = to_bytes(image)
    return message


def to_bytes(data: np.ndarray | bytes) -> array:
    """Convert to what a ``uint8[]`` field takes without looking at every element."""
    values = array('B')
    values.frombytes(np.ascontiguousarray(data) if isinstance(data, np.ndarray) else data)
    return values
