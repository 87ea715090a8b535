"""What AV1 is made of (its specification, sections 5.3 to 5.5), as far as it has to be checked."""

from collections.abc import Iterator

#: Types of units: what begins a picture, the header of a sequence, a frame.
DELIMITER, SEQUENCE, FRAME = 2, 1, 6


def units(data: bytes) -> Iterator[tuple[int, bytes]]:
    """
    Give the type and the payload of each unit (OBU); each says its size and is of no layer.

    :raises ValueError, IndexError: if there is something else, or it is cut.
    """
    offset = 0
    while offset < len(data):
        header, offset = data[offset], offset + 1
        size = 0
        for shift in range(0, 56, 7):  # 7 bits a byte, the lowest first, 8 bytes at most
            size |= (data[offset] & 0x7f) << shift
            offset += 1
            if data[offset - 1] < 0x80:
                break
        if header & 0x87 != 0x02 or offset + size > len(data):
            raise ValueError
        yield header >> 3, data[offset:offset + size]
        offset += size


def still_size(sequence: bytes) -> tuple[int, int]:
    """
    Return height and width of a still picture, of which the frame's header tells no other.

    :param sequence: payload of the unit.
    :raises ValueError: if it is not the header of such a one.
    """
    bits = int.from_bytes(sequence[:8].ljust(8, b'\0'), 'big')

    def read(place: int, count: int) -> int:
        return bits >> 64 - place - count & (1 << count) - 1

    if read(3, 2) != 0b11:  # a still picture, and the reduced header
        raise ValueError
    wide, high = read(10, 4) + 1, read(14, 4) + 1
    return read(18 + wide, high) + 1, read(18, wide) + 1
