"""What all students have in common: scopes, rows of classes, files."""

import copy
import hashlib
import json
import re

import numpy as np
import pytest
import safetensors.torch
from shadowtutor_ros.classes import ClassTable, LVS
from shadowtutor_ros.models.student import base
from shadowtutor_ros.models.student.base import (
    architecture, checksum, register, SHIPPED_WEIGHTS, Student, WeightsError)
from shadowtutor_ros.models.student.shadow import Shadow
from tiny import Tiny
import torch

HEAD = ('out_conv3.weight', 'out_conv3.bias')
SITE = ClassTable.of(['pallet', 'person', 'car', 'vehicle: bus, tram', 'Dog', 'sign'])


@pytest.fixture
def student():
    torch.manual_seed(1)
    return Shadow().eval()


@pytest.fixture(scope='module')
def file():
    """Return the weights of a weights file and their classes."""
    torch.manual_seed(2)
    return Shadow().weights(), LVS


@pytest.fixture(scope='module')
def trained(file):
    """Return weights whose every tensor differs from those of the file."""
    torch.manual_seed(3)
    return Shadow().weights()


def row(weights, place):
    return torch.cat([weights[HEAD[0]][place].flatten(), weights[HEAD[1]][place].flatten()])


def made(name):
    """Make the row of a name, as it is described, one number at a time."""
    values = []
    for tensor, count in zip(HEAD, (32, 1)):
        data = hashlib.shake_256(f'{name}/{tensor}'.encode()).digest(4 * count)
        values += [(int.from_bytes(data[4 * i:4 * i + 4], 'little') / 2 ** 31 - 1) / 32 ** 0.5
                   for i in range(count)]
    return torch.tensor(values, dtype=torch.float64).float()


# --- scopes --------------------------------------------------------------------------------------

def test_scopes_are_names_or_blocks():
    assert Shadow.blocks_of('decoder') == Shadow.decoder
    assert Shadow.blocks_of('partial') == Shadow.decoder[1:]
    assert Shadow.blocks_of('full') == Shadow.encoder + Shadow.decoder
    assert Shadow.blocks_of(' dec3,out_conv3 , enc1') == ('dec3', 'out_conv3', 'enc1')
    assert Tiny.blocks_of('tell') == ('tell',)


@pytest.mark.parametrize('scope', ['half', '', 'dec3,', 'dec3 out_conv3', 'dec3,partial'])
def test_an_unknown_scope_is_refused(student, scope):
    with pytest.raises(ValueError, match='is unknown: choose partial, decoder, full, or blocks'):
        student.tensors(scope)


def test_tensors_are_the_parameters_themselves(student):
    tensors = student.tensors('out_conv3, dec3')
    assert {name.partition('.')[0] for name in tensors} == {'out_conv3', 'dec3'}
    assert tensors['out_conv3.bias'] is student.out_conv3.bias


# --- rows of classes -----------------------------------------------------------------------------

def test_rows_of_names_that_stay_are_kept(file, trained):
    weights = Shadow.with_classes(trained, LVS, SITE, file)
    assert weights[HEAD[0]].shape == (7, 32, 1, 1) and weights[HEAD[1]].shape == (7,)
    assert torch.equal(row(weights, SITE.find('person')), row(trained, 0))
    assert torch.equal(row(weights, SITE.find('dog')), row(trained, 4)), 'whatever the case'
    assert torch.equal(row(weights, SITE.background), row(trained, LVS.background))


def test_parts_of_unions_have_their_rows(file, trained):
    weights = Shadow.with_classes(trained, LVS, SITE, file)
    for name in ('car', 'vehicle'):
        assert torch.equal(row(weights, SITE.find(name)), row(trained, LVS.find('auto')))
    # And the union has that of the first of its parts that is there.
    parts = ClassTable.of(['bus', 'car'])
    torch.manual_seed(4)
    origin = Shadow(parts).weights(), parts
    weights = Shadow.with_classes(*origin, LVS, origin)
    assert torch.equal(row(weights, LVS.find('auto')), row(origin[0], parts.find('car')))


def test_what_was_dropped_comes_back_from_the_file(file, trained):
    few = ClassTable.of(['person', 'pallet'])
    weights = Shadow.with_classes(trained, LVS, few, file)
    again = Shadow.with_classes(weights, few, LVS, file)
    assert torch.equal(row(again, 0), row(trained, 0)) and torch.equal(
        row(again, 8), row(trained, 8))
    for place in range(1, 8):
        assert torch.equal(row(again, place), row(file[0], place))
    # The name itself in the file is better than a part of it in what is run.
    cars = ClassTable.of(['car'])
    weights = Shadow.with_classes(trained, LVS, cars, file)
    again = Shadow.with_classes(weights, cars, LVS, file)
    assert torch.equal(row(again, 2), row(file[0], 2))
    assert not torch.equal(row(again, 2), row(trained, 2))


@pytest.mark.parametrize('name', ['pallet', 'traffic light', 'ärmel', '托盘'])
def test_the_row_of_a_new_name_is_made_from_it_alone(file, trained, name):
    one, other = ClassTable.of([name]), ClassTable.of(['sign', f' {name.upper()} ', 'x: y, z'])
    first = Shadow.with_classes(trained, LVS, one, file)
    second = Shadow.with_classes(file[0], LVS, other, file)
    assert torch.equal(row(first, 1), row(second, 2))
    assert torch.equal(row(first, 1), made(name))
    assert not torch.equal(row(second, 1), row(second, 2))


def test_made_rows_are_as_they_always_were(file):
    # Both sides make them: with another rule no robot and workstation of different versions agree.
    weights = Shadow.with_classes(*file, ClassTable.of(['pallet', 'sign']), file)
    assert row(weights, 1)[:3].tolist() == pytest.approx([-0.176124, 0.064922, 0.075946], abs=1e-6)
    assert float(row(weights, 2)[-1]) == pytest.approx(0.044448, abs=1e-6)
    made_of_many = torch.stack([made(f'n{number}') for number in range(200)])
    assert made_of_many.abs().max() <= 32 ** -0.5
    assert float(made_of_many.std()) == pytest.approx((32 * 3) ** -0.5, rel=0.02)


def test_order_and_background_may_change(file, trained):
    turned = ClassTable.of(LVS.entries[::-1], background=0)
    weights = Shadow.with_classes(trained, LVS, turned, file)
    assert all(torch.equal(row(weights, place), row(trained, 8 - place)) for place in range(9))
    # Another class as the background: it has the row of what was none of the others.
    street = ClassTable.of(['street', 'person'], background=0)
    weights = Shadow.with_classes(trained, LVS, street, file)
    assert torch.equal(row(weights, 0), row(trained, 8))
    # What was background is no class's row, even where a class has its name.
    named = ClassTable.of(['background', 'street'], background=1)
    weights = Shadow.with_classes(trained, LVS, named, file)
    assert torch.equal(row(weights, 0), made('background'))
    assert torch.equal(row(weights, 1), row(trained, 8))


def test_all_other_tensors_are_shared(file, trained):
    weights = Shadow.with_classes(trained, LVS, SITE, file)
    assert list(weights) == list(trained)
    assert all(weights[name] is trained[name] for name in trained if name not in HEAD)
    colours = ClassTable.of(LVS.entries, 8, colors={0: (9, 9, 9)}, ids={0: 100})
    assert Shadow.with_classes(trained, LVS, colours, file) is trained, 'ids and colours alone'


def test_both_sides_get_the_same_weights(file, trained):
    tables = [SITE, ClassTable.of(['dog', 'pallet', 'tram']), LVS, SITE]
    sums = []
    for side in (trained, copy.deepcopy(trained)):
        weights, table = side, LVS
        for new in tables:
            weights, table = Shadow.with_classes(weights, table, new, file), new
        student = Shadow(table)
        student.load_state_dict(weights)
        assert checksum(weights) == student.weights_checksum()
        sums.append(checksum(weights))
    assert sums[0] == sums[1]


def test_a_copy_has_other_weights_and_classes_and_shares_nothing(student, file):
    student.requires_grad_(False)
    weights = student.with_classes(student.weights(), LVS, SITE, file)
    other = student.copy_with(weights, SITE)
    assert other.classes is SITE and student.classes == LVS
    assert not other.training and other.weights_checksum() == checksum(weights)
    with torch.no_grad():
        other.dec3.long_path[0].weight.zero_()
    assert student.dec3.long_path[0].weight.abs().sum() > 0
    assert weights['dec3.long_path.0.weight'].abs().sum() > 0
    assert student.train().copy_with(weights, SITE).training


def test_the_tiny_student_has_rows_too():
    torch.manual_seed(5)
    origin = Tiny().weights(), LVS
    weights = Tiny.with_classes(*origin, SITE, origin)
    assert {name for name in weights if len(weights[name]) == 7} == {'tell.weight', 'tell.bias'}
    assert torch.equal(weights['tell.weight'][2], origin[0]['tell.weight'][0])
    assert weights['tell.weight'][1].abs().max() <= 8 ** -0.5


# --- model_id ------------------------------------------------------------------------------------

def test_the_model_is_the_same_whatever_the_classes(student):
    assert re.fullmatch('[0-9a-f]{16}', student.model_id)
    assert Shadow(SITE).model_id == student.model_id == Shadow().model_id
    assert Tiny(SITE).model_id == Tiny().model_id


def test_other_models_are_told_apart(student):
    class Twin(Shadow):
        architecture = 'twin'

    class Wide(Tiny):
        def __init__(self, classes=LVS):
            super().__init__(classes)
            self.think = torch.nn.Conv2d(12, 9, 3, padding=1)

    models = [student, Twin(), Shadow().double(), Tiny(), Wide()]
    assert len({model.model_id for model in models}) == 5


# --- architectures -------------------------------------------------------------------------------

def test_architectures_are_found_by_their_names(monkeypatch):
    monkeypatch.setattr(base, 'ARCHITECTURES', dict(base.ARCHITECTURES))
    assert architecture('shadow') is Shadow and architecture('tiny') is Tiny
    with pytest.raises(WeightsError, match="'vit' is not known: wanted one of shadow, shadow-s, "
                                           'shadow-l, tiny'):
        architecture('vit')
    with pytest.raises(WeightsError) as caught:
        architecture('x' * 10000)
    assert len(str(caught.value)) < 200
    assert register(Renamed) is Renamed and architecture('renamed') is Renamed


class Renamed(Tiny):
    """Tiny by another name."""

    architecture = 'renamed'


# --- files ---------------------------------------------------------------------------------------

def metadata(path):
    with safetensors.safe_open(path, 'pt') as file:
        return file.metadata()


@pytest.mark.parametrize('kind', [Shadow, Tiny])
@pytest.mark.parametrize('table', [LVS, SITE, ClassTable.of(
    ['weed', 'crop: maize, sugar beet', 'soil'], 2, {0: 7, 2: 0}, {1: (1, 2, 3)})])
def test_a_file_says_what_it_is(kind, table, tmp_path):
    path = tmp_path / 'student.safetensors'
    student = kind(table).to(memory_format=torch.channels_last)
    student.save(path, licence='CC0', recipe='{"steps": 3}')
    loaded = Student.load(path)
    assert type(loaded) is kind and loaded.classes == table and not loaded.training
    assert loaded.weights_checksum() == student.weights_checksum()
    said = metadata(path)
    assert (said['licence'], said['recipe']) == ('CC0', '{"steps": 3}')
    assert said['architecture'] == kind.architecture
    assert json.loads(said['pixel_mean']) == list(kind.pixel_mean)
    # What the file says holds.
    assert Student.load(path, LVS).classes == table


@pytest.mark.parametrize('name, steps, checksum', [
    ('shadow', 20000, 820977749), ('shadow-s', 18000, 933769393)])
def test_a_file_that_is_shipped_says_what_it_is(name, steps, checksum):
    path = SHIPPED_WEIGHTS.with_stem(name)
    said = metadata(path)
    assert said.keys() == {'architecture', 'classes', 'pixel_mean', 'licence', 'recipe'}
    assert said['architecture'] == name and 'CC BY 4.0' in said['licence']
    assert ClassTable.from_dict(json.loads(said['classes'])) == LVS
    assert json.loads(said['recipe'])['steps'] == steps
    student = Student.load(name)
    assert student.architecture == name and student.weights_checksum() == checksum
    assert path.stat().st_size < 2e6


def test_the_student_is_the_papers_where_none_is_named():
    assert Student.load('').weights_checksum() == Student.load('shadow').weights_checksum()


def saved(student, path, **changes):
    """Write a file with other metadata; None leaves it out."""
    said = {'architecture': 'shadow', 'classes': json.dumps(student.classes.as_dict()),
            'pixel_mean': json.dumps(student.pixel_mean), **changes}
    safetensors.torch.save_file(
        student.weights(), path, {name: text for name, text in said.items() if text is not None})
    return path


def test_files_of_earlier_versions_are_read(student, tmp_path):
    path = tmp_path / 'student.safetensors'
    for classes in (','.join(LVS.names), None):
        saved(student, path, architecture=None, pixel_mean=None, classes=classes)
        loaded = Student.load(path)
        assert loaded.classes == LVS
        assert loaded.weights_checksum() == student.weights_checksum()


@pytest.mark.parametrize('changes, words', [
    ({'architecture': 'vit'}, "architecture 'vit' is not known"),
    ({'architecture': 'tiny', 'pixel_mean': None}, '4 tensors are missing|tensors are unknown'),
    ({'pixel_mean': '[0, 0, 0]'}, r'pixels less \[0, 0, 0\], this package subtracts \[103.53'),
    ({'pixel_mean': 'x' * 10000}, 'pixels less xxx'),
    ({'classes': 'cat,' + ','.join(LVS.names[1:])}, 'its classes are .cat,bicycle'),
    ({'classes': '[' * 100000}, r'its classes are .\[\[\['),
    ({'classes': '{}'}, 'its classes are .*wanted a list of classes'),
    ({'classes': '["a", "a"]'}, "'a' is there twice"),
    ({'classes': r'["\ud800"]'}, 'its classes are .*printable'),
    ({'classes': '["a"]'}, '9 classes, wanted 2')])
def test_a_file_that_says_what_cannot_be_is_refused_in_one_line(
        student, tmp_path, changes, words):
    path = saved(student, tmp_path / 'student.safetensors', **changes)
    with pytest.raises(WeightsError, match=words) as caught:
        Student.load(path)
    said = str(caught.value)
    assert str(path) in said and '\n' not in said and len(said) < 600 + len(str(path))


def test_nothing_random_of_torch_is_in_the_rows(file):
    state = torch.random.get_rng_state()
    Shadow.with_classes(*file, SITE, file)
    assert torch.equal(state, torch.random.get_rng_state())
    assert np.isfinite(row(Shadow.with_classes(*file, SITE, file), 1).numpy()).all()
