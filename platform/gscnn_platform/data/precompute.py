"""Raw dataset -> store: remap labels, derive edge prior and edge label, write Parquet, with Ray Data."""

import hashlib
import logging
import os
import shutil
import uuid
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import ray.data
from pydantic import Field, SerializeAsAny
from tqdm import tqdm

from gscnn.batch import IGNORE_INDEX
from gscnn.edges import boundary_map
from gscnn_platform import cluster
from gscnn_platform.config import Config, EdgeConfig
from gscnn_platform.data.formats.base import (
    BadSampleError,
    DatasetError,
    DatasetFormat,
    FileSample,
    Sample,
    remap,
)
from gscnn_platform.data.images import edge_prior
from gscnn_platform.data.store import (
    MANIFEST,
    SCHEMA_VERSION,
    Identity,
    Manifest,
    Part,
    SampleArrays,
    Skipped,
    Split,
    StoreError,
    differences,
    read_manifest,
    write_manifest,
    write_part,
)

PART_ROWS: Final = 64
"""Samples a file at most: about 25 MB of CamVid and 400 MB of Cityscapes."""

SHOWN_ERRORS: Final = 20


class BadDatasetError(ValueError):
    """Samples of the raw dataset cannot be used; the message lists them."""


class PrecomputeConfig(Config):
    """One build of a store."""

    format: SerializeAsAny[DatasetFormat]
    """The raw dataset's layout."""
    out: str
    """Folder of the store to be; on a cluster, one that all nodes reach."""
    root: str | None = None
    """Folder of the raw dataset; none for streets, which are drawn."""
    edges: EdgeConfig = EdgeConfig()
    on_bad_sample: Literal["error", "skip"] = "error"
    """Whether a sample that cannot be used ends the build, or is left out and listed in the manifest."""
    overwrite: bool = False
    """Replace a store of other settings or contents."""
    part_rows: int = Field(default=PART_ROWS, ge=1)
    """Samples a Parquet file at most, and a Ray task."""


@dataclass(frozen=True)
class PrecomputeResult:
    path: Path
    manifest: Manifest
    built: bool
    """False where the store was there already."""


@dataclass(frozen=True)
class _Job:
    """What every Ray task is given: all samples, and how and where to write them."""

    samples: dict[str, list[Sample]]
    folder: Path
    edges: EdgeConfig
    label_table: dict[int, int]


def precompute(config: PrecomputeConfig) -> PrecomputeResult:
    """Builds the store that `config` describes, unless it is there already.

    Nothing at `config.out` changes until the new store is whole: it is written beside it and then moved.

    Raises:
        DatasetError: the raw dataset is not where or what it should be.
        BadDatasetError: samples are bad and `on_bad_sample` is "error".
        StoreError: there is another store at `out` and `overwrite` is not set, or a folder that is no store.
    """
    out = Path(cluster.resolve(config.out, "--out"))
    root = _check_root(config)
    description = config.format.describe(root)
    samples = {split: config.format.samples(root, split) for split in description.splits}
    content = _content(samples)
    identity = Identity(
        schema_version=SCHEMA_VERSION,
        dataset=config.format.name,
        edges=config.edges,
        ignore_index=IGNORE_INDEX,
        classes=description.classes,
        colours=description.colours,
        label_table=description.label_table,
        content=content,
    )
    existing = _existing(out, identity, config.overwrite)
    if existing is not None:
        return PrecomputeResult(out, existing, built=False)
    partial_folder = out.with_name(f".{out.name}.partial-{uuid.uuid4().hex[:8]}")
    try:
        manifest = _build(config, identity, samples, partial_folder)
        _replace(partial_folder, out)
    finally:
        shutil.rmtree(partial_folder, ignore_errors=True)
    return PrecomputeResult(out, manifest, built=True)


def _build(
    config: PrecomputeConfig,
    identity: Identity,
    samples: dict[str, list[Sample]],
    folder: Path,
) -> Manifest:
    cluster.connect()
    logging.getLogger("ray.data").setLevel(logging.ERROR)  # Its plan and its own progress, a dozen lines.
    for split in samples:
        (folder / split).mkdir(parents=True)
    job = _Job(samples, folder, config.edges, identity.label_table)
    written = {split: _Written() for split in samples}
    total = sum(len(of_split) for of_split in samples.values())
    with tqdm(total=total, unit=" samples", desc=f"precompute {identity.dataset}") as bar:
        for row in _write_parts(job, config.part_rows):
            bar.update(len(row["names"]) + len(row["bad_names"]))
            written[row["split"]].add(row)
    for split, of_split in written.items():
        of_split.remove_strays(folder / split)
    skipped = [
        Skipped(split=split, name=name, reason=reason)
        for split, of_split in written.items()
        for name, reason in sorted(of_split.bad)
    ]
    if skipped and config.on_bad_sample == "error":
        raise BadDatasetError(_list_of(skipped, total))
    splits = {split: of_split.manifest(len(identity.classes)) for split, of_split in written.items()}
    empty = [split for split, of_split in splits.items() if not of_split.samples]
    if empty:
        raise BadDatasetError(f"no sample of split {', '.join(empty)} can be used. {_list_of(skipped, total)}")
    manifest = Manifest(fingerprint=identity.fingerprint, identity=identity, splits=splits, skipped=tuple(skipped))
    write_manifest(folder, manifest)
    return manifest


class _Written:
    """What the tasks reported of one split."""

    def __init__(self) -> None:
        self.parts: dict[str, Part] = {}
        self.pixels = np.zeros(256, np.int64)
        self.bad: list[tuple[str, str]] = []

    def add(self, row: dict[str, Any]) -> None:
        if len(row["names"]):
            part = Part(file=row["file"], rows=len(row["names"]), bytes=row["bytes"])
            self.parts[part.file] = part
            self.pixels += np.asarray(row["pixels"])
        self.bad += zip(row["bad_names"], row["bad_reasons"], strict=True)

    def remove_strays(self, folder: Path) -> None:
        """A task that Ray had to run twice leaves the first attempt's file behind, as does one with no good sample."""
        for file in folder.glob("*.parquet"):
            if f"{folder.name}/{file.name}" not in self.parts:
                file.unlink()

    def manifest(self, num_classes: int) -> Split:
        return Split(
            samples=sum(part.rows for part in self.parts.values()),
            parts=tuple(self.parts[file] for file in sorted(self.parts)),
            pixels=tuple(int(count) for count in self.pixels[:num_classes]),
            void_pixels=int(self.pixels[IGNORE_INDEX]),
        )


def _write_parts(job: _Job, part_rows: int) -> Iterator[dict[str, Any]]:
    """Lets Ray Data write all parts on all nodes; what comes back is a small row a part."""
    chunks = [
        {"split": split, "start": start, "stop": min(start + part_rows, len(of_split))}
        for split, of_split in job.samples.items()
        for start in range(0, len(of_split), part_rows)
    ]
    ray.data.DataContext.get_current().enable_progress_bars = False
    dataset = ray.data.from_items(chunks, override_num_blocks=len(chunks))
    return iter(dataset.map(partial(_write_part, job=job)).iter_rows())


def _write_part(chunk: dict[str, Any], job: _Job) -> dict[str, Any]:
    """Runs in a Ray task: reads, derives and writes one part."""
    split: str = chunk["split"]
    names: list[str] = []
    bad: list[tuple[str, str]] = []
    pixels = np.zeros(256, np.int64)

    def rows() -> Iterator[tuple[str, SampleArrays]]:
        for sample in job.samples[split][chunk["start"] : chunk["stop"]]:
            try:
                arrays = to_arrays(sample, job.label_table, job.edges)
            except BadSampleError as error:
                bad.append((sample.name, str(error)))
                continue
            pixels[:] += np.bincount(arrays.label.ravel(), minlength=256)
            names.append(sample.name)
            yield sample.name, arrays

    part = write_part(job.folder / split / f"part-{uuid.uuid4().hex}.parquet", rows())
    return {
        "split": split,
        "file": part.file,
        "bytes": part.bytes,
        "names": names,
        "pixels": pixels,
        "bad_names": [name for name, _ in bad],
        "bad_reasons": [reason for _, reason in bad],
    }


def to_arrays(sample: Sample, label_table: dict[int, int], edges: EdgeConfig) -> SampleArrays:
    """A raw sample as the store holds it. Raises BadSampleError."""
    image, raw_label = sample.read()
    label = remap(raw_label, label_table, sample.label if isinstance(sample, FileSample) else sample.name)
    gradient = edge_prior(image, edges)
    return SampleArrays(image, label, gradient, boundary_map(label, edges.radius, IGNORE_INDEX, edges.void_edges))


def _check_root(config: PrecomputeConfig) -> Path | None:
    if not config.format.needs_root:
        if config.root is not None:
            raise DatasetError(f"--root is {config.root!r}, but {config.format.name} is drawn, not read: leave it out")
        return None
    if config.root is None:
        raise DatasetError(f"{config.format.name} is read from files: add --root FOLDER_OF_THE_RAW_DATA")
    return Path(cluster.resolve(config.root, "--root"))


def _content(samples: dict[str, list[Sample]]) -> str:
    """Hash over all samples' digests; a file that cannot be read counts by its absence."""
    flat = [(split, sample) for split, of_split in samples.items() for sample in of_split]

    def digest(item: tuple[str, Sample]) -> str:
        split, sample = item
        try:
            return f"{split}/{sample.name} {sample.digest()}"
        except (OSError, BadSampleError):
            return f"{split}/{sample.name} unreadable"

    with ThreadPoolExecutor(max_workers=min(16, (os.cpu_count() or 1) * 2)) as pool:
        lines = list(tqdm(pool.map(digest, flat), total=len(flat), unit=" samples", desc="fingerprint", leave=False))
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


def _existing(out: Path, identity: Identity, overwrite: bool) -> Manifest | None:
    """The manifest at `out` if it is what was asked for; None where the way is free."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return None
    if not (out / MANIFEST).is_file():
        raise StoreError(f"--out {out} exists and is no store: name another folder, or remove it")
    if overwrite:
        try:
            existing = read_manifest(out)
        except StoreError:
            return None
        return existing if existing.identity == identity else None
    existing = read_manifest(out)
    if existing.identity == identity:
        return existing
    changed = list(differences(existing.identity.model_dump(), identity.model_dump()))
    raise StoreError(
        f"--out {out} holds another store: {'; '.join(changed)}; add --overwrite to build it anew, or name another "
        "folder"
    )


def _replace(new: Path, out: Path) -> None:
    old = out.with_name(f".{out.name}.old-{uuid.uuid4().hex[:8]}")
    if out.exists():
        out.rename(old)
    new.rename(out)
    shutil.rmtree(old, ignore_errors=True)


def _list_of(bad: list[Skipped], total: int) -> str:
    lines = [f"  {item.split}/{item.name}: {item.reason}" for item in bad[:SHOWN_ERRORS]]
    more = [f"  and {len(bad) - SHOWN_ERRORS} more"] if len(bad) > SHOWN_ERRORS else []
    kinds = Counter(item.split for item in bad)
    where = ", ".join(f"{count} in {split}" for split, count in kinds.items())
    return "\n".join(
        [
            f"{len(bad)} of {total} samples cannot be used ({where}):",
            *lines,
            *more,
            "Mend them, or leave them out with --on-bad-sample skip",
        ]
    )
