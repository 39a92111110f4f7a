"""A frame whose label is drawn from the shapes of an annotation file."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from gscnn_platform.data.formats.base import UPRIGHT, BadSampleError
from gscnn_platform.data.formats.decoding import file_bytes, orientation, read_image
from gscnn_platform.data.formats.shapes import Shape, ShapeError, drawn
from gscnn_platform.paths import AnyPath

DRAWING_VERSION: Final = 1
"""Increase it with every change that alters a drawn pixel, so that older stores are recognized as stale."""


@dataclass(frozen=True)
class ShapeClasses:
    """What the names in annotation files mean."""

    file: AnyPath
    """classes.yaml, which says so."""
    train_ids: Mapping[str, int]
    """Name -> train id, or IGNORE_INDEX for void."""
    background: int
    """Train id of the pixels outside all shapes, or IGNORE_INDEX."""


@dataclass(frozen=True)
class Drawing:
    """What an annotation file draws on one image."""

    file: AnyPath
    size: tuple[int, int] | None
    """Width and height of the image by the file; None if it does not say."""
    shapes: tuple[tuple[int, Shape, str], ...]
    """Train id, shape, and its description for messages; in the order of the file."""
    largest_first: bool
    """Whether larger shapes are drawn first, and otherwise those that come first in the file."""


@dataclass(frozen=True)
class ShapeSample(ABC):
    """A frame that is stored as one image file and a drawing. Raw labels are train ids, 255 is void."""

    name: str
    image: AnyPath
    background: int
    """Train id of the pixels outside all shapes, or IGNORE_INDEX."""

    @abstractmethod
    def drawing(self) -> Drawing:
        """The shapes of this image. Raises BadSampleError, naming the file and the shape."""

    def read(self) -> tuple[np.ndarray, np.ndarray]:
        """Image uint8 [H, W, 3] RGB and label uint8 [H, W] of train ids and 255, both upright.

        Raises BadSampleError, naming the file, if the image cannot be read, if a shape cannot be drawn, or if the
        image does not have the size that the annotation file gives.
        """
        image, drawing = read_image(self.image), self.drawing()
        height, width = image.shape[:2]
        if drawing.size not in (None, (width, height)):
            raise BadSampleError(self._size_error(drawing, width, height))
        regions = []
        for train_id, shape, what in drawing.shapes:
            try:
                regions.append((train_id, shape.region(height, width)))
            except ShapeError as error:
                raise BadSampleError(f"{drawing.file}: {what}: {error}") from error
        if drawing.largest_first:
            regions.sort(key=lambda item: -np.count_nonzero(item[1].mask))
        return image, drawn(regions, self.background, height, width)

    def digest(self) -> str:
        """SHA-256, in hex, of the image's bytes and of the shapes with their classes, the background and the drawing
        code's version; with the suffix UPRIGHT if EXIF rotates the image.

        Raises BadSampleError if the image or the shapes cannot be read.
        """
        data, drawing = file_bytes(self.image), self.drawing()
        parts = [data, repr((DRAWING_VERSION, drawing.size, drawing.largest_first, self.background)).encode()]
        for train_id, shape, _ in drawing.shapes:
            parts.append(f"{train_id} {type(shape).__name__} ".encode() + shape.content())
        digest = hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()
        return digest + UPRIGHT if orientation(data) > 1 else digest

    def _size_error(self, drawing: Drawing, width: int, height: int) -> str:
        assert drawing.size is not None
        theirs = "{}x{}".format(*drawing.size)
        sizes = (
            f"{self.image} is {width}x{height} but its shapes in {drawing.file} are drawn on {theirs} (width x height)"
        )
        if drawing.size == (height, width) and orientation(file_bytes(self.image)) > 4:
            return (
                f"{sizes}; the image is stored as {theirs} and rotated upright by its EXIF orientation, its shapes are "
                "not: draw them on the upright image, or remove the orientation (exiftool -n -Orientation=1 FILE)"
            )
        return f"{sizes}; draw them on this image, or restore the image that they were drawn on"
