"""
Class tables: which classes there are, in which order, and how they are shown.

A table is a value that a robot chooses. Within this package a class is its place in the table, 0
to the number of classes: label maps, masks and the rows of a student's last layer have the order
of the table. A table's own ids are what masks are published with.
"""

from collections.abc import Container, Iterable, Mapping, Sequence
import colorsys
from dataclasses import dataclass
import difflib
from functools import lru_cache
import hashlib
import os
from pathlib import Path
import reprlib
from typing import Any

import cv2
import numpy as np

#: Pixels with this label count neither in a loss nor in a metric. No class can have this id.
IGNORE = 255

#: Classes of a table at most, background included.
MAX_CLASSES = 255

#: Characters of a name, and of all entries of a table together, at most.
MAX_NAME, MAX_TEXT = 200, 16384

BACKGROUND = 'background'

#: Tables that the package ships, as files in config/classes/.
SHIPPED = ('lvs', 'coco')

Color = tuple[int, int, int]


class ClassesError(ValueError):
    """A class table that cannot be; one line says what was got and what is wanted."""


def name_key(name: str) -> str:
    """Return what names are compared by: neither case nor space around or within matters."""
    return ' '.join(name.split()).casefold()


@dataclass(frozen=True)
class ClassTable:
    """
    Ordered classes; what a class is to a student, a teacher and whoever looks at a mask.

    :ivar names: of the classes, one of them the background; no two are the same.
    :ivar members: of each, the names that a teacher may know it by: those of a union
        (``auto: car, bus, truck``), else its own; none for the background.
    :ivar background: the place of what is none of the others.
    :ivar ids: of the classes on what is published, 0 to 254.
    :ivar colors: of the classes, RGB, 0 to 255.
    :raises ClassesError: if a name is empty, too long or twice there, an id is out of range or
        twice there, or there are too many classes.
    """

    names: tuple[str, ...]
    members: tuple[tuple[str, ...], ...]
    background: int
    ids: tuple[int, ...]
    colors: tuple[Color, ...]

    def __post_init__(self):
        count = len(self.names)
        if not 2 <= count <= MAX_CLASSES:
            raise ClassesError(
                f'{count} classes with the background, wanted 2 to {MAX_CLASSES}')
        if not 0 <= self.background < count:
            raise ClassesError(f'the background is class {self.background} of {count}')
        if not len(self.members) == len(self.ids) == len(self.colors) == count:
            raise ClassesError('names, members, ids and colours differ in number')
        _check_names(self.names)
        _check_names(name for members in self.members for name in members)
        if len(set(self.ids)) < count or not all(0 <= one <= 254 for one in self.ids):
            raise ClassesError(f'the ids {_short(self.ids)} are not different ones of 0 to 254')
        if not all(len(color) == 3 and all(0 <= part <= 255 for part in color)
                   for color in self.colors):
            raise ClassesError('a colour is three numbers of 0 to 255: red, green, blue')

    @classmethod
    def of(
            cls, entries: Sequence[str], background: int | None = None,
            ids: Mapping[int, int] | None = None,
            colors: Mapping[int, Color] | None = None) -> 'ClassTable':
        """
        Make a table from entries such as ``person`` or ``auto: car, bus, truck``.

        :param entries: in their order. Where none is the background, it is put in front, so that
            it is 0 and they are 1, 2, …
        :param background: which entry it is; None: the one called 'background'.
        :param ids, colors: by place, before a background is put in front; others are counted, and
            painted by their names.
        :raises ClassesError: if that is no table.
        """
        if isinstance(entries, str) or not all(isinstance(entry, str) for entry in entries):
            raise ClassesError(f'got {_short(entries)}, wanted a list of names')
        if len(entries) > MAX_CLASSES or sum(map(len, entries)) > MAX_TEXT:
            raise ClassesError(
                f'{len(entries)} classes, of {sum(map(len, entries))} characters, are too many: '
                f'wanted {MAX_CLASSES} and {MAX_TEXT} at most')
        names, members = [], []
        for entry in entries:
            name, colon, union = entry.partition(':')
            names.append(' '.join(name.split()))
            members.append(tuple(' '.join(one.split()) for one in union.split(','))
                           if colon else (names[-1],))
        _check_names(names)
        ids, colors = dict(ids or {}), dict(colors or {})
        if background is None:
            keys = list(map(name_key, names))
            if BACKGROUND not in keys:
                names, members = [BACKGROUND, *names], [(), *members]
                ids = {place + 1: one for place, one in ids.items()}
                colors = {place + 1: color for place, color in colors.items()}
                background = 0
            else:
                background = keys.index(BACKGROUND)
        if 0 <= background < len(members):
            members[background] = ()
        free = iter(one for one in range(MAX_CLASSES + len(ids)) if one not in ids.values())
        painted = palette(tuple(names), background)
        return cls(
            tuple(names), tuple(members), background,
            tuple(ids[place] if place in ids else _counted(place, ids, free)
                  for place in range(len(names))),
            tuple(colors.get(place, painted[place]) for place in range(len(names))))

    def __len__(self) -> int:
        return len(self.names)

    @property
    def entries(self) -> tuple[str, ...]:
        """The classes as :meth:`of` takes them."""
        return tuple(
            name if members in ((), (name,)) else f"{name}: {', '.join(members)}"
            for name, members in zip(self.names, self.members))

    @property
    def digest(self) -> int:
        """A number of names, members, order and background, 0 to 2^64 − 1; equal ones are one."""
        return _digest(self.names, self.members, self.background)

    def find(self, name: str) -> int | None:
        """Return the place of a class by its name; None if there is none."""
        return _places(self).get(name_key(name))

    def find_like(self, name: str, members: Sequence[str]) -> int | None:
        """
        Return the place of a class that is part of another, or has it as a part; None if none is.

        :param name, members: of the other.
        """
        parts = {name_key(member): place for member, place in self.phrases}
        return next((parts[key] for key in map(name_key, (name, *members)) if key in parts), None)

    def rows(self, vocabulary: Sequence[str]) -> np.ndarray:
        """
        Map the ids of another table onto this one.

        :param vocabulary: the other's names, in the order of its ids.
        :returns: (len(vocabulary),) uint8, the place of each here; the background of those that
            are not wanted. Of a union the members count; its own name does where the vocabulary
            has none of them. Where names are there twice, each is mapped.
        """
        return _rows(self, tuple(vocabulary))

    def translated(self, label: np.ndarray, names: Sequence[str]) -> np.ndarray:
        """
        Turn a label or a mask of another table into one of this.

        :param label: uint8, the other's places.
        :param names: of the other's classes.
        :returns: this table's places, as of :meth:`rows`; ``IGNORE`` where there is no class.
        """
        return _lut(self.rows(names))[label]

    def unknown(self, vocabulary: Sequence[str] | None) -> list[tuple[str, list[str]]]:
        """
        Return what a vocabulary does not have, with the nearest names that it has.

        :param vocabulary: names; None for one that has any phrase.
        """
        if vocabulary is None:
            return []
        keys = {name_key(name): name for name in vocabulary}
        missing = [word for words in _words(self, keys) for word in words
                   if name_key(word) not in keys]
        return [(name, [keys[near] for near in difflib.get_close_matches(
            name_key(name), keys, 3, 0.5)]) for name in missing]

    @property
    def phrases(self) -> tuple[tuple[str, int], ...]:
        """What a teacher is asked for that takes prompts: each phrase, and the place it is of."""
        return tuple((member, place) for place, members in enumerate(self.members)
                     for member in members)

    def published(self, mask: np.ndarray) -> np.ndarray:
        """Turn a mask of places, H×W uint8, into one of this table's ids."""
        if self.ids == tuple(range(len(self.ids))):
            return mask
        return cv2.LUT(mask, _lut(np.array(self.ids, np.uint8)))

    def places(self, mask: np.ndarray) -> np.ndarray:
        """Undo :meth:`published`; ids of no class are ``IGNORE``."""
        lut = np.full(256, IGNORE, np.uint8)
        lut[list(self.ids)] = range(len(self))
        return cv2.LUT(mask, lut)

    def colorize(self, mask: np.ndarray) -> np.ndarray:
        """
        Paint a mask in the colours of its classes.

        :param mask: H×W uint8 places; those of no class are white.
        :returns: H×W×3 uint8, RGB.
        """
        return np.take(_palette_of(self), mask, axis=0)

    def overlay(self, image: np.ndarray, mask: np.ndarray, opacity: float = 0.5) -> np.ndarray:
        """
        Paint a mask over the image that it belongs to; background stays as it is.

        :param image: H×W×3 uint8, RGB.
        :param mask: H×W uint8 places.
        :param opacity: of the paint, 0 (image alone) to 1 (paint alone).
        :returns: H×W×3 uint8, RGB.
        """
        painted = cv2.addWeighted(image, 1 - opacity, self.colorize(mask), opacity, 0)
        np.copyto(painted, image, where=(mask == self.background)[:, :, None])
        return painted

    def as_dict(self) -> dict[str, Any]:
        """Return what a YAML file of :func:`load_classes` holds."""
        return {'background': self.names[self.background], 'classes': [
            {'name': name, 'id': one, 'color': list(color),
             **({'of': list(members)} if members not in ((), (name,)) else {})}
            for name, members, one, color in zip(
                self.names, self.members, self.ids, self.colors)]}

    @classmethod
    def from_dict(cls, table: Any) -> 'ClassTable':
        """
        Make a table from what a YAML file holds.

        :param table: a list of classes, or a dict with that under ``classes`` and with the name of
            the background under ``background``. A class is an entry as of :meth:`of`, or a dict of
            ``name``, and ``of`` (members), ``id`` and ``color`` if wanted.
        :raises ClassesError: if it is something else.
        """
        table = {'classes': table} if isinstance(table, list) else table
        if not isinstance(table, dict) or not isinstance(table.get('classes'), list):
            raise ClassesError(
                f'got {_short(table)}, wanted a list of classes, or a dict with one under '
                'classes')
        strange = table.keys() - {'classes', 'background'}
        if strange:
            raise ClassesError(
                f"'{sorted(map(str, strange))[0]}' is not known: wanted classes and background")
        entries, ids, colors = [], {}, {}
        for place, one in enumerate(table['classes']):
            one = one if isinstance(one, dict) else {'name': one}
            strange = one.keys() - {'name', 'of', 'id', 'color'}
            if strange or not isinstance(one.get('name'), str):
                raise ClassesError(
                    f'class {place} is {_short(one)}: wanted a name, or a dict of name, and of '
                    'of, id and color if wanted; quote names such as "on" and numbers')
            of, entry = one.get('of'), one['name']
            if of is not None:
                if not isinstance(of, list) or not all(isinstance(name, str) for name in of):
                    raise ClassesError(
                        f"class '{entry[:40]}' is of {_short(of)}: wanted a list of names")
                entry = f"{entry}: {', '.join(of)}"
            entries.append(entry)
            if 'id' in one:
                ids[place] = _integer(one['id'], entry)
            if 'color' in one:
                color = one['color']
                if not isinstance(color, list) or len(color) != 3:
                    raise ClassesError(
                        f"the colour of '{entry[:40]}' is {_short(color)}, wanted [red, green, "
                        'blue]')
                colors[place] = tuple(_integer(part, entry) for part in color)
        background = table.get('background')
        if background is not None:
            keys = [name_key(str(entry).partition(':')[0]) for entry in entries]
            if name_key(str(background)) not in keys:
                raise ClassesError(f'the background {_short(background)} is none of the classes')
            background = keys.index(name_key(str(background)))
        return cls.of(entries, background, ids, colors)


def load_classes(given: str | Sequence[str]) -> ClassTable:
    """
    Make a table from what a user gives.

    :param given: a list of entries such as ``person`` or ``auto: car, bus, truck``; or in one
        string the path of a YAML file (see :meth:`ClassTable.from_dict`), the name of a table of
        :data:`SHIPPED`, or entries separated by semicolons, or by commas where none is a union.
    :raises ClassesError: if that is no table.
    """
    if not isinstance(given, str):
        return ClassTable.of(given)
    if is_file(given):
        return _read(_shipped(given) if given in SHIPPED else Path(given))
    parts = given.split(';') if ';' in given or ':' in given else given.split(',')
    return ClassTable.of([part for part in parts if part.strip()])


def is_file(given: str) -> bool:
    """Tell whether :func:`load_classes` takes a string for a file, and not for entries."""
    return given in SHIPPED or given.lower().endswith(('.yaml', '.yml'))


def palette(names: Sequence[str], background: int) -> list[Color]:
    """
    Choose a colour for each name: its own wherever it is, unless another is too much like it.

    :param names: of the classes.
    :param background: is black.
    :returns: RGB of each.
    """
    keys = [name_key(name) for name in names]
    wanted = {key for place, key in enumerate(keys) if place != background}
    candidates, lab = _candidates()
    chosen: dict[str, Color] = {}
    apart = np.full(len(candidates), np.inf)  # each candidate from the nearest that is chosen
    # The order of the names has no say: those with colours of their own, then by their hashes.
    for key in sorted(wanted, key=lambda key: (key not in _COLORS, _hash(key, 1)[0], key)):
        order = np.argsort(_hash(key, len(candidates)), kind='stable')
        liked = next((order[free.argmax()] for distance in _APART
                      if (free := apart[order] >= distance).any()), apart.argmax())
        chosen[key] = _COLORS.get(key, tuple(candidates[liked].tolist()))
        apart = np.minimum(apart, np.linalg.norm(lab - _to_lab(chosen[key]), axis=1))
    return [(0, 0, 0) if place == background else chosen[key] for place, key in enumerate(keys)]


#: Classes whose colours are fixed; those of LVS.
_COLORS = {
    'person': (220, 20, 60), 'bicycle': (255, 200, 0), 'auto': (30, 100, 255),
    'bird': (0, 210, 210), 'dog': (255, 120, 0), 'horse': (160, 80, 200),
    'elephant': (110, 220, 60), 'giraffe': (255, 130, 190)}


#: Distances in CIELAB that colours keep from each other, as long as there are such; where there
#: are none, each takes what is farthest from the others. The shorter, the more names keep the
#: colour that they like best.
_APART = (20, 16)


@lru_cache(maxsize=1)
def _candidates() -> tuple[np.ndarray, np.ndarray]:
    """Colours that are neither black nor white nor grey: RGB, and in CIELAB."""
    colors = np.unique([
        [round(255 * part) for part in colorsys.hsv_to_rgb(hue / 36, saturation, value)]
        for saturation, value in (
            (0.9, 0.95), (0.5, 1.0), (0.9, 0.65), (0.45, 0.75), (0.7, 0.45), (0.3, 0.9),
            (0.7, 0.8), (1.0, 0.8), (0.65, 1.0), (0.5, 0.55), (0.95, 0.4), (0.35, 1.0),
            (0.6, 0.65))
        for hue in range(36)], axis=0)
    return colors, _to_lab(colors)


def _to_lab(colors: np.ndarray | Color) -> np.ndarray:
    pixels = (np.asarray(colors, np.float32) / 255).reshape(1, -1, 3)
    return cv2.cvtColor(pixels, cv2.COLOR_RGB2LAB)[0]


def _hash(key: str, count: int) -> np.ndarray:
    """Return numbers that a name alone decides, the same everywhere: uint32 (count,)."""
    return np.frombuffer(hashlib.shake_256(key.encode()).digest(4 * count), '<u4')


def _short(value: Any) -> str:
    """Write what may be huge in a few characters."""
    return reprlib.repr(value)[:80]


def _check_names(names: Iterable[str]) -> None:
    seen = set()
    for name in names:
        key = name_key(name)
        if not key or len(name) > MAX_NAME or set(name) & set(':,;') or not name.isprintable():
            raise ClassesError(
                f'{name[:40]!r} is no name: wanted 1 to {MAX_NAME} printable characters without '
                'colons, commas and semicolons; a union is written "auto: car, bus"')
        if key in seen:
            raise ClassesError(f"'{name}' is there twice: name each once")
        seen.add(key)


def _counted(place: int, ids: Mapping[int, int], free) -> int:
    """Return the id of a class that was given none: its place, where no id was given at all."""
    return next(free) if ids else place


def _integer(value: Any, entry: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ClassesError(f"'{entry[:40]}' has {_short(value)} where a whole number is wanted")
    return value


@lru_cache(maxsize=64)
def _digest(names, members, background) -> int:
    text = repr([[name_key(name), [name_key(member) for member in union]]
                 for name, union in zip(names, members)] + [background])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], 'big')


@lru_cache(maxsize=64)
def _places(table: ClassTable) -> dict[str, int]:
    return {name_key(name): place for place, name in enumerate(table.names)}


def _words(table: ClassTable, keys: Container[str]) -> list[tuple[str, ...]]:
    """Return the names that each class goes by where these are known, as they are compared."""
    # Who knows none of a union's members may know the union itself.
    return [
        members if name_key(name) not in keys or any(name_key(one) in keys for one in members)
        else (name,) for name, members in zip(table.names, table.members)]


@lru_cache(maxsize=64)
def _rows(table: ClassTable, vocabulary: tuple[str, ...]) -> np.ndarray:
    keys = list(map(name_key, vocabulary))
    places: dict[str, int] = {}
    for place, words in enumerate(_words(table, keys)):
        for word in words:
            places.setdefault(name_key(word), place)
    rows = np.array([places.get(key, table.background) for key in keys], np.uint8)
    rows.flags.writeable = False
    return rows


def _lut(values: np.ndarray) -> np.ndarray:
    lut = np.full(256, IGNORE, np.uint8)
    lut[:len(values)] = values
    return lut


@lru_cache(maxsize=64)
def _palette_of(table: ClassTable) -> np.ndarray:
    colors = np.full((256, 3), 255, np.uint8)
    colors[:len(table)] = table.colors
    return colors


def _shipped(name: str) -> Path:
    """Find a table that the package ships: in a checkout, or where colcon has installed it."""
    folders = [Path(__file__).parents[1] / 'config' / 'classes']
    folders += [Path(prefix) / 'share' / 'shadowtutor_ros' / 'config' / 'classes'
                for prefix in os.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep) if prefix]
    paths = [folder / f'{name}.yaml' for folder in folders]
    found = next((path for path in paths if path.is_file()), None)
    if found is None:
        raise ClassesError(
            f"the table '{name}' is not found in {', '.join(map(str, folders))}: source the "
            'setup file of the workspace')
    return found


def _read(path: Path) -> ClassTable:
    import yaml  # of those that robots run only what reads files needs it

    try:
        return ClassTable.from_dict(yaml.safe_load(path.read_text(encoding='utf-8')))
    except ClassesError as error:
        raise ClassesError(f"the class table '{path}': {error}") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise ClassesError(
            f"the class table '{path}' is no YAML ({' '.join(str(error).split())[:200]})"
        ) from None
    except (OSError, ValueError) as error:  # a path, a text, a date that cannot be
        raise ClassesError(
            f"the class table '{path}' cannot be read ({error}): give a YAML file, or one of "
            f"{', '.join(SHIPPED)}") from None


#: The table of the paper's data set, LVS (Mullapudi et al., ICCV 2019), with the ids of the first
#: implementation, which maps COCO's categories onto its eight classes and calls all else
#: background.
LVS = ClassTable.of((
    'person', 'bicycle', 'auto: car, bus, truck', 'bird', 'dog', 'horse', 'elephant', 'giraffe',
    'background'))

#: COCO's 80 categories in the order that YOLO-style detectors number them.
COCO_NAMES = (
    'person', 'bicycle', 'car', 'motorcycle', 'airplane', 'bus', 'train', 'truck', 'boat',
    'traffic light', 'fire hydrant', 'stop sign', 'parking meter', 'bench', 'bird', 'cat', 'dog',
    'horse', 'sheep', 'cow', 'elephant', 'bear', 'zebra', 'giraffe', 'backpack', 'umbrella',
    'handbag', 'tie', 'suitcase', 'frisbee', 'skis', 'snowboard', 'sports ball', 'kite',
    'baseball bat', 'baseball glove', 'skateboard', 'surfboard', 'tennis racket', 'bottle',
    'wine glass', 'cup', 'fork', 'knife', 'spoon', 'bowl', 'banana', 'apple', 'sandwich',
    'orange', 'broccoli', 'carrot', 'hot dog', 'pizza', 'donut', 'cake', 'chair', 'couch',
    'potted plant', 'bed', 'dining table', 'toilet', 'tv', 'laptop', 'mouse', 'remote',
    'keyboard', 'cell phone', 'microwave', 'oven', 'toaster', 'sink', 'refrigerator', 'book',
    'clock', 'vase', 'scissors', 'teddy bear', 'hair drier', 'toothbrush')
