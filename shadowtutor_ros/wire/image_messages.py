"""
Images of ROS, from a topic or from a bag, to arrays; without ROS.

What is called a message here has the fields of sensor_msgs/Image or sensor_msgs/CompressedImage.
"""

from typing import Any, Callable, NamedTuple

import cv2
import numpy as np

from shadowtutor_ros.limits import MIN_SIDE
from shadowtutor_ros.wire.image_files import decode_file, ImageFileError, kind_of

#: Larger images are refused, compressed ones before memory is taken for them: the student's own
#: copy of one takes 0.8 GB.
_MAX_PIXELS = 2 ** 26


class ImageMessageError(ValueError):
    """An image message that cannot be converted."""


class _Encoding(NamedTuple):
    """
    How pixels lie in a row, and how they become BGR.

    :ivar kind: of NumPy, without byte order.
    :ivar channels: values a pixel.
    :ivar code: of OpenCV's conversion to BGR; None where they are BGR.
    :ivar group: pixels of a row that belong together.
    :ivar by_cv_bridge: whether it converts them too, from rows that are not padded.
    """

    kind: str
    channels: int
    code: int | None
    group: int = 1
    by_cv_bridge: bool = True


#: OpenCV names a Bayer pattern after the second and third pixel of its second row.
_BAYER = {
    'rggb': cv2.COLOR_BayerBG2BGR, 'bggr': cv2.COLOR_BayerRG2BGR,
    'gbrg': cv2.COLOR_BayerGR2BGR, 'grbg': cv2.COLOR_BayerGB2BGR}

_UYVY = _Encoding('u1', 2, cv2.COLOR_YUV2BGR_UYVY, 2)
_YUYV = _Encoding('u1', 2, cv2.COLOR_YUV2BGR_YUY2, 2)

_ENCODINGS = {
    f'{name}{8 * size}': _Encoding(f'u{size}', channels, code)
    for size in (1, 2) for name, channels, code in (
        ('mono', 1, cv2.COLOR_GRAY2BGR), ('bgr', 3, None), ('rgb', 3, cv2.COLOR_RGB2BGR),
        ('bgra', 4, cv2.COLOR_BGRA2BGR), ('rgba', 4, cv2.COLOR_RGBA2BGR))
} | {
    f'bayer_{name}{8 * size}': _Encoding(f'u{size}', 1, code)
    for size in (1, 2) for name, code in _BAYER.items()
} | {
    f'{bits}C{channels}': _Encoding(kind, channels, code, by_cv_bridge=False)
    for bits, kind in (('8U', 'u1'), ('16U', 'u2'), ('32F', 'f4')) for channels, code in (
        (1, cv2.COLOR_GRAY2BGR), (3, None), (4, cv2.COLOR_BGRA2BGR))
} | {'uyvy': _UYVY, 'yuv422': _UYVY, 'yuyv': _YUYV, 'yuv422_yuy2': _YUYV}

#: Of images in planes, one of brightness before one of colour, the pixels each way that share a
#: colour, and OpenCV's conversion.
_PLANES = {
    'nv12': (2, cv2.COLOR_YUV2BGR_NV12), 'nv21': (2, cv2.COLOR_YUV2BGR_NV21), 'nv24': (1, None)}

#: BT.601 from brightness (less 16) and colour of 8 bits to BGR: OpenCV's for the other YUV.
_BT601 = np.array([
    [1.164, 2.018, 0, -2.018 * 128], [1.164, -0.391, -0.813, (0.391 + 0.813) * 128],
    [1.164, 0, 1.596, -1.596 * 128]])


def to_bgr(message: Any, convert: Callable[[Any], np.ndarray] | None = None) -> np.ndarray:
    """
    Convert an image message to an array.

    Rows may be padded. Of the encodings of sensor_msgs there are: mono, rgb, bgr, rgba, bgra and
    the four Bayer patterns at 8 and 16 bits; yuv422 (uyvy), yuv422_yuy2 (yuyv), nv12, nv21, nv24;
    8UC, 16UC and 32FC of one channel (grey), three (BGR) or four (BGRA). 16 bits are scaled from
    0–65535 to 0–255, floats from 0.0–1.0, and what lies beyond is cut off; NaN is black. YUV is
    that of BT.601 with brightness from 16 to 235, as OpenCV has it.

    :param message: of such an encoding, or a compressed image: JPEG, PNG, WebP, BMP or TIFF.
    :param convert: converts what ROS's own cv_bridge does as well: colours and Bayer patterns with
        rows that are not padded; where it raises an error, what is here does it.
    :returns: H×W×3 uint8, BGR. A bgr8 image is not copied: it stays valid as long as the message.
    :raises ImageMessageError: if it cannot be converted; one line says why and what to do.
    """
    if hasattr(message, 'format'):
        return _decode(message)
    height, width, encoding = message.height, message.width, message.encoding
    _check_size(height, width)
    if encoding in _PLANES:
        return _convert_planes(message)
    if encoding not in _ENCODINGS:
        raise ImageMessageError(
            f"an image with encoding '{encoding[:40]}' cannot be converted to bgr8: publish bgr8, "
            'rgb8, mono8, yuv422, yuv422_yuy2, nv12 or a Bayer encoding')
    layout = _ENCODINGS[encoding]
    kind = np.dtype(layout.kind).newbyteorder('>' if message.is_bigendian else '<')
    row = width * layout.channels * kind.itemsize
    _check_group(message, layout.group, 1)
    if message.step < row:
        raise ImageMessageError(
            f"an image with encoding '{encoding}' has rows of {message.step} bytes, but {width} "
            f'pixels take {row}: its publisher is at fault')
    if len(message.data) != height * message.step:
        raise ImageMessageError(
            f'an image of {height} rows of {message.step} bytes has {len(message.data)} bytes: '
            'its publisher is at fault')
    image = _rows(message, height, row).view(kind).reshape(height, width, layout.channels)
    if encoding in ('bgr8', '8UC3'):
        return image
    if convert and layout.by_cv_bridge and message.step == row and kind.isnative:
        try:
            return _checked(convert(message), message)
        except Exception:  # of an old version, or built for another NumPy
            pass
    image = image.astype(kind.newbyteorder('='), copy=False)
    if layout.code is not None:
        image = cv2.cvtColor(image, layout.code)
    # In this order, as cv_bridge has it.
    if layout.kind != 'u1':
        if layout.kind == 'f4':
            image = np.nan_to_num(image, nan=0.0).clip(0, 1)
        image = cv2.convertScaleAbs(image, alpha=255 / (65535 if layout.kind == 'u2' else 1))
    return _checked(image, message)


def _decode(message: Any) -> np.ndarray:
    data = bytes(message.data)
    try:
        kind = kind_of(data)
        if not kind:
            raise ImageFileError('it is no image file')
        return decode_file(data, kind, _check_size, mend=True)
    except ImageFileError as error:
        raise ImageMessageError(
            f"a compressed image of {len(data)} bytes, format '{message.format[:40]}', cannot be "
            f'decoded: {error}; publish whole JPEG or PNG files') from None


def _convert_planes(message: Any) -> np.ndarray:
    """
    Convert an image of two planes: H rows of brightness, and as many or half as many of colour.

    ``step`` is that of the brightness, as V4L2 has it, or what is right by sensor_msgs: a row's
    share of all bytes, with rows that are not padded.
    """
    height, width, step = message.height, message.width, message.step
    shared, code = _PLANES[message.encoding]
    _check_group(message, shared, shared)
    # In rows of brightness: a row of colours is as long, or twice as long where none is shared.
    rows = height + (height // 2 if shared == 2 else 2 * height)
    size = len(message.data)
    if size == height * step and step * height == rows * width:
        step = width
    if step < width or size != rows * step:
        raise ImageMessageError(
            f"an image of {width}x{height} with encoding '{message.encoding}' and rows of "
            f'{message.step} bytes has {size} bytes, not {rows} times that: its publisher is at '
            'fault')
    planes = np.frombuffer(message.data, np.uint8)
    if shared == 2:
        planes = np.ascontiguousarray(planes.reshape(rows, step)[:, :width])
        return _checked(cv2.cvtColor(planes, code), message)
    luma = planes[:height * step].reshape(height, step)[:, :width]
    chroma = planes[height * step:].reshape(height, 2 * step)[:, :2 * width]
    yuv = np.dstack([cv2.subtract(luma, 16), chroma.reshape(height, width, 2)])
    return _checked(cv2.transform(yuv, _BT601), message)


def _rows(message: Any, count: int, size: int) -> np.ndarray:
    """Return the rows of an image without what they are padded with: count×size uint8."""
    rows = np.frombuffer(message.data, np.uint8).reshape(count, message.step)
    return rows if message.step == size else np.ascontiguousarray(rows[:, :size])


def _check_group(message: Any, columns: int, rows: int) -> None:
    if message.width % columns or message.height % rows:
        raise ImageMessageError(
            f'an image of {message.width}x{message.height} cannot be of encoding '
            f"'{message.encoding}', of which {columns}x{rows} pixels belong together: its "
            'publisher is at fault')


def _checked(image: np.ndarray, message: Any) -> np.ndarray:
    if image.shape != (message.height, message.width, 3) or image.dtype != np.uint8:
        raise ImageMessageError(
            f"an image of {message.width}x{message.height} with encoding '{message.encoding}' "
            f'became {image.dtype} of shape {image.shape}: publish bgr8')
    return image


def _check_size(height: int, width: int) -> None:
    if height * width > _MAX_PIXELS:
        raise ImageMessageError(
            f'an image of {width}x{height} pixels is larger than the limit of {_MAX_PIXELS}: '
            'publish smaller ones')
    if min(height, width) < MIN_SIDE:
        raise ImageMessageError(
            f'an image of {width}x{height} pixels is too small: expected {MIN_SIDE}x{MIN_SIDE} at '
            'least')
