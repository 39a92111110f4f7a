"""Draws the objects in a street: poles, wires, fences, cars, people and trees, with one function for each.

All functions take the stage first, then the position on the ground in metres. No part is thinner than `canvas.thin`.
"""

import numpy as np

from gscnn_platform.data.streets.stage import (
    CAR,
    FENCE,
    PERSON,
    POLE,
    VOID,
    WIRE,
    Colour,
    Stage,
    lit,
    mix,
)

POLE_COLOURS: tuple[Colour, ...] = ((70, 74, 78), (122, 124, 124), (46, 60, 52), (160, 158, 150), (104, 82, 62))
CAR_COLOURS: tuple[Colour, ...] = (
    (228, 230, 232), (28, 30, 34), (120, 124, 130), (168, 34, 34), (36, 66, 128), (190, 196, 200), (92, 96, 98),
    (226, 176, 40), (38, 88, 66),
)  # fmt: skip
CLOTHES: tuple[Colour, ...] = (
    (32, 34, 44), (58, 74, 112), (150, 46, 42), (206, 200, 190), (96, 92, 84), (46, 92, 76), (212, 158, 60),
    (122, 74, 110), (76, 80, 88), (228, 228, 226),
)  # fmt: skip
SKIN: tuple[Colour, ...] = ((226, 180, 150), (186, 132, 100), (122, 80, 58), (238, 200, 172))


def draw_pole(stage: Stage, x: float, z: float, height: float, kind: str, colour: Colour) -> None:
    """Draws a pole at (x, z). `kind`: lamp, sign, signal, mast (which carries wires) or bollard."""
    canvas, camera, rng = stage.canvas, stage.camera, stage.rng
    width = stage.width({"lamp": 0.15, "sign": 0.08, "signal": 0.16, "mast": 0.24, "bollard": 0.16}[kind], z)
    colour = stage.light.haze(lit(colour, 0.75 + 0.25 * stage.light.shade), z)
    foot, top = camera.project(x, np.array([0.0, height]), z)
    canvas.lines([foot, top], width, colour, POLE)
    scale = camera.per_metre(z)
    inward = -1.0 if x > 0 else 1.0
    if kind == "lamp":
        bend, tip = camera.project(x + inward * np.array([0.7, 1.9]), np.array([height + 0.5, height + 0.6]), z)
        canvas.lines([top, bend, tip], stage.width(0.1, z), colour, POLE)
        canvas.ellipse(tip, (0.5 * scale, max(0.12 * scale, canvas.thin / 2)), lit(colour, 1.5), POLE)
    elif kind == "sign":
        face = ((196, 40, 40), (30, 84, 160), (232, 232, 226), (220, 180, 40))[int(rng.integers(4))]
        centre, radius = top + np.array([0.0, 0.1 * scale]), max(0.36 * scale, canvas.thin)
        shape = rng.random()
        if shape < 0.5:
            canvas.ellipse(centre, (radius, radius), face, POLE)
            canvas.ellipse(centre, (0.62 * radius, 0.62 * radius), (236, 236, 232), POLE)
        elif shape < 0.75:
            canvas.fill(centre + radius * np.array([[-1, 0.8], [1, 0.8], [0, -1]]), face, POLE)
        else:
            canvas.fill(centre + radius * np.array([[-0.9, -0.9], [0.9, -0.9], [0.9, 0.9], [-0.9, 0.9]]), face, POLE)
    elif kind == "signal":
        half = max(0.17 * scale, canvas.thin)
        box = np.array([[-half, -3.4 * half], [half, -3.4 * half], [half, 1.6 * half], [-half, 1.6 * half]])
        canvas.fill(top + box, (34, 36, 36), POLE)
        lamp = ((224, 60, 48), (236, 176, 50), (70, 200, 120))[int(rng.integers(3))]
        canvas.ellipse(top - (0.0, 2.2 * half), (0.6 * half, 0.6 * half), lamp, POLE)
    elif kind == "mast":
        arms = camera.project(x + np.array([[-0.9, 0.9], [-0.7, 0.7]]), height - np.array([[0.3], [1.0]]), z)
        canvas.lines(arms, stage.width(0.1, z), colour, POLE)


def draw_wire(stage: Stage, start: tuple[float, float, float], end: tuple[float, float, float], sag: float) -> None:
    """Draws a wire between two points (x, y, z) that sags `sag` metres in its middle."""
    t = np.linspace(0.0, 1.0, 14)
    x, y, z = (a + (b - a) * t for a, b in zip(start, end, strict=True))
    ahead = z > 1.6
    if ahead.sum() < 2:
        return
    path = stage.camera.project(x, y - 4 * sag * t * (1 - t), z)[ahead]
    shade = float(stage.rng.uniform(24, 76))
    width = stage.canvas.thin * float(stage.rng.uniform(1.0, 1.4))
    stage.canvas.lines(path, width, (shade, shade, shade + 4), WIRE)


def draw_fence(
    stage: Stage, start: tuple[float, float], end: tuple[float, float], height: float, kind: str, colour: Colour
) -> None:
    """Draws a see-through fence on the ground from `start` to `end` (X, Z). `kind`: railing, mesh or rails.

    Bars are spaced evenly in the picture, at least three times the thinnest line apart, so that the background stays
    visible between them.
    """
    canvas, camera = stage.canvas, stage.camera
    (x0, z0), (x1, z1) = start, end
    scale0, scale1 = camera.per_metre(z0), camera.per_metre(z1)
    pictured = abs(float(camera.project(x1, 0, z1)[0] - camera.project(x0, 0, z0)[0]))
    spacing = canvas.thin * float(stage.rng.uniform(3.2, 4.6)) * max(1.0, height * min(scale0, scale1) / 30)
    count = int(np.clip(pictured / spacing, 2, 90))
    even = np.linspace(0.0, 1.0, count + 1)
    along = even * scale1 / (scale0 + even * (scale1 - scale0))  # Even in the picture, not on the ground.
    x, z = x0 + (x1 - x0) * along, z0 + (z1 - z0) * along
    foot, top = camera.project(x, 0.05, z), camera.project(x, height, z)
    colour = stage.light.haze(lit(colour, 0.7 + 0.3 * stage.light.shade), (z0 + z1) / 2)
    thin, rail = canvas.thin, max(canvas.thin, 0.07 * (scale0 + scale1) / 2)
    ends = np.array([0, -1])
    rails = {"railing": (0.12, 0.97), "mesh": (0.03, 0.98), "rails": (0.3, 0.62, 0.95)}[kind]
    levels = [camera.project(x[ends], height * level, z[ends]) for level in rails]
    if kind == "mesh":
        lean = min(3, count - 1)
        canvas.lines(np.stack([foot[:-lean], top[lean:]], axis=1), thin, colour, FENCE)
        canvas.lines(np.stack([top[:-lean], foot[lean:]], axis=1), thin, lit(colour, 0.9), FENCE)
        posts = slice(None, None, max(4, count // 6))
    else:
        posts = slice(None, None, 1 if kind == "railing" else 3)
    canvas.lines(np.stack([foot[posts], top[posts]], axis=1), thin * 1.1, colour, FENCE)
    canvas.lines(np.stack(levels), rail, lit(colour, 1.12), FENCE)


def draw_car(stage: Stage, x: float, z: float, length: float, colour: Colour, oncoming: bool) -> None:
    """Draws a car, 1.8 m wide, with its near face centred at (x, z) and its far face at z + length."""
    canvas, camera = stage.canvas, stage.camera
    wall_light = stage.light.on_wall(0)
    half, roof = 0.9, float(stage.rng.uniform(1.4, 1.62))
    belt = 0.88
    colour = stage.light.haze(colour, z)
    side = x + (half if x < 0 else -half)  # The flank that the camera sees.
    flank = lit(colour, 0.72 + 0.3 * (stage.light.on_wall(-1 if x < 0 else 1) - 0.5))
    zs = z + length * np.array([0.0, 0.0, 0.06, 0.26, 0.62, 0.8, 1.0, 1.0])
    if oncoming:
        zs = z + length * np.array([0.0, 0.0, 0.22, 0.4, 0.78, 0.96, 1.0, 1.0])
    ys = np.array([0.22, 0.78, belt, roof, roof, belt, 0.74, 0.22])
    inset = np.where(ys > 1.0, 0.14, 0.0) * (1 if x >= 0 else -1)
    canvas.fill(camera.project(x - (side - x) * 0.98, ys, zs), lit(flank, 0.7), CAR)
    outline = camera.project(side + inset, ys, zs)
    wheel_z = z + length * np.array([0.19, 0.8])
    canvas.fill(outline, flank, CAR)
    glass = camera.project(side + inset[2:6], np.array([belt + 0.03, roof - 0.1, roof - 0.1, belt + 0.03]),
                           zs[2:6] + length * np.array([0.03, 0.03, -0.03, -0.03]))  # fmt: skip
    canvas.fill(glass, (44, 52, 60), CAR)
    for hub_z in wheel_z.tolist():
        scale = camera.per_metre(hub_z)
        edge = camera.project(side, 0.32, np.array([hub_z - 0.32, hub_z + 0.32]))
        across = max(abs(float(edge[1, 0] - edge[0, 0])) / 2, 0.04 * scale)
        hub = camera.project(side, 0.32, hub_z)
        canvas.ellipse(hub, (across, 0.33 * scale), (22, 22, 24), CAR)
        canvas.ellipse(hub, (across * 0.55, 0.18 * scale), (120, 122, 126), CAR)
    face = lit(colour, 0.55 + 0.45 * wall_light)
    xs = x + half * np.array([-1, 1, 1, 1, -1, -1])
    canvas.fill(camera.project(xs, np.array([0.2, 0.2, 0.7, 0.78, 0.78, 0.7]), z), face, CAR)
    slope_z = zs[3]
    cabin_x = x + np.array([-half, half, half - 0.14, 0.14 - half])  # As wide at the top as the flanks.
    if camera.height > roof:
        top_z = np.array([slope_z, slope_z, zs[4], zs[4]])
        canvas.fill(camera.project(cabin_x[[3, 2, 2, 3]], roof, top_z), lit(colour, 1.15), CAR)
    cabin_z = np.array([zs[2], zs[2], slope_z, slope_z])
    canvas.fill(camera.project(cabin_x, np.array([belt, belt, roof, roof]), cabin_z), lit(colour, 0.95), CAR)
    hood = camera.project(
        x + half * np.array([-1, 1, 1, -1]), np.array([0.78, 0.78, belt, belt]), np.array([z, z, zs[2], zs[2]])
    )
    canvas.fill(hood, lit(colour, 1.1), CAR)
    pane = camera.project(
        x + (cabin_x - x) * 0.86, np.array([belt + 0.05, belt + 0.05, roof - 0.1, roof - 0.1]), cabin_z
    )
    canvas.fill(pane, mix((52, 60, 68), stage.light.sky_low, float(stage.rng.uniform(0.05, 0.4))), CAR)
    lights_x = x + half * np.array([[-0.95, -0.62, -0.62, -0.95], [0.62, 0.95, 0.95, 0.62]])
    lamps = camera.project(lights_x, np.array([0.58, 0.58, 0.74, 0.74]), z)
    canvas.fill(lamps, (246, 240, 214) if oncoming else (190, 34, 30), CAR)
    plate = camera.project(x + np.array([-0.27, 0.27, 0.27, -0.27]), np.array([0.4, 0.4, 0.52, 0.52]), z)
    canvas.fill(plate, (230, 228, 206), CAR)
    tyres = camera.project(x + half * np.array([[-0.95, -0.7, -0.7, -0.95], [0.7, 0.95, 0.95, 0.7]]),
                           np.array([0.0, 0.0, 0.26, 0.26]), z)  # fmt: skip
    canvas.fill(tyres, (20, 20, 22), CAR)


def draw_person(stage: Stage, x: float, z: float, height: float, stride: float) -> None:
    """Draws a person who walks across the picture at (x, z), `height` metres tall: legs, arms, torso and head."""
    canvas, rng = stage.canvas, stage.rng
    scale = stage.camera.per_metre(z) * height / 1.75
    ground = stage.camera.project(x, 0.0, z)
    tone = 0.65 + 0.35 * stage.light.shade
    shirt, trousers, skin = (lit(stage.pick(colours), tone) for colours in (CLOTHES, CLOTHES, SKIN))
    facing = 1.0 if rng.random() < 0.5 else -1.0
    swing, lift = 0.34 * stride * facing, 0.1 * stride

    def at(*points: tuple[float, float]) -> np.ndarray:
        """Body points, metres right of and above the feet, -> canvas points."""
        return ground + scale * np.array(points) * (1.0, -1.0)

    leg, arm = max(canvas.thin, 0.15 * scale), max(canvas.thin, 0.105 * scale)
    legs = [at((-0.08, 0.85), (-0.05 - 0.6 * swing + 0.06, 0.45), (-0.07 - swing, lift)),
            at((0.08, 0.85), (0.05 + 0.6 * swing, 0.46), (0.07 + swing, 0.02))]  # fmt: skip
    canvas.lines(np.stack(legs), leg, trousers, PERSON)
    back_arm = at((-0.19, 1.38), (-0.27 + 0.4 * swing, 1.1), (-0.24 + swing, 0.84))
    front_arm = at((0.19, 1.38), (0.27 - 0.4 * swing, 1.1), (0.26 - 0.8 * swing, 0.86))
    canvas.lines(np.stack([back_arm, front_arm]), arm, lit(shirt, 0.82), PERSON)
    hem = 0.6 if rng.random() < 0.2 else 0.84  # A coat, or a shirt.
    canvas.fill(at((-0.22, 1.42), (0.22, 1.42), (0.17, hem), (-0.17, hem)), shirt, PERSON)
    neck, head = at((0.0, 1.45), (0.02 * facing, 1.61))
    canvas.lines([neck, head], arm, skin, PERSON)
    radius = max(0.125 * scale, 0.6 * canvas.thin)
    canvas.ellipse(head, (radius * 0.9, radius * 1.1), skin, PERSON)
    hair = head - (0.02 * facing * scale, 0.06 * scale)
    canvas.ellipse(hair, (radius * 0.85, radius * 0.62), lit((52, 38, 28), float(rng.uniform(0.4, 2.2))), PERSON)
    if rng.random() < 0.4:
        bag = at((-0.34, 0.98), (-0.1, 0.98), (-0.1, 0.66), (-0.34, 0.66))
        canvas.fill(bag, lit(stage.pick(CLOTHES), tone), PERSON)


def draw_tree(stage: Stage, x: float, z: float, height: float) -> None:
    """Draws a tree, a trunk and a crown of many discs; trees are not a class of this dataset, so it is void."""
    canvas, rng = stage.canvas, stage.rng
    scale = stage.camera.per_metre(z)
    foot, fork = stage.camera.project(x, np.array([0.0, height * 0.5]), z)
    canvas.lines([foot, fork], stage.width(0.25, z), (74, 60, 48), VOID)
    green = stage.light.haze(lit(stage.pick(((70, 96, 48), (92, 108, 52), (54, 82, 52), (128, 110, 56))), 0.9), z)
    count = 56
    spread = rng.normal(0.0, 1.0, (count, 2)) * (0.14 * height, 0.1 * height)
    spread = spread[np.argsort(-spread[:, 1])]
    centres = stage.camera.project(x, height * 0.72, z) + scale * spread
    radii = scale * height * rng.uniform(0.035, 0.085, count)
    tones = np.linspace(0.6, 1.25, count) * rng.uniform(0.85, 1.15, count)
    for centre, radius, tone in zip(centres, radii.tolist(), tones.tolist(), strict=True):
        canvas.ellipse(centre, (radius * 1.2, radius * 0.8), lit(green, tone), VOID)
