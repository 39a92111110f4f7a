"""What it costs to check a store: page checksums at each read, the quick check at the start, jobs.verify.

    python -m benchmarks.store_checks [--camvid DIR]

The reading methods take turns on the same rows in random order on one core, with the columns that training reads.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.environment import describe, markdown_table, milliseconds
from gscnn.constants import IGNORE_INDEX
from gscnn_platform.config import EdgeConfig, VerifyConfig
from gscnn_platform.data.formats import FORMATS, DatasetFormat
from gscnn_platform.data.formats.streets import Streets
from gscnn_platform.data.store.manifest import SCHEMA_VERSION, Identity, Manifest, Part, Split, write_manifest
from gscnn_platform.data.store.part_building import to_arrays
from gscnn_platform.data.store.parts import (
    ARRAYS,
    file_digest,
    open_part,
    quick_fault,
    read_arrays,
    read_keys,
    write_part,
)
from gscnn_platform.data.store.verification import verify

WAYS: dict[str, Callable[[Path], pq.ParquetFile]] = {
    "memory map, unchecked": lambda file: pq.ParquetFile(file, memory_map=True),
    "memory map, checked": lambda file: pq.ParquetFile(file, memory_map=True, page_checksum_verification=True),
    "plain reads, unchecked": lambda file: pq.ParquetFile(file, pre_buffer=False),
    "**plain reads, checked**": open_part,
}


def build(folder: Path, format_: DatasetFormat, root: Path | None, distinct: int, rows: int) -> Part:
    """A store with one part of `rows` samples, of which `distinct` differ."""
    description = format_.describe(root)
    raw = format_.samples(root, "train")[:distinct]
    samples = [to_arrays(sample, description.label_table, EdgeConfig()) for sample in raw]
    (folder / "train").mkdir()
    chosen = [samples[row % distinct] for row in range(rows)]
    part = write_part(folder / "train/part-0.parquet", ((f"{row:05}", arrays) for row, arrays in enumerate(chosen)))
    assert part is not None
    pixels = sum((np.bincount(arrays.label.ravel(), minlength=256) for arrays in chosen), np.zeros(256, np.int64))
    identity = Identity(
        schema_version=SCHEMA_VERSION,
        dataset=format_.name,
        edges=EdgeConfig(),
        ignore_index=IGNORE_INDEX,
        classes=description.classes,
        colours=description.colours,
        label_table=description.label_table,
        content="0" * 64,
    )
    split = Split(
        samples=rows,
        parts=(part,),
        pixels=tuple(pixels[: len(description.classes)].tolist()),
        void_pixels=int(pixels[IGNORE_INDEX]),
    )
    splits = {"train": split}
    manifest = Manifest(fingerprint=identity.fingerprint, identity=identity, splits=splits, anchors=True)
    write_manifest(folder, manifest)
    return part


def reads(file: Path, rows: int, count: int) -> list[list[object]]:
    """[method, ms per read] for each of WAYS, which take turns."""
    opened = {name: way(file) for name, way in WAYS.items()}
    keys = read_keys(opened["memory map, unchecked"], range(rows))
    times: dict[str, list[float]] = {name: [] for name in WAYS}
    for row in np.random.default_rng(0).integers(0, rows, count).tolist():
        for name, way in opened.items():
            _, height, width = keys[row]
            times[name].append(milliseconds(partial(read_arrays, way, row, height, width, ARRAYS[:3]), 1))
    return [[name, float(np.median(of_way))] for name, of_way in times.items()]


def checks(folder: Path, part: Part) -> list[list[object]]:
    file, rows = folder / part.file, part.rows
    quick = milliseconds(lambda: quick_fault(folder, part), 50)
    digest = milliseconds(lambda: file_digest(file), 5)
    whole = milliseconds(lambda: verify(VerifyConfig(store=str(folder), threads=1)), 3) / rows
    return [
        [f"quick check of a part of {rows} rows, {part.bytes / 1e6:.0f} MB", quick],
        ["sha256 of that part", digest],
        ["jobs.verify on one core, a sample", whole],
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--camvid", type=Path, help="CamVid in SegNet layout, for real frames")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    pa.set_cpu_count(1)
    print(describe(), end="\n\n")
    small = ("CamVid", FORMATS["camvid"]) if arguments.camvid else ("streets", Streets(height=360, width=480))
    cases = [(*small, arguments.camvid, 64, 1000), ("streets", Streets(height=1024, width=2048), None, 16, 200)]
    for title, format_, root, distinct, count in cases:
        with tempfile.TemporaryDirectory() as name:
            part = build(Path(name), format_, root, distinct, rows=64)
            height, width = read_keys(open_part(Path(name) / part.file), [0])[0][1:]
            print(f"{title}: {width}x{height}\n")
            print(markdown_table(["read of a random row", "ms"], reads(Path(name) / part.file, part.rows, count)), "\n")
            print(markdown_table(["check", "ms"], checks(Path(name), part)), "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    os.environ.setdefault("TQDM_DISABLE", "1")
    main()
