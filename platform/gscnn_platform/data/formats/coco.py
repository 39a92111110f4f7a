"""Reads the shapes of a split's images from one COCO file (cocodataset.org, format of object detection).

    {"images": [{"id": 1, "file_name": "a.jpg", "width": 640, "height": 480}, ...],
     "categories": [{"id": 3, "name": "car"}, ...],
     "annotations": [{"id": 7, "image_id": 1, "category_id": 3, "segmentation": ...}, ...]}

A segmentation is a list of polygons, [[x1, y1, x2, y2, ...], ...], whose union is drawn, or a run-length encoded mask.
Larger ones are drawn first, by the number of their pixels, so smaller ones cover them; iscrowd makes no difference. An
image without annotations is background.
"""

import hashlib
import pickle
import unicodedata
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from reprlib import repr as shortened
from typing import Any, Final

from gscnn_platform.data.formats.base import DatasetError
from gscnn_platform.data.formats.decoding import BadSampleError, file_bytes
from gscnn_platform.data.formats.rle import run_lengths
from gscnn_platform.data.formats.shape_sample import Drawing, ShapeClasses, ShapeSample
from gscnn_platform.data.formats.shapes import Polygons, Shape, ShapeError, polygon
from gscnn_platform.paths import AnyPath
from gscnn_platform.text_files import parse_json, suggestion

PARTS: Final = ("images", "annotations", "categories")
SHOWN: Final = 10


@dataclass(frozen=True)
class CocoImage:
    """An image of a COCO file."""

    file_name: str
    """As in the file, with slashes, in Unicode's composed form."""
    size: tuple[int, int] | None
    """Width and height; None if the file does not give them."""
    annotations: bytes
    """Train id, id, category and segmentation of each annotation, pickled: every task copies the samples of the whole
    dataset, which takes milliseconds for bytes and seconds for lists of numbers."""


@dataclass(frozen=True)
class CocoSample(ShapeSample):
    """An image, and its annotations in a COCO file."""

    label: AnyPath
    entry: CocoImage | None
    """None if the file does not list the image."""

    def drawing(self) -> Drawing:
        """The image's annotations. Raises BadSampleError, naming the file, and the annotation by its id."""
        if self.entry is None:
            raise BadSampleError(
                f"{self.label}: its list `images` has no file_name for {self.image}; add it, or remove the image"
            )
        shapes: list[tuple[int, Shape, str]] = []
        for train_id, number, category, segmentation in pickle.loads(self.entry.annotations):
            what = f"annotation {number} ({category})"
            try:
                shapes.append((train_id, _shape(segmentation), what))
            except ShapeError as error:
                raise BadSampleError(f"{self.label}: {self.entry.file_name}: {what}: {error}") from error
        return Drawing(self.label, self.entry.size, tuple(shapes), largest_first=True)


def read_coco(file: AnyPath, classes: ShapeClasses) -> tuple[CocoImage, ...]:
    """The images of a COCO file, in its order.

    Raises:
        DatasetError: the file cannot be read, lacks a field, or has an annotation of a category without a class; the
            message lists such categories with their annotations.
        TextError: it is not valid JSON.
    """
    content = hashlib.sha256(_bytes(file)).hexdigest()
    return _images(file, content, classes.file, tuple(classes.train_ids.items()))


@lru_cache(maxsize=8)  # Splits are described and listed in turn: a file of 100,000 annotations takes seconds.
def _images(
    file: AnyPath, _content: str, classes_file: AnyPath, train_ids: tuple[tuple[str, int], ...]
) -> tuple[CocoImage, ...]:
    lists = _lists(file, parse_json(file, _bytes(file)))
    known = dict(train_ids)
    categories = {_key(entry.get("id")): _normal(entry.get("name")) for entry in lists["categories"]}
    images: dict[Any, Mapping[str, Any]] = {}
    for entry in lists["images"]:
        number, name = entry.get("id"), entry.get("file_name")
        if _key(number) is None or number in images:
            what = (
                "has no id"
                if _key(number) is None
                else f"has the id {number}, which {shortened(images[number])} has too"
            )
            raise DatasetError(f"{file}: images: {shortened(entry)} {what}; ids are unique")
        if not isinstance(name, str) or not name:
            raise DatasetError(f"{file}: images: the image with the id {number} has no file_name")
        images[number] = entry
    twice = [name for name, count in Counter(map(_file_name, images.values())).items() if count > 1]
    if twice:
        raise DatasetError(f"{file}: images: file_name {twice[0]!r} is listed more than once; merge its annotations")
    of_image: dict[Any, list[tuple[int, Any, str, Any]]] = {number: [] for number in images}
    unknown: Counter[str] = Counter()
    for entry in lists["annotations"]:
        place, category = _key(entry.get("image_id")), _key(entry.get("category_id"))
        if place not in of_image or category not in categories:
            field, value, part = ("image_id", place, "images")
            if place in of_image:
                field, value, part = ("category_id", category, "categories")
            raise DatasetError(
                f"{file}: annotations: the annotation with the id {entry.get('id')} has the {field} "
                f"{value!r}, which is not in {part}"
            )
        name = categories[category]
        if name in known:
            of_image[place].append((known[name], entry.get("id"), name, entry.get("segmentation")))
        else:
            unknown[name] += 1
    if unknown:
        raise DatasetError(_unknown(file, unknown, classes_file, known))
    return tuple(
        CocoImage(_file_name(entry), _size(entry), pickle.dumps(of_image[number])) for number, entry in images.items()
    )


def _bytes(file: AnyPath) -> bytes:
    try:
        return file_bytes(file)
    except BadSampleError as error:
        raise DatasetError(str(error)) from error


def _lists(file: AnyPath, content: Any) -> dict[str, list[dict[str, Any]]]:
    for part in PARTS:
        found = content.get(part) if isinstance(content, dict) else None
        if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
            raise DatasetError(f"{file}: no COCO file: it has no list `{part}`; it needs {', '.join(PARTS)}")
    return content


def _key(value: Any) -> int | str | None:
    """An id if it is one, so that it can be looked up."""
    return value if isinstance(value, int | str) else None


def _file_name(entry: Mapping[str, Any]) -> str:
    return unicodedata.normalize("NFC", entry["file_name"].replace("\\", "/"))


def _normal(name: Any) -> str:
    """A category's name, in the form of the names in classes.yaml."""
    return unicodedata.normalize("NFC", str(name).strip())


def _size(entry: Mapping[str, Any]) -> tuple[int, int] | None:
    width, height = entry.get("width"), entry.get("height")
    return None if width is None or height is None else (width, height)


def _unknown(file: AnyPath, unknown: Counter[str], classes_file: AnyPath, known: Mapping[str, int]) -> str:
    """The message about categories that have annotations and no class."""
    common = unknown.most_common(SHOWN)
    found = ", ".join(f"{name} ({count} annotation{'s' * (count > 1)})" for name, count in common)
    more = f" and {len(unknown) - SHOWN} more" if len(unknown) > SHOWN else ""
    first = common[0][0]
    return (
        f"{file}: categories without a class: {found}{more}{suggestion(first, known)}\n"
        f"{classes_file} has {', '.join(known)}; map the others there: labels: {{{first}: CLASS}}"
    )


def _shape(segmentation: Any) -> Shape:
    if isinstance(segmentation, dict):
        return run_lengths(segmentation)
    if not isinstance(segmentation, list) or not segmentation:
        raise ShapeError("it has no segmentation, at most a box; draw a polygon or a mask, or remove it")
    return Polygons(tuple(polygon(part) for part in segmentation))
