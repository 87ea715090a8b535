"""Pretraining a student."""

import copy

import cv2
import numpy as np
import pytest
import torch

from shadowtutor_ros.classes import ClassTable, COCO_NAMES, IGNORE, LVS
from shadowtutor_ros.models.student.base import Student, WeightsError
from shadowtutor_ros.models.student.shadow import Shadow
from shadowtutor_ros.pretraining.datasets import Dataset, Sample
from shadowtutor_ros.pretraining.training import (
    augment, CheckpointError, load_start, Pretraining, PretrainSettings, repeat_factors, validate)

BACKGROUND = LVS.background
COCO = ClassTable.of(COCO_NAMES)

SMALL = PretrainSettings(steps=6, batch_size=2, crop=64, seed=1)


def discs(count=6, classes=(0, 2), background=BACKGROUND):
    """Return images with a disc whose colour tells its class."""
    random = np.random.default_rng(0)
    samples = []
    for number in range(count):
        kind = classes[number % len(classes)]
        image = random.integers(60, 90, (96, 128, 3), dtype=np.uint8)
        label = np.full((96, 128), background, np.uint8)
        centre = (int(random.integers(30, 98)), int(random.integers(30, 66)))
        cv2.circle(label, centre, 24, kind, -1)
        image[label == kind] = (220, 30, 30) if number % len(classes) else (30, 30, 220)
        samples.append(Sample(image, label))
    return Dataset('discs', samples.__getitem__, count, classes=[
        {classes[number % len(classes)], background} for number in range(count)])


def test_it_learns():
    data = discs()
    settings = PretrainSettings(steps=60, batch_size=2, crop=96, average=0.9)
    pretraining = Pretraining([data], [1.0], settings)
    untrained = validate(pretraining.result, data)
    losses = [pretraining.train_step() for _ in range(60)]
    assert np.mean(losses[-10:]) < 0.5 * np.mean(losses[:10])
    assert validate(pretraining.result, data) > untrained + 0.3


def test_interrupted_and_gone_on_with_is_the_same_as_not_interrupted(tmp_path):
    def new():
        return Pretraining([discs()], [1.0], SMALL)

    whole, first = new(), new()
    for _ in range(6):
        whole.train_step()
    for _ in range(3):
        first.train_step()
    first.best_miou, first.seconds = 0.25, 7.0
    first.save(tmp_path / 'it.checkpoint')
    second = new()
    second.load(tmp_path / 'it.checkpoint')
    assert (second.step, second.best_miou, second.seconds) == (3, 0.25, 7.0)
    for _ in range(3):
        second.train_step()
    assert second.student.weights_checksum() == whole.student.weights_checksum()
    assert second.result.weights_checksum() == whole.result.weights_checksum()
    assert second.result.weights_checksum() != whole.student.weights_checksum()
    assert [path.name for path in tmp_path.iterdir()] == ['it.checkpoint']


def test_a_checkpoint_of_another_training_is_refused(tmp_path):
    path = tmp_path / 'it.checkpoint'
    pretraining = Pretraining([discs()], [1.0], SMALL)
    pretraining.train_step()
    pretraining.save(path)
    with pytest.raises(CheckpointError, match='batch_size 2, not 3'):
        Pretraining([discs()], [1.0], PretrainSettings(batch_size=3, crop=64, seed=1)).load(path)
    with pytest.raises(CheckpointError, match='data'):
        Pretraining([discs(4)], [1.0], SMALL).load(path)
    # As many classes, but others; or another of them is the background.
    for table in (ClassTable.of(('cat', *LVS.entries[1:]), 8), ClassTable.of(LVS.entries, 0)):
        with pytest.raises(CheckpointError, match='a training with (classes|background)'):
            Pretraining([discs()], [1.0], SMALL, table).load(path)
    path.write_bytes(b'garbage')
    with pytest.raises(CheckpointError, match='cannot be read'):
        pretraining.load(path)


def test_a_training_can_be_made_longer_until_its_learning_rate_falls(tmp_path):
    def new(steps):
        return Pretraining(
            [discs()], [1.0], PretrainSettings(steps=steps, batch_size=1, crop=64))

    pretraining = new(10)
    for _ in range(5):
        pretraining.train_step()
    pretraining.save(tmp_path / 'early')
    for _ in range(4):
        pretraining.train_step()
    # Falling below the warm-up takes until close to the end.
    for step in range(10):
        assert new(10).settings.learning_rate_at(step) == new(20).settings.learning_rate_at(step)
    longer = new(20)
    longer.load(tmp_path / 'early')
    assert longer.step == 5
    milestones = PretrainSettings(steps=9, schedule='milestones', batch_size=1, crop=64)
    other = Pretraining([discs()], [1.0], milestones)
    for _ in range(4):
        other.train_step()
    other.save(tmp_path / 'late')
    with pytest.raises(CheckpointError, match='4 steps into a training of 9'):
        Pretraining([discs()], [1.0], PretrainSettings(
            steps=30, schedule='milestones', batch_size=1, crop=64)).load(tmp_path / 'late')


def test_learning_rates():
    decay = PretrainSettings(steps=1000, learning_rate=2e-3)
    rates = [decay.learning_rate_at(step) for step in range(1000)]
    assert rates[0] == pytest.approx(1e-5) and rates[199] == rates[699] == 2e-3
    assert rates[850] == pytest.approx(1e-3) and 0 < rates[999] < 1e-5
    paper = PretrainSettings(steps=30, learning_rate=1e-3, schedule='milestones')
    assert [paper.learning_rate_at(step) for step in (0, 9, 10, 19, 20, 29)] == pytest.approx(
        [1e-3, 1e-3, 1e-4, 1e-4, 1e-5, 1e-5])


def test_images_of_thin_classes_are_drawn_more_often():
    classes = [{0, 8}] * 96 + [{0, 3, 8}] * 4
    factors = repeat_factors(classes, 0.16)
    assert (factors[:96] == 1).all() and factors[96:] == pytest.approx(2.0)
    assert (repeat_factors(classes, 0) == 1).all()


def test_shares_are_kept():
    def plain(value):
        sample = Sample(np.full((70, 70, 3), value, np.uint8), np.zeros((70, 70), np.uint8))
        return Dataset('plain', lambda index: sample, 3)

    pretraining = Pretraining([plain(0), plain(255)], [0.8, 0.2], SMALL)
    random = np.random.default_rng(0)
    bright = [pretraining._draw(random).image.mean() > 127 for _ in range(300)]
    assert 0.15 < np.mean(bright) < 0.25


def test_augmented_label_stays_on_its_image():
    random = np.random.default_rng(0)
    settings = PretrainSettings(crop=96, scales=(0.4, 2.0))
    shares = []
    for _ in range(50):
        label = np.full((120, 160), BACKGROUND, np.uint8)
        label[40:80, 60:130] = 0
        label[:10] = IGNORE
        image = np.full((120, 160, 3), 40, np.uint8)
        image[label == 0] = 180
        image, label = augment(Sample(image, label), settings, random)
        assert image.shape == (96, 96, 3) and label.shape == (96, 96)
        assert set(np.unique(label)) <= {0, BACKGROUND, IGNORE}
        assert image.dtype == np.uint8 and image.flags.c_contiguous
        if (label == 0).any() and (label == BACKGROUND).any():
            bright = image.mean(2) > (
                image[label == 0].mean() + image[label == BACKGROUND].mean()) / 2
            known = label != IGNORE
            assert (bright == (label == 0))[known].mean() > 0.95
        shares.append((label == 0).mean())
    assert min(shares) < 0.1 and max(shares) > 0.4


def test_small_images_are_mirrored_at_their_edges():
    label = np.zeros((30, 40), np.uint8)
    label[:, 20:] = 1
    sample = Sample(np.dstack([label * 100] * 3), label)
    settings = PretrainSettings(crop=64, scales=(1.0, 1.0))
    for seed in range(5):
        image, label = augment(sample, settings, np.random.default_rng(seed))
        assert ((image[:, :, 0] > image.mean()) == (label == 1)).mean() > 0.98
        assert (label == label[0]).all() and 0.25 < (label == 1).mean() < 0.75


def test_each_image_of_a_batch_is_normalised_by_its_own_statistics():
    torch.manual_seed(0)
    plain = Shadow()
    trained = Pretraining([discs()], [1.0], SMALL, start=copy.deepcopy(plain)).student
    images = torch.rand(2, 3, 64, 96) * torch.tensor([255, 30]).view(2, 1, 1, 1)
    with torch.inference_mode():
        together = trained(images)
        alone = torch.cat([plain(images[:1]), plain(images[1:])])
        mixed = plain(images)
    assert torch.allclose(together, alone, atol=1e-3)
    assert not torch.allclose(together, mixed, atol=1e-1)


def test_any_classes_can_be_trained(tmp_path):
    # Background is not the last, and what is not it weighs more.
    table = ClassTable.of(['crate', 'ball'])
    data = discs(classes=(1, 2), background=0)
    settings = PretrainSettings(steps=60, batch_size=2, crop=96, average=0.9)
    pretraining = Pretraining([data], [1.0], settings, table)
    untrained = validate(pretraining.result, data)
    for _ in range(60):
        pretraining.train_step()
    assert validate(pretraining.result, data) > untrained + 0.3
    pretraining.result.save(tmp_path / 'it.safetensors')
    assert Student.load(tmp_path / 'it.safetensors').classes == table


def test_objects_weigh_more_wherever_the_background_is():
    def losses(place):
        """Return the first loss with the background at a place, by the weight of objects."""
        table = ClassTable.of(['crate', 'ball', 'floor'], background=place)
        torch.manual_seed(0)
        start = Shadow(table)
        return [Pretraining(
            [discs(classes=(1,), background=place)], [1.0],
            PretrainSettings(batch_size=2, crop=64, object_weight=weight), table,
            copy.deepcopy(start)).train_step() for weight in (1.0, 3.0)]

    for place in (0, 2):
        once, thrice = losses(place)
        assert once < thrice < 2.5 * once, 'what is weighed is less than all'


def test_validation_is_on_the_classes_of_the_student():
    torch.manual_seed(0)
    student = Shadow(COCO).eval()
    with torch.no_grad():
        student.out_conv3.weight.zero_()
        student.out_conv3.bias.zero_()
        student.out_conv3.bias[COCO.find('zebra')] = 1.0
    label = np.full((64, 96), COCO.find('zebra'), np.uint8)
    label[:32] = COCO.find('toothbrush')
    label[:, :24] = IGNORE
    sample = Sample(np.zeros((64, 96, 3), np.uint8), label)
    assert validate(student, Dataset('zebras', lambda index: sample, 2)) == pytest.approx(0.25)


def test_a_student_of_coco_is_one_of_the_papers_classes_too(tmp_path):
    torch.manual_seed(0)
    Shadow(COCO).save(tmp_path / 'coco.safetensors')
    coco = Student.load(tmp_path / 'coco.safetensors')
    assert load_start(tmp_path / 'coco.safetensors').weights_checksum() == coco.weights_checksum()
    nine = load_start(tmp_path / 'coco.safetensors', LVS)
    assert nine.classes == LVS and not nine.training
    image = torch.rand(1, 3, 64, 96) * 255
    with torch.inference_mode():
        theirs, ours = coco(image)[0], nine(image)[0]
    for index, name in enumerate(LVS.names):
        row = COCO.find('car' if name == 'auto' else name)
        assert torch.allclose(ours[index], theirs[row], atol=1e-4)


def test_weights_to_begin_with(tmp_path):
    # As the first implementation numbers them, in a file that does not say so.
    table = ClassTable.of((*COCO_NAMES, 'background'))
    nine, coco = Shadow(), Shadow(table)
    paths = {}
    for name, student in (('nine', nine), ('coco', coco)):
        paths[name] = tmp_path / f'{name}.pth'
        torch.save(student.state_dict(), paths[name])
    assert load_start(paths['nine'], LVS).weights_checksum() == nine.weights_checksum()
    with pytest.raises(WeightsError, match='81 classes and do not say which'):
        load_start(paths['coco'], LVS)
    assert load_start(paths['coco'], None, table).weights_checksum() == coco.weights_checksum()
    found = load_start(paths['coco'], LVS, table).out_conv3.weight
    assert torch.equal(found[LVS.find('horse')], coco.out_conv3.weight[table.find('horse')])
    assert torch.equal(found[8], coco.out_conv3.weight[80])
    more = load_start(paths['nine'], COCO)
    assert torch.equal(more.out_conv3.bias[COCO.find('truck')], nine.out_conv3.bias[2])
    start = Pretraining([discs()], [1.0], SMALL, start=nine)
    assert start.result.weights_checksum() == nine.weights_checksum()
