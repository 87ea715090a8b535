"""
Files in the safetensors format, read with every check and written.

The library of that name would do, but rosdep has no key for it. A file is the length of its header
as 8 bytes, little endian; the header, a JSON object that says of each tensor its dtype, its shape
and where its bytes begin and end; and those bytes, which leave no gap and do not overlap.
"""

from collections.abc import Mapping
import json
import math
from pathlib import Path
from typing import Any

import torch

#: What the format calls the dtypes that networks have.
_DTYPES = {
    'F64': torch.float64, 'F32': torch.float32, 'F16': torch.float16, 'BF16': torch.bfloat16,
    'I64': torch.int64, 'I32': torch.int32, 'I16': torch.int16, 'I8': torch.int8,
    'U8': torch.uint8}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}

#: Bytes of a header at most; that of a network of 1,000 tensors has some 100,000.
_HEADER_LIMIT = 2 ** 22

#: As many as the networks here have, and a few.
_DIMENSIONS = 8


class SafetensorsError(ValueError):
    """What is wrong with a file, in one line."""


def load_file(path: str | Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """
    Read a file that is not trusted; no more memory is taken than it has bytes, twice.

    :returns: new tensors on the CPU by name, in the order of their bytes, and what the file says
        of itself.
    :raises SafetensorsError: if anything is not as the format wants it, or a tensor has another
        dtype than floating point or integer, no values, or more than 8 dimensions.
    :raises OSError: if it cannot be read.
    """
    data = memoryview(Path(path).read_bytes())
    length = int.from_bytes(data[:8], 'little')
    if len(data) < 8 or length > min(len(data) - 8, _HEADER_LIMIT):
        raise SafetensorsError(f'its {len(data)} bytes do not begin with a header')
    header, data = _parse(bytes(data[8:8 + length])), data[8 + length:]
    metadata = header.pop('__metadata__', {})
    if not isinstance(metadata, dict) or not all(
            isinstance(text, str) for text in metadata.values()):
        raise SafetensorsError('its metadata are not texts')
    places = sorted(
        (*_place(name, entry), name, entry['dtype'], entry['shape'])
        for name, entry in header.items())
    tensors, offset = {}, 0
    for begin, end, name, dtype, shape in places:
        if begin != offset or end > len(data):
            raise SafetensorsError(
                f'{name[:60]!r} has bytes {begin} to {end}, wanted are those from {offset} on, of '
                f'{len(data)}')
        # A copy of its own is aligned, and can be written to.
        tensors[name] = torch.frombuffer(
            bytearray(data[begin:end]), dtype=_DTYPES[dtype]).reshape(shape)
        offset = end
    if offset != len(data):
        raise SafetensorsError(f'{len(data) - offset} bytes are left over')
    return tensors, metadata


def save_file(
        tensors: Mapping[str, torch.Tensor], path: str | Path,
        metadata: Mapping[str, str]) -> None:
    """
    Write tensors; the same ones give the same bytes.

    :param tensors: dense, floating point or integer, with values, by name.
    :param metadata: what the file is to say of itself.
    """
    # The widest first, so that each begins at a multiple of its values' size.
    ordered = sorted(tensors.items(), key=lambda item: -item[1].element_size())
    header: dict[str, Any] = {'__metadata__': dict(metadata)}
    blobs, offset = [], 0
    for name, tensor in ordered:
        blobs.append(
            tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
        header[name] = {
            'dtype': _NAMES[tensor.dtype], 'shape': list(tensor.shape),
            'data_offsets': [offset, offset + len(blobs[-1])]}
        offset += len(blobs[-1])
    text = json.dumps(header, separators=(',', ':')).encode()
    text += b' ' * (-len(text) % 8)
    Path(path).write_bytes(b''.join((len(text).to_bytes(8, 'little'), text, *blobs)))


def _parse(text: bytes) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise SafetensorsError('its header says something twice')
        return found
    try:
        header = json.loads(text, object_pairs_hook=unique)
    except SafetensorsError:
        raise
    except (ValueError, RecursionError):
        raise SafetensorsError('its header is not JSON') from None
    if not isinstance(header, dict):
        raise SafetensorsError('its header is not a JSON object')
    return header


def _place(name: str, entry: Any) -> tuple[int, int]:
    """Return where a tensor's bytes begin and end, once all that is said of it fits."""
    if not isinstance(entry, dict) or entry.keys() != {'dtype', 'shape', 'data_offsets'}:
        raise SafetensorsError(f'{name[:60]!r} is not said by dtype, shape and data_offsets')
    dtype, shape, offsets = entry['dtype'], entry['shape'], entry['data_offsets']
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        raise SafetensorsError(
            f"{name[:60]!r} has dtype {str(dtype)[:20]!r}, wanted one of {', '.join(_DTYPES)}")
    # True is an integer to Python.
    if not (_all_integers(shape, 1) and len(shape) <= _DIMENSIONS):
        raise SafetensorsError(f'{name[:60]!r} has shape {str(shape)[:60]}')
    if not (_all_integers(offsets, 0) and len(offsets) == 2):
        raise SafetensorsError(f'{name[:60]!r} has data_offsets {str(offsets)[:60]}')
    begin, end = offsets
    size = math.prod(shape) * torch.empty((), dtype=_DTYPES[dtype]).element_size()
    if end - begin != size:
        raise SafetensorsError(
            f'{name[:60]!r} has {end - begin} bytes, wanted {size} for its shape and dtype')
    return begin, end


def _all_integers(values: Any, least: int) -> bool:
    return isinstance(values, list) and all(
        type(value) is int and value >= least for value in values)
