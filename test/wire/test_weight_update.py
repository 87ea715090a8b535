from dataclasses import replace
import struct
import zlib

import numpy as np
import pytest
from shadowtutor_ros.wire.weight_update import (
    ENCODINGS, pack, REJECTION_REASONS, TensorEntry, unpack, UpdateRejected)
import torch

ENTRY_FIELDS = ('name', 'dtype', 'shape', 'offset')


@pytest.fixture
def tensors():
    generator = torch.Generator().manual_seed(0)
    return {
        'first.weight': torch.randn(4, 3, 3, 3, generator=generator),
        'first.bias': torch.randn(4, generator=generator),
        'scale': torch.tensor(0.1),
        'last.weight': torch.randn(2, 4, 1, 1, generator=generator)}


def with_blob(packed, blob):
    return replace(
        packed, blob=blob, uncompressed_size=len(blob), checksum=zlib.crc32(blob))


def with_entry(packed, index, **changes):
    entries = list(packed.entries)
    entries[index] = replace(entries[index], **changes)
    return replace(packed, entries=tuple(entries))


def reason(packed, expected):
    with pytest.raises(UpdateRejected) as caught:
        unpack(packed, expected)
    assert '\n' not in str(caught.value) and len(str(caught.value)) < 300
    return caught.value.reason


def test_fp32_round_trip_is_exact(tensors):
    unpacked = unpack(pack(tensors, 'fp32'), tensors)
    assert list(unpacked) == list(tensors)
    for name, tensor in unpacked.items():
        assert tensor.dtype == torch.float32 and tensor.shape == tensors[name].shape
        assert torch.equal(tensor, tensors[name])


def test_fp16_round_trip_rounds_to_half(tensors):
    unpacked = unpack(pack(tensors, 'fp16'), tensors)
    for name, tensor in unpacked.items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, tensors[name].half().float())
    assert pack(unpacked, 'fp16') == pack(tensors, 'fp16')  # a second time loses nothing


@pytest.mark.parametrize('encoding, size', [('fp32', 4), ('fp16', 2)])
def test_blob_is_as_the_message_says(tensors, encoding, size):
    packed = pack(tensors, encoding)
    values = torch.cat([tensor.flatten() for tensor in tensors.values()])
    code = {4: 'f', 2: 'e'}[size]
    assert packed.blob == struct.pack(f'<{len(values)}{code}', *values.tolist())
    assert packed.uncompressed_size == len(packed.blob) == size * len(values)
    assert packed.checksum == zlib.crc32(packed.blob)
    assert packed.entries[1] == TensorEntry('first.bias', encoding, (4,), 108 * size)
    assert packed.entries[2].shape == ()


def test_memory_format_does_not_matter(tensors):
    scattered = {
        name: tensor.to(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor
        for name, tensor in tensors.items()}
    assert pack(scattered) == pack(tensors)


def test_parameters_can_be_packed(tensors):
    trained = {name: torch.nn.Parameter(tensor) for name, tensor in tensors.items()}
    assert pack(trained) == pack(tensors)


def test_unpacked_tensors_are_independent_of_all_else(tensors):
    packed = pack(tensors)
    unpacked, again = unpack(packed, tensors), unpack(packed, tensors)
    unpacked['scale'].fill_(7)
    assert float(again['scale']) == float(tensors['scale']) == pytest.approx(0.1)


def test_nothing_packs_to_nothing():
    assert unpack(pack({}), {}) == {}


def test_unknown_encoding_to_pack_is_refused(tensors):
    with pytest.raises(ValueError, match="'int4'.*fp32, fp16"):
        pack(tensors, 'int4')


@pytest.mark.parametrize('encoding', ENCODINGS)
class TestRejects:

    @pytest.mark.parametrize('unknown', ['', 'int4', 'FP32', '<f4', 'O', 'x' * 10 ** 5])
    def test_encoding(self, tensors, encoding, unknown):
        packed = pack(tensors, encoding)
        assert reason(replace(packed, encoding=unknown), tensors) == 'encoding'

    def test_size(self, tensors, encoding):
        packed = pack(tensors, encoding)
        for blob in (packed.blob[:-1], packed.blob[:-4], packed.blob + b'\0', b''):
            assert reason(with_blob(packed, blob), tensors) == 'size'
        for size in (0, 1, 2 ** 32 - 1, packed.uncompressed_size + 1):
            assert reason(replace(packed, uncompressed_size=size), tensors) == 'size'

    def test_encoding_of_another_size(self, tensors, encoding):
        other = {'fp32': 'fp16', 'fp16': 'fp32'}[encoding]
        assert reason(replace(pack(tensors, encoding), encoding=other), tensors) == 'size'

    def test_checksum(self, tensors, encoding):
        packed = pack(tensors, encoding)
        assert reason(replace(packed, checksum=packed.checksum ^ 1), tensors) == 'checksum'
        for index in (0, len(packed.blob) // 2, len(packed.blob) - 1):
            blob = bytearray(packed.blob)
            blob[index] ^= 0x10
            assert reason(replace(packed, blob=bytes(blob)), tensors) == 'checksum'

    def test_names(self, tensors, encoding):
        packed = pack(tensors, encoding)
        first, second, *rest = packed.entries
        for entries in (
                (second, first, *rest), (first, *rest), (first, first, second, *rest),
                (first, second, *rest, rest[-1]), ()):
            assert reason(replace(packed, entries=tuple(entries)), tensors) == 'layout'
        for name in ('', 'first.weights', 'x' * 10 ** 5, '../../etc/passwd', '__class__'):
            assert reason(with_entry(packed, 0, name=name), tensors) == 'layout'

    @pytest.mark.parametrize('shape', [
        (), (4, 27), (108,), (3, 4, 3, 3), (4, 3, 3, 4), (4, 3, 3), (0,), (10 ** 9,) * 7])
    def test_shape(self, tensors, encoding, shape):
        packed = pack(tensors, encoding)
        assert reason(with_entry(packed, 0, shape=shape), tensors) == 'layout'

    @pytest.mark.parametrize('offset', [0, 1, 107, 2 ** 32 - 1, 10 ** 12])
    def test_offset(self, tensors, encoding, offset):
        packed = pack(tensors, encoding)
        assert reason(with_entry(packed, 1, offset=offset), tensors) == 'layout'

    @pytest.mark.parametrize('dtype', ['', 'float32', 'O', 'fp64', 'x' * 10 ** 5])
    def test_dtype(self, tensors, encoding, dtype):
        packed = pack(tensors, encoding)
        assert reason(with_entry(packed, 3, dtype=dtype), tensors) == 'layout'

    @pytest.mark.parametrize('value', [np.nan, np.inf, -np.inf])
    @pytest.mark.parametrize('index', [0, 112, -1])
    def test_values_that_are_not_finite(self, tensors, encoding, value, index):
        packed = pack(tensors, encoding)
        values = np.frombuffer(packed.blob, ENCODINGS[encoding]).copy()
        values[index] = value
        assert reason(with_blob(packed, values.tobytes()), tensors) == 'not_finite'

    def test_tensors_of_another_network(self, tensors, encoding):
        packed = pack(tensors, encoding)
        larger = {**tensors, 'more': torch.zeros(5)}
        renamed = {f'module.{name}': tensor for name, tensor in tensors.items()}
        turned = {name: tensor.transpose(0, -1) if tensor.ndim == 4 else tensor
                  for name, tensor in tensors.items()}
        assert reason(packed, larger) == 'size'
        assert reason(packed, renamed) == 'layout'
        assert reason(packed, turned) == 'layout'


def mutated(packed, random):
    """Change something about the bytes, their description or both."""
    kind = random.integers(5)
    if kind == 0:
        blob = bytearray(packed.blob)
        for _ in range(int(random.integers(1, 5))):
            blob[int(random.integers(len(blob)))] = int(random.integers(256))
        # With a checksum that fits, as an attacker would.
        return with_blob(packed, bytes(blob))
    if kind == 1:
        return with_blob(packed, packed.blob[:int(random.integers(len(packed.blob)))])
    if kind == 2:
        field = str(random.choice(['uncompressed_size', 'checksum']))
        return replace(packed, **{field: int(random.integers(2 ** 32))})
    if kind == 3:
        entries = [packed.entries[i] for i in random.integers(0, 4, int(random.integers(6)))]
        return replace(packed, entries=tuple(entries))
    index, field = int(random.integers(4)), str(random.choice(ENTRY_FIELDS))
    value = {
        'name': str(random.choice(['', 'scale', 'first.bias', 'x'])),
        'dtype': str(random.choice(['fp32', 'fp16', 'O'])),
        'shape': tuple(random.integers(0, 5, int(random.integers(6))).tolist()),
        'offset': int(random.integers(500))}[field]
    return with_entry(packed, index, **{field: value})


@pytest.mark.parametrize('encoding', ENCODINGS)
def test_mutated_tensors_are_rejected_or_fit(tensors, encoding):
    random = np.random.default_rng(6)
    reasons = set()
    for _ in range(500):
        try:
            unpacked = unpack(mutated(pack(tensors, encoding), random), tensors)
        except UpdateRejected as rejected:
            assert rejected.reason in REJECTION_REASONS
            reasons.add(rejected.reason)
        else:
            assert list(unpacked) == list(tensors)
            for name, tensor in unpacked.items():
                assert tensor.shape == tensors[name].shape and tensor.dtype == torch.float32
                assert bool(torch.isfinite(tensor).all())
    assert reasons >= {'size', 'checksum', 'layout'}
