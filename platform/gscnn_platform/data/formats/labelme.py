"""Reads the shapes of one image from the JSON file that LabelMe writes for it (labelme 3 to 5).

    {"shapes": [{"label": "car", "shape_type": "polygon", "points": [[x, y], ...]}, ...],
     "imageWidth": 640, "imageHeight": 480, "imagePath": "a.jpg", "imageData": null}

Shapes are drawn in the order of the file, so later ones cover earlier ones. The image is the one with the file's name;
imagePath and imageData, a copy of the image, are not read.
"""

import base64
import math
import unicodedata
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from reprlib import repr as shortened
from typing import Any, Final

import cv2
import numpy as np

from gscnn_platform.data.formats.decoding import BadSampleError, file_bytes
from gscnn_platform.data.formats.shape_sample import Drawing, ShapeClasses, ShapeSample
from gscnn_platform.data.formats.shapes import Bitmap, Disc, Polygons, Shape, ShapeError, points_of, polygon, rectangle
from gscnn_platform.paths import AnyPath
from gscnn_platform.text_files import TextError, parse_json, suggestion

KINDS: Final = ("polygon", "rectangle", "circle", "mask")
"""Values of shape_type that are drawn; the others (line, linestrip, point, points) have no area."""


@dataclass(frozen=True)
class LabelMeSample(ShapeSample):
    """An image and its LabelMe file."""

    label: AnyPath
    classes: ShapeClasses

    def drawing(self) -> Drawing:
        """The file's shapes. Raises BadSampleError, naming the file, and the shape by its number, from 1."""
        try:
            content = parse_json(self.label, file_bytes(self.label))
        except TextError as error:
            raise BadSampleError(str(error)) from error
        found = content.get("shapes") if isinstance(content, dict) else None
        if not isinstance(found, list) or not all(isinstance(shape, dict) for shape in found):
            raise BadSampleError(f"{self.label}: no LabelMe file: it has no list `shapes` of the shapes of one image")
        names = [_name(shape) for shape in found]
        self._check_names(names)
        shapes: list[tuple[int, Shape, str]] = []
        for number, (name, shape) in enumerate(zip(names, found, strict=True), start=1):
            what = f"shape {number} ({name})"
            try:
                shapes.append((self.classes.train_ids[name], _shape(shape), what))
            except ShapeError as error:
                raise BadSampleError(f"{self.label}: {what}: {error}") from error
        width, height = content.get("imageWidth"), content.get("imageHeight")
        size = None if width is None or height is None else (width, height)
        return Drawing(self.label, size, tuple(shapes), largest_first=False)

    def _check_names(self, names: list[str]) -> None:
        known = self.classes.train_ids
        unknown = Counter(name for name in names if name not in known)
        if unknown:
            found = ", ".join(f"{name!r} ({count} shape{'s' * (count > 1)})" for name, count in unknown.items())
            first = next(iter(unknown))
            raise BadSampleError(
                f"{self.label}: labels without a class: {found}{suggestion(first, known)}\n"
                f"{self.classes.file} has {', '.join(known)}; map other names there: labels: {{{first}: CLASS}}"
            )


def _name(shape: Mapping[str, Any]) -> str:
    """A shape's label, in the form of the names in classes.yaml."""
    return unicodedata.normalize("NFC", str(shape.get("label")).strip())


def _shape(shape: Mapping[str, Any]) -> Shape:
    kind = shape.get("shape_type") or "polygon"  # Files of 2018 and before have polygons alone, and no shape_type.
    if kind not in KINDS:
        raise ShapeError(f"a {shortened(kind)} has no area; use one of {', '.join(KINDS)}, or remove it")
    points = points_of(shape.get("points"))
    if kind == "polygon" or (kind == "rectangle" and len(points) == 4):
        return Polygons((polygon(shape.get("points")),))
    if len(points) != 2:
        raise ShapeError(f"a {kind} of {len(points)} points; it has 2")
    if kind == "rectangle":
        return Polygons((rectangle(points),))
    if kind == "circle":
        (x, y), (rim_x, rim_y) = points.tolist()
        return Disc(x, y, math.hypot(rim_x - x, rim_y - y))
    return _bitmap(points, shape.get("mask"))


def _bitmap(points: np.ndarray, mask: Any) -> Bitmap:
    """A mask from a PNG in base64, whose first and last pixel are the two points."""
    try:
        data = np.frombuffer(base64.b64decode(mask), np.uint8)
        pixels = cv2.imdecode(data, cv2.IMREAD_GRAYSCALE) if len(data) else None
    except (TypeError, ValueError, cv2.error):
        pixels = None
    if pixels is None:
        raise ShapeError(f"its mask is {shortened(mask)}; a PNG in base64 is expected")
    (left, top), (right, bottom) = points.astype(int).tolist()
    if pixels.shape != (bottom - top + 1, right - left + 1):
        sizes = f"{pixels.shape[1]}x{pixels.shape[0]}", f"{right - left + 1}x{bottom - top + 1}"
        raise ShapeError(f"its mask is {sizes[0]} but its points enclose {sizes[1]} pixels (width x height)")
    return Bitmap(top, left, pixels > 0)
