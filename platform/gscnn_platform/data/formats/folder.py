"""A user's own images and labels, described by one file.

    ROOT/classes.yaml
    ROOT/images/train/a.jpg   ROOT/labels/train/a.png      splits by folder: any names, at least train
or
    ROOT/images/a.jpg         ROOT/labels/a.png            splits by list: train.txt, val.txt and test.txt in ROOT

classes.yaml:

    classes:                                         # in the order of the train ids
      - {name: road, colour: [128, 64, 128]}         # colour (RGB) is optional
      - {name: car}
    labels: {7: road, 8: road, 26: car, 0: void}     # optional: raw label value -> class name or void
or
    labels: {"#804080": road, "#000000": void}       # colour of colour-coded labels -> class name or void
or, for shapes in JSON files of LabelMe or COCO (shape_files.py says where they lie),
    labels: {car body: car, ignore: void}            # optional: name in these files -> class name or void
    background: road                                 # optional: pixels outside all shapes; otherwise void

Without `labels`, raw values are train ids, and the colours of RGB labels are those of the classes. 255 is void unless
`labels` maps it to a class. Folders may be nested; a sample's name is its path below its split (or below images/ with
lists), without the extension.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from typing import ClassVar

from gscnn.constants import IGNORE_INDEX
from gscnn_platform.data.formats.base import (
    DatasetDescription,
    DatasetError,
    DatasetFormat,
    FileSample,
    Sample,
    require_root,
    require_split,
)
from gscnn_platform.data.formats.classes_file import VOID, ClassesFile, read_classes
from gscnn_platform.data.formats.colour_labels import Colour, ColourTable, as_hex, colour_counts
from gscnn_platform.data.formats.decoding import BadSampleError, has_colours
from gscnn_platform.data.formats.layout import image_files, label_files, labelled, pair
from gscnn_platform.data.formats.palette import distinct_colours
from gscnn_platform.data.formats.shape_files import (
    PLACES,
    check_kind,
    labelled_by_shapes,
    named_by_shapes,
    shape_classes,
    shape_labels,
)
from gscnn_platform.data.image_files import ANY_IMAGE, followed, has_ending, is_clutter, named_alike
from gscnn_platform.paths import AnyPath, below
from gscnn_platform.text_files import read_text, suggestion

LISTS = ("train", "val", "test")
OTHER_LISTS = ("valid", "validation", "trainval", "training", "testing", "dev")
"""Names of lists in other projects."""
COMMENT = re.compile(r"(^|\s)#.*")  # A # inside a file name does not start a comment.
SHOWN = 3
VOID_BACKGROUND = "classes.yaml has no `background`: pixels outside all shapes are void, and no class is learned there"
EXAMINED = 5
"""Labels of train that are opened to find out whether labels are colour-coded."""
SHOWN_COLOURS = 40
"""Maximum colours that are listed for pasting: CamVid has 32."""


class Folder(DatasetFormat):
    """images/, labels/ and classes.yaml in one folder."""

    name: ClassVar[str] = "folder"
    needs_root: ClassVar[bool] = True

    def describe(self, root: AnyPath | None) -> DatasetDescription:
        """The content of classes.yaml, and the splits. Raises DatasetError, naming file, field and value."""
        root = require_root(root, self.name)
        spec = read_classes(root / "classes.yaml")
        by_folder, splits = _present(root)
        shapes = shape_labels(root, splits, by_folder)
        check_kind(spec, shapes)
        folders = {split: (root / "images" / split, root / "labels" / split) for split in splits}
        table = None
        if shapes:
            classes = shape_classes(spec)
            images = {} if by_folder else image_files(root / "images")
            splits, left_out = (
                labelled_by_shapes(shapes, folders, classes)
                if by_folder
                else _labelled_lists(root, images, named_by_shapes(shapes, images, classes))
            )
            left_out = (*left_out, *([VOID_BACKGROUND] if spec.background is None else []))
        else:
            _require(root, "labels")
            splits, left_out = (
                labelled(folders)
                if by_folder
                else _labelled_lists(root, image_files(root / "images"), label_files(root / "labels").keys())
            )
            table = _colour_table(root, spec, by_folder)
        numbers = spec.labels or dict(enumerate(spec.names))
        return DatasetDescription(
            classes=spec.names,
            colours=distinct_colours(spec.colours),
            label_table={IGNORE_INDEX: IGNORE_INDEX} | {raw: spec.train_ids[name] for raw, name in numbers.items()},
            splits=splits,
            left_out=left_out,
            label_colours={} if table is None else dict(table.train_ids),
        )

    def samples(self, root: AnyPath | None, split: str) -> list[Sample]:
        """The split's samples. Raises DatasetError if a folder is missing or empty, or two files share a name."""
        root = require_root(root, self.name)
        spec = read_classes(root / "classes.yaml")
        by_folder, splits = _present(root)
        require_split(split, splits, root)
        below_split = f"/{split}" if by_folder else ""
        images, labels = root / f"images{below_split}", root / f"labels{below_split}"
        shapes = shape_labels(root, splits, by_folder)
        by_image = image_files(images)
        listed = None if by_folder else _listed(root / f"{split}.txt", by_image, images)
        if listed is not None:
            by_image = {name: by_image[name] for name in listed}
        if shapes:
            if split not in shapes:
                raise DatasetError(f"{labels}: no label for the images in {images}; shapes are in {PLACES}")
            return shapes[split].samples(by_image, shape_classes(spec), listed is not None)
        by_label = label_files(labels)
        if listed is not None:
            by_label = {name: by_label[name] for name in listed if name in by_label} or by_label
        colours = _colour_table(root, spec, by_folder)
        return pair(
            by_image,
            by_label,
            image_at=lambda name: images / f"{name}.png",
            label_at=lambda name: labels / f"{name}.png",
            sample=lambda name, image, label: FileSample(name, image, label, colours),
        )


def _colour_table(root: AnyPath, spec: ClassesFile, by_folder: bool) -> ColourTable | None:
    """The meaning of the labels' colours; None if labels hold numbers.

    Labels hold colours if classes.yaml lists colours, or if most of the first labels of train are RGB.

    Raises DatasetError if these labels have no table; the message lists their colours.
    """
    if not spec.label_colours:
        labels = label_files(root / "labels" / ("train" if by_folder else ""))
        examined = [labels[name] for name in sorted(labels)[:EXAMINED]]
        coloured = _coloured(examined)
        if 2 * len(coloured) <= len(examined):
            return None
        if spec.labels or None in spec.colours:
            raise DatasetError(_missing_table(spec, coloured))
    table = {colour: spec.train_ids[name] for colour, name in spec.colour_table().items()}
    return ColourTable(table, spec.names, spec.path)


def _coloured(labels: Sequence[AnyPath]) -> list[AnyPath]:
    """Those of the label files that are RGB; unreadable files are reported when their sample is read."""
    found: list[AnyPath] = []
    for label in labels:
        with suppress(BadSampleError):
            if has_colours(label):
                found.append(label)
    return found


def _missing_table(spec: ClassesFile, coloured: Sequence[AnyPath]) -> str:
    """The message that classes.yaml lacks the colours of these labels, with lines to paste into it."""
    counts: Counter[Colour] = Counter()
    for label in coloured:
        with suppress(BadSampleError):
            counts.update(colour_counts(label))
    own = dict(zip(spec.colours, spec.names, strict=True))
    lines = [
        f'  "{as_hex(colour)}": {own.get(colour, "NAME")}  # {colour}, {count} px'
        for colour, count in counts.most_common(SHOWN_COLOURS)
    ]
    more = [f"  # and {len(counts) - SHOWN_COLOURS} more colours"] if len(counts) > SHOWN_COLOURS else []
    without = next((name for name, colour in zip(spec.names, spec.colours, strict=True) if colour is None), "")
    why = "labels: lists numbers" if spec.labels else f"classes: {without!r} has no colour"
    return "\n".join(
        [
            f"{spec.path}: {why}, but {coloured[0]} is colour-coded; write the class of each colour, or {VOID}. The "
            f"first {len(coloured)} labels have:",
            "labels:",
            *lines,
            *more,
        ]
    )


def _split_folders(root: AnyPath) -> set[str]:
    """Names of the folders directly below images/ or labels/, which are splits; empty if the splits are lists."""
    listed = _lists(root)
    by_folder = any(followed(root / part / "train").is_dir() for part in ("images", "labels"))
    if listed and by_folder:
        raise DatasetError(
            f"{root / f'{listed[0]}.txt'} and {root / 'images' / 'train'} both exist, so the splits are defined twice; "
            "remove the lists or move the images out of the split folders"
        )
    if not by_folder:
        return set()
    parts = (root / part for part in ("images", "labels") if (root / part).is_dir())
    children = (child for part in parts for child in part.iterdir())
    return {child.name for child in children if not is_clutter(child.name) and followed(child).is_dir()}


def _lists(root: AnyPath) -> list[str]:
    """The splits that have a list."""
    return [split for split in LISTS if followed(root / f"{split}.txt").is_file()]


def _present(root: AnyPath) -> tuple[bool, tuple[str, ...]]:
    """Whether the splits are folders rather than lists, and their names, train first.

    Raises DatasetError if train is missing, or if an image is in no split.
    """
    _require(root, "images")
    folders = _split_folders(root)
    if not folders:
        lists = tuple(_lists(root))
        if "train" in lists:
            return False, lists
        children = (child for child in (root / "images").iterdir() if not is_clutter(child.name) and child.is_dir())
        others = ", ".join(sorted(child.name for child in children))
        there = (
            f"; there is {others}: rename the one to train on to train" if others else named_alike(root / "train.txt")
        )
        raise DatasetError(
            f"{root}: no split `train`; create images/train/ and labels/train/, or write train.txt with one name per "
            f"line{there}"
        )
    loose = sorted(path for path in (root / "images").iterdir() if has_ending(path.name, ANY_IMAGE))
    loose = [path for path in loose if not is_clutter(path.name) and path.name not in folders]
    if loose:
        raise DatasetError(f"{loose[0]}: this image is in no split; move it to images/train/ or another split")
    return True, tuple(sorted(folders, key=lambda split: (LISTS.index(split) if split in LISTS else len(LISTS), split)))


def _require(root: AnyPath, part: str) -> None:
    """Raises DatasetError if images/ or labels/ is missing."""
    if not followed(root / part).is_dir():
        alike = named_alike(root / part)
        raise DatasetError(f"{root / part}: the folder is missing; root needs images/, labels/ and classes.yaml{alike}")


def _labelled_lists(
    root: AnyPath, by_image: Mapping[str, AnyPath], labelled: AbstractSet[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The listed splits that have labels, and a sentence for each ignored list, for each split without labels and for
    images that are in no list.

    `by_image` and `labelled` have the names of all images, and of those that have labels.
    """
    listed = {split: _listed(root / f"{split}.txt", by_image, root / "images") for split in _lists(root)}
    without = [split for split, names in listed.items() if split != LISTS[0] and labelled.isdisjoint(names)]
    others = [name for name in OTHER_LISTS if (root / f"{name}.txt").is_file()]
    said = [f"{name}.txt is left out: lists are {', '.join(f'{split}.txt' for split in LISTS)}" for name in others]
    said += [
        f"split {split} is left out because none of the {len(listed[split])} images of {split}.txt has a label"
        for split in without
    ]
    unlisted = sorted(by_image.keys() - {name for names in listed.values() for name in names})
    if unlisted:
        more = ", ..." if len(unlisted) > SHOWN else ""
        said.append(f"{len(unlisted)} images are left out, they are in no list: {', '.join(unlisted[:SHOWN])}{more}")
    return tuple(split for split in listed if split not in without), tuple(said)


def _listed(list_file: AnyPath, by_name: Mapping[str, AnyPath], images: AnyPath) -> list[str]:
    """The sample names in `list_file`, in its order. Raises DatasetError, naming the line that is wrong."""
    by_path = {unicodedata.normalize("NFC", below(path, images).as_posix()): name for name, path in by_name.items()}
    found: dict[str, None] = {}
    for number, line in enumerate(read_text(list_file).split("\n"), start=1):
        # The whole line first, then without a comment: a name may contain a #, or start with it.
        readings = [_as_name(text) for text in (line, line.strip(), COMMENT.sub("", line).strip())]
        entry = next((text for text in readings if text in by_path or text in by_name), readings[-1])
        if not entry:
            continue
        name = by_path.get(entry, entry)
        if name not in by_name:
            raise DatasetError(
                f"{list_file}: line {number}: there is no image {entry!r} in {images} (lines are relative to it); "
                f"add it or remove the line{suggestion(entry, by_path)}"
            )
        if name in found:
            raise DatasetError(f"{list_file}: line {number}: {entry!r} is listed twice; remove one of the lines")
        found[name] = None
    if not found:
        raise DatasetError(f"{list_file}: no names; write one image name per line, relative to {images}")
    return list(found)


def _as_name(text: str) -> str:
    """A line's text in the form of the names that `name_of` returns."""
    return unicodedata.normalize("NFC", text.replace("\\", "/")).removeprefix("./")
