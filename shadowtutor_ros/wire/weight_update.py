"""Weight updates as they cross the network: packing, checking and unpacking of tensors."""

from dataclasses import dataclass
from enum import IntEnum
import zlib

import numpy as np
import torch

from shadowtutor_ros.wire.encodings import compress, decompress, DecodingError, ENCODINGS


class Scope(IntEnum):
    """What an update holds: nothing but the metric, the trained tensors, or every tensor."""

    NONE = 0
    PARTIAL = 1
    FULL = 2


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
    'session', 'key_frame', 'model', 'base_version', 'metric', 'seconds', 'classes', 'scope',
    'encoding', 'size', 'checksum', 'layout', 'not_finite')


@dataclass(frozen=True)
class TensorEntry:
    """Where a tensor lies in a blob: its name, dtype in the blob, shape and offset in bytes."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int


@dataclass(frozen=True)
class PackedTensors:
    """
    Tensors as bytes.

    :ivar encoding: one of ``encodings.ENCODINGS``.
    :ivar entries: where each tensor lies in the uncompressed blob.
    :ivar blob: the bytes, compressed where the encoding compresses.
    :ivar uncompressed_size: in bytes.
    :ivar checksum: CRC-32 of the blob.
    """

    encoding: str
    entries: tuple[TensorEntry, ...]
    blob: bytes
    uncompressed_size: int
    checksum: int


NO_TENSORS = PackedTensors('fp32', (), b'', 0, 0)


@dataclass(frozen=True)
class WeightUpdate:
    """
    A teacher's answer to a key frame; the fields are those of WeightUpdate.msg.

    :ivar session_id, key_frame_number, model_id, base_version: echo of the key frame.
    :ivar new_version: of the weights once this is applied.
    :ivar weights_checksum: CRC-32 of all the robot's weights once this is applied.
    :ivar scope: what ``tensors`` holds.
    :ivar tensors: the weights.
    :ivar classes: ids of the classes that the student may choose from; ascending.
    :ivar metric_before, metric_after: mean IoU on the key frame, 0 to 1.
    :ivar threshold: what the student was trained against, 0 to 1.
    :ivar steps: training steps taken.
    :ivar max_updates: MAX_UPDATES, the most that could have been taken.
    :ivar teacher_seconds, training_seconds: on the server's clock.
    """

    session_id: int
    key_frame_number: int
    model_id: str
    base_version: int
    new_version: int
    weights_checksum: int
    scope: Scope
    tensors: PackedTensors
    classes: tuple[int, ...]
    metric_before: float
    metric_after: float
    threshold: float
    steps: int
    max_updates: int
    teacher_seconds: float
    training_seconds: float


def _flat(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().cpu().contiguous().numpy().reshape(-1)


def pack(
        tensors: dict[str, torch.Tensor], encoding: str = 'fp32',
        base: dict[str, torch.Tensor] | None = None) -> PackedTensors:
    """
    Turn tensors into bytes.

    :param tensors: floating-point tensors by name.
    :param encoding: one of ``encodings.ENCODINGS``.
    :param base: what the receiver holds, float32 by name; absolute encodings can do without.
    :raises ValueError: if the encoding is unknown.
    """
    if encoding not in ENCODINGS:
        raise ValueError(f"encoding '{encoding}' is unknown: choose one of {', '.join(ENCODINGS)}")
    code = ENCODINGS[encoding]
    base = tensors if base is None else base
    parts = code.encode(
        [_flat(tensor) for tensor in tensors.values()], [_flat(base[name]) for name in tensors])
    entries, offset = [], 0
    for (name, tensor), part in zip(tensors.items(), parts):
        entries.append(TensorEntry(name, encoding, tuple(tensor.shape), offset))
        offset += len(part)
    blob = b''.join(parts)
    if code.compressed:
        blob = compress(blob)
    return PackedTensors(encoding, tuple(entries), blob, offset, zlib.crc32(blob))


def unpack(packed: PackedTensors, base: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """
    Check bytes from the network in every respect and turn them into new tensors.

    :param packed: not trusted.
    :param base: the tensors that it may hold, by name, in their order; differences are added to
        their values.
    :returns: new float32 tensors on the CPU, by name.
    :raises UpdateRejected: if anything does not hold; nothing has happened then.
    """
    code = ENCODINGS.get(packed.encoding)
    if code is None:
        raise UpdateRejected(
            'encoding', f"encoding '{packed.encoding[:40]}' is unknown: expected one of "
            f"{', '.join(ENCODINGS)}")
    names = [entry.name for entry in packed.entries]
    if names != [name for name in base if name in set(names)]:
        raise UpdateRejected(
            'layout', f'{len(names)} tensors are not some of the {len(base)} known, or stand in '
            'another order')
    for entry in packed.entries:
        shape = tuple(base[entry.name].shape)
        if (entry.shape, entry.dtype) != (shape, packed.encoding):
            raise UpdateRejected(
                'layout', f'{entry.name} is {entry.dtype[:40]} of shape {entry.shape}, wanted '
                f'{packed.encoding} of shape {shape}')
    sizes = [base[name].numel() for name in names]
    least, most = (sum(bound(size) for size in sizes) for bound in (code.least, code.most))
    if not least <= packed.uncompressed_size <= most:
        raise UpdateRejected(
            'size', f'{packed.uncompressed_size} bytes are said, where '
            f"{least if least == most else f'{least} to {most}'} were wanted")
    if zlib.crc32(packed.blob) != packed.checksum:
        raise UpdateRejected('checksum', 'the checksum does not fit the bytes')
    tensors, offset = {}, 0
    try:
        blob = (decompress(packed.blob, packed.uncompressed_size) if code.compressed
                else packed.blob)
        if len(blob) != packed.uncompressed_size:
            raise DecodingError(f'{len(blob)} bytes, said to be {packed.uncompressed_size}')
        for entry in packed.entries:
            if entry.offset != offset:
                raise UpdateRejected(
                    'layout', f'{entry.name} is said to begin at {entry.offset}, not {offset}')
            values, offset = code.decode(blob, offset, _flat(base[entry.name]))
            if not np.isfinite(values).all():
                raise UpdateRejected(
                    'not_finite', f'{entry.name} holds values that are not finite')
            tensors[entry.name] = torch.from_numpy(values.reshape(entry.shape))
        if offset != len(blob):
            raise DecodingError(f'{len(blob) - offset} bytes are left over')
    except DecodingError as error:
        raise UpdateRejected('size', str(error)) from None
    return tensors
