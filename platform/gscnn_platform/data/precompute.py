"""Builds a store from a raw dataset with Ray Data: remaps labels, derives edge prior and edge label, writes Parquet."""

import hashlib
import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from pydantic import Field, SerializeAsAny
from tqdm import tqdm

from gscnn.constants import IGNORE_INDEX
from gscnn_platform import cluster, machine
from gscnn_platform.config import Config, EdgeConfig
from gscnn_platform.data.disk_full import Progress, writing
from gscnn_platform.data.formats.base import UPRIGHT, DatasetError, DatasetFormat, Sample
from gscnn_platform.data.formats.colour_labels import as_hex
from gscnn_platform.data.formats.decoding import BadSampleError
from gscnn_platform.data.formats.subset import chosen_samples
from gscnn_platform.data.store import check_files
from gscnn_platform.data.store.destination import Destination, check_writable, destination
from gscnn_platform.data.store.manifest import (
    MANIFEST,
    SCHEMA_VERSION,
    Identity,
    Manifest,
    NoStoreError,
    Part,
    Skipped,
    Split,
    StoreError,
    differences,
    read_manifest,
)
from gscnn_platform.data.store.notices import notices, turned_notice
from gscnn_platform.data.store.part_building import BuildJob, PartReport
from gscnn_platform.data.store.part_tasks import part_reports
from gscnn_platform.data.store.parts import file_digest
from gscnn_platform.importing import imported_meanwhile
from gscnn_platform.interrupts import from_now_on, leaving_nothing_behind
from gscnn_platform.paths import AnyPath, RemotePath, as_path

PART_ROWS: Final = 64
"""Maximum samples per file: about 25 MB for CamVid and 400 MB for Cityscapes."""

SHOWN_ERRORS: Final = 20

OF_A_BUILD: Final = re.compile(r"part-[0-9a-f]{8}-[0-9a-f]{32}\.parquet")
"""Pattern of the names of a remote store's parts."""


class BadDatasetError(ValueError):
    """Some samples of the raw dataset cannot be used; the message lists them."""


class PrecomputeConfig(Config):
    """Config of one build of a store."""

    format: SerializeAsAny[DatasetFormat]
    """Format of the raw dataset."""
    out: str
    """Output folder, a path or URI; on a cluster, one that all nodes can reach."""
    root: str | None = None
    """Folder of the raw dataset, a path or URI; not for streets, which is generated."""
    edges: EdgeConfig = EdgeConfig()
    on_bad_sample: Literal["error", "skip"] = "error"
    """What to do with a sample that cannot be used: fail, or skip it and list it in the manifest."""
    overwrite: bool = False
    """Replace an existing store that is damaged, has other settings or contents, or lacks anchors."""
    part_rows: int = Field(default=PART_ROWS, ge=1)
    """Maximum samples per Parquet file and Ray task."""


@dataclass(frozen=True)
class PrecomputeResult:
    path: AnyPath
    manifest: Manifest
    built: bool
    """False if the store existed already."""
    notices: tuple[str, ...]
    """Notes on what the store lacks, and what that means for training."""

    def __str__(self) -> str:
        """The outcome, the store's path and contents, and a line for each notice."""
        counts = ", ".join(f"{split.samples} {name}" for name, split in self.manifest.splits.items())
        done = "wrote" if self.built else "unchanged, nothing to do:"
        skipped = self.manifest.skipped
        bad = f" · {len(skipped)} samples skipped, see {MANIFEST}" if skipped else ""
        done = f"{done} {self.path} · {counts} · fingerprint {self.manifest.fingerprint}{bad}"
        return "\n".join([done, *(f"note: {notice}" for notice in self.notices)])


def precompute(config: PrecomputeConfig) -> PrecomputeResult:
    """Builds the store that `config` describes, unless it exists already.

    Nothing at `config.out` changes until the new store is complete.

    Raises:
        DatasetError, InputError, TextError: the raw dataset is missing or does not have the expected layout.
        BadDatasetError: samples are bad and `on_bad_sample` is "error", or no sample of a split can be used.
        StoreError: `out` holds a different or damaged store and `overwrite` is not set, or a folder that is not a
            store.
        StorageError: the store cannot be written, most often because the disk is full.
        ClusterError: there is no cluster to run on.
    """
    out = as_path(cluster.resolve(config.out, "--out"))
    check_writable(out)
    root = _check_root(config)
    description, samples = chosen_samples(config.format, root)
    if config.overwrite or not (out / MANIFEST).is_file():
        cluster.check_can_connect()  # Before all raw data is read for the fingerprint.
    content, turned = _content(samples)
    identity = Identity(
        schema_version=SCHEMA_VERSION,
        dataset=config.format.name,
        edges=config.edges,
        ignore_index=IGNORE_INDEX,
        classes=description.classes,
        colours=description.colours,
        label_table=description.label_table,
        label_colours={as_hex(colour): train_id for colour, train_id in description.label_colours.items()},
        content=content,
    )
    said = (*description.left_out, *turned_notice(turned))
    existing = _existing(out, identity, config.overwrite)
    if existing is not None:
        from_now_on(f"the store {out} is complete")
        return PrecomputeResult(out, existing, False, notices(existing, said))
    place = destination(out)
    progress = Progress(out, place.disk, total=sum(len(of_split) for of_split in samples.values()))
    with leaving_nothing_behind("this build was removed; rerun the command to start again"):
        try:
            manifest = _build(config, identity, samples, place, progress)
            from_now_on(f"the store {out} is complete")
        finally:
            with suppress(OSError):
                place.discard()
    return PrecomputeResult(out, manifest, True, notices(manifest, said))


def _build(
    config: PrecomputeConfig,
    identity: Identity,
    samples: dict[str, list[Sample]],
    place: Destination,
    progress: Progress,
) -> Manifest:
    with imported_meanwhile("ray.data"):
        cluster.connect(dashboard=False)
    job = BuildJob(samples, place.folder, place.prefix, config.edges, identity.label_table)
    written = {split: _Written() for split in samples}
    with writing(progress):
        place.prepare(samples)
    for report in part_reports(job, config.part_rows, progress, place, f"precompute {identity.dataset}"):
        written[report.split].add(report)
    skipped = [bad for of_split in written.values() for bad in sorted(of_split.bad, key=lambda bad: bad.name)]
    if skipped and config.on_bad_sample == "error":
        raise BadDatasetError(_list_of(skipped, progress.total))
    splits = {split: of_split.manifest(len(identity.classes)) for split, of_split in written.items()}
    empty = [split for split, of_split in splits.items() if not of_split.samples]
    if empty:
        raise BadDatasetError(f"no sample of split {', '.join(empty)} can be used. {_list_of(skipped, progress.total)}")
    manifest = Manifest(
        fingerprint=identity.fingerprint,
        identity=identity,
        splits=splits,
        skipped=tuple(skipped),
        anchors=True,
        settings=config.format.model_dump(mode="json", exclude_defaults=True),
    )
    with writing(progress):
        place.publish(manifest)
    return manifest


class _Written:
    """The sum of the tasks' reports on one split."""

    def __init__(self) -> None:
        self.parts: dict[str, Part] = {}
        self.pixels = np.zeros(256, np.int64)
        self.all_void = 0
        self.bad: list[Skipped] = []

    def add(self, report: PartReport) -> None:
        if report.part is not None:
            self.parts[report.part.file] = report.part
            self.pixels += np.asarray(report.pixels)
            self.all_void += report.all_void
        self.bad += report.bad

    def manifest(self, num_classes: int) -> Split:
        return Split(
            samples=sum(part.rows for part in self.parts.values()),
            parts=tuple(self.parts[file] for file in sorted(self.parts)),
            pixels=tuple(int(count) for count in self.pixels[:num_classes]),
            void_pixels=int(self.pixels[IGNORE_INDEX]),
            all_void=self.all_void,
        )


def _check_root(config: PrecomputeConfig) -> AnyPath | None:
    if not config.format.needs_root:
        if config.root is not None:
            raise DatasetError(f"--root is {config.root!r}, but {config.format.name} is generated: remove --root")
        return None
    if config.root is None:
        raise DatasetError(f"{config.format.name} is read from files: add --root FOLDER_OF_THE_RAW_DATA")
    return as_path(cluster.resolve(config.root, "--root"))


def _content(samples: dict[str, list[Sample]]) -> tuple[str, int]:
    """Hash over all samples' digests, and the number of samples rotated upright; an unreadable sample is hashed as
    such."""
    flat = [(split, sample) for split, of_split in samples.items() for sample in of_split]

    def digest(item: tuple[str, Sample]) -> str:
        split, sample = item
        try:
            return f"{split}/{sample.name} {sample.digest()}"
        except (OSError, BadSampleError):
            return f"{split}/{sample.name} unreadable"

    with ThreadPoolExecutor(max_workers=min(16, machine.cores() * 2)) as pool:
        lines = list(tqdm(pool.map(digest, flat), total=len(flat), unit=" samples", desc="fingerprint", leave=False))
    content = hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()
    return content, sum(line.endswith(UPRIGHT) for line in lines)


def _existing(out: AnyPath, identity: Identity, overwrite: bool) -> Manifest | None:
    """The manifest at `out` if it is complete and as requested; None if a build may write there."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return None
    if not (out / MANIFEST).is_file():
        if isinstance(out, RemotePath) and all(OF_A_BUILD.fullmatch(file.name) for file in out.files()):
            return None  # Left behind by a build that was killed.
        raise StoreError(f"--out {out} exists and is not a store: choose another folder, or remove it")
    if overwrite:
        try:
            existing = read_manifest(out)
            check_files(out, existing)
        except NoStoreError:
            raise
        except StoreError:
            return None
        kept = existing.identity == identity and existing.anchors and _is_whole(out, existing)
        return existing if kept else None
    existing = read_manifest(out)
    if existing.identity == identity:
        check_files(out, existing)
        return existing
    changed = list(differences(existing.identity.model_dump(), identity.model_dump()))
    raise StoreError(
        f"--out {out} holds another store: {'; '.join(changed)}; add --overwrite to rebuild it, or name another folder"
    )


def _is_whole(out: AnyPath, manifest: Manifest) -> bool:
    """Whether every file still has its checksum; `--overwrite` rebuilds the store otherwise."""
    parts = [part for split in manifest.splits.values() for part in split.parts]
    with ThreadPoolExecutor(max_workers=machine.cores()) as pool:
        digests = pool.map(lambda part: file_digest(out / part.file), parts)
        bar = tqdm(zip(parts, digests, strict=True), total=len(parts), unit=" files", desc=f"check {out}", leave=False)
        return all(digest == part.sha256 for part, digest in bar)


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
            "Fix these files, or skip them with --on-bad-sample skip",
        ]
    )
