import copy

import cv2
import numpy as np
import pytest
from shadowtutor_ros.models import inference
from shadowtutor_ros.models.inference import InferenceEngine
from shadowtutor_ros.models.student import MIN_SIDE, Student
import torch


def picture(height=64, width=96, seed=0):
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 12, 3), np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


@torch.no_grad()
def plain(student, frame):
    x = torch.from_numpy(frame.copy()).permute(2, 0, 1)[None].float()
    return student(x)[0].argmax(0).numpy()


@pytest.fixture
def student():
    torch.manual_seed(2)
    return Student().eval()


@pytest.mark.parametrize('size', [(64, 96), (65, 97), (48, 131)])
def test_equals_the_plain_network(student, size):
    frame = picture(*size)
    mask = InferenceEngine(student, 'exact')(frame)
    assert mask.shape == size and mask.dtype == np.uint8
    assert len(np.unique(mask)) > 1, 'a mask of one class proves little'
    assert (mask == plain(student, frame)).all()


@pytest.mark.parametrize('precision, share', [('exact', 0.9999), ('fast', 0.98)])
def test_equals_the_first_implementation(shared, first_student, precision, share):
    golden = np.load(shared('golden/frame.npz'))
    mask = InferenceEngine(Student.load(first_student), precision)(golden['image_bgr'])
    assert (mask == golden['logits'].argmax(0)).mean() >= share


def test_keeps_the_innermost_features_of_the_last_frame(student):
    engine, frame = InferenceEngine(student), picture()
    assert engine.last_enc3 is None
    engine(picture(seed=1))
    engine(frame)
    with torch.no_grad():
        expected = student.front(torch.from_numpy(frame).permute(2, 0, 1)[None].float()).enc3
    assert torch.allclose(engine.last_enc3, inference.SHRINK * expected, atol=1e-5)


def test_float16_holds_large_features(student, monkeypatch):
    monkeypatch.setattr(inference, 'half_precision', lambda device: torch.float16)
    frame = picture()
    x = torch.from_numpy(frame).permute(2, 0, 1)[None].float()
    with torch.no_grad():
        for layer in (student.enc3.short_path, student.enc3.long_path[3]):
            layer.weight *= 2e5 / student.front(x).enc3.abs().max()
        assert student.front(x).enc3.abs().max() > torch.finfo(torch.float16).max
    mask = InferenceEngine(student, 'fast')(frame)
    assert (mask == plain(student, frame)).mean() >= 0.98


@pytest.mark.parametrize('size', [(64, 96), (65, 97)])
def test_leaves_nothing_on_the_host(student, size):
    # PyTorch refuses to mix tensors of its device without memory with those of the host.
    engine = InferenceEngine(student, 'fast', 'meta')
    mask, enc3 = engine._infer(torch.zeros(*size, 3, dtype=torch.uint8))
    assert mask.device.type == enc3.device.type == 'meta'
    assert mask.shape == size and mask.dtype == torch.uint8


@pytest.mark.skipif(not torch.cuda.is_available(), reason='there is no CUDA device')
@pytest.mark.parametrize('precision, share', [('exact', 0.999), ('fast', 0.95)])
def test_cuda_computes_the_same(student, precision, share):
    engine = InferenceEngine(student, precision, 'cuda')
    for weights, size in ((student, (64, 96)), (Student().eval(), (64, 96)), (student, (65, 97))):
        engine.swap(weights.tensors())
        for seed in (0, 1):
            frame = picture(*size, seed)
            assert (engine(frame) == plain(weights, frame)).mean() >= share
            assert engine.last_enc3.shape == (1, 128, 2, 3 if size == (64, 96) else 4)


def test_goes_on_where_a_graph_cannot_be_recorded(student, monkeypatch):
    def fail(*args):
        raise RuntimeError('operation not permitted when stream is capturing')
    monkeypatch.setattr(inference, '_Graph', fail)
    engine, frame = InferenceEngine(student), picture()
    engine._graphs = True  # as on CUDA
    with pytest.warns(UserWarning, match='without CUDA graphs .*capturing') as warnings:
        masks = [engine(frame) for _ in range(2)]
    assert len(warnings) == 1
    assert all((mask == plain(student, frame)).all() for mask in masks)


def test_takes_views(student):
    engine = InferenceEngine(student)
    big = picture(80, 120)
    for view in (big[8:72, 16:112], big[:, ::-1], big[:, :, ::-1]):
        assert (engine(view) == engine(view.copy())).all()


def test_leaves_the_frame_as_it_is(student):
    frame = picture()
    InferenceEngine(student)(frame)
    assert (frame == picture()).all()


@pytest.mark.parametrize('precision', ['exact', 'fast'])
@pytest.mark.parametrize('scope', ['partial', 'full'])
def test_swapped_weights_are_those_of_a_new_engine(student, scope, precision):
    torch.manual_seed(3)
    other, frame = Student().eval(), picture()
    engine = InferenceEngine(student, precision)
    before = engine(frame)
    engine.swap(other.tensors(scope))

    expected = copy.deepcopy(student)
    expected.load_state_dict(other.tensors(scope), strict=False)
    assert (engine(frame) == InferenceEngine(expected, precision)(frame)).all()
    assert (engine(frame) != before).any()
    assert engine.student.weights_checksum() == expected.weights_checksum()


@torch.no_grad()
def chosen_from(student, frame, classes):
    x = torch.from_numpy(frame.copy()).permute(2, 0, 1)[None].float()
    return np.array(classes)[student(x)[0][list(classes)].argmax(0).numpy()]


@pytest.mark.parametrize('size', [(64, 96), (65, 97)])  # by other layers, each
@pytest.mark.parametrize('precision, share', [('exact', 1.0), ('fast', 0.98)])
def test_chooses_from_the_classes_that_are_allowed(student, monkeypatch, size, precision, share):
    monkeypatch.setattr(inference, 'half_precision', lambda device: torch.float16)
    engine, frame = InferenceEngine(student, precision), picture(*size)
    for classes in ((1, 5), (0, 5, 8), (3,), range(9)):  # withheld and given back
        engine.restrict(tuple(classes))
        assert (engine(frame) == chosen_from(student, frame, classes)).mean() >= share
        assert set(np.unique(engine(frame))) <= set(classes)


def test_other_weights_choose_from_the_same_classes(student):
    torch.manual_seed(3)
    other = Student().eval()
    engine = InferenceEngine(student)
    engine.restrict((1, 5))
    engine.swap(other.tensors())
    for size in ((64, 96), (65, 97)):
        assert (engine(picture(*size)) == chosen_from(other, picture(*size), (1, 5))).all()


def test_swapped_tensors_are_copied(student):
    tensors = {name: t.detach().clone() for name, t in Student().tensors('partial').items()}
    engine, frame = InferenceEngine(student), picture()
    engine.swap(tensors)
    before, checksum = engine(frame), engine.student.weights_checksum()
    for tensor in tensors.values():
        tensor.zero_()
    assert (engine(frame) == before).all() and engine.student.weights_checksum() == checksum


def test_leaves_the_given_student_as_it_is(student):
    before = copy.deepcopy(student.state_dict())
    gradients = [parameter.requires_grad for parameter in student.parameters()]
    engine = InferenceEngine(student, 'fast')
    engine(picture())
    engine.swap(Student().tensors())
    assert all(torch.equal(tensor, before[name]) for name, tensor in student.state_dict().items())
    assert [parameter.requires_grad for parameter in student.parameters()] == gradients


def test_a_changed_student_does_not_change_the_engine(student):
    engine, frame = InferenceEngine(student), picture()
    before = engine(frame)
    with torch.no_grad():
        student.out_conv3.bias.copy_(torch.arange(9) * 1e3)
    assert (engine(frame) == before).all()


def test_reduced_width_infers_the_reduced_frame(student):
    frame = picture(128, 192)
    small = InferenceEngine(student)(cv2.resize(frame, (96, 64), interpolation=cv2.INTER_AREA))
    mask = InferenceEngine(student, width=96)(frame)
    assert mask.shape == (128, 192) and mask.dtype == np.uint8
    assert (mask == small.repeat(2, 0).repeat(2, 1)).all()


def test_a_flat_frame_stays_large_enough_for_the_student(student):
    frame = picture(64, 960)
    flat = cv2.resize(frame, (96, MIN_SIDE), interpolation=cv2.INTER_AREA)
    expected = cv2.resize(
        InferenceEngine(student)(flat), (960, 64), interpolation=cv2.INTER_NEAREST)
    assert (InferenceEngine(student, width=96)(frame) == expected).all()


def test_width_enlarges_nothing_and_can_be_changed(student):
    frame, engine = picture(), InferenceEngine(student, width=1000)
    whole = engine(frame)
    assert (whole == plain(student, frame)).all()
    engine.width = 48
    assert engine(frame).shape == whole.shape and (engine(frame) != whole).any()
    engine.width = 0
    assert (engine(frame) == whole).all()


def test_frames_of_changing_size(student):
    engine = InferenceEngine(student)
    for size in ((64, 96), (40, 56), (64, 96)):
        assert (engine(picture(*size)) == plain(student, picture(*size))).all()


def test_warm_up_changes_nothing(student):
    engine = InferenceEngine(student)
    checksum = engine.student.weights_checksum()
    engine.warm_up(64, 96)
    assert engine.student.weights_checksum() == checksum
    assert (engine(picture()) == plain(student, picture())).all()


def test_refuses_an_unknown_precision(student):
    with pytest.raises(ValueError, match='int8.*exact, fast'):
        InferenceEngine(student, 'int8')
