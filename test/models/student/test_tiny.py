"""A student of another architecture runs through everything that a student runs through."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from shadowtutor_ros.algorithms.client import Client, ClientSettings
from shadowtutor_ros.algorithms.server import Server, ServerSettings
from shadowtutor_ros.algorithms.student_training import StudentTrainer, TrainingSettings
from shadowtutor_ros.classes import ClassTable, LVS
from shadowtutor_ros.evaluation.profile import load_profile
from shadowtutor_ros.evaluation.simulate import Method, Simulation
from shadowtutor_ros.models.student.base import checksum, Student
from shadowtutor_ros.models.student.inference import InferenceEngine
from shadowtutor_ros.models.student.shadow import Shadow
from shadowtutor_ros.models.teachers.base import TeacherPrediction
from shadowtutor_ros.models.teachers.scene import SceneTeacher
from shadowtutor_ros.pretraining.datasets import Dataset, Sample
from shadowtutor_ros.pretraining.training import Pretraining, PretrainSettings, validate
from shadowtutor_ros.wire.encodings import ENCODINGS
from shadowtutor_ros.wire.key_frame import KeyFrameError
from shadowtutor_ros.wire.weight_update import pack, unpack
from shadowtutor_ros.world.scenes import Scene
from tiny import Tiny
import torch

BOXES = ClassTable.of(['crate', 'ball', 'person'])


class BoxTeacher:
    """Finds what is blue, a crate or a person, and what is red, a ball."""

    vocabulary = ('crate', 'ball', 'person')

    def __call__(self, frame, classes):
        place = {name: classes.background if classes.find(name) is None else classes.find(name)
                 for name in self.vocabulary}
        blue = place['person'] if place['crate'] == classes.background else place['crate']
        label = np.full(frame.shape[:2], classes.background, np.uint8)
        label[frame[:, :, 0] > 160] = blue
        label[frame[:, :, 2] > 160] = place['ball']
        return TeacherPrediction(label, np.array([[20, 10, 60, 50]], np.float32))


def picture(seed=0, height=64, width=96):
    random = np.random.default_rng(seed)
    frame = cv2.resize(random.integers(0, 100, (8, 12, 3), np.uint8), (width, height))
    for color in ((230, 60, 40), (40, 60, 230)):
        x, y = random.integers(0, (width - 32, height - 32))
        frame[y:y + 32, x:x + 32] = color
    return frame


@pytest.fixture
def student():
    torch.manual_seed(5)
    return Tiny().eval()


@torch.no_grad()
def plain(student, frame, rows):
    x = torch.from_numpy(frame.copy()).permute(2, 0, 1)[None].float()
    return np.array(rows)[student(x)[0][list(rows)].argmax(0).numpy()]


def test_is_tiny(student):
    assert sum(parameter.numel() for parameter in student.parameters()) == 1541
    assert list(student.tensors('partial')) == ['tell.weight', 'tell.bias']


@pytest.mark.parametrize('size', [(64, 96), (65, 97), (50, 35)])
def test_infers(student, size, device):
    engine, frame = InferenceEngine(student, device=device), picture(0, *size)
    engine.with_confidence = device == 'cpu'
    for rows in (range(9), (1, 5), (0, 5, 8)):
        engine.restrict(tuple(rows))
        assert (engine(frame) == plain(student, frame, rows)).mean() > 0.999
    weights = student.with_classes(student.weights(), LVS, BOXES, (student.weights(), LVS))
    engine.change_classes(weights, BOXES)
    changed = student.copy_with(weights, BOXES)
    assert (engine(frame) == plain(changed, frame, range(4))).mean() > 0.999
    torch.manual_seed(6)
    other = Tiny(BOXES)
    engine.swap(other.tensors())
    assert (engine(frame) == plain(other, frame, range(4))).mean() > 0.999
    if device == 'cpu':
        assert engine.confidence.shape == size


@pytest.mark.parametrize('scope', ['partial', 'decoder', 'full', 'think'])
@pytest.mark.parametrize('plain', [False, True])
def test_is_trained(student, scope, plain, device):
    before = student.weights()
    trainer = StudentTrainer(student.to(device), TrainingSettings(
        scope=scope, plain=plain, max_updates=40, learning_rate=0.1, threshold=0.99),
        learnt=())
    teacher, table = BoxTeacher(), student.classes
    results = [trainer(picture(seed), teacher(picture(seed), table)) for seed in (0, 1, 0)]
    assert results[0].changed and results[0].metric_after > results[0].metric_before
    moved = {name for name, tensor in student.weights().items()
             if not torch.equal(tensor, before[name])}
    assert moved == set(student.tensors(scope))
    # Rows of what was never seen nor learnt before stay.
    assert torch.equal(student.tell.bias[4].cpu(), before['tell.bias'][4])


@pytest.mark.parametrize('encoding', ENCODINGS)
def test_crosses_the_network(student, encoding):
    torch.manual_seed(6)
    base, other = student.weights(), Tiny().weights()
    sent = {name: base[name] + 0.01 * other[name] for name in student.tensors('decoder')}
    received = unpack(pack(sent, encoding, base), base)
    assert received.keys() == sent.keys()
    for name, tensor in received.items():
        assert (tensor - sent[name]).abs().max() <= 0.011 * other[name].abs().max()


def test_is_kept_in_a_file(student, tmp_path):
    path = tmp_path / 'tiny.safetensors'
    student.copy_with(student.with_classes(
        student.weights(), LVS, BOXES, (student.weights(), LVS)), BOXES).save(path)
    loaded = Student.load(path)
    assert type(loaded) is Tiny and loaded.classes == BOXES
    assert loaded.model_id == student.model_id
    assert torch.equal(loaded.think.weight, student.think.weight)


def run(client, server, sent, frames, first=0):
    """Drive a client and a server, without any delay; returns the masks."""
    masks = []
    for index in range(frames):
        masks.append(client.on_frame(picture(index % 3), float(first + index)))
        while sent:
            update = server.on_key_frame(sent.pop())
            client.on_update(update, float(first + index))
            assert client.engine.student.weights_checksum() == (
                server.session.student.weights_checksum())
    return masks


@pytest.mark.parametrize('scope', ['decoder', 'full'])
def test_is_distilled_and_changes_its_classes(student, scope):
    sent = []
    client = Client(
        InferenceEngine(student), sent.append, ClientSettings(
            min_stride=2, max_stride=4, stride_rate=0.0))
    settings = ServerSettings(scope=scope, learning_rate=0.03, threshold=0.95, encoding='int8')
    server = Server(student, BoxTeacher(), settings, lambda: 0.0)
    before = run(client, server, sent, 20)
    assert client.counters.updates_applied >= 5 and client.classes == LVS
    assert set(np.unique(before[-1])) <= {0, 8}, 'crates are people, balls nothing'

    client.want(BOXES)
    after = run(client, server, sent, 60, 20)
    assert client.classes.digest == BOXES.digest == server.session.classes.digest
    assert client.last_update.metric_after > 0.7
    assert (after[-1] == BoxTeacher()(picture((60 - 1) % 3), BOXES).label).mean() > 0.8
    assert set(np.unique(after[-1])) == {0, 1, 2}

    client.want(LVS)
    back = run(client, server, sent, 20, 80)
    assert client.classes.digest == LVS.digest and set(np.unique(back[-1])) <= {0, 8}
    assert not client.counters.updates_rejected and not client.counters.key_frames_refused


def test_is_refused_where_the_other_side_has_another_architecture(student):
    sent = []
    client = Client(InferenceEngine(student), sent.append, ClientSettings())
    client.on_frame(picture(), 0.0)
    server = Server(Shadow(), BoxTeacher(), ServerSettings(), lambda: 0.0)
    with pytest.raises(KeyFrameError, match='the model') as caught:
        server.on_key_frame(sent[0])
    assert caught.value.reason == 'model'


@pytest.mark.parametrize('classes', [LVS, ClassTable.of(['person', 'auto'])])
def test_is_evaluated(student, classes):
    scene, teacher = Scene(3, 'day', 192, 128), SceneTeacher()
    frames = [scene.render(index).image for index in range(24)]
    labels = [teacher(frame, classes) for frame in frames]
    method = Method(
        'partial', 1, ClientSettings(min_stride=4, stride_rate=0.0),
        ServerSettings(learning_rate=0.03))
    profile, masks = load_profile('paper'), {}
    distilled = Simulation(method, student, profile, teacher, classes=classes).run(
        frames, labels, masks.__setitem__)
    alone = Simulation(replace(method, name='wild'), student, profile, classes=classes).run(
        frames, labels)
    assert distilled.frames == 24 and len(distilled.key_frames) > 1
    assert distilled.miou_present > alone.miou_present + 0.1
    assert np.max([mask.max() for mask in masks.values()]) < len(classes)


def test_is_pretrained(student):
    frames = [picture(seed) for seed in range(4)]
    samples = [Sample(frame, BoxTeacher()(frame, BOXES).label) for frame in frames]
    data = Dataset('boxes', samples.__getitem__, len(samples))
    torch.manual_seed(5)
    pretraining = Pretraining(
        [data], [1.0], PretrainSettings(steps=80, batch_size=2, crop=64, average=0.9),
        BOXES, Tiny(BOXES))
    untrained = validate(pretraining.result, data)
    for _ in range(80):
        pretraining.train_step()
    assert type(pretraining.result) is Tiny
    assert validate(pretraining.result, data) > untrained + 0.2
    assert checksum(pretraining.result.weights()) != checksum(Tiny(BOXES).weights())
