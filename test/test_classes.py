"""Class tables."""

from dataclasses import replace
import json
import random

import cv2
import numpy as np
import pytest
from shadowtutor_ros.classes import (
    ClassesError, ClassTable, COCO_NAMES, IGNORE, load_classes, LVS, MAX_CLASSES, MAX_NAME,
    MAX_TEXT)

#: Ids of the paper's data set that the first implementation gives COCO's categories.
FIRST = {0: 0, 1: 1, 2: 2, 5: 2, 7: 2, 14: 3, 16: 4, 17: 5, 20: 6, 23: 7}

FARM = ClassTable.of(
    ['weed', 'crop: maize, sugar beet', 'soil'], background=2, ids={0: 7, 2: 0},
    colors={1: (1, 2, 3)})


# --- entries -------------------------------------------------------------------------------------

def test_a_list_of_names_gets_a_background_in_front():
    table = ClassTable.of(['forklift', ' pallet  jack ', 'auto:car,  bus'])
    assert table.names == ('background', 'forklift', 'pallet jack', 'auto')
    assert table.members == ((), ('forklift',), ('pallet jack',), ('car', 'bus'))
    assert table.background == 0 and table.ids == (0, 1, 2, 3) and len(table) == 4
    assert table.phrases == (('forklift', 1), ('pallet jack', 2), ('car', 3), ('bus', 3))


def test_a_background_that_is_named_stays_where_it_is():
    assert ClassTable.of(['car', ' Background ', 'bus']).background == 1
    table = ClassTable.of(['car', 'road'], background=1)
    assert table.names == ('car', 'road') and table.members == (('car',), ())


def test_ids_and_colours_that_are_given_go_with_their_classes():
    assert FARM.ids == (7, 1, 0), 'the others are counted'
    assert FARM.colors[1] == (1, 2, 3) and FARM.colors[2] == (0, 0, 0)
    table = ClassTable.of(['weed', 'crop'], ids={0: 40}, colors={1: (9, 9, 9)})
    assert table.names == ('background', 'weed', 'crop')
    assert table.ids == (0, 40, 1) and table.colors[2] == (9, 9, 9)


@pytest.mark.parametrize('table', [
    LVS, FARM, ClassTable.of(COCO_NAMES), ClassTable.of(['Auto: auto'])])
def test_entries_make_the_same_table(table):
    again = ClassTable.of(table.entries, table.background)
    assert (again.names, again.members, again.background) == (
        table.names, table.members, table.background)
    assert again.digest == table.digest


@pytest.mark.parametrize('entries, words', [
    ([], '1 classes with the background, wanted 2 to 255'),
    (['background'], '1 classes'),
    ('person', "got 'person', wanted a list of names"),
    (['person', 3], 'wanted a list of names'),
    (['person', 'PERSON '], "'PERSON' is there twice"),
    (['person', ''], "'' is no name"),
    (['auto: '], "'' is no name"),
    (['auto: car,, bus'], "'' is no name"),
    (['a, b'], "'a, b' is no name: .*without colons, commas"),
    (['auto: car: bus'], "'car: bus' is no name"),
    (['auto: car, bus', 'traffic: bus, truck'], "'bus' is there twice"),
    (['auto: car, bus', 'Car'], "'Car' is there twice"),
    (['auto: car, car'], "'car' is there twice"),
    (['be\u202ell'], 'printable'),
    (['be\x07ll'], 'printable'),
    (['\ud800'], 'printable'),
    (['x' * (MAX_NAME + 1)], f'1 to {MAX_NAME} printable'),
    (['auto: ' + 'x' * (MAX_NAME + 1)], f'1 to {MAX_NAME} printable'),
    ([f'n{number}' for number in range(MAX_CLASSES)], '256 classes'),
    ([f'n{number}' for number in range(MAX_CLASSES + 1)], '256 classes, .*too many'),
    (['x' * (MAX_TEXT + 1)], f'{MAX_TEXT + 1} characters, are too many'),
    (['ab'] * 10 ** 6, '1000000 classes, .*too many'),
    ([1] * 10 ** 6, 'got .* wanted a list of names')])
def test_what_is_no_table_is_refused_in_one_line(entries, words):
    with pytest.raises(ClassesError, match=words) as caught:
        ClassTable.of(entries)
    assert '\n' not in str(caught.value) and len(str(caught.value)) < 400


@pytest.mark.parametrize('options, words', [
    ({'background': 2}, 'background is class 2 of 2'),
    ({'background': -1}, 'background is class -1 of 2'),
    ({'ids': {0: 255}}, 'not different ones of 0 to 254'),
    ({'ids': {0: -1}}, 'not different ones of 0 to 254'),
    ({'ids': {0: 3, 1: 3}}, 'not different ones'),
    ({'ids': {0: 10 ** 4000}}, 'not different ones'),
    ({'colors': {0: (0, 0, 256)}}, 'three numbers of 0 to 255'),
    ({'colors': {0: (0, 0)}}, 'three numbers')])
def test_background_ids_and_colours_must_be_possible(options, words):
    with pytest.raises(ClassesError, match=words) as caught:
        ClassTable.of(['car', 'bus'], **options)
    assert len(str(caught.value)) < 200


def test_a_table_that_is_made_by_hand_is_checked_too():
    with pytest.raises(ClassesError, match='differ in number'):
        replace(LVS, ids=LVS.ids[1:])
    with pytest.raises(ClassesError, match='is there twice'):
        replace(LVS, names=('person',) * 9)


def test_255_classes_are_possible_and_ignore_is_none_of_their_ids():
    table = ClassTable.of([f'n{number}' for number in range(MAX_CLASSES - 1)])
    assert len(table) == 255 and IGNORE not in table.ids and max(table.ids) == 254


# --- names ---------------------------------------------------------------------------------------

def test_names_are_found_whatever_their_case_and_the_space_around_them():
    table = ClassTable.of(['Traffic Light', 'auto: car, Fire Truck'])
    assert table.find(' traffic   LIGHT') == 1 and table.find('AUTO') == 2
    assert table.find('car') is None and table.find('light') is None
    assert table.find('BACKGROUND') == 0


def test_parts_of_unions_are_found_both_ways():
    assert LVS.find_like('car', ('car',)) == 2
    assert LVS.find_like('vehicle', ('tram', 'Bus')) == 2
    assert ClassTable.of(['bus', 'car']).find_like('auto', ('car', 'bus')) == 2
    assert LVS.find_like('auto', ('tram',)) is None, 'that is for find'
    assert LVS.find_like('pallet', ('pallet',)) is None
    assert LVS.find_like('background', ()) is None


def test_maps_coco_as_the_first_implementation():
    assert LVS.rows(COCO_NAMES).tolist() == [FIRST.get(i, 8) for i in range(80)]
    assert LVS.rows(COCO_NAMES).dtype == np.uint8


def test_maps_other_tables_by_name():
    # As torchvision names them: a background and gaps of its own.
    names = ['__background__', 'Person', 'N/A', ' truck', 'sheep', 'N/A', 'dog', 'auto']
    # Of a union the members count, where one of them is known, so that it brings in no others.
    assert LVS.rows(names).tolist() == [8, 0, 8, 2, 8, 8, 4, 8]
    assert LVS.rows(['auto', 'dog']).tolist() == [2, 4]
    assert FARM.rows(['soil', 'maize', 'weed']).tolist() == [2, 1, 0]
    with pytest.raises(ValueError, match='read-only'):
        LVS.rows(names)[0] = 1


def test_says_what_is_unknown_and_what_is_near():
    table = ClassTable.of(['person', 'forklift', 'auto: car, lorry', 'truck: van'])
    assert table.unknown(['Person', 'truck', 'fork', 'car', 'lory', 'vase']) == [
        ('forklift', ['fork']), ('lorry', ['lory'])]
    # By the rule of what is mapped: of a union that is known in part the rest is missing, though
    # the vocabulary has the union's name too.
    partly = ClassTable.of(['auto: car, lorry'])
    assert partly.unknown(['auto', 'car']) == [('lorry', [])] and partly.unknown(['auto']) == []
    assert partly.rows(['auto', 'car']).tolist() == [0, 1]
    assert table.unknown(None) == [], 'any phrase'
    assert LVS.unknown(COCO_NAMES) == []
    missing = LVS.unknown(())
    assert ('car', []) in missing and 'background' not in dict(missing)


def test_translates_labels_of_another_table():
    label = np.array([[0, 2], [8, 5], [255, 9]], np.uint8)
    wanted = ClassTable.of(['horse', 'vehicle: auto'])
    assert wanted.translated(label, LVS.names).tolist() == [[0, 2], [0, 1], [255, 255]]


def test_the_digest_is_of_names_unions_order_and_background_alone():
    same = ClassTable.of(
        ['WEED', 'crop: Maize,sugar  beet', 'Soil'], 2, {0: 9}, {0: (5, 5, 5)})
    assert same.digest == FARM.digest and 0 <= FARM.digest < 2 ** 64
    others = [
        ClassTable.of(['weed', 'crop: maize, sugar beet', 'soil'], 0),
        ClassTable.of(['crop: maize, sugar beet', 'weed', 'soil'], 2),
        ClassTable.of(['weed', 'crop: maize', 'soil'], 2),
        ClassTable.of(['weed', 'crop', 'soil'], 2),
        ClassTable.of(['weeds', 'crop: maize, sugar beet', 'soil'], 2)]
    assert len({table.digest for table in (FARM, *others)}) == 6
    # Both sides of a network compute it, maybe with other versions of Python.
    assert LVS.digest == 0xdebe0f2c75981ea0


# --- masks ---------------------------------------------------------------------------------------

MASK = np.arange(12, dtype=np.uint8).reshape(3, 4) % 9
IMAGE = np.random.default_rng(0).integers(0, 256, (3, 4, 3), np.uint8)


def test_masks_are_published_with_the_ids_of_the_table():
    mask = np.array([[0, 1, 2]], np.uint8)
    assert FARM.published(mask).tolist() == [[7, 1, 0]]
    assert FARM.places(FARM.published(mask)).tolist() == mask.tolist()
    assert FARM.places(np.array([[2, 255, 8, 7]], np.uint8)).tolist() == [
        [IGNORE, IGNORE, IGNORE, 0]]
    assert LVS.published(MASK) is MASK
    assert LVS.places(np.array([[8, 9, 255]], np.uint8)).tolist() == [[8, IGNORE, IGNORE]]


def test_colorize_paints_each_pixel_in_the_colour_of_its_class():
    painted = LVS.colorize(MASK)
    assert painted.shape == (3, 4, 3) and painted.dtype == np.uint8
    assert all((painted[i] == LVS.colors[MASK[i]]).all() for i in np.ndindex(MASK.shape))
    assert FARM.colorize(np.array([[1, 2, IGNORE]], np.uint8)).tolist() == [
        [[1, 2, 3], [0, 0, 0], [255, 255, 255]]]


def test_overlay_leaves_the_background_and_its_input():
    for table, mask in ((LVS, MASK), (FARM, MASK % 3)):
        image = IMAGE.copy()
        painted = table.overlay(image, mask, 0.5)
        assert painted.shape == IMAGE.shape and painted.dtype == np.uint8
        ground = mask == table.background
        assert (painted[ground] == IMAGE[ground]).all() and ground.any()
        assert (image == IMAGE).all()


def test_overlay_mixes_by_opacity():
    objects, colors = MASK != LVS.background, np.array(LVS.colors, float)
    for opacity in (0, 0.25, 0.5, 1):
        mix = (1 - opacity) * IMAGE + opacity * colors[MASK]
        painted = LVS.overlay(IMAGE, MASK, opacity)
        assert np.abs(painted - mix)[objects].max() <= 1


# --- the palette ---------------------------------------------------------------------------------

def lab(colors):
    pixels = np.array(colors, np.float32).reshape(1, -1, 3) / 255
    return cv2.cvtColor(pixels, cv2.COLOR_RGB2LAB)[0]


def apart(colors):
    """Return the least distance of two colours."""
    distances = np.linalg.norm(lab(colors)[:, None] - lab(colors)[None], axis=2)
    return distances[~np.eye(len(distances), dtype=bool)].min()


def test_the_classes_of_lvs_have_the_colours_they_always_had():
    assert LVS.colors == (
        (220, 20, 60), (255, 200, 0), (30, 100, 255), (0, 210, 210), (255, 120, 0),
        (160, 80, 200), (110, 220, 60), (255, 130, 190), (0, 0, 0))
    table = ClassTable.of(['pallet', 'Dog', 'person'])
    assert table.colors[2:] == ((255, 120, 0), (220, 20, 60))


@pytest.mark.parametrize('names, least', [
    (COCO_NAMES, 16), ([f'thing number {number}' for number in range(254)], 7)])
def test_colours_can_be_told_apart_and_from_black_and_white(names, least):
    table = ClassTable.of(names)
    assert table.colors[0] == (0, 0, 0), 'the background'
    assert apart(table.colors) >= least
    grey = np.array([[step, 0, 0] for step in (0, 100)])
    assert np.linalg.norm(lab(table.colors[1:])[:, None] - grey, axis=2).min() > 20


def test_a_colour_is_the_names_own_whatever_their_order():
    own = dict(zip(COCO_NAMES, ClassTable.of(COCO_NAMES).colors[1:]))
    mixed = random.Random(0).sample(COCO_NAMES, 80)
    assert dict(zip(mixed, ClassTable.of(mixed).colors[1:])) == own
    assert ClassTable.of([name.upper() for name in COCO_NAMES]).colors[1:] == tuple(own.values())


def test_most_colours_stay_whatever_the_neighbours():
    alone = {name: ClassTable.of([name]).colors[1] for name in COCO_NAMES}
    for count, least in ((5, 0.9), (10, 0.85), (20, 0.75)):
        same = []
        for seed in range(20):
            table = ClassTable.of(random.Random(seed).sample(COCO_NAMES, count))
            same += [alone[name] == color
                     for name, color in zip(table.names[1:], table.colors[1:])]
        assert np.mean(same) > least


# --- files ---------------------------------------------------------------------------------------

def test_the_tables_that_are_shipped_are_those_of_the_package():
    assert load_classes('lvs') == LVS
    coco = load_classes('coco')
    assert coco == ClassTable.of(('background', *COCO_NAMES))
    assert coco.background == 0 and coco.names[1:] == COCO_NAMES


@pytest.mark.parametrize('given, names, members', [
    (['pallet', 'auto: car'], ('background', 'pallet', 'auto'), ((), ('pallet',), ('car',))),
    ('pallet, person', ('background', 'pallet', 'person'), ((), ('pallet',), ('person',))),
    ('pallet', ('background', 'pallet'), ((), ('pallet',))),
    ('person; auto: car, bus;', ('background', 'person', 'auto'),
     ((), ('person',), ('car', 'bus'))),
    ('auto: car, bus', ('background', 'auto'), ((), ('car', 'bus'))),
    ('floor; person', ('background', 'floor', 'person'), ((), ('floor',), ('person',)))])
def test_what_a_user_gives(given, names, members):
    table = load_classes(given)
    assert table.names == names and table.members == members


@pytest.mark.parametrize('table', [LVS, FARM, ClassTable.of(COCO_NAMES)])
def test_a_dict_makes_the_same_table(table):
    assert ClassTable.from_dict(json.loads(json.dumps(table.as_dict()))) == table


def test_a_file_may_say_ids_colours_unions_and_the_background(tmp_path):
    path = tmp_path / 'farm.yaml'
    path.write_text("""
background: soil
classes:
  - {name: weed, id: 7}
  - name: crop
    of: [maize, sugar beet]
    color: [1, 2, 3]
  - {name: soil, id: 0}
""")
    assert load_classes(str(path)) == FARM
    path.write_text('[weed, "crop: maize", {name: stone, id: 9}]')
    table = load_classes(str(path))
    assert table.names == ('background', 'weed', 'crop', 'stone')
    assert table.members[2] == ('maize',) and table.ids == (0, 1, 2, 9)


@pytest.mark.parametrize('text, words', [  # the last would take for ever to print
    ('person', "got 'person', wanted a list of classes, or a dict"),
    ('{names: [person]}', 'wanted a list of classes'),
    ('{classes: [person], colours: []}', "'colours' is not known: wanted classes and background"),
    ('[person, on]', 'class 1 is .*quote names such as "on"'),
    ('[person, 7]', 'class 1 is .*: wanted a name'),
    ('[{name: person, colour: [0, 0, 0]}]', 'class 0 is .*of, id and color if wanted'),
    ('[{name: person, id: 1.5}]', "'person' has 1.5 where a whole number is wanted"),
    ('[{name: person, id: true}]', "'person' has True where a whole number"),
    ('[{name: person, id: 255}]', 'not different ones of 0 to 254'),
    ('[{name: person, color: red}]', "colour of 'person' is 'red', wanted .red, green, blue"),
    ('[{name: person, color: [1, 2]}]', 'wanted .red, green, blue'),
    ('[{name: auto, of: car}]', "'auto' is of 'car': wanted a list of names"),
    ('{background: floor, classes: [person]}', "the background 'floor' is none of the classes"),
    ('[person, person]', "'person' is there twice"),
    ('[a', 'is no YAML'),
    ('!!python/object/apply:os.getcwd []', 'is no YAML'),
    ('[2024-99-99]', 'cannot be read'),
    ('[' * 100000, 'is no YAML'),
    ('\n'.join(f'a{n}: &a{n} [*a{n - 1}, *a{n - 1}, *a{n - 1}]' if n else 'a0: &a0 [x]'
               for n in range(40)) + '\nclasses: *a39', 'class 0 is|not known'),
    ('{classes: [&a [x, x, x], &b [*a, *a, *a], &c [*b, *b, *b], &d [*c, *c, *c], '
     '&e [*d, *d, *d], &f [*e, *e, *e], &g [*f, *f, *f], &h [*g, *g, *g], &i [*h, *h, *h], '
     '&j [*i, *i, *i], &k [*j, *j, *j], &l [*k, *k, *k], &m [*l, *l, *l], [*m, *m, *m]]}',
     'class 0 is')])
def test_a_file_that_is_no_table_is_refused_in_one_line(tmp_path, text, words):
    path = tmp_path / 'table.yaml'
    path.write_text(text)
    with pytest.raises(ClassesError, match=words) as caught:
        load_classes(str(path))
    assert str(path) in str(caught.value)
    assert '\n' not in str(caught.value) and len(str(caught.value)) < 500 + len(str(path))


def test_a_file_that_cannot_be_read_is_refused(tmp_path):
    (tmp_path / 'latin.yaml').write_bytes('[Gerät]'.encode('latin-1'))
    for path in ('missing.yaml', 'latin.yaml', 'null\0byte.yaml', '.yaml'):
        with pytest.raises(ClassesError, match='cannot be read.*lvs, coco'):
            load_classes(str(tmp_path / path))


def test_nothing_is_no_table():
    for given in ('', ' ; ', []):
        with pytest.raises(ClassesError, match='wanted 2 to 255'):
            load_classes(given)
