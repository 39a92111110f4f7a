"""What every dataset format gives the rest of the platform: a description, and samples that read themselves.

Shapes: H and W are the rows and columns of one frame. Images are uint8 [H, W, 3] RGB; raw labels are uint8 or
uint16 [H, W] as they lie on disk; train ids are uint8 [H, W] in 0..K-1, with IGNORE_INDEX where a pixel is void.
"""

import hashlib
import io
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Final, Protocol

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError
from pydantic import BaseModel, ConfigDict

from gscnn.constants import IGNORE_INDEX
from gscnn_platform.data.formats.image_size import image_size
from gscnn_platform.paths import AnyPath, patiently

MOST_PIXELS: Final = 1 << 27
"""Of an image or label that is decoded: 134 million, an aerial tile of 11,585 x 11,585. Precompute holds 13 bytes for
each at its peak, so 1.8 GB; the header of a file of a few KB can ask for a hundred times as much."""

RAW_VALUES = 1 << 16  # Raw labels are at most 16 bit: every lookup array is this long.
LABEL_MODES = ("L", "P", "I", "I;16", "I;16B", "I;16L")


class DatasetError(ValueError):
    """The layout as a whole is wrong; the message names the file, the field, the value and the way out."""


class BadSampleError(ValueError):
    """One sample cannot be used; the message names its file and the reason."""


@dataclass(frozen=True)
class DatasetDescription:
    """What holds for every frame of a dataset.

    `classes` and `colours` (RGB, 0..255) run in the order of the train ids; `label_table` takes a raw label value
    to its train id, or to IGNORE_INDEX for void. Raises DatasetError where these contradict each other.
    """

    classes: tuple[str, ...]
    colours: tuple[tuple[int, int, int], ...]
    label_table: dict[int, int]
    splits: tuple[str, ...]

    def __post_init__(self) -> None:
        count = len(self.classes)
        if not 1 <= count <= IGNORE_INDEX:
            raise DatasetError(f"classes: {count} classes; a dataset has 1 to {IGNORE_INDEX}, ids above that are void")
        if len(set(self.classes)) != count:
            twice = sorted({name for name in self.classes if self.classes.count(name) > 1})
            raise DatasetError(f"classes: {twice} named more than once; give every class its own name")
        if len(self.colours) != count:
            raise DatasetError(f"colours: {len(self.colours)} colours for {count} classes; give one RGB colour a class")
        for name, colour in zip(self.classes, self.colours, strict=True):
            if len(colour) != 3 or not all(0 <= value <= 255 for value in colour):
                raise DatasetError(f"colours: {name} has {colour}; a colour is three values from 0 to 255")
        for raw, train_id in self.label_table.items():
            if not 0 <= raw < RAW_VALUES:
                raise DatasetError(f"label_table: raw value {raw}; raw values lie in 0..{RAW_VALUES - 1}")
            if train_id != IGNORE_INDEX and not 0 <= train_id < count:
                raise DatasetError(
                    f"label_table: raw value {raw} goes to train id {train_id}; "
                    f"train ids lie in 0..{count - 1}, void is {IGNORE_INDEX}"
                )


class Sample(Protocol):
    """One labelled frame. `name` is unique within its split."""

    @property
    def name(self) -> str: ...

    def read(self) -> tuple[np.ndarray, np.ndarray]:
        """Image uint8 [H, W, 3] RGB and raw label uint8 or uint16 [H, W]. Raises BadSampleError."""
        ...

    def digest(self) -> str:
        """SHA-256, in hex, of all that `read` depends on: file contents or generator settings, never paths."""
        ...


@dataclass(frozen=True)
class FileSample:
    """A frame that is stored as one image file and one single-channel label file."""

    name: str
    image: AnyPath
    label: AnyPath

    def read(self) -> tuple[np.ndarray, np.ndarray]:
        """Image uint8 [H, W, 3] RGB and raw label uint8 or uint16 [H, W].

        The EXIF orientation is ignored, so that image and label stay aligned. Raises BadSampleError, naming the
        file, where one is missing, empty, damaged or of the wrong kind, or where the two differ in size.
        """
        image, label = read_image(self.image), read_label(self.label)
        if image.shape[:2] != label.shape:
            raise BadSampleError(
                f"{self.image} is {image.shape[1]}x{image.shape[0]} but {self.label} is "
                f"{label.shape[1]}x{label.shape[0]} (width x height); image and label must be of one size"
            )
        return image, label

    def digest(self) -> str:
        """SHA-256, in hex, of the bytes of both files. Raises BadSampleError where one cannot be read."""
        parts = (hashlib.sha256(_file_bytes(path)).digest() for path in (self.image, self.label))
        return hashlib.sha256(b"".join(parts)).hexdigest()


class DatasetFormat(BaseModel, ABC):
    """Where a raw dataset lies on disk, or how it is generated. Subclasses add their settings as fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: ClassVar[str]
    needs_root: ClassVar[bool] = True

    @abstractmethod
    def describe(self, root: AnyPath | None) -> DatasetDescription:
        """Classes, colours, label table and the splits that exist below `root`. Raises DatasetError."""

    @abstractmethod
    def samples(self, root: AnyPath | None, split: str) -> list[Sample]:
        """The split's samples, sorted by name, with those whose image or label is missing. Raises DatasetError."""


def read_image(path: AnyPath) -> np.ndarray:
    """The image file as uint8 [H, W, 3] RGB; grey becomes three equal channels, alpha is dropped, EXIF is ignored.

    Raises BadSampleError where the file is missing, empty, damaged, of more than MOST_PIXELS, or has more than 8 bits
    a channel.
    """
    data = _file_bytes(path)
    _check_size(path, data, "image")
    try:
        image = cv2.imdecode(
            np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
        )
    except cv2.error as error:
        raise BadSampleError(f"{path}: the image cannot be decoded ({error.err})") from error
    if image is None:
        raise BadSampleError(f"{path}: the image cannot be decoded; it is truncated, damaged or no image")
    if image.dtype != np.uint8:
        raise BadSampleError(f"{path}: the image has {image.dtype} channels; convert it to 8 bits a channel")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def read_label(path: AnyPath) -> np.ndarray:
    """The label file as uint8 or uint16 [H, W]; a palette file gives its indices, not its colours.

    Raises BadSampleError where the file is missing, empty, damaged, of more than MOST_PIXELS, has several channels,
    or holds values that are not 0..65535.
    """
    data = _file_bytes(path)
    _check_size(path, data, "label")
    # Pillow stretches grey PNGs of 2 and 4 bits to 0..255, which would silently change every label value.
    if data[:8] == b"\x89PNG\r\n\x1a\n" and len(data) > 25 and data[25] == 0 and data[24] < 8:
        raise BadSampleError(f"{path}: a grey label of {data[24]} bits a pixel; store labels as 8 or 16 bit grey")
    try:
        with Image.open(io.BytesIO(data)) as file:
            mode = file.mode
            label = np.asarray(file)
    except (UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise BadSampleError(f"{path}: the label cannot be decoded; it is no image that Pillow reads") from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise BadSampleError(f"{path}: the label cannot be decoded, it is truncated or damaged ({error})") from error
    if mode not in LABEL_MODES:
        raise BadSampleError(
            f"{path}: the label has mode {mode}; labels must be single-channel, one class number a pixel "
            "(8 or 16 bit grey, or a palette): convert colours to class numbers first"
        )
    if label.dtype == np.uint8:
        return label
    if label.size and not 0 <= int(label.min()) <= int(label.max()) < RAW_VALUES:
        raise BadSampleError(f"{path}: label values from {label.min()} to {label.max()}; they must be 0..65535")
    return label.astype(np.uint16)


def remap(raw_label: np.ndarray, table: dict[int, int], source: AnyPath | str = "the label") -> np.ndarray:
    """Raw label uint8 or uint16 [H, W] -> train ids uint8 [H, W], through a lookup array.

    Raises BadSampleError that names `source` and each raw value outside `table` with its number of pixels.
    """
    lookup = np.full(RAW_VALUES, -1, np.int16)
    lookup[list(table)] = list(table.values())
    train_ids = lookup[raw_label]
    unknown = train_ids < 0
    if unknown.any():
        values, counts = np.unique(raw_label[unknown], return_counts=True)
        found = ", ".join(f"{value} ({count} px)" for value, count in zip(values, counts, strict=True))
        raise BadSampleError(
            f"{source}: label values outside the label table: {found}; the table knows {sorted(table)}"
        )
    return train_ids.astype(np.uint8)


def require_root(root: AnyPath | None, format_name: str) -> AnyPath:
    """`root` itself where it is a folder that exists; raises DatasetError otherwise."""
    if root is None:
        raise DatasetError(f"root: the format {format_name!r} reads files; pass the dataset's root folder")
    if not root.is_dir():
        raise DatasetError(f"root: {root} is not a folder; pass the folder that holds the {format_name!r} layout")
    return root


def require_split(split: str, splits: tuple[str, ...], where: AnyPath | str) -> None:
    """Raises DatasetError, naming the splits there are, where `split` is none of them."""
    if split not in splits:
        raise DatasetError(f"split: {split!r} does not exist in {where}; the splits are {', '.join(splits)}")


def visible_files(folder: AnyPath, endings: tuple[str, ...], pattern: str = "**/*") -> list[AnyPath]:
    """Files below `folder` with one of `endings` (any case), sorted; dot files, as macOS leaves them, are skipped.

    Raises DatasetError where the folder is missing or holds none.
    """
    if not folder.is_dir():
        raise DatasetError(f"{folder}: the folder is missing; create it, or check the dataset's root")
    found = [path for path in folder.glob(pattern) if path.name.lower().endswith(endings)]
    found = sorted(path for path in found if not path.name.startswith("."))
    if not found:
        raise DatasetError(
            f"{folder}: no file named {' or '.join('*' + end for end in endings)}; is it the right root?"
        )
    return found


def pair(
    images: dict[str, AnyPath],
    labels: dict[str, AnyPath],
    image_at: Callable[[str], AnyPath],
    label_at: Callable[[str], AnyPath],
) -> list[Sample]:
    """One sample for each name in `images` or `labels`, sorted by name.

    `image_at` and `label_at` say where a missing partner should lie, so that reading the sample reports that path.
    """
    return [
        FileSample(name, images.get(name) or image_at(name), labels.get(name) or label_at(name))
        for name in sorted(images.keys() | labels.keys())
    ]


def _check_size(path: AnyPath, data: bytes, what: str) -> None:
    """Raises BadSampleError where the header gives an absurd size, or none: before anything is decoded."""
    size = image_size(data)
    if size is None or not all(size):
        raise BadSampleError(
            f"{path}: the {what} cannot be decoded: no header of a PNG, JPEG, BMP, TIFF or WebP file; it is truncated, "
            "damaged or of another kind"
        )
    width, height = size
    if width * height > MOST_PIXELS:
        raise BadSampleError(
            f"{path}: the {what} is {width} x {height} pixels by its header, {width * height} in all; "
            f"{MOST_PIXELS} at most are decoded: cut it into tiles"
        )


def _file_bytes(path: AnyPath) -> bytes:
    try:
        data = patiently(path.read_bytes)
    except FileNotFoundError as error:
        raise BadSampleError(f"{path}: the file is missing") from error
    except OSError as error:
        raise BadSampleError(f"{path}: the file cannot be read ({error})") from error
    if not data:
        raise BadSampleError(f"{path}: the file is empty (0 bytes)")
    return data
