"""
What there is in the built-in world, and what each thing is a part or a kind of.

A thing is written as its way from the most general to itself, as in ``vehicle/auto/car/wheel``:
a wheel that is not asked for is a car, and a car that is not asked for either is a vehicle.
Several things may have one name, such as the wheels of cars and of bicycles.
"""

from functools import lru_cache

import numpy as np

from shadowtutor_ros.classes import ClassTable, name_key

_ANIMALS = ('dog', 'horse', 'elephant', 'giraffe')
_VEHICLES = ('car', 'bus', 'truck')
_PERSONS = ('pedestrian', 'rider')

#: All things, what they belong to in front of them. A thing's number is its place here plus one,
#: so that 0 is nothing.
THINGS: tuple[str, ...] = (
    'person',
    *(f'person/{one}{part}' for one in _PERSONS
      for part in ('', '/head', '/arm', '/leg', '/backpack')),
    'vehicle', 'vehicle/bicycle', 'vehicle/bicycle/wheel', 'vehicle/auto',
    *(f'vehicle/auto/{one}{part}' for one in _VEHICLES
      for part in ('', '/wheel', '/window', '/light')),
    'animal', 'animal/bird', 'animal/bird/head', 'animal/bird/leg', 'animal/bird/wing',
    *(f'animal/{one}{part}' for one in _ANIMALS for part in ('', '/head', '/leg', '/tail')),
    'sky',
    'ground', 'ground/road', 'ground/road/lane marking', 'ground/road/crosswalk',
    'ground/road/path', 'ground/sidewalk', 'ground/sidewalk/curb', 'ground/grass', 'ground/sand',
    'ground/curb',
    'building', 'building/roof', 'building/window', 'building/door',
    'building/awning', 'building/sign',
    'vegetation', 'vegetation/tree', 'vegetation/tree/trunk', 'vegetation/bush',
    'vegetation/bush/hedge',
    'lamp', 'lamp/pole', 'lamp/light', 'fence', 'rock', 'pole', 'flag')

NUMBER: dict[str, int] = {thing: number for number, thing in enumerate(THINGS, 1)}

#: The names of all things, each once: what can be asked for.
VOCABULARY: tuple[str, ...] = tuple(dict.fromkeys(thing.rpartition('/')[2] for thing in THINGS))

#: Of each number, (256,) uint8, that of what it belongs to.
OWNER = np.zeros(256, np.uint8)
OWNER[1:len(THINGS) + 1] = [NUMBER.get(thing.rpartition('/')[0], 0) for thing in THINGS]

#: Of each number, (256,) bool, whether it stands still along the street and can be counted.
COUNTABLE = np.isin(np.arange(256), [NUMBER[thing] for thing in (
    'building/window', 'building/door', 'building/awning', 'building/sign', 'pole', 'flag')])


@lru_cache(maxsize=64)
def family(thing: str) -> np.ndarray:
    """Return the numbers of a thing and of all that is a part or a kind of it."""
    return np.array([number for one, number in NUMBER.items()
                     if f'{one}/'.startswith(f'{thing}/')])


@lru_cache(maxsize=64)
def places(classes: ClassTable) -> np.ndarray:
    """
    Map things onto a class table: each to the class of its own name, else to what it belongs to.

    :returns: (256,) uint8: of each number the place in the table; the background of what is none
        of its classes.
    """
    rows = dict(zip(VOCABULARY, classes.rows(VOCABULARY)))
    background = name_key(classes.names[classes.background])
    table = np.full(256, classes.background, np.uint8)
    for number, thing in enumerate(THINGS, 1):
        # What it belongs to has a lower number; that of nothing is background.
        name = thing.rpartition('/')[2]
        wanted = rows[name] != classes.background or name == background
        table[number] = rows[name] if wanted else table[OWNER[number]]
    table.flags.writeable = False
    return table
