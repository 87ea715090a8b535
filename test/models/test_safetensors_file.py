"""The format's own library writes what is read here, and reads what is written here."""

import json
import tracemalloc

import numpy as np
import pytest
import safetensors
import safetensors.torch
from shadowtutor_ros.models.safetensors_file import load_file, SafetensorsError, save_file
import torch

DTYPES = (
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32,
    torch.int16, torch.int8, torch.uint8)
SHAPES = ((), (1,), (3,), (2, 3), (4, 3, 1, 2), (1, 1, 1, 1, 5))


def same(some, others):
    return some.keys() == others.keys() and all(
        tensor.dtype == others[name].dtype and torch.equal(tensor, others[name])
        for name, tensor in some.items())


@pytest.fixture
def tensors():
    torch.manual_seed(0)
    return {f'{dtype}.{index}': (100 * torch.randn(shape)).to(dtype)
            for index, shape in enumerate(SHAPES) for dtype in DTYPES}


@pytest.fixture
def path(tmp_path):
    return tmp_path / 'it.safetensors'


def file_of(header, data=b''):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, 'little') + text + data


def one(dtype='F32', shape=(2,), begin=0, end=8, **more):
    return {'dtype': dtype, 'shape': shape, 'data_offsets': [begin, end], **more}


def test_what_the_library_writes_is_read(path, tensors):
    safetensors.torch.save_file(tensors, path, {'a': 'text', 'b': 'ünïcode "quoted"'})
    loaded, metadata = load_file(path)
    assert same(loaded, tensors)
    assert metadata == {'a': 'text', 'b': 'ünïcode "quoted"'}
    safetensors.torch.save_file({'x': torch.zeros(2)}, path)
    assert load_file(path)[1] == {}


def test_the_library_reads_what_is_written(path, tensors):
    tensors['scattered'] = torch.arange(24.0).reshape(2, 3, 4).transpose(0, 2)
    tensors['channels last'] = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)
    tensors['parameter'] = torch.nn.Parameter(torch.ones(2))
    save_file(tensors, path, {'a': 'ünïcode'})
    assert same(safetensors.torch.load_file(path), tensors)
    with safetensors.safe_open(path, 'pt') as file:
        assert file.metadata() == {'a': 'ünïcode'}
    assert same(load_file(path)[0], tensors)


def test_the_same_tensors_give_the_same_bytes(path, tensors):
    tensors = {'one byte': torch.ones(1, dtype=torch.uint8), **tensors}
    save_file(tensors, path, {'a': '1', 'b': '2'})
    before = path.read_bytes()
    save_file(dict(tensors), path, {'a': '1', 'b': '2'})
    assert path.read_bytes() == before
    header = json.loads(before[8:8 + int.from_bytes(before[:8], 'little')])
    assert (8 + int.from_bytes(before[:8], 'little')) % 8 == 0
    for name, tensor in tensors.items():
        assert header[name]['data_offsets'][0] % tensor.element_size() == 0


@pytest.mark.filterwarnings('error')
def test_what_is_read_can_be_written_to(path):
    save_file({'x': torch.zeros(3), 'y': torch.zeros(3)}, path, {})
    loaded, _ = load_file(path)
    loaded['x'] += 1
    assert loaded['y'].tolist() == load_file(path)[0]['x'].tolist() == [0, 0, 0]


TWO = bytes(8)
BAD = {
    'nothing': b'',
    'seven bytes': bytes(7),
    'a length alone': (8).to_bytes(8, 'little'),
    'a header longer than the file': file_of({'x': one()}, TWO)[:30],
    'a header of 2**64 - 1 bytes': b'\xff' * 100,
    'a long header': file_of(b'{' + b' ' * 2 ** 22 + b'}'),
    'no JSON': file_of(b'x'),
    'no text': file_of(b'\xff{}'),
    'an endless number': file_of(b'{"x": ' + b'9' * 10 ** 5 + b'}'),
    'a deep nest': file_of(b'[' * 10 ** 6),
    'a list': file_of([]),
    'a number': file_of(b'7'),
    'a name twice': file_of(b'{"x": 1, "x": 2}'),
    'a key twice': file_of(
        b'{"x": {"dtype": "F32", "shape": [2], "shape": [2], "data_offsets": [0, 8]}}', TWO),
    'metadata of numbers': file_of({'__metadata__': {'a': 1}, 'x': one()}, TWO),
    'metadata as a list': file_of({'__metadata__': []}),
    'metadata of nothing': file_of({'__metadata__': None}),
    'an entry as a list': file_of({'x': [1]}),
    'no shape': file_of({'x': {'dtype': 'F32', 'data_offsets': [0, 8]}}, TWO),
    'something more': file_of({'x': one(more=1)}, TWO),
    'another dtype': file_of({'x': one('F8_E4M3', (8,))}, TWO),
    'a dtype of numpy': file_of({'x': one('<f4')}, TWO),
    'a list for a dtype': file_of({'x': one(['F32'])}, TWO),
    'a negative dimension': file_of({'x': one(shape=(-1, -2))}, TWO),
    'a fraction': file_of({'x': one(shape=(2.0,))}, TWO),
    'true': file_of({'x': one('F64', (True,))}, TWO),
    'text for a dimension': file_of({'x': one(shape=('2',))}, TWO),
    'text for a shape': file_of({'x': one(shape='22')}, TWO),
    'no values': file_of({'x': one(shape=(0,), end=0)}),
    'no values of many': file_of({'x': one(shape=(0, 2 ** 63), end=0)}),
    'many dimensions': file_of({'x': one(shape=(2,) + (1,) * 10 ** 4)}, TWO),
    'large dimensions': file_of({'x': one(shape=(2 ** 62, 2 ** 62))}, TWO),
    'one offset': file_of({'x': {**one(), 'data_offsets': [8]}}, TWO),
    'three offsets': file_of({'x': {**one(), 'data_offsets': [0, 8, 8]}}, TWO),
    'a negative offset': file_of({'x': one(begin=-8, end=0)}, TWO),
    'an offset that is a fraction': file_of({'x': one(begin=0.0)}, TWO),
    'an end before its begin': file_of({'x': one(begin=8, end=0)}, TWO),
    'another size': file_of({'x': one(shape=(3,))}, bytes(12)),
    'bytes behind the file': file_of({'x': one()}, bytes(7)),
    'bytes far behind the file': file_of({'x': one(begin=2 ** 63, end=2 ** 63 + 8)}, TWO),
    'bytes left over': file_of({'x': one()}, bytes(9)),
    'bytes and no tensor': file_of({}, b'x'),
    'a gap': file_of({'x': one(), 'y': one(begin=9, end=17)}, bytes(17)),
    'a gap before': file_of({'x': one(begin=1, end=9)}, bytes(9)),
    'bytes of two': file_of({'x': one(), 'y': one()}, TWO),
    'an overlap': file_of({'x': one(), 'y': one(begin=4, end=12)}, bytes(12)),
    'a name of two lines': file_of({'x\nz' * 100: one(shape=(3,))}, TWO),
}


@pytest.mark.parametrize('what', BAD)
def test_refuses(path, what):
    path.write_bytes(BAD[what])
    with pytest.raises(SafetensorsError) as caught:
        load_file(path)
    assert '\n' not in str(caught.value) and len(str(caught.value)) < 300


def test_the_files_that_are_refused_are_near_one_that_is_not(path):
    path.write_bytes(file_of({
        'y': one(begin=8, end=16), 'x': one(), '__metadata__': {}}, bytes(16)))
    assert list(load_file(path)[0]) == ['x', 'y']


def test_a_header_that_says_much_takes_no_memory(path):
    path.write_bytes(file_of({'x': one(shape=(2 ** 40,), end=2 ** 42)}, TWO))
    tracemalloc.start()
    with pytest.raises(SafetensorsError):
        load_file(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 ** 20


def test_changed_bytes_are_refused_or_read_as_the_library_reads_them(path, tensors):
    save_file({name: tensors[name] for name in list(tensors)[:12]}, path, {'a': 'text'})
    whole = path.read_bytes()
    head = 8 + int.from_bytes(whole[:8], 'little')
    random = np.random.default_rng(0)
    refused = 0
    for _ in range(1000):
        data = bytearray(whole)
        for _ in range(int(random.integers(1, 4))):
            data[int(random.integers(head))] = random.choice(list(b'0123456789",[]{}FIU \xff'))
        path.write_bytes(data[:int(random.integers(head, len(data) + 1))]
                         if random.random() < 0.2 else data)
        try:
            loaded, _ = load_file(path)
        except SafetensorsError as error:
            refused += 1
            assert '\n' not in str(error)
        else:
            other = safetensors.torch.load_file(path)
            assert loaded.keys() == other.keys()
            assert all(tensor.numpy(force=True).tobytes() == other[name].numpy().tobytes()
                       for name, tensor in loaded.items() if tensor.dtype != torch.bfloat16)
    assert 500 < refused < 1000
