"""Weight updates as they cross the network: packing, checking and unpacking of tensors."""

from dataclasses import dataclass
from enum import IntEnum
import math
import zlib

import numpy as np
import torch

#: How tensors can be coded: the name and the dtype (little endian) of the values in the blob.
ENCODINGS = {'fp32': np.dtype('<f4'), 'fp16': np.dtype('<f2')}


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
    'session', 'key_frame', 'model', 'base_version', 'metric', 'scope', 'encoding', 'size',
    'checksum', 'layout', 'not_finite')


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

    :ivar encoding: one of :data:`ENCODINGS`.
    :ivar entries: where each tensor lies in the uncompressed blob.
    :ivar blob: the bytes.
    :ivar uncompressed_size: of the blob, in bytes.
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
    metric_before: float
    metric_after: float
    threshold: float
    steps: int
    max_updates: int
    teacher_seconds: float
    training_seconds: float


def pack(tensors: dict[str, torch.Tensor], encoding: str = 'fp32') -> PackedTensors:
    """
    Turn tensors into bytes.

    :param tensors: floating-point tensors by name.
    :param encoding: one of :data:`ENCODINGS`.
    :raises ValueError: if the encoding is unknown.
    """
    if encoding not in ENCODINGS:
        raise ValueError(f"encoding '{encoding}' is unknown: choose one of {', '.join(ENCODINGS)}")
    dtype = ENCODINGS[encoding]
    entries, parts, offset = [], [], 0
    for name, tensor in tensors.items():
        data = tensor.detach().cpu().numpy().astype(dtype, order='C').tobytes()
        entries.append(TensorEntry(name, encoding, tuple(tensor.shape), offset))
        parts.append(data)
        offset += len(data)
    blob = b''.join(parts)
    return PackedTensors(encoding, tuple(entries), blob, len(blob), zlib.crc32(blob))


def unpack(
        packed: PackedTensors, expected: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """
    Check bytes from the network in every respect and turn them into new tensors.

    :param packed: not trusted.
    :param expected: the tensors that it must hold, by name; only their shapes count.
    :returns: new float32 tensors on the CPU, by name.
    :raises UpdateRejected: if anything does not hold; nothing has happened then.
    """
    dtype = ENCODINGS.get(packed.encoding)
    if dtype is None:
        raise UpdateRejected(
            'encoding', f"encoding '{packed.encoding[:40]}' is unknown: expected one of "
            f"{', '.join(ENCODINGS)}")
    size = sum(tensor.numel() for tensor in expected.values()) * dtype.itemsize
    if not packed.uncompressed_size == len(packed.blob) == size:
        raise UpdateRejected(
            'size', f'{len(packed.blob)} bytes, said to be {packed.uncompressed_size}, where '
            f'{size} were wanted')
    if zlib.crc32(packed.blob) != packed.checksum:
        raise UpdateRejected('checksum', 'the checksum does not fit the bytes')
    if [entry.name for entry in packed.entries] != list(expected):
        raise UpdateRejected(
            'layout', f'{len(packed.entries)} tensors are not the {len(expected)} wanted, or '
            'stand in another order')
    tensors, offset = {}, 0
    for entry in packed.entries:
        shape = tuple(expected[entry.name].shape)
        if (entry.shape, entry.offset, entry.dtype) != (shape, offset, packed.encoding):
            raise UpdateRejected(
                'layout', f'{entry.name} is {entry.dtype[:40]} of shape {entry.shape} at '
                f'{entry.offset}, wanted {packed.encoding} of shape {shape} at {offset}')
        count = math.prod(shape)
        values = np.frombuffer(packed.blob, dtype, count, offset).astype(np.float32)
        if not np.isfinite(values).all():
            raise UpdateRejected('not_finite', f'{entry.name} holds values that are not finite')
        tensors[entry.name] = torch.from_numpy(values.reshape(shape))
        offset += count * dtype.itemsize
    return tensors
