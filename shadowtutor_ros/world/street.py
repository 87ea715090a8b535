"""The street of the built-in scene: its districts, and all that stands still in them."""

from typing import NamedTuple

import cv2
import numpy as np

from shadowtutor_ros.world import sprites
from shadowtutor_ros.world.sprites import Canvas
from shadowtutor_ros.world.things import NUMBER

# The camera: focal length in frame heights, height above ground (m), mean speed (m/s), the
# horizon's place in the frame. The street: depths (m) of the facades and of the road's edges.
FOCAL, EYE, SPEED, HORIZON = 1.05, 1.54, 0.2, 0.45
FACADES, FAR_KERB, NEAR_KERB = 9.5, 7.5, 4.6
_FACADE_HEIGHT = 6.4
FOOT = HORIZON + FOCAL * EYE / FACADES   # of the facades, in the frame


class District(NamedTuple):
    """
    A stretch of the street.

    :ivar paving, road: colours, RGB.
    :ivar ground: the things that paving, road and curbs are.
    :ivar soft: whether it is grass or sand instead of slabs and markings.
    :ivar far, left, right, near, air: the kinds of :data:`.sprites.KINDS` that pass, by lane.
    """

    name: str
    paving: tuple[tuple[int, int, int], tuple[int, int, int]]
    road: tuple[int, int, int]
    ground: tuple[str, str, str]
    soft: bool
    far: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    right: tuple[str, ...] = ()
    near: tuple[str, ...] = ()
    air: tuple[str, ...] = ()


_STREET = 'ground/sidewalk', 'ground/road', 'ground/sidewalk/curb'
# Few kinds at a time, so that a student can learn them from a key frame; they change as the
# camera goes on, so that it needs the next one.
DISTRICTS = (
    District('old town', ((168, 148, 128), (128, 110, 96)), (112, 106, 102), _STREET,
             False, left=('car',), near=('person',)),
    District('avenue', ((166, 166, 164), (132, 134, 136)), (84, 86, 92), _STREET,
             False, left=('bus', 'truck'), right=('bicycle',)),
    District('park', ((110, 148, 74), (84, 122, 58)), (172, 150, 118),
             ('ground/grass', 'ground/road/path', 'ground/curb'), True,
             left=('horse',), near=('dog', 'bird')),
    District('zoo', ((196, 172, 130), (164, 140, 102)), (150, 116, 88),
             ('ground/sand', 'ground/road/path', 'ground/curb'), True,
             left=('giraffe',), right=('elephant',), air=('flier',)))
DISTRICT = 9.0
LOOP = DISTRICT * len(DISTRICTS)


def sky(look: sprites.Look, rng, width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    """
    Paint sky and far skyline, periodic in x; the horizon is below.

    :returns: height×width×3 uint8, and height×width uint8: what is where, in numbers of things.
    """
    tile = sprites.noise_tile()
    high, low = (np.float32(c)[::-1] for c in look.sky)
    y = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    sky = high + (low - high) * y ** 1.4
    rows = (np.arange(height) * 900 // height) % 1024
    columns = np.arange(width) * 1024 // width
    clouds = (tile[rows][:, columns][..., None] * 0.5 - 0.15).clip(0, 1) * look.clouds
    things = np.full((height, width), NUMBER['sky'], np.uint8)
    sky = sky + clouds * (0.45 * low + 0.55 * 255 * max(look.gain) - sky) * 1.3 * (1.1 - y)
    for haze, tallest, colour in ((0.75, 0.34, (120, 130, 146)), (0.5, 0.22, (104, 112, 124))):
        tint = haze * low + (1 - haze) * look.tint(colour)
        x = 0
        while x < width:
            wide = max(int(height * rng.uniform(0.08, 0.22)), 1)
            tall = int(height * tallest * rng.uniform(0.35, 1.0))
            sky[height - tall:, x:x + wide] = tint * rng.uniform(0.95, 1.03)
            things[height - tall:, x:x + wide] = NUMBER['building']
            x += wide
    return sky.clip(0, 255).astype(np.uint8), things


def _bricks(x, y):
    row = np.floor(y / 0.11)
    return ((y / 0.11 - row) < 0.16) | (((x + 0.13 * (row % 2)) / 0.26 % 1) < 0.07)


def _window(c: Canvas, rng, x: float, y: float, width: float, height: float) -> None:
    """Paint a window with frame, sill and reflection, or with light in it."""
    lit = rng.random() < c.look.lit
    c.box(x - 0.07, y - 0.07, width + 0.14, height + 0.14, (226, 220, 208),
          part='building/window')
    if lit:
        c.box(x, y, width, height, (255, 214, 140), glow=True, grain=0.05, part='building/window')
    else:
        c.box(x, y, width, height, (62, 84, 104), second=(150, 178, 200), grain=0.05,
              part='building/window',
              pattern=lambda u, v: 0.8 * ((u + 0.7 * v) % 1.9 < 0.6))
    c.box(x + width / 2 - 0.025, y, 0.05, height, (226, 220, 208), part='building/window')
    c.box(x - 0.12, y - 0.14, width + 0.24, 0.08, (196, 190, 180), part='building')


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
              part='building/roof', pattern=lambda u, v: (v / 0.16 % 1) < 0.2)
    c.box(x, 0, width, height, wall, grain=0.1, second=np.multiply(wall, 0.8), pattern=_bricks,
          part='building')
    c.box(x - 0.06, height - 0.16, width + 0.12, 0.18, np.multiply(wall, 1.12), part='building')
    count = max(int(width / 1.15), 1)
    for i in range(count):
        _window(c, rng, x + (i + 0.5) * width / count - 0.34, 2.65, 0.68, 0.95)
    shop = sprites.pick(rng, ((48, 84, 70), (110, 40, 44), (44, 58, 92), (92, 66, 44)))
    c.box(x + 0.15, 0, width - 0.3, 2.2, shop, part='building')
    _window(c, rng, x + 0.3, 0.6, width - 1.5, 1.2)
    c.box(x + width - 1.0, 0.0, 0.7, 1.85, np.multiply(shop, 0.6), part='building/door')
    c.box(x + width - 0.9, 0.9, 0.5, 0.8, (110, 136, 150), part='building/door')
    cloth = sprites.pick(rng, ((206, 60, 56), (44, 110, 150), (60, 130, 84), (220, 160, 50)))
    c.polygon(((x + 0.1, 1.8), (x + width - 0.1, 1.8), (x + width - 0.25, 2.35),
               (x + 0.25, 2.35)), cloth, part='building/awning', second=(240, 236, 226),
              pattern=lambda u, v: (u / 0.5 % 1) < 0.5)


def _block(c: Canvas, rng, x: float, width: float) -> None:
    """Paint a modern building that is higher than the frame."""
    wall = sprites.pick(rng, ((176, 178, 178), (120, 128, 136), (206, 198, 184), (140, 112, 96)))
    c.box(x, 0, width, _FACADE_HEIGHT, wall, grain=0.06, part='building')
    for y in (2.75, 4.65):
        count = max(int(width / 0.95), 1)
        for i in range(count):
            _window(c, rng, x + (i + 0.1) * width / count, y, 0.78 * width / count, 1.35)
        c.box(x, y - 0.42, width, 0.16, np.multiply(wall, 0.8), part='building')
    c.box(x + 0.2, 0, width - 0.4, 2.1, (58, 62, 68), part='building')
    _window(c, rng, x + 0.35, 0.35, width - 0.7, 1.55)
    sign = sprites.pick(rng, ((200, 48, 60), (36, 120, 180), (240, 190, 60), (70, 150, 96)))
    c.box(x + 0.2, 2.02, width - 0.4, 0.32, sign, glow=bool(c.look.lit), part='building/sign')


def _hedge(c: Canvas, rng, x: float, width: float) -> None:
    """Paint a hedge with bushes behind it."""
    leaves = c.look.leaves
    for u in np.arange(x, x + width, 0.35):
        c.blob(((u, 1.1 + rng.uniform(0, 0.9), rng.uniform(0.35, 0.6)), (u, 0.3, 0.5)),
               np.multiply(sprites.pick(rng, leaves), rng.uniform(0.6, 0.85)), grain=0.25,
               part='vegetation/bush')
    for y, tall, light in ((0, 0.85, 0.9), (0.8, 0.1, 1.25)):
        c.box(x, y, width, tall, np.multiply(leaves[0], light), grain=0.3,
              part='vegetation/bush/hedge')


def _fence(c: Canvas, rng, x: float, width: float) -> None:
    """Paint rocks behind the wooden fence of a zoo, and its flags."""
    rock = sprites.pick(rng, ((176, 138, 104), (160, 146, 130)))
    for u in np.arange(x, x + width, 0.6):
        tall = rng.uniform(0.9, 2.3)
        c.polygon(((u - 0.4, 0), (u - 0.3, tall * 0.7), (u + 0.3, tall), (u + 1.0, tall * 0.6),
                   (u + 1.0, 0)), np.multiply(rock, rng.uniform(0.8, 1.1)), 1, 0.2, grain=0.14,
                  part='rock')
    for u in np.arange(x, x + width - 0.1, 0.24):
        c.blob(((u + 0.12, 0, 0.1), (u + 0.12, 0.95 + 0.1 * rng.random(), 0.1)), (150, 104, 62),
               grain=0.15, part='fence')
    c.box(x + width / 2 - 0.04, 0, 0.08, 3.4, (120, 90, 60), part='pole')
    c.polygon(((x + width / 2, 3.35), (x + width / 2 + 1.0, 3.1), (x + width / 2, 2.7)),
              sprites.pick(rng, ((220, 70, 50), (240, 190, 60), (60, 150, 110))), 1, 0.1,
              part='flag')


_FRONTS = {'old town': _house, 'avenue': _block, 'park': _hedge, 'zoo': _fence}


def facades(look: sprites.Look, rng, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """
    Paint what stands along the street, one loop wide.

    :returns: BGRA uint8, premultiplied, and uint8: what is where, in numbers of things.
    """
    canvas = Canvas(look, 2 * scale, 0, LOOP, _FACADE_HEIGHT)
    for number, district in enumerate(DISTRICTS):
        parts = rng.uniform(0.8, 1.2, 3)
        edges = (number + np.concatenate(((0,), np.cumsum(parts / parts.sum())))) * DISTRICT
        for x, end in zip(edges, edges[1:]):
            _FRONTS[district.name](canvas, rng, x, end - x)
    sprite = canvas.sprite(look.fog)
    area = np.s_[:int(_FACADE_HEIGHT * scale), :int(LOOP * scale)]
    return sprite.levels[1][area], sprite.things[1::2, 1::2][area]


def ground(
        look: sprites.Look, depths: np.ndarray, height: int) -> tuple[np.ndarray, np.ndarray]:
    """
    Paint the ground, one row of the frame after the other.

    :param depths: float (rows + 1,): depth of the rows' edges, falling.
    :param height: of the frame in pixels.
    :returns: rows×columns×3 uint8, columns spanning one loop of the street, and rows×columns
        uint8: what is where, in numbers of things.
    """
    scale = min(0.24 * height, 128)
    steps = int((depths[0] - depths[-1]) * scale) + 1
    x = np.arange(int(LOOP * scale), dtype=np.float32)[None] / scale
    z = np.linspace(depths[-1], depths[0], steps, dtype=np.float32)[:, None]
    rough = sprites.noise(x, z, LOOP / 4)
    district = np.floor((x + 0.25 * rough) / DISTRICT).astype(int) % len(DISTRICTS)
    paving = np.float32([[look.tint(c) for c in d.paving] for d in DISTRICTS])
    road = np.float32([look.tint(d.road) for d in DISTRICTS])
    soft = np.array([d.soft for d in DISTRICTS])[district]
    row = np.floor(z / 0.5)
    joint = ((z / 0.5 - row < 0.06) | ((x + 0.4 * (row % 2)) / 0.8 % 1 < 0.035)) & ~soft
    shade = np.sin(row * 12.9 + np.floor((x + 0.4 * (row % 2)) / 0.8) * 78.2) * 0.07 * ~soft
    colour = paving[district, 0] * (1 + shade)[..., None]
    colour += (paving[district, 1] - colour) * np.where(
        joint, 0.8, (soft * (0.5 + 0.35 * rough)).clip(0, 1))[..., None]
    on_road = (z > NEAR_KERB) & (z < FAR_KERB)
    colour = np.where(on_road[..., None], road[district], colour)
    surface = np.uint8([[NUMBER[thing] for thing in d.ground] for d in DISTRICTS])
    things = surface[district, on_road.astype(int)]
    worn = soft | (rough < -1.6)
    middle = (NEAR_KERB + FAR_KERB) / 2
    dashes = (np.abs(z - middle) < 0.06) & (x / 2.25 % 1 < 0.55)
    zebra = (np.abs(x - 1.5 * DISTRICT) < 1.3) & (z / 0.5 % 1 < 0.5)
    colour[on_road & ~worn & (dashes | zebra)] = look.tint((232, 230, 220))
    things[on_road & ~worn & dashes] = NUMBER['ground/road/lane marking']
    things[on_road & ~soft & (np.abs(x - 1.5 * DISTRICT) < 1.3)] = NUMBER['ground/road/crosswalk']
    for kerb, gutter in ((NEAR_KERB, NEAR_KERB + 0.12), (FAR_KERB, FAR_KERB - 0.12)):
        on_kerb = (np.abs(z - kerb) < 0.08)[:, 0]
        colour[on_kerb] = look.tint((190, 188, 182))
        things[on_kerb] = surface[district[on_kerb], 2]
        colour[(np.abs(z - gutter) < 0.04)[:, 0]] *= 0.6
    fine = sprites.noise(x + 7, z + 3, 4.5)
    if look.snow:
        cover = ((rough * 0.5 + 1.1) * look.snow * np.where(on_road, 0.55, 1)).clip(0, 1)
        colour += (look.tint((236, 240, 246)) - colour) * cover[..., None]
    colour *= (1 + 0.07 * rough + 0.06 * fine)[..., None]
    colour *= (1 - 0.35 * np.exp(-(FACADES - z).clip(0) / 0.25))[..., None]
    fog = look.fog * (z / FACADES) ** 2
    colour += (np.float32(look.sky[1])[::-1] - colour) * fog[..., None]
    colour = colour.clip(0, 255)
    edges = ((depths - depths[-1]) * scale).round().astype(int).clip(0, steps)
    rows = [cv2.blur(colour[min(near, steps - 1):max(far, near + 1)].mean(0)[None],
                     (max(int(scale * depth / (FOCAL * height)), 1), 1))
            for far, near, depth in zip(edges, edges[1:], depths)]
    middle = np.minimum((edges[:-1] + edges[1:]) // 2, steps - 1)
    return np.concatenate(rows).astype(np.uint8), things[middle]
