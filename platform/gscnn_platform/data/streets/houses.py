"""Draws the houses of a street: walls with shops, courses, windows and cornices, under flat or pitched roofs.

All of it has the class `building`. Its inner edges are as strong as its outline, but are not boundaries.
"""

from dataclasses import dataclass

import numpy as np

from gscnn_platform.data.streets.stage import BUILDING, Camera, Colour, Metres, Stage, corners, lit, mix

WALL_COLOURS: tuple[Colour, ...] = (
    (196, 178, 150), (168, 96, 74), (150, 72, 58), (214, 206, 190), (126, 124, 122), (96, 98, 104),
    (206, 170, 110), (150, 160, 168), (228, 224, 216), (176, 146, 134), (112, 100, 88), (122, 138, 128),
)  # fmt: skip
ROOF_COLOURS: tuple[Colour, ...] = ((138, 74, 58), (84, 80, 84), (110, 92, 84), (64, 66, 74))


@dataclass(frozen=True)
class House:
    """A box on `side` (-1 left, 1 right) of the street, from z0 to z1, `height` metres high; `roof` is 0 if flat."""

    side: int
    z0: float
    z1: float
    height: float
    roof: float
    colour: Colour


@dataclass(frozen=True)
class Wall:
    """An upright wall over the ground from `start` to `end` (X, Z), `height` metres high."""

    start: tuple[float, float]
    end: tuple[float, float]
    height: float

    @property
    def length(self) -> float:
        """Metres."""
        return float(np.hypot(self.end[0] - self.start[0], self.end[1] - self.start[1]))

    def at(self, camera: Camera, along: np.ndarray, up: Metres) -> np.ndarray:
        """Canvas points [*S, 2] of the points `along` (0..1 from start to end) and `up` (metres), each of shape S."""
        x = self.start[0] + (self.end[0] - self.start[0]) * along
        z = self.start[1] + (self.end[1] - self.start[1]) * along
        return camera.project(x, up, z)

    def panels(self, camera: Camera, along: tuple[Metres, Metres], up: tuple[Metres, Metres]) -> np.ndarray:
        """Upright rectangles on the wall, canvas points [N, 4, 2], from their ranges of `along` and `up`."""
        (a0, a1), (y0, y1) = along, up
        return self.at(camera, corners(a0, a1, a1, a0), corners(y0, y0, y1, y1))


def plan_houses(rng: np.random.Generator, side: int, far: float) -> list[House]:
    """Houses on one side, from the camera to `far` metres, with gaps between some of them."""
    low, houses, z = rng.random() < 0.4, [], float(rng.uniform(-4, 4))
    while z < far:
        depth = float(rng.uniform(7, 18))
        height = float(rng.uniform(4, 7) if low else rng.uniform(7, 17))
        roof = float(rng.uniform(1.5, 3.5)) if rng.random() < (0.8 if low else 0.25) else 0.0
        colour = lit(WALL_COLOURS[int(rng.integers(len(WALL_COLOURS)))], float(rng.uniform(0.85, 1.1)))
        if z + depth > 2:
            houses.append(House(side, z, z + depth, height, roof, colour))
        z += depth + (float(rng.uniform(1.5, 8)) if rng.random() < 0.45 else 0.0)
    return houses


def draw_house(stage: Stage, house: House, front: float) -> None:
    """Draws the two walls that the camera can see, and the roof; `front` is the X of the wall along the street."""
    camera, light, rng = stage.camera, stage.light, stage.rng
    z0, back = max(house.z0, 1.4), front + house.side * 11.0
    if house.z1 - z0 < 0.5:
        return
    street_colour = light.haze(lit(house.colour, light.on_wall(house.side)), (z0 + house.z1) / 2)
    gable_colour = light.haze(lit(house.colour, light.on_wall(0)), z0)
    if house.roof:
        tiles = lit(ROOF_COLOURS[int(rng.integers(len(ROOF_COLOURS)))], 0.5 + 0.5 * light.on_wall(house.side))
        ridge, top = (front + back) / 2, house.height + house.roof
        slope = camera.project(
            np.array([front, front, ridge, ridge]),
            np.array([house.height, house.height, top, top]),
            np.array([z0, house.z1, house.z1, z0]),
        )
        stage.canvas.fill(slope, light.haze(tiles, z0), BUILDING)
        gable = camera.project(np.array([front, back, ridge]), np.array([house.height, house.height, top]), z0)
        stage.canvas.fill(gable, gable_colour, BUILDING)
    style = rng.random(9)
    _draw_wall(stage, Wall((front, z0), (back, z0), house.height), gable_colour, style)
    _draw_wall(stage, Wall((front, z0), (front, house.z1), house.height), street_colour, style)


def _draw_wall(stage: Stage, wall: Wall, colour: Colour, style: np.ndarray) -> None:
    """Draws one wall; `style` [9] in 0..1 sets its look, so that the two walls of a house match."""
    canvas, camera, light = stage.canvas, stage.camera, stage.light
    across = wall.at(camera, np.array([0.0, 1.0]), 0.0)[:, 0]
    seen = abs(float(across[1] - across[0]))
    if across.max() < -5 or across.min() > canvas.width + 5:
        return
    canvas.fill(wall.panels(camera, (0.0, 1.0), (0.0, wall.height)), colour, BUILDING)
    if seen < 3:
        return
    base = 2.8 + style[0]
    other = WALL_COLOURS[int(style[1] * len(WALL_COLOURS))]
    if style[2] < 0.35:  # Courses of brick or boards.
        levels = np.arange(0.6, wall.height, 0.6)[:, None]
        paths = wall.at(camera, np.array([[0.0, 1.0]]), levels)
        canvas.lines(paths, 0.4 * canvas.thin, lit(colour, 0.88), BUILDING)
    if style[3] < 0.6:  # A ground floor of another colour, and the edge above it.
        canvas.fill(wall.panels(camera, (0.0, 1.0), (0.0, base)), lit(mix(colour, other, 0.5), 0.85), BUILDING)
        canvas.fill(wall.panels(camera, (0.0, 1.0), (base - 0.15, base + 0.15)), lit(colour, 1.15), BUILDING)
    elif style[3] < 0.75:  # A tall stripe, painted or in shade.
        canvas.fill(wall.panels(camera, (0.55, 0.85), (0.0, wall.height)), mix(colour, other, 0.45), BUILDING)
    canvas.fill(wall.panels(camera, (0.0, 1.0), (wall.height - 0.35, wall.height)), lit(colour, 0.78), BUILDING)
    pitch, storey = 2.0 + 1.6 * style[4], 2.7 + 0.8 * style[5]
    columns, rows = max(1, int(wall.length / pitch)), int((wall.height - base - 0.5) / storey)
    share = 0.35 + 0.3 * style[6]
    start = (np.arange(columns) + 0.5 - share / 2) / columns
    pane = lit(mix((46, 54, 64), light.sky_low, 0.3 * style[7]), 0.9)
    if rows > 0:
        a0, y0 = (grid.ravel() for grid in np.meshgrid(start, base + 0.7 + storey * np.arange(rows)))
        a1, y1 = a0 + share / columns, y0 + storey * (0.42 + 0.2 * style[8])
        rim = 0.12 * share / columns
        if seen > 12:
            canvas.fill(wall.panels(camera, (a0 - rim, a1 + rim), (y0 - 0.12, y1 + 0.1)), lit(colour, 1.22), BUILDING)
        panes = wall.panels(camera, (a0, a1), (y0, y1))
        canvas.fill(panes, pane, BUILDING)
        special = stage.rng.random(len(panes))
        if light.lit_windows and (warm := panes[special < light.lit_windows]).size:
            canvas.fill(warm, (255, 224, 150), BUILDING)
        if (blind := panes[special > 0.8]).size:
            canvas.fill(blind, mix(pane, (225, 220, 205), 0.55), BUILDING)
        if seen > 25:
            middle = (a0 + a1) / 2
            bars = wall.panels(camera, (middle - 0.3 * rim, middle + 0.3 * rim), (y0, y1))
            canvas.fill(bars, lit(colour, 1.15), BUILDING)
    if base < wall.height:
        shop = lit(pane, 1.1) if style[1] < 0.7 else mix((255, 220, 150), pane, 0.5 - light.lit_windows)
        wide = 0.45 * min(1.0, 2.2 * share) / columns
        centre = (np.arange(columns) + 0.5) / columns
        low = np.where(np.arange(columns) % 3 == 1, 0.05, 0.75)  # Every third opening is a door.
        canvas.fill(wall.panels(camera, (centre - wide, centre + wide * 0.8), (low, base - 0.6)), shop, BUILDING)
        if style[7] < 0.4 and seen > 8:
            awning = wall.panels(camera, (centre - wide * 1.1, centre + wide), (base - 0.75, base - 0.3))
            canvas.fill(awning, mix(other, (190, 60, 50), style[0]), BUILDING)
