"""The store: what precompute writes and training reads. A folder of Parquet files (`parts`) and one manifest.json.

The manifest is written last: a folder without it is no store.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pyarrow.parquet as pq

from gscnn_platform.config import DataConfig
from gscnn_platform.data.manifest import (
    Identity,
    Manifest,
    StaleStoreError,
    StoreError,
    differences,
    read_manifest,
)
from gscnn_platform.data.parts import (
    ARRAYS,
    READ_ERRORS,
    SampleArrays,
    open_part,
    quick_fault,
    read_arrays,
    read_keys,
)

__all__ = [
    "Identity",
    "SampleArrays",
    "SplitReader",
    "StaleStoreError",
    "Store",
    "StoreError",
    "open_store",
]

SHOWN_FAULTS: Final = 5

MOST_OPEN: Final = 256
"""Files that a reader keeps open; a process may have 1024 on most machines."""


class Store:
    """An opened store, read only."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest

    @property
    def num_classes(self) -> int:
        return len(self.manifest.identity.classes)

    def split(self, name: str) -> "SplitReader":
        """Raises StoreError where there is no such split, or where its samples' names cannot be read."""
        if name not in self.manifest.splits:
            raise StoreError(f"{self.path} has no split {name!r}; it has: {', '.join(self.manifest.splits)}")
        files = [self.path / part.file for part in self.manifest.splits[name].parts]
        return SplitReader(files, self.manifest.mend(self.path))


class SplitReader:
    """Random access to the samples of a split, in the order of their names. Cheap to pickle; opens files on demand."""

    def __init__(self, files: Sequence[Path], mend: str) -> None:
        self.files = files
        self._mend = mend
        """What to do about a file that is damaged."""
        rows: list[tuple[str, int, int, int, int]] = []
        for number, file in enumerate(files):
            try:
                with open_part(file) as opened:
                    keys = read_keys(opened, range(opened.num_row_groups))
            except (*READ_ERRORS, StoreError) as error:
                raise StoreError(f"{file} cannot be read: {error}; {mend}") from error
            rows += [(name, height, width, number, row) for row, (name, height, width) in enumerate(keys)]
        rows.sort()
        self.names = [row[0] for row in rows]
        self.sizes = [(row[1], row[2]) for row in rows]
        self._places = [(row[3], row[4]) for row in rows]
        self._opened: dict[int, pq.ParquetFile] = {}

    def __len__(self) -> int:
        return len(self.names)

    def read(self, index: int, boundary: bool = True) -> SampleArrays:
        """Sample `index`; without `boundary` that column is neither read nor decoded.

        Raises:
            StoreError: naming the file and the sample that cannot be read.
        """
        part, row = self._places[index]
        columns = ARRAYS if boundary else ARRAYS[:3]
        try:
            return SampleArrays(**read_arrays(self._file(part), row, *self.sizes[index], columns))
        except (*READ_ERRORS, StoreError) as error:
            place = f"{self.files[part]}, row {row} (sample {self.names[index]})"
            raise StoreError(f"{place} cannot be read: {error}; {self._mend}") from error

    def _file(self, part: int) -> pq.ParquetFile:
        if part not in self._opened:
            if len(self._opened) == MOST_OPEN:
                self._opened.pop(next(iter(self._opened))).close()
            self._opened[part] = open_part(self.files[part])
        return self._opened[part]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": {}}


def open_store(path: str | Path, expected: DataConfig | None = None, num_classes: int | None = None) -> Store:
    """Opens the store at `path` and checks it against its manifest and against what a run expects of it.

    Of every file the size and the footer's checksum are compared, which takes under a millisecond a file. A damaged
    row is found when it is read; jobs.verify reads them all.

    Raises:
        StoreError: no store there, a broken manifest, or files that do not fit it.
        StaleStoreError: written by another version of this code, or other edge settings, another fingerprint or class
            count than expected; the message names the field and the command that mends it.
    """
    folder = Path(path)
    manifest = read_manifest(folder)
    check_files(folder, manifest)
    if expected is not None:
        _check_expected(folder, manifest, expected)
    if num_classes is not None and num_classes != len(manifest.identity.classes):
        count = len(manifest.identity.classes)
        raise StaleStoreError(
            f"{folder} has {count} classes ({', '.join(manifest.identity.classes)}), the model has model.num_classes "
            f"{num_classes}: use the recipe of dataset {manifest.identity.dataset!r} or add --model.num-classes {count}"
        )
    return Store(folder, manifest)


def check_files(folder: Path, manifest: Manifest) -> None:
    """Compares each file's size and footer with the manifest. Raises StoreError naming the files that do not fit."""
    parts = [part for split in manifest.splits.values() for part in split.parts]
    faults = [f"{folder / part.file} {what}" for part in parts if (what := quick_fault(folder, part)) is not None]
    if faults:
        more = f"; and {len(faults) - SHOWN_FAULTS} more files" if len(faults) > SHOWN_FAULTS else ""
        shown = "; ".join(faults[:SHOWN_FAULTS])
        raise StoreError(f"{folder} is damaged: {shown}{more}; {manifest.mend(folder)}")


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
