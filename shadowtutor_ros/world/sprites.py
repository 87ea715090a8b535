"""
The things in the built-in scene and the light on them: persons, vehicles, animals, trees.

Each is painted once, in metres, from polygons and from chains of balls with a little relief, on a
:class:`Canvas`, and is kept as a small picture that :mod:`shadowtutor_ros.world.scenes` warps
into the frames. What differs between two of a kind (clothes, coat, paint) comes from the random
generator that the painter is handed; their motion comes from ``phase``, 0 to 1 over one step.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial

import cv2
import numpy as np

from shadowtutor_ros.world.things import NUMBER


@dataclass(frozen=True)
class Look:
    """
    Light and weather. Colours are RGB.

    :ivar gain: of the light on surfaces, one factor a channel.
    :ivar fog: share of the haze's colour (the sky's at the horizon) at the facades.
    :ivar lit: share of the windows with light in them; above 0, lamps and headlights are on.
    :ivar shadow: darkness of cast shadows, 0 to 1.
    :ivar noise: standard deviation of the sensor's noise, grey levels.
    :ivar snow: share of snow on ground and roofs.
    """

    sky: tuple[tuple[int, int, int], tuple[int, int, int]]
    gain: tuple[float, float, float] = (1.0, 1.0, 1.0)
    saturation: float = 1.0
    fog: float = 0.06
    lit: float = 0.0
    shadow: float = 0.25
    noise: float = 3.0
    snow: float = 0.0
    clouds: float = 0.5
    leaves: tuple[tuple[int, int, int], ...] = ((74, 120, 48), (96, 142, 58), (60, 104, 56))

    def tint(self, colour) -> np.ndarray:
        """Colour (RGB, 0…255) of a surface in this light, as BGR float32."""
        rgb = np.asarray(colour, np.float32)
        grey = rgb @ np.float32([0.30, 0.59, 0.11])
        rgb = (grey + (rgb - grey) * self.saturation) * np.float32(self.gain)
        return rgb[::-1].clip(0, 255)


LOOKS = {
    'day': Look(((58, 128, 214), (196, 224, 242)), (1.04, 1.0, 0.94), 1.12, shadow=0.48),
    'dusk': Look(((62, 58, 118), (255, 158, 92)), (0.82, 0.62, 0.64), 1.1, 0.14, lit=0.6,
                 shadow=0.35, noise=5),
    'overcast': Look(((148, 156, 166), (208, 212, 214)), (0.84, 0.86, 0.88), 0.7, 0.12,
                     shadow=0.15, clouds=0.2),
    'night': Look(((8, 12, 30), (34, 38, 66)), (0.26, 0.30, 0.44), 0.8, 0.1, lit=0.75,
                  shadow=0.2, noise=7, clouds=0.05),
    'fog': Look(((190, 196, 200), (206, 210, 212)), (0.86, 0.88, 0.9), 0.6, 0.6, lit=0.15,
                shadow=0.08, clouds=0.0),
    'autumn': Look(((120, 160, 200), (240, 222, 190)), (1.04, 0.92, 0.74), 1.1, 0.1, shadow=0.4,
                   leaves=((206, 112, 36), (190, 70, 34), (214, 164, 52))),
    'winter': Look(((152, 178, 206), (226, 232, 238)), (0.88, 0.95, 1.04), 0.75, 0.14,
                   shadow=0.2, snow=0.85, leaves=((196, 204, 210), (160, 172, 178))),
    'sepia': Look(((178, 148, 104), (232, 210, 168)), (1.02, 0.88, 0.66), 0.15, 0.1, shadow=0.3,
                  noise=9),
}


# --- Sprites -------------------------------------------------------------------------------------

@lru_cache(maxsize=1)
def noise_tile() -> np.ndarray:
    """Fractal noise of zero mean and unit deviation, 1024×1024 float32, periodic."""
    rng = np.random.default_rng(7)
    tile = np.zeros((1024, 1024), np.float32)
    for octave in range(3, 11):
        grid = np.pad(rng.standard_normal((2 ** octave,) * 2).astype(np.float32), 2, mode='wrap')
        step = 1024 // 2 ** octave
        wide = cv2.resize(grid, None, fx=step, fy=step, interpolation=cv2.INTER_CUBIC)
        tile += wide[2 * step:, 2 * step:][:1024, :1024] * 0.72 ** (octave - 3)
    return (tile - tile.mean()) / tile.std()


def noise(x: np.ndarray, y: np.ndarray, scale: float) -> np.ndarray:
    """Fractal noise at places (m); ``scale`` is the tile's side in metres."""
    index = (np.floor(v * (1024 / scale)).astype(int) % 1024 for v in (y, x))
    return noise_tile()[tuple(index)]


def chaikin(points, rounds: int = 2) -> np.ndarray:
    """Cut the corners of a closed polygon (Chaikin)."""
    points = np.float64(points)
    for _ in range(rounds):
        after = np.roll(points, -1, axis=0)
        points = np.stack((0.8 * points + 0.2 * after, 0.2 * points + 0.8 * after), 1)
        points = points.reshape(-1, 2)
    return points


@dataclass(frozen=True)
class Sprite:
    """
    A picture with its foot point.

    :ivar levels: BGRA uint8 with premultiplied colour, each half as wide as the one before.
    :ivar things: uint8, what is painted where, by its number in :mod:`.things`; as wide as
        ``levels[0]``.
    :ivar foot: x, y of the origin in pixels of ``levels[0]``.
    :ivar scale: pixels a metre of ``levels[0]``.
    """

    levels: tuple[np.ndarray, ...]
    things: np.ndarray
    foot: tuple[float, float]
    scale: float


class Canvas:
    """
    A sprite in the making: metres, x to the right, y up, origin on the ground.

    :param thing: of :data:`.things.THINGS`, that it is a picture of; '' for several.
    """

    def __init__(self, look: Look, scale: float, left: float, right: float, top: float,
                 thing: str = '') -> None:
        self.look, self.scale, self.left, self.top = look, scale, left, top
        self.thing = thing
        width, height = (4 * int(np.ceil(v * scale / 4)) for v in (right - left, top + 0.1))
        self.bgr = np.zeros((height, width, 3), np.float32)
        self.alpha = np.zeros((height, width), np.float32)
        self.things = np.zeros((height, width), np.uint8)

    def _pixels(self, points) -> np.ndarray:
        points = np.float64(points)
        return np.stack((points[:, 0] - self.left, self.top - points[:, 1]), 1) * self.scale

    def blob(self, points, colour, **paint) -> None:
        """Paint the body around a chain of balls ``(x, y, radius)``."""
        circle = np.stack((np.cos(a := np.arange(0, 2 * np.pi, 0.2)), np.sin(a)), 1)
        balls = [np.float64(p[:2]) + p[2] * circle for p in points]
        hulls = [cv2.convexHull(np.float32(np.concatenate(pair)))[:, 0]
                 for pair in zip(balls, balls[1:])] or balls
        self._paint(hulls, colour, 0.8 * max(p[2] for p in points), **paint)

    def polygon(self, points, colour, smooth: int = 0, bulge: float = 0.0, **paint) -> None:
        """Paint a polygon; ``bulge`` is the radius (m) of its rounded edge."""
        self._paint([chaikin(points, smooth)], colour, bulge, **paint)

    def box(self, x: float, y: float, width: float, height: float, colour, **paint) -> None:
        """Paint an upright rectangle whose lower left corner is ``x, y``."""
        self.polygon(((x, y), (x + width, y), (x + width, y + height), (x, y + height)),
                     colour, **paint)

    def halo(self, x: float, y: float, radius: float, colour) -> None:
        """Add light around a lamp; it covers nothing."""
        rows, columns = np.ogrid[:self.alpha.shape[0], :self.alpha.shape[1]]
        (u, v), = self._pixels([(x, y)])
        distance = np.hypot(columns - u, rows - v) / (radius * self.scale)
        self.bgr += (1 - distance).clip(0, 1)[..., None] ** 2 * np.float32(colour[::-1])

    def _paint(self, shapes, colour, bulge, second=None, pattern=None, grain=0.05,
               glow=False, part='') -> None:
        """
        Paint the union of polygons.

        :param colour: None only says what the part is that is painted there.
        :param second: another colour, mixed in where ``pattern(x, y)`` (metres) is 1.
        :param grain: strength of the surface's noise.
        :param glow: whether the colour shines by itself.
        :param part: of the canvas's thing, that it is.
        """
        shapes = [self._pixels(shape) for shape in shapes]
        pad = 2 + int(bulge * self.scale)
        low = np.floor(np.min([s.min(0) for s in shapes], 0)).astype(int) - pad
        high = np.ceil(np.max([s.max(0) for s in shapes], 0)).astype(int) + pad
        x0, y0 = low.clip(0)
        x1, y1 = high.clip(0, self.alpha.shape[::-1])
        if x0 >= x1 or y0 >= y1:
            return
        mask = np.zeros((y1 - y0, x1 - x0), np.uint8)
        for shape in shapes:
            fixed = np.round((shape - (x0, y0)) * 16 - 8).astype(np.int32)
            cv2.fillPoly(mask, [fixed], 255, cv2.LINE_AA, shift=4)
        area = np.s_[y0:y1, x0:x1]
        self.things[area][mask >= 128] = NUMBER['/'.join(filter(None, (self.thing, part)))]
        if colour is None:
            return
        mask = mask.astype(np.float32) / 255
        x = (np.arange(x0, x1, dtype=np.float32)[None] + 0.5) / self.scale + self.left
        y = self.top - (np.arange(y0, y1, dtype=np.float32)[:, None] + 0.5) / self.scale
        tint = (lambda c: np.float32(c)[::-1]) if glow else self.look.tint
        surface = np.broadcast_to(tint(colour), (*mask.shape, 3))
        if second is not None:
            mix = np.broadcast_to(pattern(x, y), mask.shape)[..., None].astype(np.float32)
            surface = surface * (1 - mix) + tint(second) * mix
        shade = 1 + grain * noise(x, y, 6.0)
        if bulge:
            shade *= self._relief(mask, bulge)
        mask = mask[..., None]
        self.bgr[area] += mask * (surface * shade[..., None] - self.bgr[area])
        self.alpha[area] += mask[..., 0] * (1 - self.alpha[area])

    def _relief(self, mask: np.ndarray, bulge: float) -> np.ndarray:
        """Light on a rounded body, from above and a little from the left, as a factor."""
        sigma = max(bulge * self.scale / 2, 0.7)
        step = max(int(sigma / 3), 1)
        height, width = mask.shape
        small = cv2.resize(mask, (-(-width // step), -(-height // step)),
                           interpolation=cv2.INTER_AREA)
        soft = cv2.GaussianBlur(small, (0, 0), sigma / step, borderType=cv2.BORDER_CONSTANT)
        across, down = (cv2.Sobel(soft, cv2.CV_32F, *axis) for axis in ((1, 0), (0, 1)))
        light = 0.62 + 0.4 * soft + (0.5 * across + 0.95 * down) / 8 * sigma / step
        return cv2.resize(light, (width, height), interpolation=cv2.INTER_LINEAR).clip(0.35, 1.35)

    def sprite(self, haze: float = 0.0) -> Sprite:
        """Return what was painted, seen through haze (0, clear, to 1, nothing but haze)."""
        fog = self.alpha[..., None] * np.float32(self.look.sky[1])[::-1]
        picture = np.dstack((self.bgr.clip(0, 255) * (1 - haze) + fog * haze, self.alpha * 255))
        levels = [np.round(picture).astype(np.uint8)]
        for _ in range(2):
            levels.append(cv2.resize(levels[-1], None, fx=0.5, fy=0.5,
                                     interpolation=cv2.INTER_AREA))
        return Sprite(tuple(levels), self.things,
                      (-self.left * self.scale, self.top * self.scale), self.scale)


def _swing(joint, lengths, angles, radii) -> list[tuple[float, float, float]]:
    """Balls of a limb that hangs from a joint; angles from straight down, forward positive."""
    (x, y), chain = joint, [(*joint, radii[0])]
    for length, angle, radius in zip(lengths, angles, radii[1:]):
        x, y = x + length * np.sin(angle), y - length * np.cos(angle)
        chain.append((x, y, radius))
    return chain


def _gait(phase: float, reach: float) -> tuple[float, float]:
    """Angles of thigh and shin at a phase (0…1) of the step."""
    thigh = reach * np.sin(2 * np.pi * phase)
    return thigh, thigh - 1.6 * reach * max(np.cos(2 * np.pi * phase), 0.1)


_SKINS = ((236, 196, 166), (214, 164, 126), (160, 108, 76), (104, 70, 50))
_CLOTHES = ((196, 44, 48), (232, 176, 44), (38, 92, 158), (40, 128, 92), (238, 236, 226),
            (38, 42, 54), (124, 66, 140), (226, 118, 58), (88, 160, 196), (130, 104, 80))
_TROUSERS = ((46, 58, 92), (34, 36, 42), (96, 86, 70), (72, 92, 120), (150, 132, 104))
_PAINTS = ((192, 32, 38), (28, 78, 158), (226, 226, 222), (48, 52, 58), (232, 178, 40),
           (40, 120, 92), (128, 148, 164), (214, 104, 44))
_RUBBER, _STEEL, _GLASS = (34, 34, 36), (176, 180, 186), (70, 98, 118)


def pick(rng, options):
    """Choose one of the options by chance."""
    return options[rng.integers(len(options))]


def _person(c: Canvas, rng, phase: float, seated: bool = False) -> None:
    """Paint somebody who walks, or who pedals where ``seated``."""
    skin, top, legs = pick(rng, _SKINS), pick(rng, _CLOTHES), pick(rng, _TROUSERS)
    hair = pick(rng, ((44, 30, 24), (96, 62, 36), (190, 150, 90), (150, 148, 146)))
    style, hat, bag = rng.random(3)
    second = pick(rng, _CLOTHES)
    rows = rng.uniform(18, 40)
    stripes = {} if style > 0.4 or seated else {
        'second': second, 'pattern': lambda x, y: np.sin(rows * y) > 0.3}
    bob = 0 if seated else 0.02 * np.cos(4 * np.pi * phase)
    hip, neck = ((-0.2, 0.98), (0.08, 1.48)) if seated else ((0, 0.93 + bob), (0.03, 1.47 + bob))
    lift = np.float64([neck[0] - 0.03, neck[1] - 1.47])

    def limb(step: float, shade: float) -> None:
        angle = 2 * np.pi * step
        if seated:
            angles = 1.05 + 0.42 * np.sin(angle), 0.0 + 0.45 * np.cos(angle)
        else:
            angles = _gait(step, 0.5)
        chain = _swing(hip, (0.44, 0.42), angles, (0.115, 0.085, 0.06))
        c.blob(chain, np.multiply(legs, shade), grain=0.08, part='leg')
        x, y, _ = chain[-1]
        c.blob(((x, y - 0.02, 0.06), (x + 0.15, y - 0.03, 0.045)),
               np.multiply((60, 40, 34), shade), part='leg')

    def arm(step: float, shade: float) -> None:
        swing = 0.9 if seated else 0.55 * np.sin(2 * np.pi * step)
        chain = _swing((neck[0] - 0.02, neck[1] - 0.08), (0.3, 0.26),
                       (swing, swing + 0.35), (0.085, 0.065, 0.05))
        c.blob(chain, np.multiply(top, shade), part='arm')
        c.blob((chain[-1],), np.multiply(skin, shade), part='arm')

    arm(phase, 0.72)
    limb(phase + 0.5, 0.72)
    if bag > 0.6:
        x, y = neck[0] - 0.2, neck[1]
        c.blob(((x, y - 0.15, 0.11), (x, y - 0.4, 0.12)), second, part='backpack')
    limb(phase, 1.0)
    chest = ((neck[0] - 0.01, neck[1] - 0.14, 0.15), ((neck[0] + hip[0]) / 2, neck[1] - 0.3, 0.16))
    c.blob(((hip[0], hip[1] + 0.03, 0.145), *chest[::-1]), top, **stripes)
    if style > 0.7 and not seated:
        c.polygon(((-0.15, 1.1), (0.15, 1.1), (0.24, 0.58), (-0.24, 0.58)), top, 1, 0.1)
    head = lift + (0.05, 1.63)
    c.blob(((*(lift + (0.02, 1.47)), 0.06), (*head, 0.06)), np.multiply(skin, 0.85), part='head')
    c.blob(((*head, 0.105), (*(head + (0.01, 0.05)), 0.105)), skin, part='head')
    c.blob(((*(head + (-0.05, 0.0)), 0.08), (*(head + (-0.03, 0.09)), 0.095),
            (*(head + (0.05, 0.13)), 0.06)), second if hat > 0.7 else hair, part='head')
    arm(phase + 0.5, 1.0)


def _bicycle(c: Canvas, rng, phase: float) -> None:
    """Paint a bicycle."""
    paint = pick(rng, _PAINTS)
    for x in (-0.56, 0.56):
        c.blob(((x, 0.37, 0.37),), _RUBBER, part='wheel')
        c.blob(((x, 0.37, 0.30),), pick(rng, ((196, 196, 190), (210, 190, 150))), grain=0.02,
               part='wheel')
        for spoke in (np.arange(6) + phase) * np.pi / 3:
            c.blob(((x, 0.37, 0.02), (x + 0.3 * np.cos(spoke), 0.37 + 0.3 * np.sin(spoke), 0.01)),
                   (110, 112, 116), part='wheel')
    for tube in (((-0.56, 0.37), (-0.1, 0.35)), ((-0.1, 0.35), (-0.22, 0.82)),
                 ((-0.2, 0.76), (0.38, 0.8)), ((-0.1, 0.35), (0.38, 0.74)),
                 ((-0.56, 0.37), (-0.2, 0.76)), ((0.56, 0.37), (0.36, 0.95))):
        c.blob([(*end, 0.045) for end in tube], paint)
    c.blob(((-0.36, 0.88, 0.05), (-0.14, 0.88, 0.035)), _RUBBER)
    c.blob(((0.3, 0.98, 0.035), (0.46, 0.98, 0.035)), _RUBBER)
    c.blob(((-0.1, 0.35, 0.1),), _STEEL)


@dataclass(frozen=True)
class _Body:
    """Outline of a vehicle, its panes, the x of its wheels and their radius (m)."""

    outline: tuple
    panes: tuple
    wheels: tuple[float, ...]
    radius: float = 0.33
    smooth: int = 2
    cabin: tuple = ()


_VEHICLES = {
    'car': (
        _Body(((-2.1, 0.3), (-2.12, 0.95), (-1.6, 1.05), (-0.95, 1.48), (0.35, 1.5), (1.05, 1.0),
               (1.95, 0.86), (2.12, 0.6), (2.1, 0.3)),
              (((-1.4, 1.05), (-0.88, 1.39), (-0.3, 1.41), (-0.3, 1.03)),
               ((-0.2, 1.03), (-0.2, 1.41), (0.3, 1.41), (0.82, 1.0))), (-1.32, 1.32)),
        _Body(((-1.9, 0.3), (-1.95, 1.1), (-1.7, 1.6), (0.2, 1.64), (0.9, 1.12), (1.75, 0.98),
               (1.95, 0.6), (1.9, 0.3)),
              (((-1.68, 1.12), (-1.5, 1.5), (-0.6, 1.53), (-0.6, 1.12)),
               ((-0.5, 1.12), (-0.5, 1.53), (0.15, 1.53), (0.66, 1.12))), (-1.2, 1.2), 0.37),
        _Body(((-2.3, 0.32), (-2.3, 1.9), (-2.1, 2.1), (0.9, 2.1), (1.6, 1.3), (2.2, 1.15),
               (2.3, 0.6), (2.25, 0.32)),
              (((-2.0, 1.3), (-2.0, 1.85), (-0.6, 1.85), (-0.6, 1.3)),
               ((-0.45, 1.3), (-0.45, 1.85), (0.25, 1.85), (0.25, 1.3)),
               ((0.38, 1.3), (0.38, 1.85), (0.82, 1.85), (1.3, 1.3))), (-1.45, 1.45), 0.37)),
    'bus': (
        _Body(((-4.2, 0.35), (-4.25, 2.75), (-4.1, 2.95), (4.0, 2.95), (4.25, 2.6), (4.3, 0.9),
               (4.2, 0.35)),
              tuple(((x, 1.45), (x, 2.5), (x + 1.1, 2.5), (x + 1.1, 1.45))
                    for x in np.arange(-3.95, 3.0, 1.25)) +
              (((3.6, 1.3), (3.6, 2.55), (4.1, 2.5), (4.22, 1.3)),), (-2.6, 2.6), 0.46, 1),),
    'truck': (
        _Body(((-3.2, 0.7), (-3.2, 2.9), (1.5, 2.9), (1.5, 0.7)), (), (-2.2, -1.2, 2.35), 0.45, 0,
              ((1.55, 0.4), (1.55, 2.45), (2.5, 2.45), (3.05, 1.5), (3.15, 0.4))),)}


def _vehicle(kind: str):
    """Return the painter of a kind of vehicle."""
    def paint(c: Canvas, rng, phase: float) -> None:
        body = pick(rng, _VEHICLES[kind])
        colour, second = pick(rng, _PAINTS), pick(rng, _PAINTS)
        nose = max(x for x, _ in body.outline + body.cabin)
        tail = min(x for x, _ in body.outline)
        trim = {'second': second, 'pattern': lambda x, y: (y > 0.95) & (y < 1.3)}
        c.box(tail + 0.25, 0.24, nose - tail - 0.5, 0.5, (28, 28, 30))
        c.polygon(body.outline, colour, body.smooth, 0.3, grain=0.02,
                  **(trim if kind != 'car' else {}))
        if body.cabin:
            c.polygon(body.cabin, second, 1, 0.25, grain=0.02)
            c.polygon(((1.9, 1.5), (1.9, 2.2), (2.45, 2.2), (2.85, 1.5)), _GLASS, part='window')
        for pane in body.panes:
            c.polygon(pane, _GLASS, 1, second=(196, 214, 224), grain=0.02, part='window',
                      pattern=lambda x, y: 0.75 * ((x + 1.3 * y) % 1.7 < 0.5))
        if kind == 'car':
            c.box(tail + 0.1, 0.72, nose - tail - 0.2, 0.035, np.multiply(colour, 0.6))
            c.box(-0.2, 0.82, 0.2, 0.04, _STEEL)
        on = bool(c.look.lit)
        c.blob(((nose - 0.12, 0.74, 0.09),), (255, 246, 210) if on else (226, 226, 216), glow=on,
               part='light')
        c.blob(((tail + 0.1, 0.8, 0.08),), (255, 40, 30) if on else (150, 26, 26), glow=on,
               part='light')
        for x in body.wheels:
            c.blob(((x, body.radius, body.radius + 0.05),), (24, 24, 26), part='wheel')
            c.blob(((x, body.radius, body.radius),), _RUBBER, part='wheel')
            c.blob(((x, body.radius, 0.6 * body.radius),), _STEEL, part='wheel')
            for spoke in (np.arange(5) - phase) * 0.4 * np.pi:
                c.blob(((x + 0.38 * body.radius * np.cos(spoke),
                         body.radius * (1 + 0.38 * np.sin(spoke)), 0.05),), (70, 72, 76),
                       part='wheel')
        if on:
            c.halo(nose, 0.74, 0.7, (150, 140, 100))
    return paint


@dataclass(frozen=True)
class _Beast:
    """Chains of balls that make an animal with four legs, and the colours that it comes in."""

    body: tuple
    neck: tuple
    head: tuple
    tail: tuple
    hips: tuple            # x, y of hind and of fore legs
    leg: tuple             # lengths of thigh and shin, then three radii
    coats: tuple           # (main, second) colours
    reach: float = 0.4
    extras: tuple = ()     # (chain, 'main' | 'second' | RGB, part if not head), painted last
    pattern: str = ''
    foot: tuple[int, int, int] = (70, 58, 50)


_BEASTS = {
    'dog': _Beast(
        ((-0.42, 0.64, 0.19), (0.0, 0.63, 0.18), (0.38, 0.66, 0.23)),
        ((0.42, 0.74, 0.18), (0.62, 0.96, 0.13)), ((0.64, 1.0, 0.15), (0.9, 0.93, 0.08)),
        ((-0.55, 0.74, 0.07), (-0.8, 0.98, 0.05), (-0.86, 1.08, 0.04)),
        ((-0.42, 0.6), (0.4, 0.58)), (0.3, 0.3, 0.13, 0.075, 0.06),
        (((176, 120, 66), (236, 214, 176)), ((52, 44, 40), (190, 130, 70)),
         ((224, 216, 200), (120, 76, 44)), ((140, 134, 128), (240, 238, 232))), 0.5,
        ((((0.56, 1.08, 0.08), (0.52, 0.92, 0.07)), 'second'),
         (((0.96, 0.95, 0.04),), (24, 22, 22)), (((0.74, 1.04, 0.022),), (20, 18, 18))), 'spots'),
    'horse': _Beast(
        ((-0.72, 1.22, 0.34), (0.0, 1.15, 0.32), (0.6, 1.2, 0.35)),
        ((0.68, 1.35, 0.28), (1.12, 1.86, 0.17)), ((1.12, 1.9, 0.17), (1.5, 1.62, 0.1)),
        ((-0.98, 1.38, 0.09), (-1.2, 1.1, 0.12), (-1.22, 0.7, 0.07)),
        ((-0.75, 1.12), (0.62, 1.08)), (0.52, 0.54, 0.2, 0.1, 0.08),
        (((128, 74, 42), (44, 30, 26)), ((70, 46, 36), (30, 24, 24)),
         ((214, 208, 198), (240, 238, 234)), ((182, 128, 70), (236, 224, 200))), 0.45,
        ((((1.12, 2.04, 0.1), (0.84, 1.78, 0.11), (0.56, 1.5, 0.09)), 'second', ''),
         (((1.1, 2.02, 0.05), (1.12, 2.14, 0.03)), 'main'),
         (((1.26, 1.86, 0.025),), (16, 14, 14)))),
    'elephant': _Beast(
        ((-1.1, 1.75, 0.78), (0.0, 1.72, 0.82), (0.8, 1.85, 0.78)),
        ((1.0, 2.0, 0.6), (1.5, 2.25, 0.5)), ((1.6, 2.25, 0.52), (1.85, 1.95, 0.36)),
        ((-1.82, 1.9, 0.07), (-1.98, 1.4, 0.05), (-1.98, 1.1, 0.07)),
        ((-1.2, 1.3), (0.9, 1.3)), (0.6, 0.5, 0.42, 0.31, 0.3),
        (((128, 124, 126), (150, 132, 128)), ((112, 104, 98), (138, 118, 108)),
         ((146, 138, 130), (168, 146, 138))), 0.26,
        ((((1.95, 1.9, 0.3), (2.2, 1.35, 0.2), (2.2, 0.75, 0.15), (2.42, 0.48, 0.11)), 'main'),
         (((1.95, 1.6, 0.07), (2.42, 1.45, 0.03)), (238, 228, 204)),
         (((1.3, 2.35, 0.36), (1.12, 2.0, 0.42), (1.2, 1.65, 0.22)), 'second'),
         (((1.82, 2.3, 0.04),), (20, 18, 18))), 'hide', (116, 104, 98)),
    'giraffe': _Beast(
        ((-0.62, 2.0, 0.4), (0.0, 2.05, 0.42), (0.55, 2.2, 0.46)),
        ((0.62, 2.4, 0.38), (1.3, 3.6, 0.2)), ((1.3, 3.72, 0.2), (1.74, 3.52, 0.11)),
        ((-0.98, 2.1, 0.06), (-1.1, 1.6, 0.05), (-1.1, 1.3, 0.09)),
        ((-0.68, 1.9), (0.62, 1.95)), (0.95, 0.92, 0.25, 0.13, 0.1),
        (((232, 196, 132), (150, 88, 40)), ((238, 214, 164), (120, 66, 36)),
         ((222, 178, 104), (104, 58, 34))), 0.33,
        ((((1.2, 3.85, 0.05), (1.16, 4.05, 0.06)), (84, 56, 40)),
         (((1.34, 3.88, 0.05), (1.32, 4.06, 0.06)), (84, 56, 40)),
         (((1.16, 3.76, 0.1), (1.02, 3.72, 0.05)), 'main'), (((1.46, 3.76, 0.03),), (18, 14, 14))),
        'patches')}


def _patches(x, y):
    """Cells of a jittered grid with seams between them: a giraffe's coat."""
    x, y = np.broadcast_arrays(x / 0.3, y / 0.3)
    near = np.full((2, *x.shape), 9.0, np.float32)
    for dx in (-1, 0, 1):
        for dy in (-1, 0, 1):
            i, j = np.floor(x) + dx, np.floor(y) + dy
            distance = np.hypot(i + 0.5 + 0.4 * np.sin(7.1 * i + 3.7 * j) - x,
                                j + 0.5 + 0.4 * np.sin(5.3 * i + 9.1 * j) - y)
            near[1] = np.minimum(near[1], np.maximum(near[0], distance))
            near[0] = np.minimum(near[0], distance)
    return near[1] - near[0] > 0.16


_PATTERNS = {
    'patches': _patches,
    'spots': lambda x, y: np.sin(5.3 * x + 1.2) + np.sin(7.9 * y - 4.4 * x + 0.5) > 0.75,
    'hide': lambda x, y: 0.5 + 0.25 * noise(x, 3 * y, 4.0).clip(-2, 2)}


def _beast(kind: str):
    """Return the painter of a kind of animal."""
    def paint(c: Canvas, rng, phase: float) -> None:
        beast = _BEASTS[kind]
        main, second = pick(rng, beast.coats)
        coat = {'second': second, 'pattern': _PATTERNS[beast.pattern]} if beast.pattern else {}
        colours = {'main': main, 'second': second}

        def legs(side: float, shade: float) -> None:
            for (x, y), ahead in zip(beast.hips, (0.0, 0.25)):
                angles = _gait(phase + side + ahead, beast.reach)
                chain = _swing((x, y), beast.leg[:2], angles, beast.leg[2:])
                tones = {**coat, 'second': np.multiply(second, shade)} if coat else {}
                c.blob(chain, np.multiply(main, shade), part='leg', **tones)
                c.blob((chain[-1], (chain[-1][0] + 0.5 * beast.leg[-1], *chain[-1][1:])),
                       np.multiply(beast.foot, shade), part='leg')

        legs(0.5, 0.66)
        c.blob(beast.tail, second, part='tail')
        for chain, part in ((beast.body, ''), (beast.neck, ''), (beast.head, 'head')):
            c.blob(chain, main, part=part, **coat)
        legs(0.0, 1.0)
        for chain, colour, *part in beast.extras:
            c.blob(chain, colours.get(colour, colour) if isinstance(colour, str) else colour,
                   part=part[0] if part else 'head')
    return paint


_PLUMAGE = (((236, 236, 232), (120, 126, 136), (236, 170, 40)),
            ((240, 130, 140), (214, 70, 92), (40, 34, 34)),
            ((34, 110, 190), (236, 186, 40), (40, 38, 38)),
            ((96, 72, 54), (226, 214, 190), (220, 170, 60)))


def _bird(c: Canvas, rng, phase: float, flying: bool = False) -> None:
    """Paint a large bird, on foot or on the wing."""
    main, second, beak = pick(rng, _PLUMAGE)
    flap = np.sin(2 * np.pi * phase)
    base = 0.95 if flying else 0.75

    def wing(shade: float, shift: float) -> None:
        x, y = shift - 0.3, base + 0.2 + 0.75 * flap
        elbow = (base + y) / 2
        c.polygon(((-0.28 + shift, base), (0.28 + shift, base + 0.06), (x + 0.42, elbow + 0.1),
                   (x + 0.1, y + 0.1), (x - 0.35, y), (x - 0.2, elbow - 0.05)),
                  np.multiply(second, shade), 2, 0.08, second=np.multiply(main, shade),
                  pattern=lambda u, v: np.abs(v - base) < 0.3, part='wing')

    if flying:
        wing(0.7, 0.1)
    else:
        for side, shade in ((0.5, 0.7), (0.0, 1.0)):
            chain = _swing((0, base - 0.1), (0.32, 0.3), _gait(phase + side, 0.4),
                           (0.07, 0.05, 0.05))
            c.blob((*chain, (chain[-1][0] + 0.14, chain[-1][1], 0.04)), np.multiply(beak, shade),
                   part='leg')
    c.blob(((-0.7, base - 0.02, 0.1), (-0.35, base, 0.14), (0.02, base, 0.22),
            (0.28, base + 0.03, 0.18)), main)
    reach = (0.56, base + 0.12) if flying else (0.42, base + 0.5)
    c.blob(((0.26, base + 0.05, 0.15), (*reach, 0.11)), main)
    c.blob(((*reach, 0.11),), None, part='head')
    c.blob(((reach[0] + 0.1, reach[1], 0.06), (reach[0] + 0.28, reach[1] - 0.04, 0.02)), beak,
           part='head')
    c.blob(((reach[0] + 0.04, reach[1] + 0.03, 0.022),), (20, 18, 20), part='head')
    if flying:
        wing(1.0, 0.0)
    else:
        c.blob(((0.1, base + 0.02, 0.14), (-0.5, base, 0.07)), second, part='wing')


def _tree(c: Canvas, rng, phase: float) -> None:
    """Paint a tree."""
    c.blob(((0, 0, 0.2), (0.03, 1.0, 0.14), (0, 2.4, 0.11)), (92, 70, 52), grain=0.2,
           part='trunk')
    leaves = pick(rng, c.look.leaves)
    angles, away = rng.uniform(0, 2 * np.pi, 70), np.sqrt(np.linspace(1, 0, 70))
    for angle, far, dark in zip(angles, away, rng.uniform(0.8, 1.12, 70)):
        x, y = 1.05 * far * np.cos(angle), 3.55 + 0.95 * far * np.sin(angle)
        c.blob(((x, y, rng.uniform(0.2, 0.36)),),
               np.multiply(leaves, dark * (0.72 + 0.2 * (y - 2.6) - 0.08 * x)), grain=0.3)


def _lamp(c: Canvas, rng, phase: float) -> None:
    """Paint a street lamp."""
    c.blob(((0, 0, 0.09), (0, 0.3, 0.06), (0, 3.2, 0.04)), (52, 58, 62), part='pole')
    c.blob(((0, 3.2, 0.04), (0.15, 3.42, 0.035), (0.5, 3.45, 0.05)), (52, 58, 62), part='pole')
    c.blob(((0.4, 3.4, 0.06), (0.62, 3.4, 0.06)), (255, 236, 180), glow=bool(c.look.lit),
           part='light')
    if c.look.lit:
        c.halo(0.5, 3.4, 1.1, (190, 150, 80))


@dataclass(frozen=True)
class Kind:
    """A kind of thing: how it is painted, left, right and top (m), what it is, its gait."""

    paint: Callable[..., None]
    extent: tuple[float, float, float]
    thing: str             # of things.THINGS
    stride: float = 1.0    # m a cycle
    phases: int = 12
    height: float = 0.0    # above ground, m
    nearest: float = 5.2   # depth where it is seen at its full resolution, m


KINDS = {
    'person': Kind(_person, (-0.6, 0.7, 1.95), 'person/pedestrian', 1.5, nearest=3.8),
    'rider': Kind(partial(_person, seated=True), (-0.6, 0.7, 1.95), 'person/rider', 4.0,
                  height=0.08),
    'bicycle': Kind(_bicycle, (-1.0, 1.0, 1.1), 'vehicle/bicycle', 0.39, 3),
    'car': Kind(_vehicle('car'), (-2.6, 3.1, 2.2), 'vehicle/auto/car', 0.42, 3),
    'bus': Kind(_vehicle('bus'), (-4.5, 5.1, 3.1), 'vehicle/auto/bus', 0.57, 3),
    'truck': Kind(_vehicle('truck'), (-3.4, 3.9, 3.1), 'vehicle/auto/truck', 0.57, 3),
    'dog': Kind(_beast('dog'), (-1.1, 1.2, 1.4), 'animal/dog', 1.0, nearest=3.8),
    'horse': Kind(_beast('horse'), (-1.6, 1.9, 2.4), 'animal/horse', 2.2),
    'elephant': Kind(_beast('elephant'), (-2.3, 2.8, 3.0), 'animal/elephant', 1.9),
    'giraffe': Kind(_beast('giraffe'), (-1.5, 2.1, 4.3), 'animal/giraffe', 2.8),
    'bird': Kind(_bird, (-1.0, 1.0, 1.6), 'animal/bird', 0.9, nearest=3.8),
    'flier': Kind(partial(_bird, flying=True), (-1.0, 1.1, 2.1), 'animal/bird', 2.2, height=1.2),
    'tree': Kind(_tree, (-1.8, 1.8, 5.3), 'vegetation/tree', phases=1),
    'lamp': Kind(_lamp, (-1.2, 1.7, 4.6), 'lamp', phases=1)}
