"""The students beside the paper's: smaller, and sharper."""

import numpy as np
import pytest
from shadowtutor_ros.algorithms.student_training import StudentTrainer, TrainingSettings
from shadowtutor_ros.classes import ClassTable, LVS
from shadowtutor_ros.models.student.base import Student, WeightsError
from shadowtutor_ros.models.student.inference import InferenceEngine
from shadowtutor_ros.models.student.shadow import Shadow
from shadowtutor_ros.models.student.shadow_sizes import ShadowL, ShadowS
from shadowtutor_ros.models.teachers.base import TeacherPrediction
from shadowtutor_ros.pretraining.training import load_start
from tiny import Tiny
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def made(kind):
    torch.manual_seed(2)
    student = kind().eval()
    if kind is ShadowL:  # of what is refined nothing shows at first
        nn.init.kaiming_normal_(student.refine.expand.weight)
    return student


@pytest.fixture(params=[ShadowS, ShadowL])
def student(request):
    return made(request.param)


def picture(height=64, width=96):
    return np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)


def batch(frame):
    return torch.from_numpy(frame).permute(2, 0, 1)[None].float()


@pytest.mark.parametrize('kind', [Shadow, ShadowS, ShadowL])
def test_takes_two_megabytes_at_most(kind):
    assert sum(tensor.nbytes for tensor in kind().weights().values()) <= 2e6


def test_the_small_one_computes_less_than_half():
    def multiply_adds(student, rows):
        path = student.fast_path(torch.device('cpu'), torch.float32)
        path.offer(student, rows)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            path(torch.zeros(96, 160, 3, dtype=torch.uint8))
        return counter.get_total_flops() / 2
    for rows in ((0, 8), (0, 2, 8), tuple(range(9))):
        assert multiply_adds(ShadowS(), rows) < 0.5 * multiply_adds(Shadow(), rows)


@torch.no_grad()
def test_ways_to_compute_agree(student):
    for size in ((64, 96), (65, 97), (48, 131)):
        frame = picture(*size)
        logits = student(batch(frame))
        assert logits.shape == (1, 9, *size)
        assert torch.allclose(student.plain_logits(batch(frame)), logits, atol=1e-3) or (
            size[1] % 8 and type(student) is ShadowS)
        features = student.front(batch(frame))
        merged = student.merged_logits(features, student.merged((1, 8)))
        separate = student.separate_logits(features, (1, 8))
        assert torch.allclose(merged, separate, atol=1e-4 * float(separate.abs().max()))
        mask = InferenceEngine(student)(frame)
        assert (mask == logits[0].argmax(0).numpy()).mean() > 0.999
        assert len(np.unique(mask)) > 1


@pytest.mark.parametrize('scope', ['partial', 'decoder', 'full'])
def test_is_trained_and_runs_what_was_trained(student, scope):
    frame, label = picture(), np.full((64, 96), 8, np.uint8)
    label[16:40, 20:60] = 0
    other = made(type(student))
    engine = InferenceEngine(student)
    trainer = StudentTrainer(other, TrainingSettings(
        scope=scope, max_updates=6, threshold=0.99, share=1.0, seen_classes=False,
        learning_rate=0.01))
    result = trainer(frame, TeacherPrediction(label, np.array([[20, 16, 60, 40]], np.float32)))
    assert result.changed and result.metric_after > result.metric_before
    before = student.weights()
    changed = {name for name, tensor in other.weights().items()
               if not torch.equal(tensor, before[name])}
    assert changed and changed <= set(other.tensors(scope))
    assert {name.split('.')[0] for name in changed} == set(other.blocks_of(scope))
    engine.swap(other.tensors(scope))
    with torch.no_grad():
        assert (engine(frame) == other(batch(frame))[0].argmax(0).numpy()).mean() > 0.999


@pytest.mark.parametrize('kind', [Shadow, ShadowS])
def test_blocks_are_what_there_is(kind):
    assert ('in_conv2' in kind.encoder) == (kind is Shadow)
    assert {name.split('.')[0] for name in kind().state_dict()} == set(kind.encoder + kind.decoder)


@torch.no_grad()
def test_the_sharp_one_begins_as_the_papers(tmp_path):
    paper = Shadow().eval()
    paper.save(tmp_path / 'paper.safetensors')
    sharp = load_start(tmp_path / 'paper.safetensors', kind=ShadowL)
    assert type(sharp) is ShadowL and not sharp.training
    x = batch(picture())
    assert torch.allclose(sharp(x), paper(x), atol=1e-5 * float(paper(x).abs().max()))
    table = ClassTable.of(['dog', 'box'])
    sharp = load_start(tmp_path / 'paper.safetensors', table, kind=ShadowL)
    assert sharp.classes == table
    dog = sharp.out_conv3.weight[table.find('dog')]
    assert torch.equal(dog, paper.out_conv3.weight[LVS.find('dog')])


def test_where_nothing_fits_there_is_nothing_to_start_with(tmp_path):
    Tiny().save(tmp_path / 'tiny.safetensors')
    with pytest.raises(WeightsError, match='no tensor of .* a tiny, fits into a shadow-s'):
        load_start(tmp_path / 'tiny.safetensors', kind=ShadowS)


def test_weights_files_say_which_it_is(student, tmp_path):
    student.save(tmp_path / 'one.safetensors')
    loaded = Student.load(tmp_path / 'one.safetensors')
    assert type(loaded) is type(student)
    assert loaded.weights_checksum() == student.weights_checksum()
    assert len({kind().model_id for kind in (Shadow, ShadowS, ShadowL)}) == 3
