"""AVIF files of one still picture, written and checked; what is in them is not trusted."""

from collections.abc import Callable, Iterator
import functools
import io
import struct

import cv2
import numpy as np
from PIL import Image

from shadowtutor_ros.wire.av1 import DELIMITER, FRAME, SEQUENCE, still_size, units
from shadowtutor_ros.wire.image_files import decode_file, ImageFileError

#: Effort of the encoder, 0 to 10, the last the fastest. Slower than this the time doubles for
#: 4 % of the bytes, faster the gain over WebP is gone (docs/evaluation.md).
SPEED = 6

#: Quality of WebP, and the encoder's for the same PSNR: the mean over 51 frames of 13 videos.
_QUALITIES = np.array([
    (1, 9), (10, 24), (20, 32), (30, 38), (40, 43), (50, 48), (60, 52), (70, 56), (80, 65),
    (90, 82), (95, 92), (100, 97)]).T


def encode_avif(frame: np.ndarray, quality: int) -> bytes:
    """
    Code a picture, in one thread.

    :param frame: H×W×3 uint8, BGR.
    :param quality: 1 to 100, on the scale of WebP: with about its PSNR.
    :raises KeyError, OSError: where :func:`has_avif` is False.
    """
    file = io.BytesIO()
    Image.fromarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)).save(
        file, 'AVIF', quality=round(np.interp(quality, *_QUALITIES)), speed=SPEED, max_threads=1)
    return file.getvalue()


@functools.cache
def has_avif() -> bool:
    """Tell whether Pillow can write and read AVIF here, by trying; before 11.3 it cannot."""
    try:
        data = encode_avif(np.zeros((64, 64, 3), np.uint8), 50)
        return decode_avif(data, lambda height, width: None).shape == (64, 64, 3)
    except Exception:  # whatever an old Pillow, or one built without it, raises
        return False


def decode_avif(data: bytes, check_size: Callable[[int, int], None]) -> np.ndarray:
    """
    Decode an AVIF file of one plain picture.

    In general a file can tell another size than its picture has, hold many of them, and have them
    put together, and the decoder takes memory for all that. So nothing is taken but what an
    encoder makes of a plain picture: one item, which is all of the data, and in that one frame,
    of a size that cannot change.

    :param check_size: is called with height and width before memory is taken for the pixels; what
        it raises is not caught.
    :returns: H×W×3 uint8, BGR.
    :raises ImageFileError: if it is something else, or cut.
    """
    try:
        size = _size_of(_only_item(data))
    except (struct.error, IndexError, ValueError):
        raise ImageFileError('it is no avif image of one plain picture, or cut') from None

    def check_both(height: int, width: int) -> None:
        if (height, width) != size:
            raise ImageFileError(
                f'it says {height}x{width} pixels, and its picture has {size[0]}x{size[1]}')
        check_size(height, width)

    return decode_file(data, 'avif', check_both)


def _only_item(data: bytes) -> bytes:
    """Return the data of the only item (ISO/IEC 14496-12); raise an error if it is not alone."""
    top = dict(_boxes(data, 0, len(data), (b'ftyp', b'meta', b'mdat')))
    begin, end = top[b'meta']
    meta = dict(_boxes(data, begin + 4, end, (b'hdlr', b'pitm', b'iloc', b'iinf', b'iprp')))
    begin, end = top[b'mdat']
    # Version 0, offset and length of 4 bytes each; one item, in this file, in one piece.
    place = struct.unpack_from('>IBBHHHHII', data, meta[b'iloc'][0])
    version, sizes, more, items, _, elsewhere, pieces, offset, length = place
    names = struct.unpack_from('>IH', data, meta[b'iinf'][0])
    if (version, sizes, more, items, elsewhere, pieces, offset, length) != (
            0, 0x44, 0, 1, 0, 1, begin, end - begin) or names != (0, 1):
        raise ValueError
    return data[begin:end]


def _boxes(
        data: bytes, begin: int, end: int, kinds: tuple[bytes, ...]
) -> Iterator[tuple[bytes, tuple[int, int]]]:
    """Give begin and end of what is in each box; of these kinds, in this order, and no others."""
    for expected in kinds:
        size, kind = struct.unpack_from('>I4s', data, begin)
        if kind != expected or size < 8 or begin + size > end:
            raise ValueError
        yield kind, (begin + 8, begin + size)
        begin += size
    if begin != end:
        raise ValueError


def _size_of(item: bytes) -> tuple[int, int]:
    """Return height and width of a still picture; raise an error if there is more than it."""
    kinds = list(units(item))
    if kinds and kinds[0][0] == DELIMITER:
        kinds = kinds[1:]
    (first, sequence), (second, _) = kinds
    if (first, second) != (SEQUENCE, FRAME):
        raise ValueError
    return still_size(sequence)
