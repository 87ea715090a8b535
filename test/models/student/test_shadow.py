import copy
import json
import os
import pickle
import zipfile

import numpy as np
import pytest
import safetensors.torch
from shadowtutor_ros.classes import ClassTable, LVS
from shadowtutor_ros.models.student.base import Student, WeightsError
from shadowtutor_ros.models.student.shadow import PIXEL_MEAN, Shadow
import torch
import torch.nn.functional as F


def image(height=64, width=96, batch=1):
    generator = torch.Generator().manual_seed(height * width)
    return torch.rand(batch, 3, height, width, generator=generator) * 255


@pytest.fixture
def student():
    torch.manual_seed(1)
    return Shadow().eval()


def same(left, right):
    return left.keys() == right.keys() and all(torch.equal(left[n], right[n]) for n in left)


# --- the network --------------------------------------------------------------------------------

def test_logits_equal_the_first_implementation(shared, first_student):
    golden = np.load(shared('golden/frame.npz'))
    x = torch.from_numpy(golden['image_bgr']).permute(2, 0, 1)[None].float()
    student = Student.load(first_student)
    with torch.no_grad():
        assert np.abs(student(x)[0].numpy() - golden['logits']).max() < 1e-3
        assert np.abs(student.plain_logits(x)[0].numpy() - golden['logits']).max() < 1e-4


def test_has_the_papers_number_of_parameters(student):
    def count(scope):
        return sum(tensor.numel() for tensor in student.tensors(scope).values())
    assert count('full') == sum(p.numel() for p in student.parameters()) == 483_873
    assert count('partial') == 103_465


def test_partial_scope_is_the_back_end(student):
    back = {name.split('.')[0] for name in student.tensors('partial')}
    rest = {name.split('.')[0] for name in student.tensors() if name.split('.')[0] not in back}
    assert back == {'dec2', 'dec3', 'out_conv1', 'out_conv2', 'out_conv3'}
    assert rest == {'in_conv1', 'in_conv2', 'enc1', 'enc2', 'enc3', 'dec1'}


def test_scopes_hold_what_the_first_implementation_trains(student, shared):
    golden = json.loads(shared('golden/training.json').read_text())
    for scope in ('partial', 'full'):
        assert sorted(student.tensors(scope)) == sorted(golden[scope]['trainable'])


@pytest.mark.parametrize('size', [(64, 96), (65, 97), (33, 47), (40, 130)])
@torch.no_grad()
def test_front_and_back_are_forward(student, size):
    x = image(*size, batch=2)
    logits = student(x)
    assert logits.shape == (2, 9, *size)
    assert torch.equal(student.back(student.front(x), size), logits)


def literal(student, x):
    """Compute logits as the first implementation does: enlarged before the last convolution."""
    def enlarge(y, size):
        return F.interpolate(y, size=size, mode='bilinear', align_corners=False)
    y = x - torch.tensor(PIXEL_MEAN).view(1, 3, 1, 1)
    y = student.in_conv2(student.in_conv1(y))
    half = [(side + 1) // 2 for side in x.shape[2:]]
    enc1 = student.enc1(y)
    enc2 = student.enc2(enc1)
    y = student.dec1(student.enc3(enc2))
    y = student.dec2(torch.cat([enlarge(y, enc2.shape[2:]), enc2], 1))
    y = student.dec3(torch.cat([enlarge(y, enc1.shape[2:]), enc1], 1))
    y = student.out_conv2(student.out_conv1(enlarge(y, half)))
    return student.out_conv3(enlarge(y, x.shape[2:]))


def padded(x):
    """Repeat the border until the sides are multiples of 8."""
    height, width = x.shape[2:]
    rows = torch.arange(height + -height % 8).clamp(max=height - 1)
    columns = torch.arange(width + -width % 8).clamp(max=width - 1)
    return x[:, :, rows][:, :, :, columns]


def literal_padded(student, x):
    return literal(student, padded(x))[:, :, :x.shape[2], :x.shape[3]]


@pytest.mark.parametrize('size', [(64, 96), (65, 97), (51, 38)])
@torch.no_grad()
def test_equals_the_literal_network(student, size):
    x = image(*size)
    assert torch.allclose(student(x), literal_padded(student, x), atol=1e-4)
    # Without padding, layer by layer.
    assert torch.allclose(student.plain_logits(x), literal(student, x), atol=1e-4)


@pytest.mark.parametrize('size', [(64, 96), (65, 97)])
def test_learns_as_the_literal_network(student, size):
    student.double()
    label, gradients = torch.ones(1, *size, dtype=torch.long), []
    for compute in (student, lambda x: literal_padded(student, x)):
        student.zero_grad()
        F.cross_entropy(compute(image(*size).double()), label).backward()
        gradients.append([tensor.grad.clone() for tensor in student.tensors().values()])
    for own, expected in zip(*gradients):
        assert torch.allclose(own, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize('size', [(64, 96), (33, 47)])
def test_computes_and_trains_rows_alone(student, size):
    x, rows = image(*size), (0, 3, 8)
    logits = student.back(student.front(x), size, rows)
    assert torch.allclose(logits, student(x)[:, list(rows)], atol=1e-4)
    logits.sum().backward()
    moved = student.out_conv3.weight.grad.abs().sum((1, 2, 3)) > 0
    assert moved.nonzero().flatten().tolist() == list(rows)
    assert student.dec1.long_path[0].weight.grad.abs().sum() > 0


@torch.no_grad()
def test_training_mode_computes_the_same(student):
    x = image()
    logits = student(x)
    assert torch.equal(student.train()(x), logits)


@pytest.mark.parametrize('size', [(33, 33), (33, 64), (40, 40), (64, 33)])
def test_takes_images_of_33x33_and_more(student, size):
    assert student(image(*size)).shape == (1, 9, *size)


def test_checksum_tells_weights_apart(student):
    checksum = student.weights_checksum()
    assert copy.deepcopy(student).weights_checksum() == checksum
    assert student.to(memory_format=torch.channels_last).weights_checksum() == checksum
    change = {'in_conv1.bias': student.in_conv1.bias.detach().clone() + 1e-3}
    changed = student.weights_checksum(change)
    assert changed != checksum == student.weights_checksum()
    student.load_state_dict(change, strict=False)
    assert student.weights_checksum() == changed


# --- files --------------------------------------------------------------------------------------

def test_pth_round_trip(student, tmp_path):
    path = tmp_path / 'student.pth'
    torch.save(student.state_dict(), path)
    assert same(Student.load(str(path)).state_dict(), student.state_dict())


def test_loads_the_first_implementation(first_student):
    state = torch.load(first_student, map_location='cpu', weights_only=True)
    assert same(Student.load(first_student).state_dict(), dict(state))


def write(path, state, metadata=None):
    if path.suffix == '.safetensors':
        safetensors.torch.save_file(state, path, metadata)
    else:
        torch.save(state, path)


def replaced(state, name, tensor):
    return {**state, name: tensor}


@pytest.mark.parametrize('suffix', ['.safetensors', '.pth'])
@pytest.mark.parametrize('change, said', [
    (lambda s: {n: t for n, t in s.items() if n != 'dec2.short_path.bias'},
     '1 tensors are missing.*dec2.short_path.bias'),
    (lambda s: replaced(s, 'dec9.weight', torch.zeros(3)), '1 tensors are unknown.*dec9.weight'),
    (lambda s: {f'module.{n}': t for n, t in s.items()}, '68 tensors are missing'),
    (lambda s: {}, '68 tensors are missing'),
    (lambda s: replaced(s, 'out_conv1.bias', torch.zeros(31)), r'out_conv1.bias.*31.*32'),
    (lambda s: replaced(s, 'out_conv1.bias', torch.zeros(32, 1)), r'out_conv1.bias.*32'),
    (lambda s: {**s, 'out_conv3.weight': torch.zeros(81, 32, 1, 1),
                'out_conv3.bias': torch.zeros(81)}, '81 classes and do not say which; .*pretrain'),
    (lambda s: replaced(s, 'out_conv1.bias', torch.zeros(32, dtype=torch.int64)),
     'out_conv1.bias is not a dense floating-point tensor'),
    (lambda s: replaced(s, 'enc1.long_path.0.bias', torch.full((64,), torch.nan)),
     'enc1.long_path.0.bias holds values that are not finite'),
    (lambda s: replaced(s, 'enc1.long_path.0.bias', torch.full((64,), -torch.inf)),
     'enc1.long_path.0.bias holds values that are not finite'),
])
def test_refuses_tensors_that_do_not_fit(student, tmp_path, suffix, change, said):
    path = tmp_path / f'student{suffix}'
    write(path, change(dict(student.state_dict())))
    with pytest.raises(WeightsError, match=said) as caught:
        Student.load(path)
    assert str(path) in str(caught.value) and '\n' not in str(caught.value)


@pytest.mark.parametrize('content', [
    [1, 2], torch.zeros(3), 7, None, {'epoch': 3}, {'a': [torch.zeros(3)]}, {1: torch.zeros(3)}])
def test_refuses_a_pth_that_is_no_state_dict(tmp_path, content):
    path = tmp_path / 'student.pth'
    torch.save(content, path)
    with pytest.raises(WeightsError, match='student.pth'):
        Student.load(path)


def test_refuses_a_list_in_place_of_a_tensor(student, tmp_path):
    write(tmp_path / 'student.pth', replaced(student.state_dict(), 'out_conv1.bias', [0.0] * 32))
    with pytest.raises(WeightsError, match='out_conv1.bias is not a dense floating-point tensor'):
        Student.load(tmp_path / 'student.pth')


def test_refuses_sparse_tensors(student, tmp_path):
    state = replaced(student.state_dict(), 'out_conv1.bias', torch.ones(32).to_sparse())
    write(tmp_path / 'student.pth', state)
    with pytest.raises(WeightsError, match='out_conv1.bias'):
        Student.load(tmp_path / 'student.pth')


def test_takes_other_precisions(student, tmp_path):
    path = tmp_path / 'student.safetensors'
    write(path, {name: tensor.half() for name, tensor in student.state_dict().items()})
    loaded = Student.load(path).state_dict()
    assert all(tensor.dtype == torch.float32 for tensor in loaded.values())
    assert torch.equal(
        loaded['dec2.long_path.0.weight'], student.dec2.long_path[0].weight.half().float())


def test_refuses_what_is_not_finite_in_float32(student):
    state = replaced(
        student.state_dict(), 'out_conv1.bias', torch.full((32,), 1e300, dtype=torch.float64))
    with pytest.raises(WeightsError, match='out_conv1.bias'):
        student.assign(state)


def test_a_pth_of_other_classes_needs_their_table(tmp_path):
    table, path = ClassTable.of(['pallet', 'forklift']), tmp_path / 'student.pth'
    torch.save(Shadow(table).state_dict(), path)
    with pytest.raises(WeightsError, match='3 classes and do not say which.*--start-classes'):
        Student.load(path)
    assert Student.load(path, table).classes is table
    with pytest.raises(WeightsError, match='out_conv3.weight.*3 classes, wanted 9'):
        Student.load(path, LVS)


@pytest.mark.parametrize('name', ['missing.pth', 'missing.safetensors', '.'])
def test_refuses_what_is_no_file(tmp_path, name):
    with pytest.raises(WeightsError, match='not a file'):
        Student.load(tmp_path / name)


GARBAGE = {
    'empty': b'',
    'zeros': bytes(1000),
    'noise': bytes(range(128, 256)) * 10,
    'pickle': pickle.dumps({'a': [1, 2, 'x']}),
    'pickle of an array': pickle.dumps({'a': np.zeros(3)}),
    'text': b'these are no weights\n' * 10,
    'web page': b'<!DOCTYPE html>\n<html><body>404</body></html>\n',
    'git lfs': b'version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 1936000\n',
}


@pytest.mark.parametrize('name', GARBAGE)
@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
@pytest.mark.filterwarnings('ignore')
def test_refuses_garbage(tmp_path, suffix, name):
    path = tmp_path / f'student{suffix}'
    path.write_bytes(GARBAGE[name])
    with pytest.raises(WeightsError, match='cannot be read|do not fit') as caught:
        Student.load(path)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
def test_refuses_a_file_that_is_cut(student, tmp_path, suffix):
    path = tmp_path / f'student{suffix}'
    write(path, dict(student.state_dict()))
    whole = path.read_bytes()
    for share in (0.01, 0.5, 0.999):
        path.write_bytes(whole[:int(share * len(whole))])
        with pytest.raises(WeightsError, match='cannot be read'):
            Student.load(path)


def test_refuses_a_zip_that_is_no_checkpoint(tmp_path):
    with zipfile.ZipFile(tmp_path / 'student.pth', 'w') as file:
        file.writestr('readme.txt', 'no weights')
    with pytest.raises(WeightsError, match='cannot be read'):
        Student.load(tmp_path / 'student.pth')


class MakesFolder:
    """Unpickling it makes a folder."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize('name', ['student.pth', 'student.pt', 'student.safetensors'])
@pytest.mark.parametrize('dump', [
    torch.save, lambda content, path: path.write_bytes(pickle.dumps(content, 2))])
def test_never_runs_code_of_a_file(tmp_path, name, dump):
    proof = tmp_path / 'code_was_run'
    pickle.loads(pickle.dumps(MakesFolder(proof)))
    assert proof.exists(), 'the trap itself must work'
    proof.rmdir()
    dump({'out_conv1.bias': MakesFolder(proof)}, tmp_path / name)
    with pytest.raises(WeightsError, match='cannot be read') as caught:
        Student.load(tmp_path / name)
    assert not proof.exists()
    assert 'weights_only' not in str(caught.value)  # no advice to switch the protection off


# --- assign -------------------------------------------------------------------------------------

def test_assign_copies(student):
    other = Shadow()
    state = student.state_dict()
    other.assign(state)
    assert same(other.state_dict(), state)
    with torch.no_grad():
        other.out_conv3.bias += 1
    assert not torch.equal(other.out_conv3.bias, student.out_conv3.bias)


@pytest.mark.parametrize('wrong', [
    torch.zeros(8), torch.full((9,), torch.nan), torch.zeros(9, dtype=torch.int32), None])
def test_assign_is_all_or_nothing(student, wrong):
    before = copy.deepcopy(student.state_dict())
    # The last tensor is wrong: what comes first must not have been copied.
    assert list(before)[-1] == 'out_conv3.bias'
    state = {**Shadow().state_dict(), 'out_conv3.bias': wrong}
    with pytest.raises(WeightsError, match='out_conv3.bias'):
        student.assign(state)
    assert same(student.state_dict(), before)
