from dataclasses import replace
import lzma
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from shadowtutor_ros.wire.encodings import compress, ENCODINGS
from shadowtutor_ros.wire.weight_update import (
    most_bytes, pack, REJECTION_REASONS, unpack, UpdateRejected)
import torch

ABSOLUTE = {'fp32': '<f4', 'fp16': '<f2'}
DIFFERENCES = [name for name in ENCODINGS if name not in ABSOLUTE]


@pytest.fixture
def tensors():
    generator = torch.Generator().manual_seed(0)
    return {
        'first.weight': torch.randn(4, 3, 3, 3, generator=generator),
        'first.bias': torch.randn(4, generator=generator),
        'scale': torch.tensor(0.1),
        'last.weight': torch.randn(2, 4, 1, 1, generator=generator)}


def with_blob(packed, blob):
    """Put other bytes in, with a checksum that fits, as an attacker would."""
    size = len(blob)
    if packed.encoding not in ABSOLUTE:
        blob = compress(blob)
    return replace(packed, blob=blob, uncompressed_size=size, checksum=zlib.crc32(blob))


def uncompressed(packed):
    if packed.encoding in ABSOLUTE:
        return packed.blob
    return lzma.decompress(
        packed.blob, lzma.FORMAT_RAW,
        filters=[{'id': lzma.FILTER_LZMA2, 'dict_size': 2 ** 19}])


def moved(tensors, scale=1e-3):
    generator = torch.Generator().manual_seed(1)
    return {name: tensor + scale * torch.randn(tensor.shape, generator=generator)
            for name, tensor in tensors.items()}


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
    assert packed.places == (0, 1, 2, 3)


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
    with pytest.raises(ValueError, match="'int2'.*fp32, fp16"):
        pack(tensors, 'int2')


@pytest.mark.parametrize('encoding', ENCODINGS)
class TestRejects:

    @pytest.mark.parametrize('unknown', ['', 'int2', 'FP32', '<f4', 'O', 'x' * 10 ** 5])
    def test_encoding(self, tensors, encoding, unknown):
        packed = pack(tensors, encoding)
        assert reason(replace(packed, encoding=unknown), tensors) == 'encoding'

    def test_size(self, tensors, encoding):
        packed = pack(tensors, encoding)
        whole = uncompressed(packed)
        for blob in (whole[:-1], whole[:-4], whole + b'\0', b''):
            assert reason(with_blob(packed, blob), tensors) == 'size'
        for size in (0, 1, 2 ** 32 - 1, packed.uncompressed_size + 1):
            assert reason(replace(packed, uncompressed_size=size), tensors) == 'size'

    def test_bytes_of_another_encoding(self, tensors, encoding):
        other = {'fp32': 'fp16'}.get(encoding, 'fp32')
        assert reason(replace(pack(tensors, encoding), encoding=other), tensors) == 'size'

    def test_checksum(self, tensors, encoding):
        packed = pack(tensors, encoding)
        assert reason(replace(packed, checksum=packed.checksum ^ 1), tensors) == 'checksum'
        for index in (0, len(packed.blob) // 2, len(packed.blob) - 1):
            blob = bytearray(packed.blob)
            blob[index] ^= 0x10
            assert reason(replace(packed, blob=bytes(blob)), tensors) == 'checksum'

    @pytest.mark.parametrize('places', [
        (1, 0, 2, 3), (0, 0, 1, 2), (0, 1, 2, 4), (-1, 0, 1, 2), (0, 1, 2, 3, 3), (65535,),
        tuple(range(10 ** 5))])
    def test_places(self, tensors, encoding, places):
        packed = pack(tensors, encoding)
        assert reason(replace(packed, places=places), tensors) == 'layout'

    def test_fewer_and_other_tensors(self, tensors, encoding):
        packed = pack(tensors, encoding)
        for places in ((), (0,), (1, 2, 3), (0, 1, 3)):
            assert reason(replace(packed, places=places), tensors) == 'size'

    @pytest.mark.parametrize('value', [np.nan, np.inf, -np.inf])
    def test_values_that_are_not_finite(self, tensors, encoding, value):
        packed = pack(moved(tensors), encoding, tensors)
        # A value itself, or the size of a tensor's steps.
        number = np.array(value, ABSOLUTE.get(encoding, '<f4')).tobytes()
        sizes = [len(uncompressed(pack({name: tensor}, encoding, tensors)))
                 for name, tensor in moved(tensors).items()]
        for offset in (0, sizes[0], sizes[0] + sizes[1]):
            blob = bytearray(uncompressed(packed))
            blob[offset:offset + len(number)] = number
            assert reason(with_blob(packed, bytes(blob)), tensors) == 'not_finite'

    def test_tensors_of_another_network(self, tensors, encoding):
        packed = pack(tensors, encoding)
        larger = {**tensors, 'last.weight': torch.zeros(3, 4, 1, 1)}
        assert reason(packed, larger) == 'size'
        assert reason(packed, dict(list(tensors.items())[:3])) == 'layout'


def mutated(packed, random):
    """Change something about the bytes, their description or both."""
    kind = random.integers(5)
    if kind == 0:
        inside = bool(random.integers(2))
        blob = bytearray(uncompressed(packed) if inside else packed.blob)
        for _ in range(int(random.integers(1, 5))):
            blob[int(random.integers(len(blob)))] = int(random.integers(256))
        return with_blob(packed, bytes(blob)) if inside else replace(
            packed, blob=bytes(blob), checksum=zlib.crc32(blob))
    if kind == 1:
        blob = uncompressed(packed)
        return with_blob(packed, blob[:int(random.integers(len(blob)))])
    if kind == 2:
        field = str(random.choice(['uncompressed_size', 'checksum']))
        return replace(packed, **{field: int(random.integers(2 ** 32))})
    if kind == 3:
        places = random.integers(-1, 6, int(random.integers(6))).tolist()
        return replace(packed, places=tuple(places))
    places = sorted(set(random.integers(0, 4, 4).tolist()))
    return replace(packed, places=tuple(places))


@pytest.mark.parametrize('encoding', ENCODINGS)
def test_mutated_tensors_are_rejected_or_fit(tensors, encoding):
    random = np.random.default_rng(6)
    reasons = set()
    for _ in range(500):
        try:
            packed = pack(moved(tensors), encoding, tensors)
            unpacked = unpack(mutated(packed, random), tensors)
        except UpdateRejected as rejected:
            assert rejected.reason in REJECTION_REASONS
            reasons.add(rejected.reason)
        else:
            assert unpacked.keys() <= tensors.keys()
            for name, tensor in unpacked.items():
                assert tensor.shape == tensors[name].shape and tensor.dtype == torch.float32
                assert bool(torch.isfinite(tensor).all())
    assert reasons >= {'size', 'checksum', 'layout'}


# --- differences --------------------------------------------------------------------------------

@pytest.mark.parametrize('encoding, part', [('int8', 0.005), ('int4', 1.0)])
def test_differences_are_rounded_to_steps(tensors, encoding, part):
    new = moved(tensors)
    unpacked = unpack(pack(new, encoding, tensors), tensors)
    for name, tensor in unpacked.items():
        difference = new[name] - tensors[name]
        error = (tensor - new[name]).abs().max()
        assert error <= part * difference.abs().max() + 1e-7


def test_int4_rounds_to_steps_of_what_has_changed_and_cuts_at_seven():
    random = torch.Generator().manual_seed(0)
    base = {'weight': torch.zeros(999)}
    new = {'weight': torch.randn(999, generator=random)}
    new['weight'][::3] = 0
    step = 0.7 * float(new['weight'].square().sum().div(666).sqrt())
    decoded = unpack(pack(new, 'int4', base), base)['weight']
    assert 0.45 * step < (decoded - new['weight']).abs().max() <= 0.5001 * step
    assert not decoded[::3].any()
    base = {'weight': torch.zeros(400)}
    for sign in (1.0, -1.0):
        new = {'weight': torch.zeros(400)}
        new['weight'][:100] = 0.1 * sign
        new['weight'][5] = 10.0 * sign
        decoded = unpack(pack(new, 'int4', base), base)['weight']
        assert decoded[5] == pytest.approx(sign * 7 * 0.7 * (1.0099 ** 0.5), rel=1e-3)


@pytest.mark.parametrize('encoding', DIFFERENCES)
def test_no_difference_changes_nothing_and_costs_next_to_nothing(tensors, encoding):
    packed = pack(tensors, encoding, tensors)
    for name, tensor in unpack(packed, tensors).items():
        assert torch.equal(tensor, tensors[name])
    assert len(packed.blob) < 40


@pytest.mark.parametrize('encoding', DIFFERENCES)
def test_both_sides_compute_the_same_bits(tensors, encoding):
    new = moved(tensors)
    packed = pack(new, encoding, tensors)
    first, second = unpack(packed, tensors), unpack(packed, moved(tensors, 0))
    for name in tensors:
        assert first[name].numpy().tobytes() == second[name].numpy().tobytes()


@pytest.mark.parametrize('encoding', ENCODINGS)
def test_some_tensors_can_be_sent_alone(tensors, encoding):
    some = {name: moved(tensors)[name] for name in ('first.bias', 'last.weight')}
    packed = pack(some, encoding, tensors)
    assert packed.places == (1, 3)
    assert list(unpack(packed, tensors)) == list(some)


@pytest.mark.parametrize('encoding', ENCODINGS)
def test_no_blob_is_larger_than_is_said_to_be_possible(tensors, encoding):
    random = np.random.default_rng(0)
    wild = {name: torch.from_numpy(random.integers(
        0, 2 ** 32, tensor.shape, np.uint32).view(np.float32)).nan_to_num().clip(-1e15, 1e15)
        for name, tensor in tensors.items()}
    assert len(pack(wild, encoding, tensors).blob) <= most_bytes(tensors)


@pytest.mark.parametrize('encoding', DIFFERENCES)
@pytest.mark.parametrize('value', [np.nan, np.inf])
def test_weights_that_went_astray_are_refused_where_they_are_read(tensors, encoding, value):
    new = moved(tensors)
    new['first.weight'].view(-1)[3] = value
    assert reason(pack(new, encoding, tensors), tensors) == 'not_finite'


@pytest.mark.parametrize('encoding', DIFFERENCES)
def test_compressed_bytes_end_where_the_values_do(tensors, encoding):
    packed = pack(moved(tensors), encoding, tensors)
    whole = packed.blob
    for blob in (b'', whole[:-1], whole + b'\0', 2 * whole, b'\xff' + whole):
        bad = replace(packed, blob=blob, checksum=zlib.crc32(blob))
        assert reason(bad, tensors) == 'size'


@pytest.mark.parametrize('encoding', DIFFERENCES)
def test_a_bomb_takes_no_memory(tensors, encoding):
    packed = pack(moved(tensors), encoding, tensors)
    bomb = compress(bytes(2 ** 27))
    for size in (packed.uncompressed_size, 2 ** 27):
        bad = replace(packed, blob=bomb, checksum=zlib.crc32(bomb), uncompressed_size=size)
        tracemalloc.start()
        assert reason(bad, tensors) == 'size'
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 2 ** 21
