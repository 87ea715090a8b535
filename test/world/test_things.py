import numpy as np
import pytest

from shadowtutor_ros.classes import ClassTable, LVS, name_key
from shadowtutor_ros.world.things import NUMBER, OWNER, places, THINGS, VOCABULARY


def classes_of(*entries, **options):
    """Return of each thing the name of its class in a table."""
    table = ClassTable.of(entries, **options)
    return {thing: table.names[places(table)[number]] for thing, number in NUMBER.items()}


def test_all_names_make_a_table():
    table = ClassTable.of(VOCABULARY)
    assert all(name == name_key(name) for name in VOCABULARY)
    assert table.unknown(VOCABULARY) == [] == LVS.unknown(VOCABULARY)
    found = places(table)
    assert {table.names[found[number]] for number in NUMBER.values()} == set(VOCABULARY)
    assert (found[len(THINGS) + 1:] == 0).all() and found[0] == 0


def test_what_a_thing_belongs_to_stands_before_it():
    for thing, number in NUMBER.items():
        assert OWNER[number] < number
        assert thing.rpartition('/')[0] == (THINGS[OWNER[number] - 1] if OWNER[number] else '')


def test_a_part_is_what_it_belongs_to_unless_it_is_asked_for():
    of = classes_of('car')
    assert of['vehicle/auto/car/wheel'] == of['vehicle/auto/car/window'] == 'car'
    assert of['vehicle/auto/bus/wheel'] == of['vehicle/bicycle/wheel'] == 'background'
    assert of['building/window'] == of['vehicle/auto'] == 'background'
    of = classes_of('wheel', 'car')
    assert of['vehicle/auto/car/wheel'] == of['vehicle/bicycle/wheel'] == 'wheel'
    assert of['vehicle/auto/car/window'] == of['vehicle/auto/car'] == 'car'
    assert of['vehicle/bicycle'] == 'background'


def test_a_kind_is_what_it_belongs_to_unless_it_is_asked_for():
    of = classes_of('vehicle', 'car', 'animal', 'road')
    assert of['vehicle/auto/car/wheel'] == 'car'
    assert of['vehicle/auto/bus/wheel'] == of['vehicle/bicycle'] == 'vehicle'
    assert of['animal/dog/tail'] == of['animal/bird'] == 'animal'
    assert of['ground/road/lane marking'] == 'road' and of['ground/sidewalk'] == 'background'


def test_of_a_union_its_members_count():
    of = classes_of('vehicle: car, bus', 'green: tree, grass')
    assert of['vehicle/auto/car/light'] == of['vehicle/auto/bus'] == 'vehicle'
    assert of['vehicle/auto/truck'] == of['vehicle/bicycle'] == of['vehicle'] == 'background'
    assert of['vegetation/tree/trunk'] == of['ground/grass'] == 'green'
    assert of['vegetation/bush'] == 'background'


def test_of_a_union_of_what_is_unknown_the_name_counts():
    of = classes_of('auto: lorry, van', 'dog')
    assert of['vehicle/auto/truck'] == of['vehicle/auto/car/wheel'] == 'auto'


def test_a_union_and_its_name_are_one_where_it_has_all():
    # All autos that are painted are of some kind.
    painted = np.delete(np.arange(256), NUMBER['vehicle/auto'])
    np.testing.assert_array_equal(
        places(ClassTable.of(LVS.names))[painted], places(LVS)[painted])


def test_names_are_compared_without_case_and_space():
    assert classes_of(' Lane  Marking')['ground/road/lane marking'] == 'Lane Marking'


@pytest.mark.parametrize('background, window', (('road', 'building'), ('window', 'window')))
def test_the_background_may_be_something_that_is_there(background, window):
    of = classes_of('building', background, 'person', background=1)
    assert of[f'{"ground/road" if background == "road" else "building/window"}'] == background
    assert of['building/window'] == window and of['sky'] == background
