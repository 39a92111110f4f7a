"""The interface of a dataset format: a description, and samples that read their files.

Shapes: H and W are the rows and columns of one frame. Images are uint8 [H, W, 3] RGB; raw labels are uint8 or
uint16 [H, W] as stored on disk; train ids are uint8 [H, W] in 0..K-1, and IGNORE_INDEX for void pixels.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Final, Literal, Protocol, Self

import numpy as np
from pydantic import Field, model_validator

from gscnn.constants import IGNORE_INDEX
from gscnn_platform.config import Config
from gscnn_platform.data.formats.colour_labels import Colour, ColourTable, as_hex
from gscnn_platform.data.formats.decoding import (
    RAW_VALUES,
    BadSampleError,
    file_bytes,
    orientation,
    read_image,
    read_label,
)
from gscnn_platform.data.image_files import followed, named_alike
from gscnn_platform.paths import AnyPath

UPRIGHT: Final = " upright"
"""Suffix of the digest of a sample whose image or label is rotated on reading."""


SHOWN_VALUES: Final = 10
"""Maximum label values that an error lists: a colour label converted to grey can have a hundred unknown values."""


class DatasetError(ValueError):
    """The layout of the dataset is wrong; the message names the file, the field and the value, and says what to do."""


@dataclass(frozen=True)
class DatasetDescription:
    """A dataset's classes, colours, label table and splits.

    `classes` and `colours` (RGB, 0..255) are in the order of the train ids; `label_table` maps a raw label value to
    its train id, or to IGNORE_INDEX for void. Raises DatasetError if these contradict each other.
    """

    classes: tuple[str, ...]
    colours: tuple[Colour, ...]
    label_table: dict[int, int]
    splits: tuple[str, ...]
    left_out: tuple[str, ...] = ()
    """Messages for users about what exists below the root but is in no split."""
    label_colours: dict[Colour, int] = field(default_factory=dict)
    """Colour of colour-coded labels -> train id or IGNORE_INDEX; empty if labels hold numbers. Samples read these
    labels as train ids, so `label_table` maps each train id to itself."""

    def __post_init__(self) -> None:
        count = len(self.classes)
        if not 2 <= count <= IGNORE_INDEX:
            raise DatasetError(f"classes: {count} classes; a dataset has 2 to {IGNORE_INDEX}, higher ids are void")
        if len(set(self.classes)) != count:
            twice = sorted({name for name in self.classes if self.classes.count(name) > 1})
            raise DatasetError(f"classes: {twice} are listed more than once; give every class its own name")
        if len(self.colours) != count:
            raise DatasetError(f"colours: {len(self.colours)} colours for {count} classes; give each class a colour")
        for name, colour in zip(self.classes, self.colours, strict=True):
            if len(colour) != 3 or not all(0 <= value <= 255 for value in colour):
                raise DatasetError(f"colours: {name} has {colour}; a colour is three values from 0 to 255")
        for raw, train_id in self.label_table.items():
            if not 0 <= raw < RAW_VALUES:
                raise DatasetError(f"label_table: raw value {raw}; raw values lie in 0..{RAW_VALUES - 1}")
            if train_id != IGNORE_INDEX and not 0 <= train_id < count:
                raise DatasetError(
                    f"label_table: raw value {raw} maps to train id {train_id}; "
                    f"train ids are 0..{count - 1}, void is {IGNORE_INDEX}"
                )
        for colour, train_id in self.label_colours.items():
            if train_id != IGNORE_INDEX and not 0 <= train_id < count:
                raise DatasetError(
                    f"label_colours: {as_hex(colour)} maps to train id {train_id}; train ids are 0..{count - 1}, void "
                    f"is {IGNORE_INDEX}"
                )


class Sample(Protocol):
    """A labelled frame. `name` is unique within its split."""

    @property
    def name(self) -> str: ...

    def read(self) -> tuple[np.ndarray, np.ndarray]:
        """Image uint8 [H, W, 3] RGB and raw label uint8 or uint16 [H, W]. Raises BadSampleError."""
        ...

    def digest(self) -> str:
        """SHA-256, in hex, of everything that `read` depends on: file contents or generator settings, but no paths."""
        ...


@dataclass(frozen=True)
class FileSample:
    """A frame that is stored as one image file and one label file."""

    name: str
    image: AnyPath
    label: AnyPath
    colours: ColourTable | None = None
    """Meaning of the label's colours; None if it holds numbers. Its colours are `label_colours` of the description."""

    def read(self) -> tuple[np.ndarray, np.ndarray]:
        """Image uint8 [H, W, 3] RGB and raw label uint8 or uint16 [H, W], both upright; the raw label of a
        colour-coded file has train ids.

        Raises BadSampleError, naming the file, if one is missing, empty, damaged or of the wrong type, or if their
        sizes differ, or a colour is not in the table.
        """
        image = read_image(self.image)
        label = read_label(self.label) if self.colours is None else self.colours.read(self.label)
        if image.shape[:2] != label.shape:
            sizes = f"{self.image} is {_size(image)} but {self.label} is {_size(label)} (width x height); "
            turned = orientation(file_bytes(self.image)) > 4
            if turned and image.shape[:2] == label.shape[::-1]:
                raise BadSampleError(
                    f"{sizes}the image is stored as {_size(label)} and rotated upright by its EXIF orientation, its "
                    "label is not: draw the label upright, or remove the orientation (exiftool -n -Orientation=1 FILE)"
                )
            raise BadSampleError(f"{sizes}image and label must have the same size")
        return image, label

    def digest(self) -> str:
        """SHA-256, in hex, of the bytes of both files and of the colours' meaning, if there is one; with the suffix
        UPRIGHT if EXIF rotates one of the files.

        The suffix changes the fingerprint of stores, because older versions did not rotate such files. Raises
        BadSampleError if a file cannot be read.
        """
        content = [file_bytes(path) for path in (self.image, self.label)]
        parts = [*content, *([] if self.colours is None else [self.colours.content()])]
        digest = hashlib.sha256(b"".join(hashlib.sha256(data).digest() for data in parts)).hexdigest()
        return digest + UPRIGHT if any(orientation(data) > 1 for data in content) else digest


class DatasetFormat(Config, ABC):
    """The layout of a raw dataset on disk, or its generator. Subclasses add their settings as fields.

    The fields of this class choose some of the layout's samples: `subset.chosen_samples` applies them.
    """

    name: ClassVar[str]
    needs_root: ClassVar[bool] = True

    share: float = Field(default=1.0, gt=0, le=1)
    """Share of the samples of `subset_splits` that is kept, chosen by `subset_seed`; a smaller share is a subset of a
    larger one."""
    only: tuple[str, ...] = ()
    """Samples of `subset_splits` that are kept: names, patterns in which * stands for any text, or .txt files with one
    of these per line; empty: all."""
    subset_splits: tuple[str, ...] = Field(default=("train",), min_length=1)
    """Splits that `only` and `share` reduce; the others stay whole."""
    subset_seed: int = Field(default=0, ge=0)
    """Random seed of `share` and `folds`."""
    folds: int | None = Field(default=None, ge=2)
    """Number of folds for cross-validation: the samples of train and val together are divided into this many parts;
    None: the dataset's own splits."""
    fold: int | None = Field(default=None, ge=0)
    """Fold that becomes val, counted from 0; the others become train."""
    fold_by: Literal["sample", "folder"] = "sample"
    """Whether folds divide samples or whole folders of samples, such as videos."""

    @model_validator(mode="after")
    def _check_folds(self) -> Self:
        if self.folds is None and self.fold is not None:
            raise ValueError(f"`fold` is {self.fold}: needs `folds`, the number of folds, such as 5")
        if self.folds is not None and self.fold is None:
            raise ValueError(f"`folds` is {self.folds}: needs `fold`, the one to validate on: 0 to {self.folds - 1}")
        if self.folds is not None and self.fold is not None and self.fold >= self.folds:
            raise ValueError(f"`fold` is {self.fold}: must be less than `folds`, {self.folds}; the first is 0")
        return self

    @abstractmethod
    def describe(self, root: AnyPath | None) -> DatasetDescription:
        """Classes, colours, label table and the splits that exist below `root`. Raises DatasetError."""

    @abstractmethod
    def samples(self, root: AnyPath | None, split: str) -> list[Sample]:
        """The split's samples, sorted by name, including those without an image or label. Raises DatasetError."""


def remap(raw_label: np.ndarray, table: dict[int, int], source: AnyPath | str = "the label") -> np.ndarray:
    """Raw label uint8 or uint16 [H, W] -> train ids uint8 [H, W], through a lookup array.

    Raises BadSampleError, naming `source` and the raw values outside `table` with their numbers of pixels.
    """
    lookup = np.full(RAW_VALUES, -1, np.int16)
    lookup[list(table)] = list(table.values())
    train_ids = lookup[raw_label]
    unknown = train_ids < 0
    if unknown.any():
        values, counts = np.unique(raw_label[unknown], return_counts=True)
        shown = zip(values[:SHOWN_VALUES], counts, strict=False)
        found = ", ".join(f"{value} ({count} px)" for value, count in shown)
        more = f" and {len(values) - SHOWN_VALUES} more" if len(values) > SHOWN_VALUES else ""
        known = ", ".join(_ranges(sorted(table)))
        raise BadSampleError(f"{source}: label values outside the label table: {found}{more}; the table has {known}")
    return train_ids.astype(np.uint8)


def _ranges(values: Sequence[int]) -> Iterator[str]:
    """Sorted values as ranges, such as `0-11` and `255`, so that a table of 300 classes stays short."""
    starts = [index for index, value in enumerate(values) if index == 0 or value != values[index - 1] + 1]
    for start, stop in zip(starts, [*starts[1:], len(values)], strict=True):
        yield f"{values[start]}-{values[stop - 1]}" if stop - start > 1 else str(values[start])


def require_root(root: AnyPath | None, format_name: str) -> AnyPath:
    """`root` unchanged if it is an existing folder; raises DatasetError otherwise."""
    if root is None:
        raise DatasetError(f"root: the format {format_name!r} reads files: pass the dataset's root folder")
    if not followed(root).is_dir():
        what = "is a file: unpack it if it is an archive, and" if root.is_file() else "is not a folder:"
        alike = named_alike(root, way_out="")
        raise DatasetError(f"root: {root} {what} pass the folder that holds the {format_name!r} layout{alike}")
    return root


def require_split(split: str, splits: tuple[str, ...], where: AnyPath | str) -> None:
    """Raises DatasetError, naming the existing splits, if `split` is not one of them."""
    if split not in splits:
        raise DatasetError(f"split: {split!r} does not exist in {where}; the splits are {', '.join(splits)}")


def _size(array: np.ndarray) -> str:
    """Width and height as text, such as `160x128`."""
    return f"{array.shape[1]}x{array.shape[0]}"
