"""Generated street scenes: a dataset that needs no download, with many thin objects and difficult boundaries.

A scene is drawn large (`data/streets`) and reduced here: by area for the image, by majority for the label, with
priority for thin classes, so that image and label are aligned and no wire is lost. Then camera effects are added.
"""

import hashlib
import json
from dataclasses import dataclass
from typing import Annotated, ClassVar

import cv2
import numpy as np
from pydantic import Field

from gscnn.constants import IGNORE_INDEX
from gscnn_platform.data.formats.base import DatasetDescription, DatasetFormat, Sample, require_split
from gscnn_platform.data.streets.scene import draw_scene
from gscnn_platform.data.streets.stage import (
    BUILDING,
    CAR,
    FENCE,
    PAVEMENT,
    PERSON,
    POLE,
    ROAD,
    SKY,
    WIRE,
    Colour,
)
from gscnn_platform.paths import AnyPath

SCENE_VERSION = 1
"""Increase it with every change that alters a drawn byte, so that older stores are recognized as stale."""

CLASSES: dict[str, tuple[int, int, int]] = {
    "sky": (70, 130, 180),
    "building": (70, 70, 70),
    "road": (128, 64, 128),
    "pavement": (244, 35, 232),
    "fence": (190, 153, 153),
    "pole": (220, 220, 0),
    "wire": (255, 128, 0),
    "car": (0, 0, 142),
    "person": (220, 20, 60),
}
SPLITS = ("train", "val", "test")
BROAD = (SKY, BUILDING, ROAD, PAVEMENT, CAR)
THIN = (FENCE, POLE, WIRE, PERSON)
THIN_SHARE = 0.4  # A pixel belongs to a thin class from this share on, even if more of it is background.

Pixels = Annotated[int, Field(ge=64, le=2048)]


class Streets(DatasetFormat):
    """Generated scenes. Scene i of a split depends only on the seed, the split, i and the frame's size."""

    name: ClassVar[str] = "streets"
    needs_root: ClassVar[bool] = False

    height: Pixels = 128
    """Pixels."""
    width: Pixels = 192
    """Pixels."""
    train: Annotated[int, Field(ge=1)] = 320
    """Scenes."""
    val: Annotated[int, Field(ge=1)] = 64
    """Scenes."""
    test: Annotated[int, Field(ge=1)] = 64
    """Scenes."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Random seed of numpy's default generator, combined with the split and the scene's number."""

    def describe(self, root: AnyPath | None = None) -> DatasetDescription:
        """The nine classes; raw labels are train ids, 255 is void. `root` is not read."""
        table = {train_id: train_id for train_id in range(len(CLASSES))} | {IGNORE_INDEX: IGNORE_INDEX}
        return DatasetDescription(tuple(CLASSES), tuple(CLASSES.values()), table, SPLITS)

    def samples(self, root: AnyPath | None, split: str) -> list[Sample]:
        """The split's scenes, named 00000, 00001, ...; drawn when read. Raises DatasetError for an unknown split."""
        require_split(split, SPLITS, "streets")
        count = {"train": self.train, "val": self.val, "test": self.test}[split]
        return [StreetSample(self.height, self.width, self.seed, split, index) for index in range(count)]


@dataclass(frozen=True)
class StreetSample:
    """One scene, which each `read` draws again."""

    height: int
    width: int
    seed: int
    split: str
    index: int

    @property
    def name(self) -> str:
        return f"{self.index:05d}"

    def read(self) -> tuple[np.ndarray, np.ndarray]:
        """Image uint8 [H, W, 3] RGB and label uint8 [H, W]; equal settings give equal bytes."""
        rng = np.random.default_rng([self.seed, SPLITS.index(self.split), self.index])
        scale = 3 if self.height < 512 else 2
        drawn, cast = draw_scene(rng, self.height, self.width, scale)
        image = cv2.resize(drawn, (self.width, self.height), interpolation=cv2.INTER_AREA)[..., :3]
        label = _reduce_label(drawn[..., 3], self.height, self.width)
        image = _photograph(rng, image, label, cast)
        return image, _leave_out_strips(rng, label)

    def digest(self) -> str:
        """SHA-256, in hex, of the drawing code's version and the scene's settings."""
        settings = [SCENE_VERSION, self.height, self.width, self.seed, self.split, self.index]
        return hashlib.sha256(json.dumps(settings).encode()).hexdigest()


def _reduce_label(drawn: np.ndarray, height: int, width: int) -> np.ndarray:
    """Label uint8 [S*H, S*W] -> [H, W]: the class that covers most of a pixel, or a thin class from THIN_SHARE on."""
    drawn = np.ascontiguousarray(drawn)
    best = np.zeros((height, width), np.uint16)
    label = np.full((height, width), SKY, np.uint8)
    for value in (*BROAD, IGNORE_INDEX, *THIN):
        mask = (drawn == value).view(np.uint8) * np.uint8(255)
        share = cv2.resize(mask, (width, height), interpolation=cv2.INTER_AREA).astype(np.uint16)
        if value in THIN:
            share[share >= round(255 * THIN_SHARE)] += 255
        better = share > best
        label[better] = value
        best[better] = share[better]
    return label


def _photograph(rng: np.random.Generator, image: np.ndarray, label: np.ndarray, cast: Colour) -> np.ndarray:
    """Surface texture, coloured light, uneven exposure, slight blur and sensor noise, on uint8 [H, W, 3]."""
    height, width = label.shape
    grain = np.zeros((height, width), np.float32)
    for cell in (3, 12):  # Units: asphalt and plaster have coarse and fine stains.
        rows, columns = max(4, 128 // cell), max(4, round(128 * width / height) // cell)
        field = rng.standard_normal((rows, columns), np.float32)
        grain += cv2.resize(field, (width, height), interpolation=cv2.INTER_CUBIC)
    strength = np.full(256, 3.0, np.float32)
    strength[[SKY, BUILDING, ROAD, PAVEMENT]] = (0.8, 4.5, 4.0, 5.0)
    out = image.astype(np.float32)
    out += (grain * strength[label])[..., None]
    x, y = np.linspace(-1, 1, width, dtype=np.float32), np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    exposure = np.float32(rng.uniform(0.85, 1.1)) * (1 - np.float32(rng.uniform(0.02, 0.1)) * (x * x + y * y))
    out *= exposure[..., None] * np.array(cast, np.float32)
    out = cv2.GaussianBlur(out, (3, 3), float(rng.uniform(0.25, 0.5)))
    out += rng.standard_normal(out.shape, np.float32) * np.float32(rng.uniform(1.5, 5.5))
    return np.clip(out, 0, 255).astype(np.uint8)


def _leave_out_strips(rng: np.random.Generator, label: np.ndarray) -> np.ndarray:
    """Adds void, in some frames, along parts of the boundaries between broad classes, ragged as annotators leave it."""
    if rng.random() > 0.5:
        return label
    height, width = label.shape
    where = cv2.resize(rng.random((5, 7), np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    ragged = where + 0.25 * cv2.resize(rng.random((height // 4, width // 4), np.float32), (width, height))
    kernel = np.ones((3, 3), np.uint8)
    border = cv2.dilate(label, kernel) != cv2.erode(label, kernel)
    thin = cv2.dilate(np.isin(label, THIN).astype(np.uint8), kernel) > 0
    reach = max(1, round(height / 128))
    border = cv2.dilate((border & ~thin).astype(np.uint8), np.ones((reach, reach), np.uint8)) > 0
    return np.where(border & ~thin & (ragged > 0.85), np.uint8(IGNORE_INDEX), label)
