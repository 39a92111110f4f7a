"""The store: what precompute writes and training reads. A folder of Parquet files and one manifest.json.

A row holds one sample as plain arrays, uint8, row-major: image [H, W, 3] RGB, label [H, W], gradient [H, W] (edge prior
times 255) and boundary [H, W]; Parquet compresses each by zstd, and each row is a row group of its own, so that a
random sample costs one small read. docs/store.md has the measured alternatives. The manifest is written last: a
folder without it is no store.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import UInt8
from pydantic import ValidationError

from gscnn_platform.config import Config, DataConfig, EdgeConfig

SCHEMA_VERSION: Final = 1
MANIFEST: Final = "manifest.json"
ARRAYS: Final = ("image", "label", "gradient", "boundary")
SCHEMA: Final = pa.schema(
    [("name", pa.string()), ("height", pa.int32()), ("width", pa.int32()), *((key, pa.binary()) for key in ARRAYS)]
)


class StoreError(ValueError):
    """There is no store, or its files do not fit its manifest."""


class StaleStoreError(StoreError):
    """A whole store, but not the one that this run asks for."""


@dataclass(frozen=True)
class SampleArrays:
    """One sample in memory. An array that was not asked for is None."""

    image: UInt8[np.ndarray, "H W 3"]
    label: UInt8[np.ndarray, "H W"]
    gradient: UInt8[np.ndarray, "H W"]
    boundary: UInt8[np.ndarray, "H W"] | None = None


class Part(Config):
    """One Parquet file of a split."""

    file: str
    """Path below the store's folder."""
    rows: int
    bytes: int


class Split(Config):
    samples: int
    parts: tuple[Part, ...]
    pixels: tuple[int, ...]
    """Pixels of each train id."""
    void_pixels: int


class Skipped(Config):
    """A sample that was left out by `--on-bad-sample skip`."""

    split: str
    name: str
    reason: str


class Identity(Config):
    """What the numbers in a store depend on, and nothing else: no path, no machine, no count of workers."""

    schema_version: int
    dataset: str
    edges: EdgeConfig
    ignore_index: int
    classes: tuple[str, ...]
    colours: tuple[tuple[int, int, int], ...]
    label_table: dict[int, int]
    """Raw label value -> train id."""
    content: str
    """sha256 over the digests of all samples, by split and name."""

    @property
    def raw_ids(self) -> np.ndarray:
        """Train id -> raw label value, the smallest where several stand for one class: uint8, or uint16 above 255."""
        raw_of = {train: raw for raw, train in sorted(self.label_table.items(), reverse=True)}
        values = [raw_of.get(train, train) for train in range(len(self.classes))]
        return np.array(values, np.uint8 if max(values) < 256 else np.uint16)

    @property
    def fingerprint(self) -> str:
        """Sixteen hex digits of sha256 over all of the above."""
        return hashlib.sha256(json.dumps(self.model_dump(), sort_keys=True).encode()).hexdigest()[:16]


class Manifest(Config):
    fingerprint: str
    identity: Identity
    splits: dict[str, Split]
    skipped: tuple[Skipped, ...] = ()

    def command(self, path: str | Path, edges: EdgeConfig, *flags: str) -> str:
        """The command that builds this store anew at `path` with other edge settings."""
        return precompute_command(self.identity.dataset, path, edges, *flags)


class Store:
    """An opened store, read only."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest

    @property
    def num_classes(self) -> int:
        return len(self.manifest.identity.classes)

    def split(self, name: str) -> "SplitReader":
        """Raises StoreError where there is no such split."""
        if name not in self.manifest.splits:
            raise StoreError(f"{self.path} has no split {name!r}; it has: {', '.join(self.manifest.splits)}")
        return SplitReader(self.path, self.manifest.splits[name].parts)


class SplitReader:
    """Random access to the samples of a split, in the order of their names. Cheap to pickle; opens files on demand."""

    def __init__(self, path: Path, parts: tuple[Part, ...]) -> None:
        self.path = path
        self.parts = parts
        rows: list[tuple[str, int, int, int, int]] = []
        for number, part in enumerate(parts):
            columns = pq.read_table(path / part.file, columns=["name", "height", "width"]).to_pydict()
            keys = zip(columns["name"], columns["height"], columns["width"], strict=True)
            rows += [(name, height, width, number, row) for row, (name, height, width) in enumerate(keys)]
        rows.sort()
        self.names = [row[0] for row in rows]
        self.sizes = [(row[1], row[2]) for row in rows]
        self._places = [(row[3], row[4]) for row in rows]

    def __len__(self) -> int:
        return len(self.names)

    def read(self, index: int, boundary: bool = True) -> SampleArrays:
        """Sample `index`; without `boundary` that column is neither read nor decoded.

        Raises:
            StoreError: naming the file that cannot be read.
        """
        part, row = self._places[index]
        height, width = self.sizes[index]
        columns = list(ARRAYS if boundary else ARRAYS[:3])
        try:
            group = self._files[part].read_row_group(row, columns=columns, use_threads=False)
        except (OSError, pa.ArrowInvalid) as error:
            raise StoreError(
                f"{self.path / self.parts[part].file}, row {row} ({self.names[index]}): {error}; "
                "the store is damaged: build it anew with jobs.precompute --overwrite"
            ) from error
        flat = {key: np.frombuffer(group[key][0].as_buffer(), np.uint8) for key in columns}
        return SampleArrays(
            image=flat["image"].reshape(height, width, 3),
            **{key: flat[key].reshape(height, width) for key in columns[1:]},
        )

    @cached_property
    def _files(self) -> list[pq.ParquetFile]:
        return [pq.ParquetFile(self.path / part.file, memory_map=True) for part in self.parts]

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_files"}


def open_store(path: str | Path, expected: DataConfig | None = None, num_classes: int | None = None) -> Store:
    """Opens the store at `path` and checks it against its manifest and against what a run expects of it.

    Raises:
        StoreError: no store there, a broken manifest, or a file that is missing or of another size.
        StaleStoreError: another schema version, other edge settings, another fingerprint or class count than
            expected; the message names the field and the command that mends it.
    """
    folder = Path(path)
    manifest = read_manifest(folder)
    for split in manifest.splits.values():
        for part in split.parts:
            file = folder / part.file
            size = file.stat().st_size if file.is_file() else None
            if size != part.bytes:
                found = "is missing" if size is None else f"has {size} bytes"
                rebuild = manifest.command(folder, manifest.identity.edges, "--overwrite")
                raise StoreError(f"{file} {found}, the manifest says {part.bytes}: damaged; run: {rebuild}")
    if expected is not None:
        _check_expected(folder, manifest, expected)
    if num_classes is not None and num_classes != len(manifest.identity.classes):
        count = len(manifest.identity.classes)
        raise StaleStoreError(
            f"{folder} has {count} classes ({', '.join(manifest.identity.classes)}), the model has model.num_classes "
            f"{num_classes}: use the recipe of dataset {manifest.identity.dataset!r} or add --model.num-classes {count}"
        )
    return Store(folder, manifest)


def read_manifest(folder: Path) -> Manifest:
    """The manifest of the store in `folder`. Raises StoreError where there is none, or none that can be read."""
    file = folder / MANIFEST
    if not file.is_file():
        reason = "there is no such folder" if not folder.exists() else f"it has no {MANIFEST}"
        raise StoreError(f"{folder} is no store, {reason}: run: python -m jobs.precompute DATASET --out {folder}")
    try:
        content = json.loads(file.read_text())
        version = content.get("identity", {}).get("schema_version")
        if version != SCHEMA_VERSION:
            raise StaleStoreError(
                f"{file}: schema_version is {version}, this code reads {SCHEMA_VERSION}: build the store anew with "
                f"python -m jobs.precompute DATASET --out {folder} --overwrite"
            )
        manifest = Manifest.model_validate(content)
    except (json.JSONDecodeError, ValidationError, AttributeError) as error:
        raise StoreError(f"{file} is no manifest: {error}") from error
    if manifest.fingerprint != manifest.identity.fingerprint:
        raise StoreError(f"{file}: fingerprint {manifest.fingerprint} does not fit its contents; it was edited")
    return manifest


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Makes `folder` a store; called when all of its parts are written."""
    (folder / MANIFEST).write_text(manifest.model_dump_json(indent=1) + "\n")


def write_part(file: Path, rows: Iterable[tuple[str, SampleArrays]]) -> Part:
    """Writes samples to one Parquet file, a row group each, holding one at a time in memory."""
    count = 0
    with pq.ParquetWriter(file, SCHEMA, compression="zstd", use_dictionary=False, write_statistics=False) as writer:
        for name, arrays in rows:
            height, width = arrays.label.shape
            values = {"name": name, "height": height, "width": width, **_as_bytes(arrays)}
            writer.write_table(pa.table({key: [value] for key, value in values.items()}, schema=SCHEMA))
            count += 1
    return Part(file=f"{file.parent.name}/{file.name}", rows=count, bytes=file.stat().st_size)


def precompute_command(dataset: str, out: str | Path, edges: EdgeConfig, *flags: str) -> str:
    """The command line that builds such a store."""
    root = "" if dataset == "streets" else " --root FOLDER_OF_THE_RAW_DATA"
    changed = edges.model_dump(exclude_defaults=True)
    settings = "".join(f" --edges.{key.replace('_', '-')} {value}" for key, value in changed.items())
    return f"python -m jobs.precompute {dataset}{root} --out {out}{settings}{''.join(f' {flag}' for flag in flags)}"


def differences(ours: Mapping[str, Any], theirs: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """`field: ours, theirs` for every leaf in which two nested mappings differ."""
    for key in ours:
        if (
            isinstance(ours[key], Mapping)
            and isinstance(theirs[key], Mapping)
            and ours[key].keys() == theirs[key].keys()
        ):
            yield from differences(ours[key], theirs[key], f"{prefix}{key}.")
        elif ours[key] != theirs[key]:
            yield f"{prefix}{key} is {ours[key]} in the store, {theirs[key]} is asked for"


def _check_expected(folder: Path, manifest: Manifest, expected: DataConfig) -> None:
    stale = list(differences(manifest.identity.edges.model_dump(), expected.edges.model_dump(), "edges."))
    if stale:
        rebuild = manifest.command(folder, expected.edges, "--overwrite")
        raise StaleStoreError(f"{folder}: {'; '.join(stale)}; run: {rebuild}")
    if expected.fingerprint not in (None, manifest.fingerprint):
        raise StaleStoreError(
            f"{folder}: fingerprint is {manifest.fingerprint}, this run asks for {expected.fingerprint}: name the "
            "store with that fingerprint, or leave --data.fingerprint out to take this one"
        )
    for split in (expected.train_split, expected.val_split):
        if split not in manifest.splits:
            raise StaleStoreError(f"{folder} has no split {split!r}; it has: {', '.join(manifest.splits)}")


def _as_bytes(arrays: SampleArrays) -> dict[str, bytes]:
    assert arrays.boundary is not None
    return {
        "image": arrays.image.tobytes(),
        "label": arrays.label.tobytes(),
        "gradient": arrays.gradient.tobytes(),
        "boundary": arrays.boundary.tobytes(),
    }
