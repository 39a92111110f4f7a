"""Builds stores without Ray, for tests of what reads them."""

from pathlib import Path

import numpy as np

from gscnn.batch import IGNORE_INDEX
from gscnn_platform.config import EdgeConfig
from gscnn_platform.data.formats import DatasetFormat
from gscnn_platform.data.formats.streets import Streets
from gscnn_platform.data.precompute import to_arrays
from gscnn_platform.data.store import (
    SCHEMA_VERSION,
    Identity,
    Manifest,
    Split,
    Store,
    open_store,
    write_manifest,
    write_part,
)

TINY_STREETS = Streets(height=64, width=96, train=6, val=3, test=1)


def build_store(
    out: Path, format_: DatasetFormat = TINY_STREETS, root: Path | None = None, edges: EdgeConfig | None = None
) -> Store:
    """The store of all splits of a dataset, one part a split."""
    edges = edges or EdgeConfig()
    description = format_.describe(root)
    splits: dict[str, Split] = {}
    for name in description.splits:
        (out / name).mkdir(parents=True)
        rows = [
            (sample.name, to_arrays(sample, description.label_table, edges)) for sample in format_.samples(root, name)
        ]
        part = write_part(out / name / "part-0.parquet", rows)
        pixels = sum(np.bincount(arrays.label.ravel(), minlength=256) for _, arrays in rows)
        assert isinstance(pixels, np.ndarray)
        of_class = tuple(int(count) for count in pixels[: len(description.classes)])
        splits[name] = Split(samples=part.rows, parts=(part,), pixels=of_class, void_pixels=int(pixels[IGNORE_INDEX]))
    identity = Identity(
        schema_version=SCHEMA_VERSION,
        dataset=format_.name,
        edges=edges,
        ignore_index=IGNORE_INDEX,
        classes=description.classes,
        colours=description.colours,
        label_table=description.label_table,
        content="0" * 64,
    )
    write_manifest(out, Manifest(fingerprint=identity.fingerprint, identity=identity, splits=splits))
    return open_store(out)
