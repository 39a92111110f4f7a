"""The Parquet files of a store: one sample per row, one row per row group, every page with a checksum.

A row holds one sample as plain arrays, uint8, row-major: image [H, W, 3] RGB, label [H, W], gradient [H, W] (edge prior
times 255) and boundary [H, W]; and its anchors, int32 [N, 3]. Parquet compresses each with zstd, so that a random
sample costs one small read.
docs/store.md has the measured alternatives, and what is checked when.
"""

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Int32, Shaped, UInt8

from gscnn_platform.data.store.manifest import Part, StoreError
from gscnn_platform.paths import AnyPath, RemotePath

KEYS: Final = ("name", "height", "width")
ANCHORS: Final = "anchors"
ARRAYS: Final = ("image", "label", "gradient", "boundary")
TYPES: Final = {
    "name": pa.string(),
    "height": pa.int32(),
    "width": pa.int32(),
    **dict.fromkeys([ANCHORS, *ARRAYS], pa.binary()),
}
SCHEMA: Final = pa.schema([pa.field(key, kind, nullable=False) for key, kind in TYPES.items()])
TAIL: Final = 8
"""Number of bytes at the end of a Parquet file that hold the footer's length, little-endian, and `PAR1`."""

READ_ERRORS: Final = (OSError, pa.ArrowException, UnicodeDecodeError)
"""Errors that damaged bytes cause in Arrow: each of 15,104 single flipped bits in a part's pages raised one."""


@dataclass(frozen=True)
class SampleArrays:
    """One sample in memory; `boundary` is None if it was not read."""

    image: UInt8[np.ndarray, "H W 3"]
    label: UInt8[np.ndarray, "H W"]
    gradient: UInt8[np.ndarray, "H W"]
    boundary: UInt8[np.ndarray, "H W"] | None = None
    anchors: Int32[np.ndarray, "N 3"] | None = None
    """Class, row and column of some pixels of each class (gscnn_platform.data.class_uniform)."""


def write_part(file: Path, rows: Iterable[tuple[str, SampleArrays]]) -> Part | None:
    """Writes samples to one Parquet file, a row group each, with one sample at a time in memory.

    Returns None, and leaves no file, if there are no rows. Raises OSError, and leaves the partial file.
    """
    place, count = f"{file.parent.name}/{file.name}", 0
    options = {"compression": "zstd", "use_dictionary": False, "write_statistics": False, "write_page_checksum": True}
    with pq.ParquetWriter(file, SCHEMA, **options) as writer:
        for name, arrays in rows:
            height, width = arrays.label.shape
            values = {"name": name, "height": height, "width": width, **_as_bytes(arrays)}
            writer.write_table(pa.table({key: [value] for key, value in values.items()}, schema=SCHEMA))
            count += 1
        # Without the name, two parts could have the same footer: arrays that do not compress have equal lengths.
        writer.add_key_value_metadata({"file": place})
    if not count:
        file.unlink()
        return None
    with file.open("rb") as written:
        footer = footer_digest(written)
    return Part(file=place, rows=count, bytes=file.stat().st_size, footer=footer, sha256=file_digest(file))


def open_part(file: AnyPath) -> pq.ParquetFile:
    """The opened file, which compares the checksum of each page on reading. Raises one of READ_ERRORS."""
    if isinstance(file, RemotePath):
        # The columns of a row are adjacent, so pre_buffer merges four requests into one.
        return pq.ParquetFile(file.open("rb"), pre_buffer=True, page_checksum_verification=True)
    # Without a memory map, which is not faster here: if a mapped file is truncated or its disk fails, SIGBUS kills the
    # process, and no error could name the file.
    return pq.ParquetFile(file, memory_map=False, pre_buffer=False, page_checksum_verification=True)


def read_keys(file: pq.ParquetFile, rows: Sequence[int]) -> list[tuple[str, int, int]]:
    """Name, height and width in pixels of some rows. Raises one of READ_ERRORS."""
    columns = file.read_row_groups(list(rows), columns=list(KEYS), use_threads=False).to_pydict()
    return list(zip(columns["name"], columns["height"], columns["width"], strict=True))


def read_arrays(
    file: pq.ParquetFile, row: int, height: int, width: int, columns: Sequence[str] = ARRAYS
) -> dict[str, Shaped[np.ndarray, "..."]]:
    """Some arrays of a row, in their full shapes. Raises one of READ_ERRORS or a StoreError; none names the file."""
    group = file.read_row_group(row, columns=list(columns), use_threads=False)
    arrays: dict[str, np.ndarray] = {}
    for key in columns:
        if key == ANCHORS:
            arrays[key] = _anchors(group[key][0])
            continue
        shape = (height, width, 3) if key == "image" else (height, width)
        flat = np.frombuffer(group[key][0].as_buffer(), np.uint8)
        if min(shape) < 1 or flat.size != prod(shape):
            raise StoreError(f"{key} has {flat.size} bytes, {height} x {width} pixels need {prod(shape)}")
        arrays[key] = flat.reshape(shape)
    return arrays


def read_classes(file: pq.ParquetFile) -> list[list[int]]:
    """The classes of every row that has anchors of them. Raises as `read_arrays`."""
    column = file.read_row_groups(list(range(file.num_row_groups)), columns=[ANCHORS], use_threads=False)[ANCHORS]
    return [sorted(set(_anchors(value)[:, 0].tolist())) for value in column]


def schema_of(anchors: bool) -> pa.Schema:
    """The columns of a store with anchors or, as before version 3, without."""
    return SCHEMA if anchors else SCHEMA.remove(SCHEMA.get_field_index(ANCHORS))


def quick_fault(folder: AnyPath, part: Part, anchors: bool = True) -> str | None:
    """A fault in a part's path, size, footer or columns, found without reading rows; None if there is none.

    `anchors`: whether the manifest says that rows have them.
    """
    file = folder / part.file
    if not is_inside(folder, file):
        return "leads out of the store by a link"
    if not file.is_file():
        return "is missing, or is not a file"
    try:
        with file.open("rb") as raw:
            size = raw.seek(0, os.SEEK_END)
            if size != part.bytes:
                return wrong_size(size, part)
            if footer_digest(raw) != part.footer:
                return "has another footer than the manifest says"
        opened = open_part(file)
    except READ_ERRORS as error:
        return f"cannot be read: {error}"
    with opened:
        rows = opened.metadata.num_rows
        if rows != part.rows or opened.metadata.num_row_groups != rows:
            return f"has {rows} rows in {opened.metadata.num_row_groups} groups, the manifest says {part.rows} rows"
        if not opened.schema_arrow.equals(schema_of(anchors)):
            return "does not have the columns of a store"
    return None


def wrong_size(size: int, part: Part) -> str:
    return f"has {size} bytes, the manifest says {part.bytes}"


def is_inside(folder: AnyPath, file: AnyPath) -> bool:
    """Whether `file` lies below `folder` after all symbolic links are followed; False if the links form a loop."""
    if isinstance(file, RemotePath) or isinstance(folder, RemotePath):
        return True
    try:
        return file.resolve().is_relative_to(folder.resolve())
    except RuntimeError:
        return False


def file_digest(file: AnyPath) -> str:
    """sha256, in hex, of a whole file. Raises OSError."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def footer_digest(opened: BinaryIO) -> str:
    """sha256, in hex, of the file's footer with its length and magic; leaves the position at the start."""
    size = opened.seek(0, os.SEEK_END)
    opened.seek(max(size - TAIL, 0))
    length = int.from_bytes(opened.read(4), "little")
    opened.seek(max(size - TAIL - length, 0))
    digest = hashlib.sha256(opened.read()).hexdigest()
    opened.seek(0)
    return digest


def _as_bytes(arrays: SampleArrays) -> dict[str, bytes]:
    assert arrays.boundary is not None and arrays.anchors is not None
    return {
        ANCHORS: arrays.anchors.astype("<i4").tobytes(),
        "image": arrays.image.tobytes(),
        "label": arrays.label.tobytes(),
        "gradient": arrays.gradient.tobytes(),
        "boundary": arrays.boundary.tobytes(),
    }


def _anchors(value: pa.BinaryScalar) -> Int32[np.ndarray, "N 3"]:
    flat = np.frombuffer(value.as_buffer(), np.uint8)
    if flat.size % 12:
        raise StoreError(f"{ANCHORS} has {flat.size} bytes, three int32 for each need a multiple of 12")
    return flat.view("<i4").reshape(-1, 3)
