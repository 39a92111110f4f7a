"""Draws one street, laid out by a random generator, from far to near.

It is difficult on purpose: shadows, slabs, patches, windows and lane marks are strong edges inside one class; walls in
the colour of the road and cars in the colour of the sky are boundaries with little contrast.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np

from gscnn_platform.data.streets import objects
from gscnn_platform.data.streets.houses import WALL_COLOURS, House, draw_house, plan_houses
from gscnn_platform.data.streets.stage import (
    BUILDING,
    PAVEMENT,
    ROAD,
    SKY,
    UNITS_HIGH,
    VOID,
    Camera,
    Canvas,
    Colour,
    Metres,
    Stage,
    corners,
    draw_light,
    lit,
    mix,
)

FAR = 90.0  # Metres to the houses that close the street.


@dataclass(frozen=True)
class Street:
    """The ground plan, in metres: edges of the road, and the lines on which houses stand, left and right."""

    kerbs: tuple[float, float]
    fronts: tuple[float, float]
    asphalt: Colour
    paving: Colour


@dataclass(frozen=True)
class Item:
    """Something to draw at distance `z`; for its shadow, the area [x0, x1, z0, z1] of its foot, in metres."""

    z: float
    draw: Callable[[], None]
    foot: tuple[float, float, float, float] | None = None
    height: float = 0.0


def draw_scene(rng: np.random.Generator, height: int, width: int, scale: int) -> tuple[np.ndarray, Colour]:
    """One scene, uint8 [height * scale, width * scale, 4]: RGB and label; and the colour of its light."""
    canvas = Canvas(height, width, scale)
    vanishing = (canvas.width * rng.uniform(0.34, 0.66), UNITS_HIGH * rng.uniform(0.44, 0.58))
    camera = Camera(vanishing, UNITS_HIGH * rng.uniform(0.8, 1.05), rng.uniform(1.45, 2.1), rng.uniform(-0.03, 0.03))
    stage = Stage(canvas, camera, draw_light(rng), rng)
    street = _plan(rng)
    houses = [house for side in (-1, 1) for house in plan_houses(rng, side, 0.75 * FAR)]
    items = _items(stage, street)
    _draw_sky(stage)
    _draw_ground(stage, street)
    _draw_shadows(stage, street, houses, items)
    _draw_skyline(stage)
    for house in sorted(houses, key=lambda house: -house.z0):
        draw_house(stage, house, street.fronts[house.side > 0])
    for item in sorted(items, key=lambda item: -item.z):
        item.draw()
    _draw_void(stage)
    return canvas.pixels, stage.light.cast


def _plan(rng: np.random.Generator) -> Street:
    left, right = rng.uniform(3.2, 6.4), rng.uniform(2.5, 4.0)
    fronts = (-left - rng.uniform(2.6, 5.5), right + rng.uniform(2.6, 5.5))
    grey = rng.uniform(66, 124)
    asphalt = (grey, grey, grey * rng.uniform(0.98, 1.08))
    tone = grey * rng.uniform(0.95, 1.1) if rng.random() < 0.3 else rng.uniform(110, 175)
    return Street((-left, right), fronts, asphalt, (tone * 1.02, tone, tone * rng.uniform(0.86, 1.0)))


def _items(stage: Stage, street: Street) -> list[Item]:
    rng, items = stage.rng, []
    for side in (0, 1):
        sign = 2 * side - 1
        kerb, front = street.kerbs[side], street.fronts[side]
        items += _poles_and_wires(stage, kerb + sign * 0.5, kerb, street.fronts[1 - side], masts=rng.random() < 0.6)
        items += _fences(stage, kerb + sign * 0.25, front - sign * 0.3)
        for _ in range(int(rng.integers(2, 5))):
            share, z = float(rng.random()), float(rng.uniform(4.5, 14))
            x = (kerb + sign * 0.9) * share + (front - sign * 0.7) * (1 - share)
            items.append(_person(stage, x, z))
        z = float(rng.uniform(5, 12))
        while z < 45 and rng.random() < 0.8:
            items.append(_car(stage, kerb - sign * 1.05, z, oncoming=side == 0 and rng.random() < 0.5))
            z += float(rng.uniform(5.4, 12))
        if rng.random() < 0.3:
            x, z, height = kerb + sign * 1.2, float(rng.uniform(9, 30)), float(rng.uniform(4.5, 8))
            foot = (x - 0.3 * height, x + 0.3 * height, z - 0.3 * height, z + 0.3 * height)
            items.append(Item(z, partial(objects.draw_tree, stage, x, z, height), foot, 0.5))
    if rng.random() < 0.6:
        items.append(_car(stage, float(rng.uniform(-0.4, 0.3)), float(rng.uniform(9, 26)), oncoming=False))
    if rng.random() < 0.4:
        items.append(_person(stage, float(rng.uniform(*street.kerbs)), float(rng.uniform(7, 14))))
    if rng.random() < 0.3:
        x, y, sag = street.kerbs[0] / 3, float(rng.uniform(5.2, 6.2)), 0.02
        items.append(Item(30.0, partial(objects.draw_wire, stage, (x, y, 1.7), (x, y, FAR), sag)))
    return items


def _person(stage: Stage, x: float, z: float) -> Item:
    height = float(stage.rng.uniform(1.55, 1.95) if stage.rng.random() < 0.88 else stage.rng.uniform(1.05, 1.35))
    stride = float(stage.rng.uniform(0.1, 1.0))
    return Item(
        z, partial(objects.draw_person, stage, x, z, height, stride), (x - 0.2, x + 0.2, z - 0.15, z + 0.15), 1.6
    )


def _car(stage: Stage, x: float, z: float, oncoming: bool) -> Item:
    length, colour = float(stage.rng.uniform(3.7, 4.7)), stage.pick(objects.CAR_COLOURS)
    draw = partial(objects.draw_car, stage, x, z, length, colour, oncoming)
    return Item(z, draw, (x - 0.95, x + 0.95, z - 0.1, z + length), 1.2)


def _poles_and_wires(stage: Stage, x: float, kerb: float, other_front: float, masts: bool) -> list[Item]:
    """A row of lamps or masts along one kerb, the wires between them and across the street, and some signs."""
    rng = stage.rng
    colour, height, step = stage.pick(objects.POLE_COLOURS), float(rng.uniform(5.5, 9)), float(rng.uniform(11, 20))
    kind = "mast" if masts else "lamp"
    places = [float(rng.uniform(4.5, 11)) + step * index for index in range(4)]
    items = [
        Item(
            z,
            partial(objects.draw_pole, stage, x, z, height, kind, colour),
            (x - 0.1, x + 0.1, z - 0.1, z + 0.1),
            height,
        )
        for z in places
        if z < 48
    ]
    if masts:
        sag, offsets = (
            float(rng.uniform(0.3, 1.1)),
            rng.permutation([-0.85, 0.85, -0.6, 0.6])[: int(rng.integers(2, 5))],
        )
        for near, far in zip([places[0] - step, *places], places, strict=False):
            for offset in offsets.tolist():
                y = height - (0.2 if abs(offset) > 0.7 else 0.9)
                ends = (x + offset, y, near), (x + offset, y, far)
                items.append(Item((max(near, 2.0) + far) / 2, partial(objects.draw_wire, stage, *ends, sag)))
    if rng.random() < (0.7 if masts else 0.35):
        z = places[0]
        ends = (x, height - 0.4, z), (other_front, float(rng.uniform(3.4, 4.2)), z + 2.0)
        items.append(Item(z - 0.01, partial(objects.draw_wire, stage, *ends, float(rng.uniform(0.2, 0.9)))))
    for _ in range(int(rng.integers(0, 3))):
        z, kind = float(rng.uniform(5, 22)), ("sign", "sign", "signal", "bollard")[int(rng.integers(4))]
        tall = {"sign": rng.uniform(2.2, 2.9), "signal": rng.uniform(3.0, 3.8), "bollard": 1.0}[kind]
        at = kerb + (0.35 if kerb > 0 else -0.35)
        draw = partial(objects.draw_pole, stage, at, z, float(tall), kind, stage.pick(objects.POLE_COLOURS))
        items.append(Item(z, draw, (at - 0.05, at + 0.05, z - 0.05, z + 0.05), float(tall)))
    return items


def _fences(stage: Stage, at_kerb: float, at_front: float) -> list[Item]:
    """A fence on this side in most streets: along the kerb, or a taller one in front of the houses."""
    rng = stage.rng
    if rng.random() > 0.55:
        return []
    kind = ("railing", "mesh", "rails")[int(rng.integers(3))]
    if rng.random() < 0.5:
        x, height = at_kerb, 1.05
    else:
        x, height = at_front, float(rng.uniform(1.3, 2.2))
    colour = stage.pick(((52, 66, 58), (196, 196, 190), (72, 72, 76), (128, 104, 80), (150, 154, 158)))
    z, end, items = float(rng.uniform(2.5, 7)), float(rng.uniform(14, 30)), []
    while z < end:  # In sections, so that it correctly hides people and poles, or is hidden by them.
        nxt = z + float(rng.uniform(3, 5))
        draw = partial(objects.draw_fence, stage, (x, z), (x, nxt), height, kind, colour)
        items.append(Item((z + nxt) / 2, draw, (x - 0.03, x + 0.03, z, nxt), 0.4 * height))
        z = nxt
    return items


def _draw_sky(stage: Stage) -> None:
    """Draws a vertical gradient with soft clouds over the top of the canvas."""
    canvas, light = stage.canvas, stage.light
    rows = np.linspace(0.0, 1.0, 24)[:, None, None] ** 0.8
    gradient = np.asarray(light.sky_top) * (1 - rows) + np.asarray(light.sky_low) * rows
    cloud = cv2.resize(stage.rng.random((6, 7), np.float32), (36, 24), interpolation=cv2.INTER_CUBIC)
    cloud += 0.4 * cv2.resize(stage.rng.random((12, 18), np.float32), (36, 24), interpolation=cv2.INTER_CUBIC)
    cover = np.clip((cloud - 1.05 + 0.5 * light.clouds) * 2.2, 0, 0.85)[..., None]
    bright = np.asarray(mix(light.sky_low, (250, 248, 246), 0.6))
    small = np.zeros((24, 36, 4), np.uint8)
    small[..., :3] = np.clip(gradient * (1 - cover) + bright * cover, 0, 255)
    small[..., 3] = SKY
    high, wide = canvas.pixels.shape[:2]
    top = int(high * 0.62)
    canvas.pixels[:top] = cv2.resize(small, (wide, top), interpolation=cv2.INTER_LINEAR)


def _draw_skyline(stage: Stage) -> None:
    """Draws the distant houses that close the street, across the whole horizon."""
    x = -150.0
    while x < 150:
        wide, tall = float(stage.rng.uniform(8, 24)), float(stage.rng.uniform(5, 20))
        colour = stage.light.haze(lit(stage.pick(WALL_COLOURS), stage.light.on_wall(0)), FAR * 1.4)
        xs = np.array([x, x + wide, x + wide, x])
        stage.canvas.fill(stage.camera.project(xs, np.array([-1, -1, tall, tall]), FAR), colour, BUILDING)
        x += wide


def _ground(camera: Camera, x0: Metres, x1: Metres, z0: Metres, z1: Metres) -> np.ndarray:
    """Rectangles on the ground, [N, 4, 2]; each argument broadcasts to [N]."""
    return camera.project(corners(x0, x1, x1, x0), 0.0, corners(z0, z0, z1, z1))


def _draw_ground(stage: Stage, street: Street) -> None:
    """Draws pavement with slabs, and road with patches, lane marks and sometimes a crossing."""
    canvas, camera, rng = stage.canvas, stage.camera, stage.rng
    bright = 0.55 + 0.45 * stage.light.shade + 0.12
    paving, asphalt = lit(street.paving, bright), lit(street.asphalt, bright)
    canvas.fill(_ground(camera, -400.0, 400.0, 0.5, FAR), paving, PAVEMENT)
    rows = np.geomspace(2.0, 40, 20)
    thin = canvas.thin * 0.45
    for side, (kerb, front) in enumerate(zip(street.kerbs, street.fronts, strict=True)):
        seams = np.linspace(kerb, front, 4)
        along = camera.project(np.stack([seams, seams], -1), 0.0, np.array([1.3, 45.0]))
        across = camera.project(np.array([kerb, front]), 0.0, rows[:, None])
        canvas.lines(along, thin, lit(paving, 0.86), PAVEMENT)
        canvas.lines(across, thin, lit(paving, 0.88), PAVEMENT)
        edge = 0.18 * (2 * side - 1)
        canvas.fill(_ground(camera, kerb, kerb + edge, 0.5, FAR), lit(paving, float(rng.uniform(0.85, 1.25))), PAVEMENT)
    left, right = street.kerbs
    canvas.fill(_ground(camera, left, right, 0.5, FAR), asphalt, ROAD)
    for _ in range(int(rng.integers(1, 5))):
        x, z = rng.uniform(left + 0.2, right - 1.8), rng.uniform(2.5, 20)
        patch = _ground(camera, x, x + rng.uniform(0.8, 1.7), z, z + rng.uniform(0.8, 9))
        canvas.fill(patch, lit(asphalt, float(rng.uniform(0.72, 1.2))), ROAD)
    paint = lit((222, 222, 214), bright * float(rng.uniform(0.75, 1.0)))
    dashes = np.arange(rng.uniform(1.5, 5), 60, 6.0)
    middle = (left + right) / 2
    canvas.fill(_ground(camera, middle - 0.08, middle + 0.08, dashes, dashes + 3.0), paint, ROAD)
    if rng.random() < 0.5:
        inner = np.array([left + 0.3, right - 0.42])
        canvas.fill(_ground(camera, inner, inner + 0.12, 1.3, 70.0), paint, ROAD)
    if rng.random() < 0.35:
        stripes, z = np.arange(left + 0.4, right - 0.5, 1.0), float(rng.uniform(4.5, 11))
        canvas.fill(_ground(camera, stripes, stripes + 0.5, z, z + 3.0), lit(paint, 1.05), ROAD)


def _draw_shadows(stage: Stage, street: Street, houses: list[House], items: list[Item]) -> None:
    """Darkens the ground in the shadows of houses, poles, people and cars; the label does not change."""
    canvas, camera, light = stage.canvas, stage.camera, stage.light
    top = int(max(0, camera.vanishing[1] - 6) * canvas.per_unit)
    mask = np.zeros(canvas.pixels.shape[:2], np.uint8)
    sun = light.sun_side
    for house in houses:
        if house.side == sun and house.z1 > 1 and light.shade < 0.8:
            reach, front, lean = (
                house.height * light.slant,
                street.fronts[house.side > 0],
                0.4 * house.height * light.slant,
            )
            ground = np.array([[front, house.z0], [front, house.z1], [front - sun * reach, house.z1 - lean],
                               [front - sun * reach, house.z0 - lean]])  # fmt: skip
            corners = camera.project(ground[:, 0], 0.0, np.maximum(ground[:, 1], 1.3))
            cv2.fillPoly(mask, [canvas.to_pixels(corners)], 255)
    for item in items:
        if item.foot is None:
            continue
        x0, x1, z0, z1 = item.foot
        reach = item.height * light.slant * (light.shade < 0.8)
        z_far = np.maximum(np.array([z0, z1]) - 0.4 * reach, 1.3)
        xs = np.array([x0, x0 - sun * reach, x1 - sun * reach, x1, x1 - sun * reach, x0 - sun * reach])
        zs = np.array([z0, z_far[0], z_far[0], z0, z_far[1], z_far[1]])
        hull = np.concatenate([camera.project(xs, 0.0, zs), _ground(camera, x0, x1, z0, z1)[0]])
        cv2.fillPoly(mask, [cv2.convexHull(canvas.to_pixels(hull))], 255)
    lower = canvas.pixels[top:]
    factors = np.array([light.shade, light.shade, min(1.0, light.shade * 1.1), 1.0])  # Shadows are bluish.
    dark = cv2.LUT(lower, np.rint(np.arange(256)[:, None] * factors).astype(np.uint8)[None])
    cv2.copyTo(dark, mask[top:], lower)


def _draw_void(stage: Stage) -> None:
    """Draws what annotators leave void: the bonnet of the camera's car at the bottom, and clutter on the ground."""
    canvas, rng = stage.canvas, stage.rng
    if rng.random() < 0.25:
        rise, colour = UNITS_HIGH * rng.uniform(0.04, 0.1), stage.pick(objects.CAR_COLOURS)
        t = np.linspace(-1, 1, 25)
        curve = np.stack([canvas.width * (0.5 + 0.56 * t), UNITS_HIGH - rise * (1 - 0.7 * t**4)], -1)
        outline = np.concatenate([curve, [[canvas.width * 1.1, 140], [-canvas.width * 0.1, 140]]])
        canvas.fill(outline, lit(colour, 0.6), VOID)
        canvas.fill(outline + np.array([0.0, 0.3 * rise]), lit(colour, 0.75), VOID)
    if rng.random() < 0.35:
        angle = np.linspace(0, 2 * np.pi, 14, endpoint=False)
        radius = UNITS_HIGH * rng.uniform(0.03, 0.07) * rng.uniform(0.7, 1.2, 14)
        centre = np.array([rng.uniform(0, canvas.width), UNITS_HIGH * rng.uniform(0.6, 0.8)])
        blob = centre + np.stack([radius * np.cos(angle), radius * np.sin(angle)], -1)
        canvas.fill(blob, stage.pick(objects.CLOTHES), VOID)
        canvas.fill(centre + (blob - centre) * 0.6, stage.pick(objects.CLOTHES), VOID)
