"""ROS images to arrays and back."""

from array import array
import sys

import numpy as np
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from shadowtutor_ros.wire import image_messages

try:
    from cv_bridge import CvBridge
except ImportError:  # not on PyPI; OpenCV alone does all that it does here
    CvBridge = None

_NATIVE_BIGENDIAN = sys.byteorder == 'big'


def to_bgr(message: Image | CompressedImage) -> np.ndarray:
    """
    Convert an image message to an array.

    :param message: as for :func:`shadowtutor_ros.wire.image_messages.to_bgr`.
    :returns: H×W×3 uint8, BGR. A bgr8 image is not copied: it stays valid as long as the message.
    :raises ImageMessageError: if it cannot be converted; one line says why and what to do.
    """
    return image_messages.to_bgr(message, CvBridge and _by_cv_bridge)


def _by_cv_bridge(message: Image) -> np.ndarray:
    return CvBridge().imgmsg_to_cv2(message, 'bgr8')


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
