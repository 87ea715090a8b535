"""
How weights are coded: as they are, or as quantised differences to what the receiver holds.

Every encoding turns a list of flat float32 arrays into as many byte strings and back. What is
decoded is computed in float32 from the same numbers on both sides, so that sender and receiver
hold the same weights to the bit.
"""

from dataclasses import dataclass
import lzma
from typing import Protocol

import numpy as np

Arrays = list[np.ndarray]

#: LZMA2 without a container, which both sides know the filter of. On the differences of real
#: updates it is smaller than zstandard's level 19: 1.8 % with int4, 4.7 % with int8, 10.7 % with
#: sparse; no value's neighbours tell of it, hence no literal context and no position bits. One of
#: 105,000 bytes takes 33 ms to compress, which is little beside the training steps, and 1.4 ms to
#: decompress. No update of this package's students is longer than the dictionary.
_FILTERS = [{
    'id': lzma.FILTER_LZMA2, 'dict_size': 2 ** 19, 'lc': 0, 'lp': 0, 'pb': 0,
    'mode': lzma.MODE_NORMAL, 'mf': lzma.MF_BT4, 'nice_len': 273}]


class DecodingError(ValueError):
    """Bytes that are not what an encoding makes."""


class Encoding(Protocol):
    """
    A way to code weights.

    :ivar compressed: whether the bytes of all tensors are compressed together.
    """

    compressed: bool

    def most(self, count: int) -> int:
        """Return the bytes that ``count`` values take at most, before compression."""

    def encode(self, values: Arrays, base: Arrays) -> list[bytes]:
        """
        Code arrays.

        :param values: 1-D float32.
        :param base: what the receiver holds of each, likewise.
        """

    def decode(self, blob: bytes, offset: int, base: np.ndarray) -> tuple[np.ndarray, int]:
        """
        Decode one array.

        :param blob: not trusted.
        :param offset: where the array begins in it.
        :param base: what is held of it now, 1-D float32.
        :returns: a new 1-D float32 array, and the offset behind its bytes.
        :raises DecodingError: if the bytes are not such an array.
        """


def _read(blob: bytes, offset: int, dtype: str, count: int) -> tuple[np.ndarray, int]:
    end = offset + count * np.dtype(dtype).itemsize
    if end > len(blob):
        raise DecodingError(f'{len(blob)} bytes end before byte {end}')
    return np.frombuffer(blob, dtype, count, offset), end


def _to_steps(difference: np.ndarray, size: float, most: int) -> tuple[bytes, np.ndarray]:
    """Round differences to whole steps, ``most`` at most: the step size as bytes, int8 counts."""
    # Weights that diverged give a step size that is not finite. They are coded as zeros, and the
    # decoder refuses the update.
    size = np.float32(size)
    steps = difference / size if 0 < size < np.inf else np.zeros_like(difference)
    return size.astype('<f4').tobytes(), np.clip(np.rint(steps), -most, most).astype(np.int8)


def _add_steps(base: np.ndarray, steps: np.ndarray, size: np.ndarray) -> np.ndarray:
    with np.errstate(all='ignore'):  # what is not finite is refused by who reads it
        return base + steps.astype(np.float32) * size.astype(np.float32)


@dataclass(frozen=True)
class Absolute:
    """
    The values themselves.

    :ivar dtype: little endian, of numpy.
    """

    dtype: str
    compressed = False  # the low bits of weights are noise

    def most(self, count: int) -> int:
        """See :class:`Encoding`."""
        return count * np.dtype(self.dtype).itemsize

    def encode(self, values: Arrays, base: Arrays) -> list[bytes]:
        """See :class:`Encoding`."""
        with np.errstate(over='ignore'):  # what becomes infinite is refused where it is decoded
            return [array.astype(self.dtype).tobytes() for array in values]

    def decode(self, blob: bytes, offset: int, base: np.ndarray) -> tuple[np.ndarray, int]:
        """See :class:`Encoding`."""
        values, offset = _read(blob, offset, self.dtype, base.size)
        return values.astype(np.float32), offset


@dataclass(frozen=True)
class Int8:
    """Differences, each a whole number of steps in a byte; the step is the tensor's own."""

    compressed = True

    def most(self, count: int) -> int:
        """See :class:`Encoding`."""
        return 4 + count

    def encode(self, values: Arrays, base: Arrays) -> list[bytes]:
        """See :class:`Encoding`."""
        coded = []
        for difference in map(np.subtract, values, base):
            step, steps = _to_steps(difference, np.abs(difference).max(initial=0) / 127, 127)
            coded.append(step + steps.tobytes())
        return coded

    def decode(self, blob: bytes, offset: int, base: np.ndarray) -> tuple[np.ndarray, int]:
        """See :class:`Encoding`."""
        step, offset = _read(blob, offset, '<f4', 1)
        steps, offset = _read(blob, offset, 'i1', base.size)
        return _add_steps(base, steps, step), offset


@dataclass(frozen=True)
class Int4:
    """
    Differences, each −7 to 7 steps, two to a byte; the step is the tensor's own.

    What is lost is made good by later updates, since both sides go on from what was sent.

    :ivar step: in root mean squares of those of a tensor's differences that are not 0.
    """

    step: float
    compressed = True

    def most(self, count: int) -> int:
        """See :class:`Encoding`."""
        return 4 + (count + 1) // 2

    def encode(self, values: Arrays, base: Arrays) -> list[bytes]:
        """See :class:`Encoding`."""
        coded = []
        for difference in map(np.subtract, values, base):
            changed = difference[difference != 0]
            size = self.step * np.sqrt(np.mean(changed ** 2)) if changed.size else 0
            step, steps = _to_steps(difference, size, 7)
            pairs = (np.pad(steps, (0, steps.size % 2)) + 8).astype(np.uint8).reshape(-1, 2)
            coded.append(step + (pairs[:, 0] << 4 | pairs[:, 1]).tobytes())
        return coded

    def decode(self, blob: bytes, offset: int, base: np.ndarray) -> tuple[np.ndarray, int]:
        """See :class:`Encoding`."""
        step, offset = _read(blob, offset, '<f4', 1)
        pairs, offset = _read(blob, offset, 'u1', (base.size + 1) // 2)
        steps = np.stack([pairs >> 4, pairs & 15], axis=1).reshape(-1)[:base.size]
        return _add_steps(base, steps.astype(np.int8) - 8, step), offset


#: The encodings by name.
ENCODINGS: dict[str, Encoding] = {
    'fp32': Absolute('<f4'),
    'fp16': Absolute('<f2'),
    'int8': Int8(),
    'int4': Int4(0.7),
}


def compress(blob: bytes) -> bytes:
    """Compress bytes with LZMA2."""
    return lzma.compress(blob, lzma.FORMAT_RAW, filters=_FILTERS)


def decompress(blob: bytes, size: int) -> bytes:
    """
    Undo :func:`compress`.

    :param blob: not trusted; no more memory is taken than ``size`` bytes and the dictionary.
    :param size: in bytes, that it must have.
    :raises DecodingError: if it is not such bytes of that size.
    """
    decompressor = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=_FILTERS)
    try:
        # One byte more shows what would go on, and lets the end be read where nothing does.
        values = decompressor.decompress(blob, size + 1)
    except lzma.LZMAError as error:
        raise DecodingError(
            f'the bytes cannot be decompressed ({error}): do robot and workstation run the same '
            'version of this package?') from None
    if len(values) != size or not decompressor.eof or decompressor.unused_data:
        raise DecodingError(f'the compressed bytes are not those of {size}')
    return values
