"""The stage for drawing street scenes: a canvas of colour and label, a camera, and the light.

Lengths on the canvas are *units*: the frame is 128 units high, whatever its size in pixels. Lengths in the world
are metres: X to the right, Y up from the ground, Z away from the camera.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from gscnn.constants import IGNORE_INDEX

SKY, BUILDING, ROAD, PAVEMENT, FENCE, POLE, WIRE, CAR, PERSON = range(9)
VOID = IGNORE_INDEX
UNITS_HIGH = 128.0
NEAR = 1.3  # Metres: the nearest distance for projections, because coordinates would overflow below it.

Colour = tuple[float, float, float]
Metres = float | np.ndarray
Points = Sequence[np.ndarray] | np.ndarray


class Canvas:
    """Colour and label, drawn together at `scale` times the frame's size; the label is the fourth channel."""

    def __init__(self, height: int, width: int, scale: int) -> None:
        self.pixels = np.zeros((height * scale, width * scale, 4), np.uint8)
        self.per_unit = height * scale / UNITS_HIGH
        self.width = UNITS_HIGH * width / height
        """Width of the frame in units."""
        self.thin = max(1.0, UNITS_HIGH / height)
        """Minimum width of drawn objects, in units: 1 unit, and at least one pixel."""

    def fill(self, polygons: Points, colour: Colour, label: int) -> None:
        """Fills polygons [N, P, 2], or one polygon [P, 2], in units. They must not overlap each other."""
        points = self.to_pixels(polygons)
        cv2.fillPoly(self.pixels, list(points) if points.ndim == 3 else [points], (*colour, label))

    def lines(self, paths: Points, width: float, colour: Colour, label: int) -> None:
        """Draws open paths [N, P, 2], or one path [P, 2], in units, `width` units wide."""
        points = self.to_pixels(paths)
        thickness = max(1, round(width * self.per_unit))
        cv2.polylines(
            self.pixels, list(points) if points.ndim == 3 else [points], False, (*colour, label), thickness=thickness
        )

    def ellipse(self, centre: Points, radii: tuple[float, float], colour: Colour, label: int) -> None:
        """Fills an upright ellipse; centre and radii (x, y) in units."""
        x, y = self.to_pixels(centre).tolist()
        axes = (max(1, round(radii[0] * self.per_unit)), max(1, round(radii[1] * self.per_unit)))
        cv2.ellipse(self.pixels, (x, y), axes, 0, 0, 360, (*colour, label), thickness=-1)

    def to_pixels(self, points: Points) -> np.ndarray:
        """Points in units -> int32 canvas pixels of the same shape."""
        scaled = np.asarray(points, np.float32) * self.per_unit
        return np.rint(np.maximum(np.minimum(scaled, 30000), -30000)).astype(np.int32)


@dataclass(frozen=True)
class Camera:
    """A pinhole camera that looks along the street; `vanishing` and `focal` in units, `height` in metres."""

    vanishing: tuple[float, float]
    focal: float
    height: float
    roll: float

    def project(self, x: Metres, y: Metres, z: Metres) -> np.ndarray:
        """World points in metres, broadcast to a shape S -> canvas points [*S, 2] in units."""
        per_metre = self.focal / np.maximum(z, NEAR)
        right, down = x * per_metre, (self.height - np.asarray(y)) * per_metre
        right, down = right - self.roll * down, down + self.roll * right
        points = np.empty((*np.shape(right + down), 2))
        points[..., 0], points[..., 1] = self.vanishing[0] + right, self.vanishing[1] + down
        return points

    def per_metre(self, z: float) -> float:
        """Length of one metre at distance `z`, in units."""
        return self.focal / max(z, NEAR)


@dataclass(frozen=True)
class Light:
    """The light of a time of day. `sun_side` is -1 (left) or 1 (right); `shade` is the brightness of shadows, 0..1."""

    sun_side: int
    shade: float
    slant: float
    cast: Colour
    sky_top: Colour
    sky_low: Colour
    lit_windows: float
    clouds: float

    def on_wall(self, side: int) -> float:
        """Brightness of a wall on `side` of the street (0: a wall that faces the camera)."""
        if side == 0:
            return 0.5 + 0.45 * self.shade
        return 1.05 if side != self.sun_side else self.shade + 0.1

    def haze(self, colour: Colour, z: float) -> Colour:
        """`colour` as it looks from `z` metres away."""
        clear = float(np.exp(-z / 160))
        return mix(self.sky_low, colour, clear)


def draw_light(rng: np.random.Generator) -> Light:
    """The light of a clear day, an overcast day or dusk, drawn at random in the proportion 11 : 5 : 4."""
    side = 1 if rng.random() < 0.5 else -1
    warm, slant = rng.uniform(-0.05, 0.05), rng.uniform(0.25, 0.9)
    kind = rng.random()
    if kind < 0.55:
        blue = rng.uniform(0, 1)
        top, low = mix((58, 112, 200), (120, 170, 225), blue), mix((160, 195, 230), (220, 228, 236), blue)
        return Light(
            side, rng.uniform(0.45, 0.62), slant, (1.12 + warm, 1.07, 1.0 - warm), top, low, 0.0, 0.7 * rng.random()
        )
    if kind < 0.8:
        grey = rng.uniform(0, 1)
        top, low = mix((150, 155, 165), (205, 208, 214), grey), mix((195, 198, 202), (238, 238, 238), grey)
        return Light(side, rng.uniform(0.82, 0.92), slant, (0.95, 0.97, 1.0 - warm), top, low, 0.05, 0.6)
    top, low = mix((45, 50, 95), (90, 90, 140), rng.random()), mix((240, 150, 90), (235, 185, 160), rng.random())
    return Light(side, rng.uniform(0.5, 0.7), 1.0, (1.06 + warm, 0.88, 0.8 - warm), top, low, 0.35, rng.random())


def mix(a: Colour, b: Colour, part_of_b: float) -> Colour:
    """The colour `part_of_b` of the way from `a` to `b`."""
    return (
        a[0] + (b[0] - a[0]) * part_of_b,
        a[1] + (b[1] - a[1]) * part_of_b,
        a[2] + (b[2] - a[2]) * part_of_b,
    )


def lit(colour: Colour, factor: float) -> Colour:
    """`colour` times `factor`, within 0..255."""
    return (min(255.0, colour[0] * factor), min(255.0, colour[1] * factor), min(255.0, colour[2] * factor))


def corners(a: Metres, b: Metres, c: Metres, d: Metres) -> np.ndarray:
    """One coordinate of the four corners of N rectangles, [N, 4]; each argument is a number or [N]."""
    out = np.empty((np.broadcast(a, b, c, d).size, 4))
    out[:, 0], out[:, 1], out[:, 2], out[:, 3] = a, b, c, d
    return out


@dataclass(frozen=True)
class Stage:
    """Everything that the drawing functions need."""

    canvas: Canvas
    camera: Camera
    light: Light
    rng: np.random.Generator

    def pick(self, colours: tuple[Colour, ...]) -> Colour:
        """One of `colours`, a little lighter or darker."""
        return lit(colours[int(self.rng.integers(len(colours)))], float(self.rng.uniform(0.88, 1.1)))

    def width(self, metres: float, z: float) -> float:
        """Width in units of something `metres` thick at distance `z`; at least `canvas.thin`."""
        return max(self.canvas.thin, metres * self.camera.per_metre(z))
