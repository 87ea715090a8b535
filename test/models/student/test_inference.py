from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
import copy
import threading

import cv2
import numpy as np
import pytest
from shadowtutor_ros.algorithms.student_training import StudentTrainer, TrainingSettings
from shadowtutor_ros.classes import ClassTable, LVS
from shadowtutor_ros.limits import MIN_SIDE
from shadowtutor_ros.models.student import inference
from shadowtutor_ros.models.student.base import Student
from shadowtutor_ros.models.student.inference import cuda_is_lost, InferenceEngine
from shadowtutor_ros.models.student.shadow import Shadow, SHRINK
from shadowtutor_ros.models.student.shadow_sizes import ShadowL, ShadowS
from shadowtutor_ros.models.teachers.base import TeacherPrediction
import torch
import torch.nn.functional as F


def picture(height=64, width=96, seed=0):
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 12, 3), np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


@torch.no_grad()
def plain(student, frame):
    x = torch.from_numpy(frame.copy()).permute(2, 0, 1)[None].float()
    return student(x)[0].argmax(0).numpy()


def agree(mask, expected, device):
    """Tell whether two masks are equal; on a GPU but for a few pixels, as it rounds otherwise."""
    return mask.shape == expected.shape and (mask == expected).mean() >= (
        1 if device == 'cpu' else 0.999)


cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason='there is no CUDA device')


@pytest.fixture(params=[Shadow, ShadowS, ShadowL])
def student(request):
    torch.manual_seed(2)
    return request.param().eval()


@pytest.mark.parametrize('size', [(64, 96), (65, 97), (48, 131)])
def test_equals_the_plain_network(student, size, device):
    frame = picture(*size)
    mask = InferenceEngine(student, 'exact', device)(frame)
    assert mask.shape == size and mask.dtype == np.uint8
    assert len(np.unique(mask)) > 1, 'a mask of one class proves little'
    assert agree(mask, plain(student, frame), device)


@pytest.mark.parametrize('precision, share', [('exact', 0.9999), ('fast', 0.98)])
def test_equals_the_first_implementation(shared, first_student, precision, share, device):
    golden = np.load(shared('golden/frame.npz'))
    mask = InferenceEngine(Student.load(first_student), precision, device)(golden['image_bgr'])
    assert (mask == golden['logits'].argmax(0)).mean() >= share


def test_keeps_the_features_of_the_last_frame(student, device):
    engine, frame = InferenceEngine(student, device=device), picture()
    assert engine.features is None
    engine(picture(seed=1))
    engine(frame)
    with torch.no_grad():
        expected = student.front(torch.from_numpy(frame).permute(2, 0, 1)[None].float()).enc3
    # TensorFloat-32, CUDA's default, would be off by 1e-3.
    assert torch.allclose(engine.features.cpu(), SHRINK * expected, atol=1e-5)


def test_float16_holds_large_features(student, monkeypatch, device):
    monkeypatch.setattr(inference, 'half_precision', lambda device: torch.float16)
    frame = picture()
    x = torch.from_numpy(frame).permute(2, 0, 1)[None].float()
    with torch.no_grad():
        for layer in (student.enc3.short_path, student.enc3.long_path[3]):
            layer.weight *= 2e5 / student.front(x).enc3.abs().max()
        assert student.front(x).enc3.abs().max() > torch.finfo(torch.float16).max
    mask = InferenceEngine(student, 'fast', device)(frame)
    assert (mask == plain(student, frame)).mean() >= 0.98


@pytest.mark.parametrize('size', [(64, 96), (72, 104)])
def test_leaves_nothing_on_the_host(student, size):
    # PyTorch refuses to mix tensors of its device without memory with those of the host.
    engine = InferenceEngine(student, 'fast', 'meta')
    mask, features = engine._infer(torch.zeros(*size, 3, dtype=torch.uint8))
    assert mask.device.type == features.device.type == 'meta'
    assert mask.shape == size and mask.dtype == torch.uint8


@cuda
def test_goes_on_where_cuda_cannot_record(student, monkeypatch):
    def compute(engine, pixels, infer=InferenceEngine._infer):
        mask, features = infer(engine, pixels)
        if torch.cuda.is_current_stream_capturing():
            mask.sum().item()  # which waits for the GPU
        return mask, features

    with monkeypatch.context() as patch:
        patch.setattr(InferenceEngine, '_infer', compute)
        engine = InferenceEngine(student, device='cuda')
        for seed in range(3):
            frame, stream = picture(seed=seed), torch.cuda.current_stream()
            with pytest.warns(UserWarning, match='without CUDA graphs') if not seed else (
                    nullcontext()):
                mask = engine(frame)
            assert agree(mask, plain(student, frame), 'cuda')
            assert torch.cuda.current_stream() == stream
    # Nor does it keep others from recording.
    engine = InferenceEngine(student, device='cuda')
    assert agree(engine(frame), mask, 'cuda') and engine._graph is not None


@cuda
def test_records_while_another_thread_trains(student):
    frames = [picture(*size) for size in ((64, 96), (65, 97), (40, 56))]
    expected = [plain(student, frame) for frame in frames]
    teaching = TeacherPrediction(np.zeros((64, 96), np.uint8), np.zeros((0, 4), np.float32))
    trainer = StudentTrainer(
        copy.deepcopy(student).to('cuda'), TrainingSettings(threshold=0.9999, max_updates=4))
    done, results = threading.Event(), []

    def train():
        while not done.is_set():
            results.append(trainer(frames[0], teaching))

    with ThreadPoolExecutor(1) as pool:
        training = pool.submit(train)
        try:
            for _ in range(10):
                engine = InferenceEngine(student, device='cuda')
                for frame, wanted in zip(frames, expected):
                    assert agree(engine(frame), wanted, 'cuda')
                    assert engine._graph is not None
        finally:
            done.set()
        training.result()
    assert results and all(np.isfinite(result.losses).all() for result in results)


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
def test_swapped_weights_are_those_of_a_new_engine(student, scope, precision, device):
    torch.manual_seed(3)
    other, frame = type(student)().eval(), picture()
    engine = InferenceEngine(student, precision, device)
    before = engine(frame)
    engine.swap(other.tensors(scope))

    expected = copy.deepcopy(student)
    expected.load_state_dict(other.tensors(scope), strict=False)
    assert agree(engine(frame), InferenceEngine(expected, precision, device)(frame), device)
    assert (engine(frame) != before).any()
    assert engine.student.weights_checksum() == expected.weights_checksum()


@torch.no_grad()
def chosen_from(student, frame, classes):
    x = torch.from_numpy(frame.copy()).permute(2, 0, 1)[None].float()
    return np.array(classes)[student(x)[0][list(classes)].argmax(0).numpy()]


@pytest.mark.parametrize('size', [(64, 96), (65, 97)])  # padded, the second
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
    other = type(student)().eval()
    engine = InferenceEngine(student)
    engine.restrict((1, 5))
    engine.swap(other.tensors())
    for size in ((64, 96), (65, 97)):
        assert (engine(picture(*size)) == chosen_from(other, picture(*size), (1, 5))).all()


def test_swapped_tensors_are_copied(student):
    tensors = {name: t.detach().clone() for name, t in type(student)().tensors('partial').items()}
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
    engine.swap(type(student)().tensors())
    assert all(torch.equal(tensor, before[name]) for name, tensor in student.state_dict().items())
    assert [parameter.requires_grad for parameter in student.parameters()] == gradients


def test_a_changed_student_does_not_change_the_engine(student):
    engine, frame = InferenceEngine(student), picture()
    before = engine(frame)
    with torch.no_grad():
        student.out_conv3.bias.copy_(torch.arange(9) * 1e3)
    assert (engine(frame) == before).all()


def test_reduced_width_infers_the_reduced_frame(student, device):
    frame = picture(128, 192)
    reduced = cv2.resize(frame, (96, 64), interpolation=cv2.INTER_AREA)
    mask = InferenceEngine(student, device=device, width=96)(frame)
    assert mask.shape == (128, 192) and mask.dtype == np.uint8
    assert agree(mask, plain(student, reduced).repeat(2, 0).repeat(2, 1), device)


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


def test_masks_of_reduced_frames_can_stay_as_they_are(student):
    frame, engine = picture(128, 192), InferenceEngine(student, width=96)
    engine.with_confidence = True
    enlarged, sure = engine(frame), engine.confidence
    engine.enlarge = False
    mask = engine(frame)
    assert mask.shape == engine.confidence.shape == (64, 96)
    assert (mask.repeat(2, 0).repeat(2, 1) == enlarged).all()
    assert (cv2.resize(engine.confidence, (192, 128)) == sure).all()
    assert engine(picture(64, 96)).shape == (64, 96)


def test_frames_of_changing_size(student, device):
    engine = InferenceEngine(student, device=device)
    for size in ((64, 96), (40, 56), (64, 96), (65, 97), (40, 56)):
        for seed in (0, 1):
            frame = picture(*size, seed)
            assert agree(engine(frame), plain(student, frame), device)


# --- classes -------------------------------------------------------------------------------------

@pytest.mark.parametrize('size', [(64, 96), (65, 97)])
@pytest.mark.parametrize('precision', ['exact', 'fast'])
def test_chooses_from_the_classes_that_it_is_restricted_to(student, precision, size, device):
    engine, frame = InferenceEngine(student, precision, device), picture(*size)
    everything = engine(frame)
    first, *others = np.unique(everything)
    assert others, 'no proof'
    engine.restrict(tuple(map(int, others)))
    assert first not in engine(frame)
    engine.swap(student.tensors())  # which merges the last layers anew
    assert first not in engine(frame)
    engine.restrict(tuple(range(len(student.classes))))
    assert agree(engine(frame), everything, device)


OTHER = ClassTable.of(['pallet', 'person', 'auto', 'forklift', 'sign'])


def with_classes(student, classes):
    origin = student.weights(), student.classes
    return student.with_classes(*origin, classes, origin)


@pytest.mark.parametrize('size', [(64, 96), (65, 97)])
@pytest.mark.parametrize('precision, share', [('exact', 1.0), ('fast', 0.98)])
def test_goes_on_with_other_classes(student, precision, share, size, device, monkeypatch):
    if device == 'cpu':
        monkeypatch.setattr(inference, 'half_precision', lambda device: torch.float16)
    engine, frame = InferenceEngine(student, precision, device), picture(*size)
    before = engine(frame)
    engine.restrict((0, 2))
    weights = with_classes(student, OTHER)
    engine.change_classes(weights, OTHER)
    assert engine.classes is OTHER
    expected = student.copy_with(weights, OTHER)
    assert engine.student.weights_checksum() == expected.weights_checksum()
    assert (engine(frame) == plain(expected, frame)).mean() >= share * (
        1 if device == 'cpu' else 0.999)  # all of them are on offer
    engine.restrict((1, 5))
    assert (engine(frame) == chosen_from(expected, frame, (1, 5))).mean() >= share * (
        1 if device == 'cpu' else 0.999)
    engine.change_classes(student.weights(), LVS)
    assert engine.classes is LVS and agree(engine(frame), before, device)


def test_a_change_of_classes_may_change_other_weights_too(student):
    torch.manual_seed(3)
    other, frame = type(student)(OTHER).eval(), picture()
    engine = InferenceEngine(student)
    version = engine.encoder_version
    engine.change_classes(other.weights(), OTHER)
    assert (engine(frame) == plain(other, frame)).all()
    assert engine.encoder_version == version + 1
    engine.change_classes(other.copy_with(with_classes(other, LVS), LVS).weights(), LVS)
    assert engine.encoder_version == version + 1, 'the encoder is the same'


def test_a_change_of_classes_leaves_the_given_student_as_it_is(student):
    before = student.weights_checksum()
    engine = InferenceEngine(student)
    engine.change_classes(with_classes(student, OTHER), OTHER)
    engine.swap(type(student)(OTHER).tensors())
    assert student.classes is LVS and student.weights_checksum() == before


@pytest.mark.parametrize('count', [2, 9, 255])
def test_any_number_of_classes(count):
    table = ClassTable.of([f'class {number}' for number in range(count - 1)])
    torch.manual_seed(3)
    student, frame = Shadow(table).eval(), picture()
    mask = InferenceEngine(student)(frame)
    assert (mask == plain(student, frame)).all() and mask.max() < count


# --- confidence ----------------------------------------------------------------------------------

@torch.no_grad()
def probability(student, frame, rows):
    """Compute the largest probability of each pixel, enlarged from half the size."""
    features = student.front(torch.from_numpy(frame.copy()).permute(2, 0, 1)[None].float())
    half = student.coarse_logits(features, rows)[0].softmax(0).amax(0)
    enlarged = F.interpolate(half[None, None], scale_factor=2, mode='bilinear')[0, 0]
    return 255 * enlarged[:frame.shape[0], :frame.shape[1]].numpy()


@pytest.mark.parametrize('size', [(64, 96), (65, 97)])
@pytest.mark.parametrize('offered', [tuple(range(9)), (1, 5), (3,)])
def test_says_how_sure_it_is(student, size, offered, device):
    engine, frame = InferenceEngine(student, device=device), picture(*size)
    engine(frame)
    assert engine.confidence is None, 'nobody asked'
    engine.with_confidence = True
    engine.restrict(offered)
    mask = engine(frame)
    assert engine.confidence.shape == mask.shape == size
    assert engine.confidence.dtype == np.uint8
    off = np.abs(engine.confidence - probability(student, frame, offered))
    assert off.max() < (1 if device == 'cpu' else 4)
    if len(offered) == 1:
        assert (engine.confidence == 255).all()
    else:
        assert engine.confidence.min() < 200
        assert engine.confidence.min() >= 255 // len(offered) - 1
    engine.with_confidence = False
    assert agree(engine(frame), mask, device) and engine.confidence is None


def test_confidence_has_the_size_of_the_frame_where_that_is_reduced(student):
    engine = InferenceEngine(student, width=48)
    engine.with_confidence = True
    assert engine(picture(64, 96)).shape == engine.confidence.shape == (64, 96)


def test_a_frame_that_is_padded_has_no_trace_of_it(student):
    engine, frame = InferenceEngine(student), picture(65, 97)
    engine.with_confidence = True
    mask, sure = engine(frame), engine.confidence
    whole = cv2.copyMakeBorder(frame, 0, 7, 0, 7, cv2.BORDER_REPLICATE)
    assert (engine(whole)[:65, :97] == mask).all()
    assert (engine.confidence[:65, :97] == sure).all()
    assert mask.flags.c_contiguous and sure.flags.c_contiguous


def test_warm_up_changes_nothing(student):
    engine = InferenceEngine(student)
    checksum = engine.student.weights_checksum()
    engine.warm_up(64, 96)
    assert engine.student.weights_checksum() == checksum
    assert (engine(picture()) == plain(student, picture())).all()


def test_refuses_an_unknown_precision(student):
    with pytest.raises(ValueError, match='int8.*exact, fast'):
        InferenceEngine(student, 'int8')


@pytest.mark.parametrize('text, works, lost', [
    ('CUDA error: device-side assert triggered', False, True),
    ('cuDNN error: CUDNN_STATUS_EXECUTION_FAILED', False, True),
    ('CUDA error: invalid configuration argument', True, False),
    ('CUDA out of memory. Tried to allocate 2.00 GiB', True, False),
    ('shapes do not match', False, False)])
def test_cuda_is_lost_where_it_does_not_work_after_an_error(monkeypatch, text, works, lost):
    def synchronize():
        if not works:
            raise RuntimeError(text)
    monkeypatch.setattr(torch.cuda, 'synchronize', synchronize)
    assert cuda_is_lost(RuntimeError(text)) == lost
