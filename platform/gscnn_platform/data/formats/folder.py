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

Without `labels` raw values are train ids. 255 is void unless `labels` says otherwise. Folders may be nested; a
sample's name is its path below its split (or below images/ with lists), without the ending.
"""

import colorsys
import re
from collections import Counter
from collections.abc import Hashable
from typing import Annotated, ClassVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gscnn.constants import IGNORE_INDEX
from gscnn_platform.data.formats.base import (
    RAW_VALUES,
    DatasetDescription,
    DatasetError,
    DatasetFormat,
    Sample,
    pair,
    require_root,
    require_split,
    visible_files,
)
from gscnn_platform.paths import AnyPath, below

IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
LABEL_ENDINGS = (".png", ".tif", ".tiff", ".bmp")
LISTS = ("train", "val", "test")
VOID = "void"
COMMENT = re.compile(r"(^|\s)#.*")  # A # inside a file name starts no comment.

Byte = Annotated[int, Field(ge=0, le=255)]
RawValue = Annotated[int, Field(ge=0, lt=RAW_VALUES)]


class ClassEntry(BaseModel):
    """One line of `classes`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(min_length=1)]
    """What tables and figures call the class; unique, and not `void`."""
    colour: tuple[Byte, Byte, Byte] | None = None
    """RGB, 0..255; None takes a colour that no other class has."""


class ClassesFile(BaseModel):
    """The whole of classes.yaml."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    classes: Annotated[tuple[ClassEntry, ...], Field(min_length=1, max_length=IGNORE_INDEX)]
    """In the order of the train ids."""
    labels: dict[RawValue, str] | None = None
    """Raw label value -> class name or `void`; None means that raw values are train ids."""


class Folder(DatasetFormat):
    """images/, labels/ and classes.yaml in one folder."""

    name: ClassVar[str] = "folder"
    needs_root: ClassVar[bool] = True

    def describe(self, root: AnyPath | None) -> DatasetDescription:
        """What classes.yaml says, and the splits. Raises DatasetError naming file, field, value and the way out."""
        root = require_root(root, self.name)
        path = root / "classes.yaml"
        spec = _read_classes(path)
        names = tuple(entry.name for entry in spec.classes)
        for name, times in Counter(names).items():
            if times > 1:
                raise DatasetError(f"{path}: classes: {name!r} is listed {times} times; give every class its own name")
        if VOID in names:
            raise DatasetError(f"{path}: classes: {VOID!r} is no class; leave it out, and map its raw values in labels")
        train_ids = {name: index for index, name in enumerate(names)} | {VOID: IGNORE_INDEX}
        raw_to_name = spec.labels if spec.labels is not None else dict(enumerate(names))
        for raw, name in raw_to_name.items():
            if name not in train_ids:
                raise DatasetError(
                    f"{path}: labels: {raw} goes to {name!r}, which is no class; "
                    f"use one of {', '.join(names)} or {VOID}"
                )
        table = {IGNORE_INDEX: IGNORE_INDEX} | {raw: train_ids[name] for raw, name in raw_to_name.items()}
        return DatasetDescription(names, _colours(spec.classes), table, _splits(root))

    def samples(self, root: AnyPath | None, split: str) -> list[Sample]:
        """The split's samples. Raises DatasetError where a folder is missing or empty, or two files share a name."""
        root = require_root(root, self.name)
        require_split(split, _splits(root), root)
        if _split_folders(root):
            images, labels = root / "images" / split, root / "labels" / split
            by_image, by_label = _by_name(images, IMAGE_ENDINGS), _by_name(labels, LABEL_ENDINGS)
        else:
            images, labels = root / "images", root / "labels"
            by_image = _listed(root / f"{split}.txt", images)
            by_label = {name: path for name, path in _by_name(labels, LABEL_ENDINGS).items() if name in by_image}
        return pair(
            by_image,
            by_label,
            image_at=lambda name: images / f"{name}.png",
            label_at=lambda name: labels / f"{name}.png",
        )


class _UniqueKeyLoader(yaml.SafeLoader):
    """PyYAML keeps the last of two equal keys without a word; a label table must not lose one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, object]:
        keys = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        twice = [key for key, times in keys.items() if times > 1]
        if twice:
            raise yaml.constructor.ConstructorError(None, None, f"key {twice[0]} occurs twice", node.start_mark)
        return super().construct_mapping(node, deep)


def _read_classes(path: AnyPath) -> ClassesFile:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path}: the file is missing or unreadable ({error}); write one as in docs") from error
    try:
        content = yaml.load(text, _UniqueKeyLoader)
    except yaml.YAMLError as error:
        raise DatasetError(f"{path}: not valid YAML ({error}); mend the line that it names") from error
    if not isinstance(content, dict):
        raise DatasetError(f"{path}: holds {content!r}; it needs a field `classes`, a list of {{name: ...}}")
    try:
        return ClassesFile.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise DatasetError(f"{path}: {field}: {first['input']!r} is wrong: {first['msg']}; mend this field") from error


def _colours(entries: tuple[ClassEntry, ...]) -> tuple[tuple[int, int, int], ...]:
    """One RGB colour a class: its own, or the next of a fixed sequence that no class has asked for."""
    taken = {entry.colour for entry in entries if entry.colour is not None}
    # Steps of the golden ratio keep neighbouring hues apart; three brightnesses tell the later rounds apart.
    sequence = (
        tuple(round(255 * part) for part in colorsys.hsv_to_rgb(step * 0.618034 % 1.0, 0.75, (0.9, 0.6, 0.4)[step % 3]))
        for step in range(4 * IGNORE_INDEX)
    )
    chosen: list[tuple[int, int, int]] = []
    for entry in entries:
        colour = entry.colour
        while colour is None:
            red, green, blue = next(sequence)
            colour = (red, green, blue) if (red, green, blue) not in taken else None
        taken.add(colour)
        chosen.append(colour)
    return tuple(chosen)


def _split_folders(root: AnyPath) -> set[str]:
    """Folders right below images/ or labels/ that count as splits, or nothing where the splits are lists."""
    listed = [root / f"{split}.txt" for split in LISTS if (root / f"{split}.txt").is_file()]
    by_folder = (root / "images" / "train").is_dir() or (root / "labels" / "train").is_dir()
    if listed and by_folder:
        raise DatasetError(
            f"{listed[0]} and {root / 'images' / 'train'} both exist, so the splits are given twice; "
            "remove the lists or move the images out of the split folders"
        )
    if not by_folder:
        return set()
    parents = [root / part for part in ("images", "labels") if (root / part).is_dir()]
    return {child.name for parent in parents for child in parent.iterdir() if child.is_dir() and child.name[0] != "."}


def _splits(root: AnyPath) -> tuple[str, ...]:
    """The splits, train first. Raises DatasetError where there is no train, or where a split's folder is missing."""
    for part in ("images", "labels"):
        if not (root / part).is_dir():
            raise DatasetError(f"{root / part}: the folder is missing; root needs images/, labels/ and classes.yaml")
    folders = _split_folders(root)
    found = folders or {split for split in LISTS if (root / f"{split}.txt").is_file()}
    if "train" not in found:
        raise DatasetError(
            f"{root}: no split `train`; make images/train/ and labels/train/, or write train.txt with a name a line"
        )
    for split in folders:
        for folder in (root / "images" / split, root / "labels" / split):
            if not folder.is_dir():
                raise DatasetError(f"{folder}: the folder is missing; split {split!r} needs it in images/ and labels/")
    loose = [path for path in (root / "images").iterdir() if path.suffix.lower() in IMAGE_ENDINGS and folders]
    if loose:
        raise DatasetError(f"{min(loose)}: this image lies in no split; move it into images/train/ or another split")
    return tuple(sorted(found, key=lambda split: (LISTS.index(split) if split in LISTS else len(LISTS), split)))


def _by_name(folder: AnyPath, endings: tuple[str, ...]) -> dict[str, AnyPath]:
    """Path below `folder` without its ending -> file. Raises DatasetError where two files share a name."""
    found: dict[str, AnyPath] = {}
    for path in visible_files(folder, endings):
        name = below(path, folder).with_suffix("").as_posix()
        if name in found:
            raise DatasetError(f"{found[name]} and {path.name} have one name, {name!r}; rename or remove one of them")
        found[name] = path
    return found


def _listed(list_file: AnyPath, images: AnyPath) -> dict[str, AnyPath]:
    """Name -> image, for each line of `list_file`. Raises DatasetError naming the line that is wrong."""
    by_name = _by_name(images, IMAGE_ENDINGS)
    by_path = {below(path, images).as_posix(): name for name, path in by_name.items()}
    found: dict[str, AnyPath] = {}
    for number, line in enumerate(list_file.read_text(encoding="utf-8-sig").splitlines(), start=1):
        entry = COMMENT.sub("", line).strip().removeprefix("./")
        if not entry:
            continue
        name = by_path.get(entry, entry)
        if name not in by_name:
            raise DatasetError(
                f"{list_file}: line {number}: {entry!r} is no image in {images}; add it or drop the line"
            )
        if name in found:
            raise DatasetError(f"{list_file}: line {number}: {entry!r} is listed twice; drop one of the lines")
        found[name] = by_name[name]
    if not found:
        raise DatasetError(f"{list_file}: no names; write one image name a line, relative to {images}")
    return found
