import numpy as np
import pytest
from shadowtutor_ros.algorithms.student_training import TrainingSettings
from shadowtutor_ros.classes import load_classes
from shadowtutor_ros.commands import benchmark_speed as speed
from shadowtutor_ros.models.student.shadow import Shadow
from shadowtutor_ros.models.teachers.base import TeacherPrediction
from shadowtutor_ros.wire.weight_update import ENCODINGS
from shadowtutor_ros.world.scenes import Scene
import torch


@pytest.fixture
def student():
    torch.manual_seed(6)
    return Shadow().eval()


@pytest.fixture(scope='module')
def frames():
    scene = Scene(width=96, height=64)
    return [scene.render(index).image for index in (0, 20)]


def test_inference_is_compared_pixel_by_pixel(student, frames):
    ticks = []
    results = speed.measure_inference(student, frames, 3, tick=lambda: ticks.append(None))
    assert list(results) == ['plain', 'exact', 'fast'] and len(ticks) == speed.WARM_UP + 3
    for figures in results.values():
        assert figures['speedup'] == pytest.approx(results['plain']['ms'] / figures['ms'])
    assert results['plain']['equal_pixels'] == 1 and results['exact']['equal_pixels'] > 0.999
    assert results['fast']['equal_pixels'] > 0.9


@pytest.mark.parametrize('scope', ['partial', 'full'])
def test_training_takes_the_same_steps_both_ways(student, frames, scope):
    label = np.zeros(frames[0].shape[:2], np.uint8)
    label[20:50, 30:60] = 2
    teaching = TeacherPrediction(label, np.array([[30, 20, 60, 50]], np.float32))
    settings = TrainingSettings(threshold=1.0, max_updates=4, learning_rate=0.001, scope=scope)
    before = student.weights_checksum()
    figures, trained = speed.measure_training(student, frames[0], teaching, settings, 1)
    assert figures['steps'] == 4 and figures['largest_loss_difference'] < 1e-3
    assert figures['speedup'] == pytest.approx(figures['plain_ms'] / figures['ms'])
    assert student.weights_checksum() == before
    assert list(trained) == list(student.tensors(scope))
    assert any(not torch.equal(trained[name], tensor)
               for name, tensor in student.tensors(scope).items())


def test_a_slip_in_training_shows_in_the_losses(student, frames, monkeypatch):
    label = np.zeros(frames[0].shape[:2], np.uint8)
    teaching = TeacherPrediction(label, np.array([[0, 0, 40, 40]], np.float32))
    right = Shadow.back
    monkeypatch.setattr(Shadow, 'back', lambda *args: 1.5 * right(*args))
    figures, _ = speed.measure_training(
        student, frames[0], teaching, TrainingSettings(threshold=1.0, max_updates=2), 1)
    assert figures['largest_loss_difference'] > 0.01


def test_a_large_table_is_compared_with_the_same_classes_on_offer(
        student, frames, monkeypatch):
    label = np.full(frames[0].shape[:2], 8, np.uint8)
    label[20:50, 30:60] = 4
    offered, trained = [], []
    restrict, train = speed.InferenceEngine.restrict, speed.StudentTrainer.__call__
    monkeypatch.setattr(speed.InferenceEngine, 'restrict', lambda self, classes: (
        offered.append([self.classes.names[place] for place in classes]),
        restrict(self, classes)))

    def note(self, frame, teaching, on_step):
        result = train(self, frame, teaching, on_step)
        trained.append({self.student.classes.names[place] for place in self._rows})
        return result
    monkeypatch.setattr(speed.StudentTrainer, '__call__', note)
    figures = speed.measure_classes(
        student, frames[0], TeacherPrediction(label, np.zeros((0, 4), np.float32)),
        load_classes('coco'), 1)
    assert offered == [['dog', 'background'], ['background', 'dog']]
    assert trained[0] - trained[1] == {'auto'} and not trained[1] - trained[0]
    for what in ('frame', 'step'):
        assert figures[f'{what}_growth'] == pytest.approx(
            figures[f'{what}_ms'] / figures[f'{what}_own_ms'])


def test_key_frames_in_every_format(frames):
    results = speed.measure_key_frames(frames)
    assert results['raw']['bytes'] == frames[0].size
    assert results['jpeg 50']['bytes'] < results['jpeg 90']['bytes'] < results['png']['bytes']
    assert all(min(figures.values()) >= 0 for figures in results.values())


def test_updates_in_every_encoding(student):
    base = student.state_dict()
    trained = {name: tensor + 1e-3 * torch.randn_like(tensor)
               for name, tensor in student.tensors('partial').items()}
    results = speed.measure_updates(base, trained, rounds=1)
    assert list(results) == list(ENCODINGS)
    assert results['fp32']['bytes'] == 4 * sum(tensor.numel() for tensor in trained.values())
    assert results['fp32']['error'] == 0 < results['fp16']['error'] < 0.5
    assert results['fp16']['bytes'] * 2 == results['fp32']['bytes']


def test_describes_the_machine():
    machine = speed.describe_machine()
    assert machine['cores'] >= 1 and machine['torch'] == torch.__version__ and machine['cpu']
