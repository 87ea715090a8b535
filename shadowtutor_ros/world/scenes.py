"""
The built-in scene: a procedural street with exact labels, to show and to test without any data.

A camera walks along a street whose districts follow one another (old town, avenue, park, zoo)
while persons, vehicles, bicycles and animals pass. All geometry is in metres on a ground plane,
seen by a pinhole camera whose unit is the frame's height, so that the same moment looks the same
at any size. Street and sprites are painted once; a frame is then a few warps and blends. A pixel's
label is that of the topmost object that covers at least half of it.

Every frame carries its own timecode (seed, look, index) as a strip of grey blocks along its
bottom edge, as broadcast's vertical interval timecode does: see :func:`read_timecode`.
"""

import binascii
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from math import ceil, floor, log2
from typing import NamedTuple

import cv2
import numpy as np

from shadowtutor_ros.classes import ClassTable, LVS
from shadowtutor_ros.world import sprites
from shadowtutor_ros.world.sprites import Canvas, KINDS, Sprite
from shadowtutor_ros.world.street import (
    DISTRICT, DISTRICTS, EYE, FACADES, facades, FAR_KERB, FOCAL, FOOT, ground, HORIZON, LOOP,
    sky, SPEED)
from shadowtutor_ros.world.things import COUNTABLE, family, NUMBER, OWNER, places

#: Names of the looks, day first.
LOOKS: tuple[str, ...] = tuple(sprites.LOOKS)

#: Frames a second. At 25 what passes changes faster than a key frame every eight frames follows.
FRAME_RATE = 50.0

_VARIANTS = 8


class _Lane(NamedTuple):
    """Where things move along the street: depth (m), direction, seconds from one to the next."""

    name: str
    depth: float
    direction: int
    period: float


_LANES = (_Lane('far', 8.4, -1, 40.0), _Lane('left', 6.9, -1, 40.0), _Lane('right', 5.5, 1, 40.0),
          _Lane('near', 4.0, -1, 40.0), _Lane('air', 5.0, 1, 40.0))


# --- The timecode --------------------------------------------------------------------------------

class Timecode(NamedTuple):
    """What a frame of the scene says about itself."""

    seed: int
    look: str
    index: int


MAX_SEED, MAX_INDEX = 2 ** 16 - 1, 2 ** 24 - 1
_CELLS = 64
_WHITE, _BLACK = 120, 30
# Rows of cells, and each row's share of the frame's height: narrow frames need more of them.
_LAYOUTS = ((1, 1 / 48), (2, 1 / 40), (4, 1 / 24))


def _layout(width: int) -> tuple[int, float]:
    return _LAYOUTS[0 if width >= 480 else 1 if width >= 200 else 2]


def _timecode_cells(code: Timecode) -> np.ndarray:
    """Bits of a timecode with a white and a black reference in front, uint8 (64,)."""
    body = (code.seed << 30 | LOOKS.index(code.look) << 24 | code.index).to_bytes(6, 'big')
    check = binascii.crc_hqx(body, 0xffff).to_bytes(2, 'big')
    bits = np.unpackbits(np.frombuffer(body + check, np.uint8))[2:]
    return np.concatenate(([1, 0], bits)).astype(np.uint8)


def read_timecode(frame: np.ndarray) -> Timecode | None:
    """
    Read the timecode of a frame of the scene, which may have been compressed or resized.

    :param frame: H×W×3 uint8.
    :returns: None where there is none that can be read.
    """
    grey = cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)
    height, width = grey.shape
    for rows, share in _LAYOUTS:
        columns = _CELLS // rows
        x = (np.arange(columns) + 0.5) * width / columns - 0.5
        y = (1 - (np.arange(rows) + 0.5) * share) * height - 0.5
        cells = cv2.remap(grey, *(m.astype(np.float32) for m in np.meshgrid(x, y)),
                          cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE).ravel()
        middle = (int(cells[0]) + int(cells[1])) / 2
        if int(cells[0]) - int(cells[1]) < 20:
            continue
        bits = (cells > middle).astype(np.uint8)
        body = int.from_bytes(np.packbits(np.concatenate(([0, 0], bits[2:48]))), 'big')
        look = body >> 24 & 0x3f
        if look < len(LOOKS):
            code = Timecode(body >> 30, LOOKS[look], body & MAX_INDEX)
            if np.array_equal(bits, _timecode_cells(code)):
                return code
    return None


# --- The scene -----------------------------------------------------------------------------------

@dataclass(frozen=True)
class SceneFrame:
    """
    A frame with its ground truth.

    :ivar image: H×W×3 uint8, BGR.
    :ivar label: H×W uint8 classes, by their places in the table that was asked for.
    :ivar boxes: N×4 float32, ``x1, y1, x2, y2`` in pixels of what can be seen of each object: of
        what passes, trees and lamps, of their parts, and of parts of buildings, as far as the
        table has them. Road and sky, and what else cannot be counted, has none.
    :ivar box_classes: (N,) uint8, the class of each.
    """

    image: np.ndarray
    label: np.ndarray
    boxes: np.ndarray
    box_classes: np.ndarray


class _Seen(NamedTuple):
    """What is in view: its thing, the part of the frame that it may cover, its own parts there."""

    thing: str
    roi: tuple[slice, slice]
    parts: np.ndarray | None


class _Actor(NamedTuple):
    """A thing at a moment: its kind, variant and place (m), and where it is in its step."""

    kind: str
    variant: int
    x: float
    depth: float
    direction: int = 1
    phase: float = 0.0


class _View(NamedTuple):
    """Where the camera stands (m), and where it sees its own place, horizon and facades' foot."""

    camera: float
    centre: float
    horizon: float
    foot: float


class Scene:
    """
    A street that can be rendered at any moment, in any order.

    :param seed: 0 to 65535; chooses houses, clothes, coats and who passes when.
    :param look: one of :data:`LOOKS`.
    :param width: of the frames in pixels, at least 32.
    :param height: of the frames in pixels, at least 24.
    :raises ValueError: if an argument is out of its range.
    """

    def __init__(
            self, seed: int = 0, look: str = 'day', width: int = 640, height: int = 360) -> None:
        if not 0 <= seed <= MAX_SEED:
            raise ValueError(f'seed is {seed}; give one from 0 to {MAX_SEED}')
        if look not in LOOKS:
            raise ValueError(f'look is {look!r}; give one of {", ".join(LOOKS)}')
        if width < 32 or height < 24:
            raise ValueError(f'size is {width}x{height}; give at least 32x24')
        self.seed, self.look, self.width, self.height = seed, look, width, height
        self._light = sprites.LOOKS[look]
        rng = np.random.default_rng(seed)
        self._sprite = lru_cache(maxsize=None)(self._paint_sprite)
        self._event = lru_cache(maxsize=256)(self._make_event)
        self._props = [
            _Actor('tree', int(rng.integers(_VARIANTS)), x + rng.uniform(-0.5, 0.5),
                   FAR_KERB + (1.5 if DISTRICTS[int(x // DISTRICT)].name == 'park' else 0.35))
            for x in np.arange(2.25, LOOP, 4.5)]
        self._props += [_Actor('lamp', 0, x, FAR_KERB + 0.3) for x in np.arange(4.5, LOOP, 9.0)]

        self._sky, self._sky_things = map(
            self._wrapped, sky(self._light, rng, 4 * height, ceil(0.65 * height)))
        self._facades, self._facade_things = map(
            self._wrapped, facades(self._light, rng, FOCAL * height / FACADES))
        # A row of the ground for each row of the frame, and a few more for the camera's bob.
        edges = FOOT + np.arange(ceil((1.012 - FOOT) * height) + 1) / height
        strip, things = ground(self._light, FOCAL * EYE / (edges - HORIZON), height)
        self._row_metres = EYE / ((edges[:-1] + edges[1:]) / 2 - HORIZON) / height
        self._ground_scale = strip.shape[1] / LOOP
        reach = FACADES * width / height / FOCAL / 2 + 1
        self._ground_margin = int(reach * self._ground_scale)
        margins = ((0, 0), (self._ground_margin,) * 2, (0, 0))
        self._ground = np.pad(strip, margins, mode='wrap')
        self._ground_things = np.pad(things, margins[:2], mode='wrap')
        self._still = np.unique(np.concatenate([np.unique(part) for part in (
            self._sky_things, self._facade_things, self._ground_things)]))
        grain = rng.normal(128, self._light.noise, (height + 32, width + 32, 3))
        self._noise = grain.clip(0, 255).astype(np.uint8)

    def _wrapped(self, strip: np.ndarray) -> np.ndarray:
        """Continue a periodic strip to the right by a frame's width."""
        margins = ((0, 0), (0, self.width + 2), (0, 0))
        return np.pad(strip, margins[:strip.ndim], mode='wrap')

    def _paint_sprite(self, kind: str, variant: int, phase: int, haze: float) -> Sprite:
        what = KINDS[kind]
        scale = max(FOCAL * self.height / what.nearest, 16)
        canvas = Canvas(self._light, scale, *what.extent, thing=what.thing)
        number = tuple(KINDS).index(kind)
        what.paint(canvas, np.random.default_rng((self.seed, number, variant)),
                   phase / what.phases)
        return canvas.sprite(haze)

    # --- motion ---

    def _camera(self, time: float) -> float:
        """Place of the camera along the street (m)."""
        return SPEED * (time + 0.5 * np.sin(0.15 * time + self.seed)) + 37.0 * self.seed + 3.0

    def _make_event(self, lane: int, slot: int) -> tuple[float, _Actor, float] | None:
        """Return when what passes the middle of the view, and how fast it overtakes (m/s)."""
        where = _LANES[lane]
        rng = np.random.default_rng((self.seed, lane, slot + 2 ** 20))
        time = (slot + lane / len(_LANES) + rng.uniform(-0.08, 0.08)) * where.period
        x = self._camera(time)
        district = DISTRICTS[int(x // DISTRICT) % len(DISTRICTS)]
        kinds = getattr(district, where.name)
        if not kinds:
            return None
        kind = kinds[(slot + self.seed) % len(kinds)]
        # Nearly as fast as the camera, so that it stays in view for seconds.
        speed = where.direction * rng.uniform(0.6, 0.8) * SPEED
        actor = _Actor(kind, int(rng.integers(_VARIANTS)), x,
                       where.depth + rng.uniform(-0.2, 0.2), 1, rng.random())
        return time, actor, speed

    def _cast(self, time: float) -> Iterator[_Actor]:
        """Yield everything that may be in view."""
        camera = self._camera(time)
        for prop in self._props:
            x = (prop.x - camera + LOOP / 2) % LOOP - LOOP / 2 + camera
            yield prop._replace(x=x)
        for number, lane in enumerate(_LANES):
            slot = int(time // lane.period)
            for event in (self._event(number, s) for s in range(slot - 2, slot + 3)):
                if event is None:
                    continue
                when, actor, speed = event
                way = camera - self._camera(when) + speed * (time - when)
                phase = (actor.phase + abs(way) / KINDS[actor.kind].stride) % 1
                actor = actor._replace(x=actor.x + way, phase=phase)
                yield actor
                if actor.kind == 'bicycle':
                    yield actor._replace(kind='rider', depth=actor.depth - 0.01)

    # --- painting ---

    def render(self, index: int, classes: ClassTable = LVS) -> SceneFrame:
        """
        Render a frame; the same index always gives the same frame.

        :param index: of the frame, 0 to 2^24 − 1; there are 50 a second.
        :param classes: that it is labelled with, of those in :data:`.things.VOCABULARY`: a pixel
            is of the class of the thing that is seen there, or else of what that belongs to.
        :raises ValueError: if the index is out of its range.
        """
        if not 0 <= index <= MAX_INDEX:
            raise ValueError(f'index is {index}; give one from 0 to {MAX_INDEX}')
        time = index / FRAME_RATE
        view, table = self._view(time), places(classes)
        image = self._backdrop(view)
        # The place in ``seen`` of what covers a pixel, from 1 on.
        owner = np.zeros((self.height, self.width), np.uint8)
        seen: list[_Seen] = []
        for actor in sorted(self._cast(time), key=lambda a: -a.depth):
            one = self._paint(image, owner, actor, view, len(seen) + 1, table)
            if one is not None:
                seen.append(one)
        self._expose(image, time, np.random.default_rng((self.seed, index)))
        timecode = self._burn(image, index)
        owner[timecode] = 0
        label, boxes = self._label(owner, seen, view, timecode, classes)
        return SceneFrame(image, label, np.float32([box for box, _ in boxes]).reshape(-1, 4),
                          np.uint8([place for _, place in boxes]))

    def _label(self, owner: np.ndarray, seen: list[_Seen], view: _View, timecode: slice,
               classes: ClassTable) -> tuple[np.ndarray, list[tuple[tuple, int]]]:
        """Return the label, and boxes with their classes."""
        table, background = places(classes), classes.background
        row = np.full(256, background, np.uint8)
        row[1:len(seen) + 1] = [table[NUMBER[one.thing]] for one in seen]
        label, boxes = cv2.LUT(owner, row), []
        if (table[self._still] != background).any():
            things = self._backdrop(view, things=True)
            things[owner > 0] = 0
            things[timecode] = 0
            np.copyto(label, cv2.LUT(things, table), where=things > 0)
            # Not the windows of houses where windows count as houses.
            counted = np.where(COUNTABLE & (table != table[OWNER]), table, background)
            for place in np.setdiff1d(counted, background):
                mask = cv2.LUT(things, (counted == place).astype(np.uint8))
                boxes += [(box, place) for box in _regions(mask, 0, 0)]
        for number, one in enumerate(seen, 1):
            y, x = one.roi
            own = row[number]
            if own == background and one.parts is None:
                continue
            mine = owner[y, x] == number
            if own != background:
                u, v, w, h = cv2.boundingRect(mine.astype(np.uint8))
                if w:
                    boxes.append((
                        (x.start + u, y.start + v, x.start + u + w, y.start + v + h), own))
            if one.parts is not None:
                parts = cv2.LUT(one.parts, table)
                np.copyto(label[y, x], parts, where=mine)
                for place in np.setdiff1d(parts[mine], (own, background)):
                    mask = (mine & (parts == place)).astype(np.uint8)
                    boxes += [(box, place) for box in _regions(mask, x.start, y.start)]
        return label, boxes

    def _shift(self, strip: np.ndarray, x: float, y: float, height: int,
               method: int = cv2.INTER_LINEAR) -> np.ndarray:
        """Cut ``height`` rows out of a strip that is moved by x, y pixels."""
        x %= strip.shape[1] - self.width - 2
        part = strip[:, int(x):int(x) + self.width + 2]
        return cv2.warpAffine(part, np.float32([[1, 0, int(x) - x], [0, 1, y]]),
                              (self.width, height), flags=method,
                              borderMode=cv2.BORDER_REPLICATE)

    def _view(self, time: float) -> _View:
        """Return where the camera looks: it pans a little, and bobs with its steps."""
        pan = 0.05 * np.sin(0.1 * time) + 0.0015 * np.sin(23 * time)
        bob = 0.004 * np.sin(9.4 * time) + 0.002 * np.sin(5.1 * time + 1)
        return _View(self._camera(time), self.width / 2 + pan * self.height,
                     (HORIZON + bob) * self.height, (FOOT + bob) * self.height)

    def _backdrop(self, view: _View, things: bool = False) -> np.ndarray:
        """
        Paint sky, facades and ground.

        :param things: whether to return the numbers of what is there instead, H×W uint8.
        """
        height, width = self.height, self.width
        sky, front, ground, method = (
            (self._sky_things, self._facade_things, self._ground_things, cv2.INTER_NEAREST)
            if things else (self._sky, self._facades, self._ground, cv2.INTER_LINEAR))
        image = np.empty((height, width, *sky.shape[2:]), np.uint8)
        split = int(round(view.foot))
        scale = FOCAL * height / FACADES
        image[:split] = self._shift(
            sky, view.camera * FOCAL * height / 60 - view.centre,
            view.horizon - HORIZON * height, split, method)
        front = self._shift(front, view.camera % LOOP * scale - view.centre,
                            view.foot - front.shape[0], split, method)
        if things:
            np.copyto(image[:split], front, where=front > 0)
        else:
            _blend(image[:split], cv2.cvtColor(front, cv2.COLOR_BGRA2BGR),
                   cv2.extractChannel(front, 3))
        y = np.arange(split, height, dtype=np.float32) + np.float32(0.5 - view.foot)
        metres = np.interp(y, np.arange(len(self._row_metres)) + 0.5, self._row_metres)
        scale = self._ground_scale
        map_x = (np.arange(width, dtype=np.float32) + np.float32(0.5 - view.centre))
        map_x = map_x * (metres * scale).astype(np.float32)[:, None]
        map_x += np.float32(view.camera % LOOP * scale + self._ground_margin - 0.5)
        map_y = np.repeat(y[:, None] - np.float32(0.5), width, axis=1)
        image[split:] = cv2.remap(ground, map_x, map_y, method, borderMode=cv2.BORDER_REPLICATE)
        return image

    def _paint(self, image: np.ndarray, owner: np.ndarray, actor: _Actor, view: _View,
               number: int, table: np.ndarray) -> _Seen | None:
        """Paint an actor with its shadow, with its parts if the table tells them apart."""
        kind = KINDS[actor.kind]
        metre = FOCAL * self.height / actor.depth
        x = view.centre + (actor.x - view.camera) * metre
        left, right, top = (edge * metre for edge in kind.extent)
        if max(-left, right) + 0.5 * top < max(-x, x - self.width):
            return None
        haze = round(16 * self._light.fog * (actor.depth / FACADES) ** 2) / 16
        sprite = self._sprite(actor.kind, actor.variant, int(actor.phase * kind.phases), haze)
        y = view.horizon + EYE * metre
        scale = metre / sprite.scale
        turn, (u, v) = scale * actor.direction, sprite.foot
        cut = _warp(sprite, (turn, -0.45 * scale, x - turn * u + 0.45 * scale * v),
                    (0.2 * scale, y - 0.2 * scale * v), image.shape, int(view.foot))
        if cut is not None:
            roi, patch = cut
            alpha = cv2.extractChannel(patch, 3)
            _blend(image[roi], None, cv2.convertScaleAbs(alpha, alpha=self._light.shadow))
        place = (turn, 0.0, x - turn * u), (scale, y - scale * v - kind.height * metre)
        cut = _warp(sprite, *place, image.shape)
        if cut is None:
            return None
        roi, patch = cut
        alpha = cv2.extractChannel(patch, 3)
        _blend(image[roi], cv2.cvtColor(patch, cv2.COLOR_BGRA2BGR), alpha)
        owner[roi][alpha >= 128] = number
        if np.ptp(table[family(kind.thing)]) == 0:
            return _Seen(kind.thing, roi, None)
        parts = _warp(sprite, *place, image.shape, things=True)[1]
        parts[parts == 0] = NUMBER[kind.thing]
        return _Seen(kind.thing, roi, parts)

    def _expose(self, image: np.ndarray, time: float, rng) -> None:
        """Apply slow changes of the light, and the sensor's noise."""
        light = 1 + 0.10 * np.sin(0.3 * time + self.seed) + 0.03 * np.sin(1.1 * time)
        warmth = 0.05 * np.sin(0.21 * time + 2 * self.seed)
        gain = light * np.float64([1 - warmth, 1, 1 + warmth])
        table = (np.arange(256)[:, None] * gain).clip(0, 255).round().astype(np.uint8)
        cv2.LUT(image, table[None], image)
        u, v = rng.integers(32, size=2)
        grain = self._noise[v:v + self.height, u:u + self.width]
        cv2.addWeighted(image, 1, grain, 1, -128, image)

    def _burn(self, image: np.ndarray, index: int) -> slice:
        """Burn the timecode into the bottom of the frame; return its rows."""
        rows, share = _layout(self.width)
        cells = _timecode_cells(Timecode(self.seed, self.look, index)).reshape(rows, -1)[::-1]
        tall = int(round(rows * share * self.height))
        strip = cv2.resize(_BLACK + cells * np.uint8(_WHITE - _BLACK), (self.width, tall),
                           interpolation=cv2.INTER_NEAREST)
        image[-tall:] = strip[..., None]
        return slice(self.height - tall, self.height)


def _regions(mask: np.ndarray, x: int, y: int) -> list[tuple[int, int, int, int]]:
    """Return the boxes of a mask's regions, moved by x, y."""
    u, v, w, h = cv2.boundingRect(mask)
    if not w:
        return []
    x, y = x + u, y + v
    # The first region is all that is not in the mask.
    regions = cv2.connectedComponentsWithStats(mask[v:v + h, u:u + w])[2][1:, :4].tolist()
    return [(x + u, y + v, x + u + w, y + v + h) for u, v, w, h in regions]


def _blend(area: np.ndarray, colour: np.ndarray | None, alpha: np.ndarray) -> None:
    """Lay a premultiplied picture over an area in place; None is black."""
    clear = cv2.cvtColor(cv2.bitwise_not(alpha), cv2.COLOR_GRAY2BGR)
    cv2.multiply(area, clear, area, 1 / 255)
    if colour is not None:
        cv2.add(area, colour, area)


def _warp(sprite: Sprite, across: tuple[float, float, float], down: tuple[float, float],
          shape: tuple[int, ...], top: int = 0, things: bool = False):
    """
    Warp a sprite into the frame: ``u, v`` to ``a·u + b·v + c, d·v + e``, corners at integers.

    :param across: a, b, c.
    :param down: d, e.
    :param shape: of the frame; nothing is painted above the row ``top``.
    :param things: whether to warp the numbers of its things instead of the picture.
    :returns: the part of the frame and the patch for it, or None where it is out of view.
    """
    (a, b, c), (d, e) = across, down
    level = min(max(round(-log2(abs(a))), 0), len(sprite.levels) - 1)
    source, method = sprite.levels[level], cv2.INTER_LINEAR
    if things:
        level, source, method = 0, sprite.things, cv2.INTER_NEAREST
    a, b, d = (2 ** level * factor for factor in (a, b, d))
    height, width = source.shape[:2]
    x0 = max(floor(min(0, a * width) + min(0, b * height) + c), 0)
    x1 = min(ceil(max(0, a * width) + max(0, b * height) + c), shape[1])
    y0, y1 = max(floor(e), top), min(ceil(d * height + e), shape[0])
    if x0 >= x1 or y0 >= y1:
        return None
    # OpenCV's integers are the pixels' centres.
    matrix = np.float64([[a, b, c + (a + b - 1) / 2 - x0], [0, d, e + (d - 1) / 2 - y0]])
    patch = cv2.warpAffine(source, matrix, (x1 - x0, y1 - y0), flags=method)
    return np.s_[y0:y1, x0:x1], patch
