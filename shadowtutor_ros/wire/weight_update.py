"""Weight updates as they cross the network: packing, checking and unpacking of tensors."""

from dataclasses import dataclass
from enum import IntEnum
import math
import zlib

import numpy as np
import torch

from shadowtutor_ros.wire.encodings import compress, decompress, DecodingError, ENCODINGS


class Status(IntEnum):
    """What an answer to a key frame is."""

    DONE = 0
    NOTHING_TO_GAIN = 1
    REFUSED = 2


#: Why a key frame can be refused.
REFUSALS = (
    'model', 'weights', 'classes', 'table', 'another_student', 'unreadable', 'format',
    'too_large', 'too_late', 'unlabelled', 'training')


class UpdateRejected(ValueError):
    """
    A weight update that must not be applied.

    :ivar reason: one of :data:`REJECTION_REASONS`, to count by.
    """

    def __init__(self, reason: str, text: str):
        super().__init__(text)
        self.reason = reason


#: Why an update can be rejected.
REJECTION_REASONS = (
    'session', 'key_frame', 'teacher', 'model', 'status', 'base', 'metric', 'seconds', 'classes',
    'label', 'encoding', 'size', 'checksum', 'layout', 'not_finite')


@dataclass(frozen=True)
class PackedTensors:
    """
    Tensors as bytes.

    :ivar encoding: one of ``encodings.ENCODINGS``.
    :ivar places: of each tensor in the order of all that the receiver holds, ascending.
    :ivar blob: the bytes, one tensor after the other, compressed where the encoding compresses.
    :ivar uncompressed_size: in bytes.
    :ivar checksum: CRC-32 of the blob.
    """

    encoding: str
    places: tuple[int, ...]
    blob: bytes
    uncompressed_size: int
    checksum: int


NO_TENSORS = PackedTensors('fp32', (), b'', 0, 0)


@dataclass(frozen=True)
class WeightUpdate:
    """
    A teacher's answer to a key frame; the fields are those of WeightUpdate.msg.

    :ivar session_id, key_frame_number, model_id: echo of the key frame.
    :ivar teacher_id, teacher: the teacher's number and name.
    :ivar status: what the answer is; with REFUSED only the next three have a meaning.
    :ivar refusal: one of :data:`REFUSALS`.
    :ivar text: the reason in a sentence.
    :ivar needed_seconds: that an answer would have taken, where it would have come too late.
    :ivar base_checksum: CRC-32 of all the weights that this starts from.
    :ivar weights_checksum: CRC-32 of all the robot's weights once this is applied.
    :ivar tensors: what leads from the ones to the others.
    :ivar label: of the key frame, PNG of places in the table, where the teacher does not know what
        the robot runs; else empty.
    :ivar classes: that the student may choose from, by their places in the table; ascending.
    :ivar metric_before: mean IoU on the key frame of what the robot runs, 0 to 1; NaN where the
        teacher does not know it.
    :ivar metric_after: of the weights that this leads to, 0 to 1.
    :ivar threshold: what the student was trained against, 0 to 1.
    :ivar steps: training steps taken.
    :ivar max_updates: MAX_UPDATES, the most that could have been taken.
    :ivar teacher_seconds, training_seconds: on the server's clock.
    """

    session_id: int
    key_frame_number: int
    model_id: str
    teacher_id: int
    teacher: str
    status: Status
    refusal: str = ''
    text: str = ''
    needed_seconds: float = 0.0
    base_checksum: int = 0
    weights_checksum: int = 0
    tensors: PackedTensors = NO_TENSORS
    label: bytes = b''
    classes: tuple[int, ...] = ()
    metric_before: float = math.nan
    metric_after: float = math.nan
    threshold: float = math.nan
    steps: int = 0
    max_updates: int = 0
    teacher_seconds: float = 0.0
    training_seconds: float = 0.0

    @property
    def refusal_reason(self) -> str:
        """The refusal as one of few to count by: of :data:`REFUSALS`, 'other', or '' for none."""
        if self.status != Status.REFUSED:
            return ''
        return self.refusal if self.refusal in REFUSALS else 'other'


def _flat(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().cpu().contiguous().numpy().reshape(-1)


def pack(
        tensors: dict[str, torch.Tensor], encoding: str = 'fp32',
        base: dict[str, torch.Tensor] | None = None) -> PackedTensors:
    """
    Turn tensors into bytes.

    :param tensors: floating-point tensors by name, in the order of ``base``.
    :param encoding: one of ``encodings.ENCODINGS``.
    :param base: all that the receiver holds, float32 by name; those that are sent where it is
        left out.
    :raises ValueError: if the encoding is unknown.
    """
    if encoding not in ENCODINGS:
        raise ValueError(f"encoding '{encoding}' is unknown: choose one of {', '.join(ENCODINGS)}")
    code = ENCODINGS[encoding]
    base = tensors if base is None else base
    blob = b''.join(code.encode(
        [_flat(tensor) for tensor in tensors.values()], [_flat(base[name]) for name in tensors]))
    size = len(blob)
    if code.compressed:
        blob = compress(blob)
    places = {name: place for place, name in enumerate(base)}
    return PackedTensors(
        encoding, tuple(places[name] for name in tensors), blob, size, zlib.crc32(blob))


def most_bytes(base: dict[str, torch.Tensor]) -> int:
    """Return the bytes that a blob of such tensors takes at most, in any encoding."""
    # What cannot be compressed grows a little, by far less than this.
    return sum(max(code.most(tensor.numel()) for code in ENCODINGS.values()) + 16
               for tensor in base.values()) + 1024


def unpack(packed: PackedTensors, base: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """
    Check bytes from the network in every respect and turn them into new tensors.

    :param packed: not trusted.
    :param base: all the tensors that are held, by name, in their order; differences are added to
        their values.
    :returns: new float32 tensors on the CPU, by name.
    :raises UpdateRejected: if anything does not hold; nothing has happened then.
    """
    code = ENCODINGS.get(packed.encoding)
    if code is None:
        raise UpdateRejected(
            'encoding', f"encoding '{packed.encoding[:40]}' is unknown: expected one of "
            f"{', '.join(ENCODINGS)}")
    places = packed.places
    if len(places) > len(base) or not all(
            low < high for low, high in zip((-1, *places), (*places, len(base)))):
        raise UpdateRejected(
            'layout', f'the places of {len(places)} tensors are not some of 0 to {len(base) - 1}, '
            'ascending')
    names = list(base)
    sent = {names[place]: base[names[place]] for place in places}
    most = sum(code.most(tensor.numel()) for tensor in sent.values())
    if packed.uncompressed_size > most:
        raise UpdateRejected(
            'size', f'{packed.uncompressed_size} bytes are said, where {most} are possible')
    if zlib.crc32(packed.blob) != packed.checksum:
        raise UpdateRejected('checksum', 'the checksum does not fit the bytes')
    tensors, offset = {}, 0
    try:
        blob = (decompress(packed.blob, packed.uncompressed_size) if code.compressed
                else packed.blob)
        if len(blob) != packed.uncompressed_size:
            raise DecodingError(f'{len(blob)} bytes, said to be {packed.uncompressed_size}')
        for name, own in sent.items():
            values, offset = code.decode(blob, offset, _flat(own))
            if not np.isfinite(values).all():
                raise UpdateRejected('not_finite', f'{name} holds values that are not finite')
            tensors[name] = torch.from_numpy(values.reshape(own.shape))
        if offset != len(blob):
            raise DecodingError(f'{len(blob) - offset} bytes are left over')
    except DecodingError as error:
        raise UpdateRejected('size', str(error)) from None
    return tensors
