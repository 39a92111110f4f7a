"""Builds stores without Ray, for tests of their readers, and damages them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from gscnn.constants import IGNORE_INDEX
from gscnn_platform.config import EdgeConfig
from gscnn_platform.data.formats import DatasetFormat
from gscnn_platform.data.formats.colour_labels import as_hex
from gscnn_platform.data.formats.streets import Streets
from gscnn_platform.data.store import Store, open_store
from gscnn_platform.data.store.manifest import (
    MANIFEST,
    SCHEMA_VERSION,
    Identity,
    Manifest,
    Split,
    sealed,
    write_manifest,
)
from gscnn_platform.data.store.part_building import to_arrays
from gscnn_platform.data.store.parts import file_digest, footer_digest, write_part

TINY_STREETS = Streets(height=64, width=96, train=6, val=3, test=1)


def build_store(
    out: Path,
    format_: DatasetFormat = TINY_STREETS,
    root: Path | None = None,
    edges: EdgeConfig | None = None,
    part_rows: int = 1000,
) -> Store:
    """Builds the store of all splits of a dataset, with `part_rows` samples per part."""
    edges = edges or EdgeConfig()
    description = format_.describe(root)
    splits: dict[str, Split] = {}
    for name in description.splits:
        (out / name).mkdir(parents=True)
        rows = [
            (sample.name, to_arrays(sample, description.label_table, edges)) for sample in format_.samples(root, name)
        ]
        written = [
            write_part(out / name / f"part-{start}.parquet", rows[start : start + part_rows])
            for start in range(0, len(rows), part_rows)
        ]
        parts = tuple(part for part in written if part is not None)
        pixels = sum(np.bincount(arrays.label.ravel(), minlength=256) for _, arrays in rows)
        assert isinstance(pixels, np.ndarray)
        of_class = tuple(int(count) for count in pixels[: len(description.classes)])
        splits[name] = Split(
            samples=len(rows),
            parts=parts,
            pixels=of_class,
            void_pixels=int(pixels[IGNORE_INDEX]),
            all_void=sum(bool((arrays.label == IGNORE_INDEX).all()) for _, arrays in rows),
        )
    identity = Identity(
        schema_version=SCHEMA_VERSION,
        dataset=format_.name,
        edges=edges,
        ignore_index=IGNORE_INDEX,
        classes=description.classes,
        colours=description.colours,
        label_table=description.label_table,
        label_colours={as_hex(colour): train_id for colour, train_id in description.label_colours.items()},
        content="0" * 64,
    )
    manifest = Manifest(fingerprint=identity.fingerprint, identity=identity, splits=splits, anchors=True)
    write_manifest(out, manifest)
    return open_store(out)


def edit_manifest(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Changes the manifest's JSON in place and updates its checksum, as an attacker would."""
    content = json.loads((folder / MANIFEST).read_text())
    change(content)
    (folder / MANIFEST).write_text(json.dumps(sealed(content)))


def without_anchors(folder: Path) -> None:
    """Makes a store what version 2 wrote: rows without anchors, under a manifest that does not speak of them."""

    def rewritten(content: dict[str, Any]) -> None:
        content["store_version"] = 2
        del content["anchors"]
        for split in content["splits"].values():
            for part in split["parts"]:
                file = folder / part["file"]
                with pq.ParquetFile(file) as opened:
                    groups = [opened.read_row_group(row).drop_columns("anchors") for row in range(part["rows"])]
                options: dict[str, Any] = {
                    "compression": "zstd",
                    "use_dictionary": False,
                    "write_statistics": False,
                    "write_page_checksum": True,
                }
                with pq.ParquetWriter(file, groups[0].schema, **options) as writer:
                    for group in groups:
                        writer.write_table(group)
                    writer.add_key_value_metadata({"file": part["file"]})
                with file.open("rb") as written:
                    part["footer"] = footer_digest(written)
                part["bytes"], part["sha256"] = file.stat().st_size, file_digest(file)

    edit_manifest(folder, rewritten)


def flip_bit(file: Path, position: int, bit: int = 0) -> None:
    """Flips a bit; a negative position counts from the end."""
    content = bytearray(file.read_bytes())
    content[position] ^= 1 << bit
    file.write_bytes(content)
