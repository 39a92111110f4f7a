"""Finds the annotation files of a `folder` dataset, and pairs its images with what they draw.

LabelMe: labels/SPLIT/NAME.json, or NAME.json beside the image, where LabelMe writes it. COCO: a file of one split,
annotations/instances_SPLIT.json, annotations/SPLIT.json or labels/SPLIT.json; or one of all splits,
annotations/instances_default.json (CVAT's name) or result.json (Label Studio's).

A COCO file_name is the image below images/ whose path, without extension, is its end or has it as its end: exports put
folders before the name that are not in the dataset. The longest agreement counts.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

from gscnn_platform.data.formats.base import DatasetError, Sample
from gscnn_platform.data.formats.classes_file import VOID, ClassesFile
from gscnn_platform.data.formats.coco import CocoImage, CocoSample, read_coco
from gscnn_platform.data.formats.colour_labels import as_hex
from gscnn_platform.data.formats.decoding import file_bytes
from gscnn_platform.data.formats.labelme import LabelMeSample
from gscnn_platform.data.formats.layout import checked_split, image_files, pair
from gscnn_platform.data.formats.shape_sample import ShapeClasses
from gscnn_platform.data.image_files import ANY_IMAGE, files_below, followed, has_ending, name_of, named_alike
from gscnn_platform.paths import AnyPath

ENDING: Final = (".json",)
OF_SPLIT: Final = ("annotations/instances_{split}.json", "annotations/{split}.json", "labels/{split}.json")
OF_ALL: Final = ("annotations/instances_default.json", "result.json")
LABELME_TEXT: Final = b'"shapes"'
"""Every LabelMe file has this text, and so does hardly any other file of an image."""
COCO_TEXT: Final = b'"segmentation"'
PLACES: Final = "labels/SPLIT/NAME.json (LabelMe) or annotations/instances_SPLIT.json (COCO)"


@dataclass(frozen=True)
class ShapeLabels:
    """Where the shapes of a split are: in a LabelMe file for each image, or in a COCO file."""

    root: AnyPath
    folder: str
    """The split's folder in images/ and labels/; empty if splits are lists."""
    labelme: Mapping[str, AnyPath]
    """Name of the sample -> file; empty if there is a COCO file."""
    coco: AnyPath | None
    reports_missing: bool
    """Whether this split has the images of the COCO file that do not exist, so that they are reported, and once."""

    @property
    def example(self) -> AnyPath:
        return self.coco or min(self.labelme.values())

    def named(self, images: Mapping[str, AnyPath], classes: ShapeClasses) -> set[str]:
        """The names of those of `images` that have shapes. Raises DatasetError as `samples`."""
        if self.coco is None:
            return images.keys() & self.labelme.keys()
        known, _ = self._entries(self.coco, classes)
        return {name for name, image in images.items() if image in known}

    def samples(self, images: Mapping[str, AnyPath], classes: ShapeClasses, listed: bool) -> list[Sample]:
        """A sample for each of the split's `images`, and for each of its labels that has no image, sorted by name.

        With `listed`, labels that are not named like one of `images` may belong to another split.

        Raises:
            DatasetError: no image has shapes, or the COCO file is wrong.
            TextError: the COCO file is not JSON.
        """
        place, labels = _part(self.root, "images", self.folder), _part(self.root, "labels", self.folder)
        if self.coco is None:
            labelme = {name: self.labelme[name] for name in images if name in self.labelme} if listed else {}
            return pair(
                images,
                labelme or self.labelme,
                image_at=lambda name: place / f"{name}.png",
                label_at=lambda name: labels / f"{name}.json",
                sample=lambda name, image, label: LabelMeSample(name, image, classes.background, label, classes),
            )
        known, missing = self._entries(self.coco, classes)
        if not any(image in known for image in images.values()):
            there = [entry.file_name for entry in (*known.values(), *missing)]
            what = f"file names such as {there[0]}" if there else "no images"
            raise DatasetError(
                f"{self.coco}: it has no image of {place}: it lists {what}, and there are images such as "
                f"{images[min(images)]}"
            )
        found = [(name, image, known.get(image)) for name, image in images.items()]
        if self.reports_missing:
            for entry in missing:
                name = _stem(entry.file_name)
                found.append((name, place / f"{name}{PurePosixPath(entry.file_name).suffix}", entry))
        coco = self.coco
        samples = [CocoSample(name, image, classes.background, coco, entry) for name, image, entry in found]
        return sorted(samples, key=lambda sample: sample.name)

    def _entries(self, coco: AnyPath, classes: ShapeClasses) -> tuple[dict[AnyPath, CocoImage], list[CocoImage]]:
        """Image file -> its entry in the COCO file, and the entries without an image."""
        folder = self.folder if coco not in [self.root / place for place in OF_ALL] else ""
        files = files_below(_part(self.root, "images", folder))
        candidates: dict[str, list[tuple[AnyPath, Sequence[str], Sequence[str]]]] = defaultdict(list)
        for file in files:
            if has_ending(file.name, ANY_IMAGE):
                whole = name_of(file, self.root / "images").split("/")
                candidates[whole[-1]].append((file, whole, whole[1:] if self.folder else whole))
        found: dict[AnyPath, CocoImage] = {}
        missing: list[CocoImage] = []
        for entry in read_coco(coco, classes):
            wanted = _stem(entry.file_name).split("/")
            fitting = [
                (_agreement(wanted, whole), file)
                for file, whole, short in candidates[wanted[-1]]
                if _agreement(wanted, short) == len(short) or _agreement(wanted, whole) == len(wanted)
            ]
            best = [file for count, file in fitting if count == max(fitting)[0]]
            if not best:
                missing.append(entry)
            elif len(best) > 1:
                raise DatasetError(f"{coco}: file_name {entry.file_name!r} is both {best[0]} and {best[1]}; rename one")
            elif best[0] in found:
                both = f"{found[best[0]].file_name!r} and {entry.file_name!r}"
                raise DatasetError(f"{coco}: file_names {both} are both {best[0]}; merge their annotations")
            else:
                found[best[0]] = entry
        return found, missing


def shape_classes(spec: ClassesFile) -> ShapeClasses:
    """What names of shapes mean by classes.yaml."""
    train_ids = spec.train_ids
    named = {name: train_ids[meaning] for name, meaning in spec.annotations.items()}
    return ShapeClasses(spec.path, train_ids | named, train_ids[spec.background or VOID])


def check_kind(spec: ClassesFile, shapes: Mapping[str, ShapeLabels]) -> None:
    """Raises DatasetError if classes.yaml describes labels of another kind than those that exist."""
    pixels = [str(key) for key in spec.labels] or [as_hex(colour) for colour in spec.label_colours]
    if shapes and pixels:
        raise DatasetError(
            f"{spec.path}: labels: {pixels[0]} is a value of pixels, but labels are shapes, as in "
            f"{next(iter(shapes.values())).example}; write their names: labels: {{NAME: {spec.names[0]}}}"
        )
    if not shapes and (spec.annotations or spec.background):
        what = f"labels: {min(spec.annotations)!r} is a name" if spec.annotations else "background: is for shapes"
        raise DatasetError(
            f"{spec.path}: {what}, but no file holds shapes; write label values as whole numbers without quotes, "
            f"{{7: {spec.names[0]}}}, or colours as "
            f'{{"#804080": {spec.names[0]}}}, or add the shapes: {PLACES}'
        )


def named_by_shapes(
    shapes: Mapping[str, ShapeLabels], images: Mapping[str, AnyPath], classes: ShapeClasses
) -> set[str]:
    """The names of those of `images` that have shapes. Raises DatasetError as `ShapeLabels.samples`."""
    return set[str]().union(*(labels.named(images, classes) for labels in shapes.values()))


def labelled_by_shapes(
    shapes: Mapping[str, ShapeLabels], folders: Mapping[str, tuple[AnyPath, AnyPath]], classes: ShapeClasses
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The splits that have shapes, and a sentence for each split that has only images.

    Args:
        shapes: where they are.
        folders: split -> folders of its images and of its labels.
        classes: the meaning of their names.

    Raises:
        DatasetError: `train` has no shapes, or a split has no images or an invalid name.
    """
    there: list[str] = []
    left_out: list[str] = []
    for split, (images, labels) in folders.items():
        if not followed(images).is_dir():
            raise DatasetError(f"{images}: the folder is missing; split {split!r} needs images{named_alike(images)}")
        by_name = image_files(images)
        if split in shapes and (split == "train" or shapes[split].named(by_name, classes)):
            there.append(checked_split(split, images))
        elif split == "train":
            raise DatasetError(f"{labels}: no label for the images in {images}; shapes are in {PLACES}")
        else:
            left_out.append(
                f"split {split} is left out because none of its {len(by_name)} images has shapes: they are not in the "
                "store"
            )
    return tuple(there), tuple(left_out)


def shape_labels(root: AnyPath, splits: Sequence[str], by_folder: bool) -> dict[str, ShapeLabels]:
    """Split -> where its shapes are, for all splits that have annotation files; empty if labels are pixels, or missing.

    Raises:
        DatasetError: there are labels of two kinds; the message names a file of each.
    """
    found: dict[str, ShapeLabels] = {}
    pixels: AnyPath | None = None
    for number, split in enumerate(splits):
        folder = split if by_folder else ""
        own, beside, of_pixels = _labels(root, folder, splits)
        pixels = pixels or of_pixels
        coco, reports = _coco(root, split, is_sure=not (own or beside or of_pixels)), number == 0
        if beside and (own or coco or of_pixels) and LABELME_TEXT not in file_bytes(min(beside.values())):
            beside = {}  # Some other data on each image, such as a camera's.
        for name in own.keys() & beside.keys():
            raise _two(own[name], beside[name])
        if labelme := own | beside:
            if coco is not None:
                raise _two(min(labelme.values()), coco)
            found[split] = ShapeLabels(root, folder, labelme, None, False)
        elif coco is not None:
            reports = reports or coco not in [root / place for place in OF_ALL]
            found[split] = ShapeLabels(root, folder, {}, coco, reports)
    if pixels is not None and found:
        raise _two(pixels, next(iter(found.values())).example)
    return found


def _labels(
    root: AnyPath, folder: str, splits: Sequence[str]
) -> tuple[dict[str, AnyPath], dict[str, AnyPath], AnyPath | None]:
    """JSON files by name in labels/, and beside their image, and a label of pixels."""
    images, labels = _part(root, "images", folder), _part(root, "labels", folder)
    in_images = files_below(images) if followed(images).is_dir() else []
    in_labels = files_below(labels) if followed(labels).is_dir() else []
    names = {name_of(file, images) for file in in_images if has_ending(file.name, ANY_IMAGE)}
    of_coco = {root / place.format(split=split) for place in OF_SPLIT for split in splits}
    own = {name_of(file, labels): file for file in in_labels if has_ending(file.name, ENDING) and file not in of_coco}
    beside = {name_of(file, images): file for file in in_images if has_ending(file.name, ENDING)}
    pixels = [file for file in in_labels if has_ending(file.name, ANY_IMAGE)]
    if pixels:
        own = {name: own[name] for name in own.keys() & names}  # Others are no labels, but notes of some program.
    return own, {name: beside[name] for name in beside.keys() & names}, pixels[0] if pixels else None


def _coco(root: AnyPath, split: str, is_sure: bool) -> AnyPath | None:
    """The COCO file of a split; unless `is_sure`, only if it has segmentations."""
    own = [root / place.format(split=split) for place in OF_SPLIT]
    own = [file for file in own if followed(file).is_file()]
    if len(own) > 1:
        raise _two(*own[:2])
    found = own or [file for file in (root / place for place in OF_ALL) if followed(file).is_file()]
    if len(found) > 1:
        raise _two(*found[:2])
    return found[0] if found and (is_sure or COCO_TEXT in file_bytes(found[0])) else None


def _two(first: AnyPath, second: AnyPath) -> DatasetError:
    return DatasetError(f"{first} and {second} both hold labels, and a dataset has one kind: move the others out of it")


def _part(root: AnyPath, part: str, folder: str) -> AnyPath:
    return root / part / folder if folder else root / part


def _stem(file_name: str) -> str:
    """A path without steps up and without an image's extension, as `name_of` returns."""
    path = PurePosixPath(*(part for part in PurePosixPath(file_name).parts if part not in ("/", "..")))
    return str(path.with_suffix("") if has_ending(path.name, ANY_IMAGE) else path)


def _agreement(one: Sequence[str], other: Sequence[str]) -> int:
    """The number of last parts in which two paths agree."""
    pairs = zip(reversed(one), reversed(other), strict=False)
    return next((count for count, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))
