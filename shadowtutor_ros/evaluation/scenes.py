"""
The built-in scene: a procedural street with exact labels, to show and to test without any data.

A camera walks along a street whose districts follow one another (old town, avenue, park, zoo) while
persons, vehicles, bicycles and animals pass. All geometry is in metres on a ground plane, seen by a
pinhole camera whose unit is the frame's height, so that the same moment looks the same at any
size. Ground, facades, sky and the sprites are painted once; a frame is then a few warps and blends.
A pixel's label is that of the topmost object that covers at least half of it.

Every frame carries its own timecode (seed, look, index) as a strip of grey blocks along its
bottom edge, as broadcast's vertical interval timecode does: see :func:`read_timecode`.
"""

import binascii
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np

from shadowtutor_ros.evaluation import sprites
from shadowtutor_ros.evaluation.sprites import Canvas, KINDS, Sprite
from shadowtutor_ros.labels import BACKGROUND

#: Names of the looks, day first.
LOOKS: tuple[str, ...] = tuple(sprites.LOOKS)

FRAME_RATE = 25.0

# The camera: focal length in frame heights, height above ground (m), mean speed (m/s), the
# horizon's place in the frame. The street: depths (m) of the facades and of the road's edges.
_FOCAL, _EYE, _SPEED, _HORIZON = 1.05, 1.54, 1.5, 0.45
_FACADES, _FAR_KERB, _NEAR_KERB, _NEAREST = 9.5, 7.5, 4.6, 2.7
_FACADE_HEIGHT = 6.4
_VARIANTS = 8


class _District(NamedTuple):
    """A stretch of the street: colours (RGB) of paving and road, what passes in which lane."""

    name: str
    paving: tuple[tuple[int, int, int], tuple[int, int, int]]
    road: tuple[int, int, int]
    far: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    right: tuple[str, ...] = ()
    near: tuple[str, ...] = ()
    air: tuple[str, ...] = ()


_DISTRICTS = (
    _District('old town', ((168, 148, 128), (128, 110, 96)), (112, 106, 102),
              ('person', 'person'), ('car',), ('bicycle',), ('person', 'dog')),
    _District('avenue', ((166, 166, 164), (132, 134, 136)), (84, 86, 92),
              ('person',), ('bus', 'truck'), ('car', 'bicycle'), ('person',)),
    _District('park', ((110, 148, 74), (84, 122, 58)), (172, 150, 118),
              ('horse',), ('bicycle',), ('horse',), ('dog', 'person'), ('flier',)),
    _District('zoo', ((196, 172, 130), (164, 140, 102)), (150, 116, 88),
              ('person',), ('elephant',), ('giraffe',), ('bird',)))
_DISTRICT = 9.0
_LOOP = _DISTRICT * len(_DISTRICTS)


class _Lane(NamedTuple):
    """Where things move along the street: depth (m), direction, seconds from one to the next."""

    name: str
    depth: float
    direction: int
    period: float


_LANES = (_Lane('far', 8.4, -1, 4.8), _Lane('left', 6.9, -1, 4.8), _Lane('right', 5.5, 1, 4.8),
          _Lane('near', 4.0, -1, 4.8), _Lane('air', 5.0, 1, 4.8))


# --- What is painted once ------------------------------------------------------------------------

def _sky(look: sprites.Look, rng, width: int, height: int) -> np.ndarray:
    """Paint sky and far skyline, height×width×3 uint8, periodic in x; the horizon is below."""
    tile = sprites.noise_tile()
    high, low = (np.float32(c)[::-1] for c in look.sky)
    y = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    sky = high + (low - high) * y ** 1.4
    rows = (np.arange(height) * 900 // height) % 1024
    columns = np.arange(width) * 1024 // width
    clouds = (tile[rows][:, columns][..., None] * 0.5 - 0.15).clip(0, 1) * look.clouds
    sky = sky + clouds * (0.45 * low + 0.55 * 255 * max(look.gain) - sky) * 1.3 * (1.1 - y)
    x = 0
    for haze, tallest, colour in ((0.75, 0.34, (120, 130, 146)), (0.5, 0.22, (104, 112, 124))):
        tint = haze * low + (1 - haze) * look.tint(colour)
        x = 0
        while x < width:
            wide = max(int(height * rng.uniform(0.08, 0.22)), 1)
            tall = int(height * tallest * rng.uniform(0.35, 1.0))
            sky[height - tall:, x:x + wide] = tint * rng.uniform(0.95, 1.03)
            x += wide
    return sky.clip(0, 255).astype(np.uint8)


def _bricks(x, y):
    row = np.floor(y / 0.11)
    return ((y / 0.11 - row) < 0.16) | (((x + 0.13 * (row % 2)) / 0.26 % 1) < 0.07)


def _window(c: Canvas, rng, x: float, y: float, width: float, height: float) -> None:
    """Paint a window with frame, sill and reflection, or with light in it."""
    lit = rng.random() < c.look.lit
    c.box(x - 0.07, y - 0.07, width + 0.14, height + 0.14, (226, 220, 208))
    if lit:
        c.box(x, y, width, height, (255, 206, 120), glow=True, grain=0.12)
    else:
        c.box(x, y, width, height, (62, 84, 104), second=(150, 178, 200), grain=0.05,
              pattern=lambda u, v: 0.8 * ((u + 0.7 * v) % 1.9 < 0.6))
    c.box(x + width / 2 - 0.025, y, 0.05, height, (226, 220, 208))
    c.box(x - 0.12, y - 0.14, width + 0.24, 0.08, (196, 190, 180))


def _house(c: Canvas, rng, x: float, width: float) -> None:
    """Paint a house of the old town: a shop, a floor with windows, a gable or a cornice."""
    wall = sprites.pick(rng, ((178, 92, 70), (226, 194, 140), (206, 138, 104), (146, 168, 176),
                              (232, 222, 204), (160, 84, 74), (188, 178, 132)))
    height = rng.uniform(3.9, 4.6)
    roof = sprites.pick(rng, ((128, 62, 48), (86, 84, 92), (146, 84, 56)))
    if c.look.snow:
        roof = (236, 240, 244)
    c.polygon(((x - 0.1, height), (x + width + 0.1, height), (x + width - 0.5, height + 1.2),
               (x + 0.5, height + 1.2)), roof, second=np.multiply(roof, 0.75),
              pattern=lambda u, v: (v / 0.16 % 1) < 0.2)
    c.box(x, 0, width, height, wall, grain=0.1, second=np.multiply(wall, 0.8), pattern=_bricks)
    c.box(x - 0.06, height - 0.16, width + 0.12, 0.18, np.multiply(wall, 1.12))
    count = max(int(width / 1.15), 1)
    for i in range(count):
        _window(c, rng, x + (i + 0.5) * width / count - 0.34, 2.65, 0.68, 0.95)
    shop = sprites.pick(rng, ((48, 84, 70), (110, 40, 44), (44, 58, 92), (92, 66, 44)))
    c.box(x + 0.15, 0, width - 0.3, 2.2, shop)
    _window(c, rng, x + 0.3, 0.6, width - 1.5, 1.2)
    c.box(x + width - 1.0, 0.0, 0.7, 1.85, np.multiply(shop, 0.6))
    c.box(x + width - 0.9, 0.9, 0.5, 0.8, (110, 136, 150))
    cloth = sprites.pick(rng, ((206, 60, 56), (44, 110, 150), (60, 130, 84), (220, 160, 50)))
    c.polygon(((x + 0.1, 1.8), (x + width - 0.1, 1.8), (x + width - 0.25, 2.35),
               (x + 0.25, 2.35)), cloth, second=(240, 236, 226),
              pattern=lambda u, v: (u / 0.5 % 1) < 0.5)


def _block(c: Canvas, rng, x: float, width: float) -> None:
    """Paint a modern building that is higher than the frame."""
    wall = sprites.pick(rng, ((176, 178, 178), (120, 128, 136), (206, 198, 184), (140, 112, 96)))
    c.box(x, 0, width, _FACADE_HEIGHT, wall, grain=0.06)
    for y in (2.75, 4.65):
        count = max(int(width / 0.95), 1)
        for i in range(count):
            _window(c, rng, x + (i + 0.1) * width / count, y, 0.78 * width / count, 1.35)
        c.box(x, y - 0.42, width, 0.16, np.multiply(wall, 0.8))
    c.box(x + 0.2, 0, width - 0.4, 2.1, (58, 62, 68))
    _window(c, rng, x + 0.35, 0.35, width - 0.7, 1.55)
    sign = sprites.pick(rng, ((200, 48, 60), (36, 120, 180), (240, 190, 60), (70, 150, 96)))
    c.box(x + 0.2, 2.02, width - 0.4, 0.32, sign, glow=bool(c.look.lit))


def _hedge(c: Canvas, rng, x: float, width: float) -> None:
    """Paint a hedge with bushes behind it."""
    leaves = c.look.leaves
    for u in np.arange(x, x + width, 0.35):
        c.blob(((u, 1.1 + rng.uniform(0, 0.9), rng.uniform(0.35, 0.6)), (u, 0.3, 0.5)),
               np.multiply(sprites.pick(rng, leaves), rng.uniform(0.6, 0.85)), grain=0.25)
    c.box(x, 0, width, 0.85, np.multiply(leaves[0], 0.9), grain=0.3)
    c.box(x, 0.8, width, 0.1, np.multiply(leaves[0], 1.25), grain=0.3)


def _fence(c: Canvas, rng, x: float, width: float) -> None:
    """Paint rocks behind the wooden fence of a zoo, and its flags."""
    rock = sprites.pick(rng, ((176, 138, 104), (160, 146, 130)))
    for u in np.arange(x, x + width, 0.6):
        tall = rng.uniform(0.9, 2.3)
        c.polygon(((u - 0.4, 0), (u - 0.3, tall * 0.7), (u + 0.3, tall), (u + 1.0, tall * 0.6),
                   (u + 1.0, 0)), np.multiply(rock, rng.uniform(0.8, 1.1)), 1, 0.2, grain=0.14)
    for u in np.arange(x, x + width - 0.1, 0.24):
        c.blob(((u + 0.12, 0, 0.1), (u + 0.12, 0.95 + 0.1 * rng.random(), 0.1)), (150, 104, 62),
               grain=0.15)
    c.box(x + width / 2 - 0.04, 0, 0.08, 3.4, (120, 90, 60))
    c.polygon(((x + width / 2, 3.35), (x + width / 2 + 1.0, 3.1), (x + width / 2, 2.7)),
              sprites.pick(rng, ((220, 70, 50), (240, 190, 60), (60, 150, 110))), 1, 0.1)


_FRONTS = {'old town': _house, 'avenue': _block, 'park': _hedge, 'zoo': _fence}


def _facades(look: sprites.Look, rng, scale: float) -> np.ndarray:
    """Paint what stands along the street, BGRA uint8, premultiplied, one loop wide."""
    canvas = Canvas(look, 2 * scale, 0, _LOOP, _FACADE_HEIGHT)
    for number, district in enumerate(_DISTRICTS):
        parts = rng.uniform(0.8, 1.2, 3)
        edges = (number + np.concatenate(((0,), np.cumsum(parts / parts.sum())))) * _DISTRICT
        for x, end in zip(edges, edges[1:]):
            _FRONTS[district.name](canvas, rng, x, end - x)
    strip = canvas.sprite().levels[1]
    haze = np.float32(look.sky[1])[::-1] * look.fog
    strip[..., :3] = strip[..., :3] * (1 - look.fog) + strip[..., 3:] * (haze / 255)
    size = int(round(_LOOP * scale)), int(round(_FACADE_HEIGHT * scale))
    return cv2.resize(strip[:int(round(_FACADE_HEIGHT * 2 * scale / 2))], size,
                      interpolation=cv2.INTER_AREA)


def _ground(look: sprites.Look, rng, depths: np.ndarray, height: int) -> np.ndarray:
    """
    Paint the ground, one row of the frame after the other.

    :param depths: float (rows + 1,): depth of the rows' edges, falling.
    :param height: of the frame in pixels.
    :returns: rows×columns×3 uint8, columns spanning one loop of the street.
    """
    scale = min(0.24 * height, 128)
    steps = int((depths[0] - depths[-1]) * scale) + 1
    x = np.arange(int(_LOOP * scale), dtype=np.float32)[None] / scale
    z = np.linspace(depths[-1], depths[0], steps, dtype=np.float32)[:, None]
    rough = sprites.noise(x, z, _LOOP / 4)
    district = (((x + 0.25 * rough) / _DISTRICT).astype(int) % len(_DISTRICTS))
    paving = np.float32([[look.tint(c) for c in d.paving] for d in _DISTRICTS])
    road = np.float32([look.tint(d.road) for d in _DISTRICTS])
    soft = district >= 2
    row = np.floor(z / 0.5)
    joint = ((z / 0.5 - row < 0.06) | ((x + 0.4 * (row % 2)) / 0.8 % 1 < 0.035)) & ~soft
    shade = np.sin(row * 12.9 + np.floor((x + 0.4 * (row % 2)) / 0.8) * 78.2) * 0.07 * ~soft
    ground = paving[district, 0] * (1 + shade)[..., None]
    ground += (paving[district, 1] - ground) * np.where(
        joint, 0.8, (soft * (0.5 + 0.35 * rough)).clip(0, 1))[..., None]
    on_road = (z > _NEAR_KERB) & (z < _FAR_KERB)
    ground = np.where(on_road[..., None], road[district], ground)
    paint = look.tint((232, 230, 220))
    hard = on_road & (district < 2) & (rough > -1.6)
    middle = (_NEAR_KERB + _FAR_KERB) / 2
    dashes = (np.abs(z - middle) < 0.06) & (x / 2.25 % 1 < 0.55)
    zebra = (np.abs(x - 1.5 * _DISTRICT) < 1.3) & (z / 0.5 % 1 < 0.5)
    ground[hard & (dashes | zebra)] = paint
    for kerb in (_NEAR_KERB, _FAR_KERB):
        ground[np.broadcast_to(np.abs(z - kerb) < 0.08, rough.shape)] = look.tint((190, 188, 182))
        ground[np.broadcast_to(np.abs(z - kerb - (0.12 if kerb > middle else -0.12) * -1) < 0.04,
                               rough.shape)] *= 0.6
    fine = sprites.noise(x + 7, z + 3, 4.5)
    if look.snow:
        cover = ((rough * 0.5 + 1.1) * look.snow * np.where(on_road, 0.55, 1)).clip(0, 1)
        ground += (look.tint((236, 240, 246)) - ground) * cover[..., None]
    ground *= (1 + 0.07 * rough + 0.06 * fine)[..., None]
    ground *= (1 - 0.35 * np.exp(-(_FACADES - z).clip(0) / 0.25))[..., None]
    fog = look.fog * (z / _FACADES) ** 2
    ground += (np.float32(look.sky[1])[::-1] - ground) * fog[..., None]
    ground = ground.clip(0, 255)
    edges = ((depths - depths[-1]) * scale).round().astype(int).clip(0, steps)
    rows = [cv2.blur(ground[min(near, steps - 1):max(far, near + 1)].mean(0)[None],
                     (max(int(scale * depth / (_FOCAL * height)), 1), 1))
            for far, near, depth in zip(edges, edges[1:], depths)]
    return np.concatenate(rows).astype(np.uint8)


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
    :ivar label: H×W uint8 class ids of :mod:`shadowtutor_ros.labels`.
    :ivar boxes: N×4 float32, ``x1, y1, x2, y2`` in pixels of the visible parts of the objects.
    """

    image: np.ndarray
    label: np.ndarray
    boxes: np.ndarray


class _Actor(NamedTuple):
    """A thing at a moment: its kind, variant and place (m), and where it is in its step."""

    kind: str
    variant: int
    x: float
    depth: float
    direction: int = 1
    phase: float = 0.0


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
            _Actor('tree', int(rng.integers(_VARIANTS)), x + rng.uniform(-0.6, 0.6),
                   _FAR_KERB + (1.4 if _DISTRICTS[int(x // _DISTRICT)].name == 'park' else 0.35))
            for x in np.arange(1.5, _LOOP, 3.0)]
        self._props += [_Actor('lamp', 0, x, _FAR_KERB + 0.3) for x in np.arange(3.0, _LOOP, 6.0)]
        self._horizon_tall = int(np.ceil((_HORIZON + 0.19) * height))
        sky_wide = 4 * height
        self._strips = {
            'sky': self._wrap(_sky(self._light, rng, sky_wide, self._horizon_tall), sky_wide),
            'facades': self._wrap(_facades(self._light, rng, _FOCAL * height / _FACADES), 0)}
        # Ground: rows of the frame, a few more on both ends for the camera's bob.
        self._ground_top = _HORIZON + _FOCAL * _EYE / _FACADES
        bob = 0.012
        count = int(np.ceil((1 - self._ground_top + bob) * height))
        edges = self._ground_top + np.arange(count + 1) / height
        depths = _FOCAL * _EYE / (edges - _HORIZON)
        ground = _ground(self._light, rng, depths, height)
        self._ground_scale = ground.shape[1] / _LOOP
        reach = _FACADES * (width / height) / _FOCAL / 2 + 1
        self._ground_margin = int(reach * self._ground_scale)
        self._ground = np.pad(
            ground, ((0, 0), (self._ground_margin,) * 2, (0, 0)), mode='wrap')
        middle = _FOCAL * _EYE / ((edges[:-1] + edges[1:]) / 2 - _HORIZON)
        self._row_metres = (middle / (_FOCAL * height)).astype(np.float32)
        self._noise = (128 + self._light.noise * np.random.default_rng(1).standard_normal(
            (height + 32, width + 32, 3))).clip(0, 255).astype(np.uint8)

    def _wrap(self, strip: np.ndarray, _: int) -> np.ndarray:
        return np.pad(strip, ((0, 0), (0, self.width + 2), (0, 0)), mode='wrap')

    def _paint_sprite(self, kind: str, variant: int, phase: int) -> Sprite:
        what = KINDS[kind]
        scale = max(_FOCAL * self.height / what.nearest, 16)
        canvas = Canvas(self._light, scale, *what.extent)
        number = tuple(KINDS).index(kind)
        what.paint(canvas, np.random.default_rng((self.seed, number, variant)),
                   phase / what.phases)
        return canvas.sprite()

    # --- motion ---

    def _camera(self, time: float) -> float:
        """Place of the camera along the street (m)."""
        return _SPEED * (time + 0.5 * np.sin(0.55 * time + self.seed)) + 37.0 * self.seed

    def _make_event(self, lane: int, slot: int) -> tuple[float, _Actor, float] | None:
        """Return when and as what something passes the middle of the view, and its speed."""
        where = _LANES[lane]
        rng = np.random.default_rng((self.seed, lane, slot + 2 ** 20))
        time = (slot + lane / len(_LANES) + rng.uniform(-0.08, 0.08)) * where.period
        x = self._camera(time)
        district = _DISTRICTS[int(x // _DISTRICT) % len(_DISTRICTS)]
        kinds = getattr(district, where.name)
        if not kinds:
            return None
        kind = kinds[(slot + self.seed) % len(kinds)]
        direction = where.direction
        speed = KINDS[kind].speed * rng.uniform(0.85, 1.15)
        if direction > 0:
            speed = max(speed, _SPEED + 1.0)
        actor = _Actor(kind, int(rng.integers(_VARIANTS)), x,
                       where.depth + rng.uniform(-0.2, 0.2), direction, rng.random())
        return time, actor, speed * direction

    def _cast(self, time: float) -> Iterator[_Actor]:
        """Yield everything that may be in view."""
        camera = self._camera(time)
        for prop in self._props:
            x = (prop.x - camera + _LOOP / 2) % _LOOP - _LOOP / 2 + camera
            yield prop._replace(x=x)
        for number, lane in enumerate(_LANES):
            slot = int(time // lane.period)
            for event in (self._event(number, s) for s in range(slot - 2, slot + 3)):
                if event is None:
                    continue
                when, actor, speed = event
                way = speed * (time - when)
                phase = (actor.phase + abs(way) / KINDS[actor.kind].stride) % 1
                actor = actor._replace(x=actor.x + way, phase=phase)
                yield actor
                if actor.kind == 'bicycle':
                    yield actor._replace(kind='rider', depth=actor.depth - 0.01)

    # --- painting ---

    def render(self, index: int) -> SceneFrame:
        """
        Render a frame; the same index always gives the same frame.

        :param index: of the frame, 0 to 2^24 − 1; there are 25 a second.
        :raises ValueError: if the index is out of its range.
        """
        if not 0 <= index <= MAX_INDEX:
            raise ValueError(f'index is {index}; give one from 0 to {MAX_INDEX}')
        time = index / FRAME_RATE
        height, width = self.height, self.width
        camera = self._camera(time)
        pan = 0.05 * np.sin(0.37 * time) + 0.0015 * np.sin(23 * time)
        bob = 0.004 * np.sin(9.4 * time) + 0.002 * np.sin(5.1 * time + 1)
        image = self._backdrop(camera, pan, bob)
        owner = np.zeros((height, width), np.uint8)
        labels, rois = [BACKGROUND], [None]
        for actor in sorted(self._cast(time), key=lambda a: -a.depth):
            roi = self._paint(image, owner, actor, camera, pan, bob, len(labels))
            if roi is not None and KINDS[actor.kind].label != BACKGROUND:
                labels.append(KINDS[actor.kind].label)
                rois.append(roi)
        rng = np.random.default_rng((self.seed, index))
        self._expose(image, time, rng)
        self._burn(image, owner, index)
        boxes = []
        for number in range(1, len(labels)):
            y, x = rois[number]
            u, v, w, h = cv2.boundingRect((owner[y, x] == number).astype(np.uint8))
            if w:
                boxes.append((x.start + u, y.start + v, x.start + u + w, y.start + v + h))
        table = np.zeros(256, np.uint8)
        table[:len(labels)] = labels
        return SceneFrame(
            image, cv2.LUT(owner, table), np.float32(boxes).reshape(-1, 4))

    def _shift(self, strip: np.ndarray, x: float, y: float, height: int) -> np.ndarray:
        """Cut ``height`` rows out of a strip that is moved by x, y pixels."""
        x %= strip.shape[1] - self.width - 2
        part = strip[:, int(x):int(x) + self.width + 2]
        return cv2.warpAffine(part, np.float32([[1, 0, int(x) - x], [0, 1, y]]),
                              (self.width, height), borderMode=cv2.BORDER_REPLICATE)

    def _backdrop(self, camera: float, pan: float, bob: float) -> np.ndarray:
        """Paint sky, facades and ground."""
        height, width = self.height, self.width
        image = np.empty((height, width, 3), np.uint8)
        foot = (self._ground_top + bob) * height
        split = int(round(foot))
        scale = _FOCAL * height / _FACADES
        centre = width / 2 + pan * height
        image[:split] = self._shift(
            self._strips['sky'], camera * _FOCAL * height / 60 - centre, bob * height, split)
        facades = self._strips['facades']
        front = self._shift(facades, camera * scale - centre, foot - facades.shape[0], split)
        _blend(image[:split], front[..., :3], front[..., 3])
        y = np.arange(split, height, dtype=np.float32) + np.float32(0.5 - foot)
        metres = np.interp(y, np.arange(len(self._row_metres)) + 0.5, self._row_metres)
        x = (np.arange(width) + 0.5 - centre)[None] * metres[:, None] + camera % _LOOP
        map_x = x.astype(np.float32) * np.float32(self._ground_scale) + self._ground_margin - 0.5
        map_y = np.broadcast_to((y - 0.5)[:, None], map_x.shape)
        image[split:] = cv2.remap(self._ground, map_x, np.ascontiguousarray(map_y),
                                  cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return image

    def _paint(self, image, owner, actor: _Actor, camera, pan, bob, number: int):
        """Paint an actor with its shadow; return the part of the frame that it may cover."""
        kind = KINDS[actor.kind]
        sprite = self._sprite(actor.kind, actor.variant, int(actor.phase * kind.phases))
        metre = _FOCAL * self.height / actor.depth
        x = self.width / 2 + pan * self.height + (actor.x - camera) * metre
        y = (_HORIZON + bob) * self.height + _EYE * metre
        scale = metre / sprite.scale
        turn, (u, v) = scale * actor.direction, sprite.foot
        upright = np.float64([[turn, 0, x - turn * u],
                              [0, scale, y - scale * v - kind.height * metre]])
        lean, flat = 0.45, 0.2
        lying = np.float64([[turn, -lean * scale, x - turn * u + lean * scale * v],
                            [0, flat * scale, y - flat * scale * v]])
        floor = int((self._ground_top + bob) * self.height)
        cut = _warp(sprite, lying, image.shape, floor)
        if cut is not None:
            roi, patch = cut
            _blend(image[roi], None, cv2.multiply(patch[..., 3], self._light.shadow))
        cut = _warp(sprite, upright, image.shape, 0)
        if cut is None:
            return None
        roi, patch = cut
        haze = self._light.fog * (actor.depth / _FACADES) ** 2
        mix = np.zeros((3, 4), np.float32)
        mix[:, :3] = np.eye(3) * (1 - haze)
        mix[:, 3] = np.float32(self._light.sky[1])[::-1] * (haze / 255)
        _blend(image[roi], cv2.transform(patch, mix), patch[..., 3])
        owner[roi][patch[..., 3] >= 128] = number if kind.label != BACKGROUND else 0
        return roi

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

    def _burn(self, image: np.ndarray, owner: np.ndarray, index: int) -> None:
        """Burn the timecode into the bottom of the frame."""
        rows, share = _layout(self.width)
        cells = _timecode_cells(Timecode(self.seed, self.look, index)).reshape(rows, -1)[::-1]
        tall = int(round(rows * share * self.height))
        strip = cv2.resize(_BLACK + cells * np.uint8(_WHITE - _BLACK), (self.width, tall),
                           interpolation=cv2.INTER_NEAREST)
        image[-tall:] = strip[..., None]
        owner[-tall:] = 0


def _blend(area: np.ndarray, colour: np.ndarray | None, alpha: np.ndarray) -> None:
    """Lay a premultiplied picture over an area in place; None is black."""
    clear = cv2.cvtColor(cv2.bitwise_not(alpha), cv2.COLOR_GRAY2BGR)
    cv2.multiply(area, clear, area, 1 / 255)
    if colour is not None:
        cv2.add(area, colour, area)


def _warp(sprite: Sprite, matrix: np.ndarray, shape: tuple[int, ...], top: int):
    """
    Warp a sprite into the frame.

    :param matrix: 2×3, from pixels of the sprite to pixels of the frame, corners at integers.
    :param shape: of the frame; nothing is painted above the row ``top``.
    :returns: the part of the frame and the patch for it, or None where it is out of view.
    """
    level = int(np.clip(np.round(-np.log2(abs(matrix[0, 0]))), 0, len(sprite.levels) - 1))
    source = sprite.levels[level]
    matrix = matrix * (2 ** level, 2 ** level, 1)
    height, width = source.shape[:2]
    corners = matrix @ np.float64([[0, width, 0, width], [0, 0, height, height], [1, 1, 1, 1]])
    x0, y0 = np.floor(corners.min(1)).astype(int).clip((0, top), None)
    x1, y1 = np.ceil(corners.max(1)).astype(int).clip(None, shape[1::-1])
    if x0 >= x1 or y0 >= y1:
        return None
    matrix[:, 2] += matrix[:, :2] @ (0.5, 0.5) - 0.5 - (x0, y0)
    patch = cv2.warpAffine(source, matrix, (int(x1 - x0), int(y1 - y0)), flags=cv2.INTER_LINEAR)
    return np.s_[y0:y1, x0:x1], patch
