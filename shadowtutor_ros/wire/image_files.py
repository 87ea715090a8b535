"""Image files that are not trusted, from cameras and from the network, to arrays."""

from collections.abc import Callable
import io
import struct

import cv2
import numpy as np
from PIL import Image

#: Chunks of a PNG file that hold compressed texts and profiles.
_TEXTS = (b'zTXt', b'iTXt', b'iCCP')

#: A JPEG file has some ten segments before its first scan; a PNG file has some, and one for every
#: few kB, which Pillow reads one by one in Python.
_MAX_SEGMENTS = 256

#: A progressive JPEG has some ten scans; each is decoded over the whole image.
_MAX_SCANS = 100

#: Markers of JPEG that begin a frame, with its size: all of 0xc0 to 0xcf but three.
_FRAMES = {*range(0xc0, 0xd0)} - {0xc4, 0xc8, 0xcc}

_END = b'\xff\xd9'

_BEGINNINGS = {
    b'\xff\xd8': 'jpeg', b'\x89PNG': 'png', b'RIFF': 'webp', b'BM': 'bmp', b'II*\0': 'tiff',
    b'MM\0*': 'tiff'}


class ImageFileError(ValueError):
    """An image file that cannot be decoded; the text is a clause that begins with 'it'."""


def kind_of(data: bytes) -> str:
    """Tell from its first bytes what a file is: jpeg, png, webp, bmp or tiff; '' if none."""
    return next((kind for begin, kind in _BEGINNINGS.items() if data.startswith(begin)), '')


def decode_file(
        data: bytes, kind: str, check_size: Callable[[int, int], None],
        grey: bool = False, mend: bool = False) -> np.ndarray:
    """
    Decode an image file; it is whole, or refused.

    :param kind: one of those of :func:`kind_of`, or avif, which ``avif.decode_avif`` has checked;
        no other is tried.
    :param check_size: is called with height and width before memory is taken for the pixels; what
        it raises is not caught.
    :param grey: wanted is one channel, as it is in the file, where that has one of 8 bits.
    :param mend: take a JPEG file of one scan that lacks nothing but its end marker, as some
        cameras send it, and at most detail of its last block of 8×8 or 16×16 pixels.
    :returns: H×W×3 uint8, BGR, without regard to an orientation in Exif; H×W uint8 where it is
        grey. 16 bits a channel are scaled from 0–65535 to 0–255.
    :raises ImageFileError: if it is no such file, is cut short, or made to take long.
    """
    if kind == 'jpeg':
        return _decode_jpeg(data, check_size, grey, mend)
    if kind == 'png':
        data = _without_texts(data)
    return _decode_by_pillow(data, kind, check_size, grey)


def _decode_by_pillow(
        data: bytes, kind: str, check_size: Callable[[int, int], None], grey: bool) -> np.ndarray:
    # Pillow, not OpenCV: it tells the size before it decodes, and refuses a file that is cut.
    try:
        image = Image.open(io.BytesIO(data), formats=[kind.upper()])
    except (OSError, SyntaxError, ValueError, RuntimeError, Image.DecompressionBombError):
        raise ImageFileError(f'it is no {kind} image, or cut') from None
    with image:
        check_size(image.height, image.width)
        try:
            if grey:
                return np.array(image.convert('L'))
            if image.mode.startswith('I'):  # Pillow itself clips at 255
                scaled = cv2.convertScaleAbs(
                    np.array(image).clip(0, 65535).astype(np.uint16), alpha=255 / 65535)
                return cv2.cvtColor(scaled, cv2.COLOR_GRAY2BGR)
            return cv2.cvtColor(np.asarray(image.convert('RGB')), cv2.COLOR_RGB2BGR)
        except (OSError, SyntaxError, ValueError, RuntimeError, struct.error):
            raise ImageFileError(f'it is no {kind} image, or cut') from None


def _decode_jpeg(
        data: bytes, check_size: Callable[[int, int], None], grey: bool,
        mend: bool) -> np.ndarray:
    height, width, scan, single = _read_jpeg_head(data)
    check_size(height, width)
    # In what a scan codes, 0xff is followed by no 0xd9.
    if data.find(_END, scan) < 0:
        if not (mend and single):
            raise ImageFileError('it is cut short')
        data = _with_end(data, (height, width))
    # OpenCV needs half of Pillow's time for it.
    image = cv2.imdecode(
        np.frombuffer(data, np.uint8),
        (cv2.IMREAD_GRAYSCALE if grey else cv2.IMREAD_COLOR) | cv2.IMREAD_IGNORE_ORIENTATION)
    if image is None or image.shape[:2] != (height, width):
        raise ImageFileError('it is no jpeg image')
    return image


def _with_end(data: bytes, size: tuple[int, int]) -> bytes:
    """Append its end marker to a JPEG file, unless more is missing."""
    # The last byte may be half of the marker.
    data = data.rstrip(b'\xff')
    # What follows a whole picture is skipped; where some is missing it is taken for that. Zeros
    # are what libjpeg takes by itself.
    first, second = (_reduced(data + filling + _END, size) for filling in (b'', 64 * b'\xaa'))
    if not np.array_equal(first, second):
        raise ImageFileError('it is cut short')
    return data + _END


def _reduced(data: bytes, size: tuple[int, int]) -> np.ndarray:
    """Decode of a JPEG file a pixel a block, in a quarter of the time."""
    try:
        # Pillow, which unlike OpenCV does not warn on the terminal.
        with Image.open(io.BytesIO(data), formats=['JPEG']) as image:
            if (image.height, image.width) != size:
                raise ImageFileError('it is no jpeg image')
            image.draft(None, (image.width // 8, image.height // 8))
            return np.asarray(image)
    except (OSError, SyntaxError):
        raise ImageFileError('it is no jpeg image, or cut') from None


def _read_jpeg_head(data: bytes) -> tuple[int, int, int, bool]:
    """
    Return height and width of a JPEG file, where its first scan begins, and if that is the only.

    Segments are read as libjpeg reads them, and refused where it would skip bytes.

    :raises ImageFileError: if it is none, or would be decoded over and over.
    """
    size, single, offset = None, False, 2
    for _ in range(_MAX_SEGMENTS):
        if offset + 4 > len(data) or not data.startswith(b'\xff\xd8'):
            raise ImageFileError('it is no jpeg image, or cut')
        lead, marker, length = struct.unpack_from('>BBH', data, offset)
        if lead != 0xff or not 0xc0 <= marker < 0xff or 0xd0 <= marker <= 0xd9 or length < 2:
            raise ImageFileError('it is no jpeg image')
        if marker == 0xda:
            break
        if marker in _FRAMES:
            if offset + 10 > len(data):
                raise ImageFileError('it is no jpeg image, or cut')
            # libjpeg refuses a second one.
            size = struct.unpack_from('>HH', data, offset + 5)
            # Sequential; the scan must hold as many channels.
            single, channels = marker in (0xc0, 0xc1), data[offset + 9]
        offset += 2 + length
    else:
        raise ImageFileError(f'it has more than {_MAX_SEGMENTS} segments before its first scan')
    if not size:
        raise ImageFileError('it is no jpeg image')
    if data.count(b'\xff\xda') > _MAX_SCANS:
        raise ImageFileError(f'it has more than {_MAX_SCANS} scans')
    return *size, offset, single and data[offset + 4:offset + 5] == bytes([channels])


def _without_texts(data: bytes) -> bytes:
    """
    Return a PNG file without what Pillow would unfold besides the pixels, to 64 MB.

    :raises ImageFileError: if it is in more pieces than an encoder would make of it.
    """
    kept, start, offset, count = [], 0, 8, 0
    while offset + 8 <= len(data):
        # A chunk is its length, its kind, that many bytes, and their checksum.
        length, kind = struct.unpack_from('>I4s', data, offset)
        end = offset + 12 + length
        if kind in _TEXTS:
            kept.append(data[start:offset])
            start = end
        offset, count = end, count + 1
        if count > _MAX_SEGMENTS + len(data) // 1024:
            raise ImageFileError(f'it is in more than {count} pieces')
    return b''.join((*kept, data[start:])) if kept else data
