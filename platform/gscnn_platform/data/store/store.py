"""Opens a store after checking it, and reads its samples."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from copy import copy
from dataclasses import replace
from functools import cached_property
from typing import Any, Final, TypeVar

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from gscnn.class_weights import class_weights
from gscnn.config import LossConfig
from gscnn_platform.config import CacheConfig, DataConfig, EdgeConfig
from gscnn_platform.data.images import edge_prior
from gscnn_platform.data.store import part_cache
from gscnn_platform.data.store.manifest import (
    Manifest,
    Part,
    StaleStoreError,
    StoreError,
    differences,
    read_manifest,
)
from gscnn_platform.data.store.parts import (
    ANCHORS,
    ARRAYS,
    READ_ERRORS,
    SampleArrays,
    open_part,
    quick_fault,
    read_arrays,
    read_classes,
    read_keys,
    wrong_size,
)
from gscnn_platform.paths import AnyPath, RemotePath, as_path, below
from gscnn_platform.remote_errors import may_pass, patiently

Result = TypeVar("Result")

SHOWN_FAULTS: Final = 5

MOST_OPEN: Final = 256
"""Files that a reader keeps open; most machines allow 1024 per process."""


class Store:
    """An opened store, read-only."""

    def __init__(self, path: AnyPath, manifest: Manifest, cache: CacheConfig) -> None:
        self.path = path
        self.manifest = manifest
        self.cache = cache

    @property
    def num_classes(self) -> int:
        return len(self.manifest.identity.classes)

    def class_weights(self, loss: LossConfig, split: str) -> np.ndarray | None:
        """Weight of each class, [K], by the pixels of `split`; None if the loss weighs none (gscnn.class_weights)."""
        counted = self.manifest.splits[split]
        return class_weights(loss, counted.pixels, counted.samples - counted.all_void)

    def split(self, name: str) -> "SplitReader":
        """A reader of the split. Of a remote store, this fetches the split's parts to this node.

        Raises StoreError if there is no such split, or if its parts or their samples' names cannot be read.
        """
        if name not in self.manifest.splits:
            raise StoreError(f"{self.path} has no split {name!r}; it has: {', '.join(self.manifest.splits)}")
        parts = self.manifest.splits[name].parts
        fix = self.manifest.how_to_fix(self.path)
        if not isinstance(self.path, RemotePath):
            return SplitReader([self.path / part.file for part in parts], fix)
        places = [self.path / part.file for part in parts]
        in_use = {part.sha256 for split in self.manifest.splits.values() for part in split.parts}
        try:
            copies = part_cache.fetch(self.cache, list(zip(places, parts, strict=True)), in_use)
        except (OSError, StoreError) as error:
            raise StoreError(f"{self.path} cannot be fetched: {error}; {_way_out(error, fix)}") from error
        return SplitReader(copies, fix, places)


class SplitReader:
    """Random access to the samples of a split, in the order of their names. Cheap to pickle; opens files on demand.

    Args:
        files: the files to read: the store's parts, or copies of them.
        fix: what to do about a damaged file, for messages.
        places: the parts in the store; if a copy cannot be read, its part is read instead.
    """

    def __init__(self, files: Sequence[AnyPath], fix: str, places: Sequence[AnyPath] | None = None) -> None:
        self.files, self._stored = list(files), places or files
        self._fix = fix
        self._opened: dict[int, pq.ParquetFile] = {}
        self._prior: EdgeConfig | None = None
        rows: list[tuple[str, int, int, int, int]] = []
        for number, keys in enumerate(self._each(lambda opened: read_keys(opened, range(opened.num_row_groups)))):
            rows += [(name, height, width, number, row) for row, (name, height, width) in enumerate(keys)]
        rows.sort()
        self.names = [row[0] for row in rows]
        self.sizes = [(row[1], row[2]) for row in rows]
        self._places = [(row[3], row[4]) for row in rows]

    @property
    def is_remote(self) -> bool:
        """Whether some of the parts are read over the network."""
        return any(isinstance(file, RemotePath) for file in self.files)

    def __len__(self) -> int:
        return len(self.names)

    def subset(self, indices: Sequence[int]) -> "SplitReader":
        """A reader of only these samples, in this order."""
        reader = copy(self)
        reader.files, reader._opened = list(self.files), {}
        reader.__dict__.pop("having", None)
        reader.names = [self.names[index] for index in indices]
        reader.sizes = [self.sizes[index] for index in indices]
        reader._places = [self._places[index] for index in indices]
        return reader

    @cached_property
    def having(self) -> dict[int, NDArray[np.int64]]:
        """For each class that occurs the indices of the samples that have it, of a store with anchors.

        Read from the anchors of all rows, once: no image or label is.

        Raises:
            StoreError: naming the file that cannot be read.
        """
        of_parts = list(self._each(read_classes))
        having: dict[int, list[int]] = {}
        for index, (part, row) in enumerate(self._places):
            for train_id in of_parts[part][row]:
                having.setdefault(train_id, []).append(index)
        return {train_id: np.array(having[train_id], np.int64) for train_id in sorted(having)}

    def with_prior(self, edges: EdgeConfig) -> "SplitReader":
        """A reader of the same samples that derives the edge prior from the image instead of reading the store's."""
        reader = self.subset(range(len(self)))
        reader._prior = edges
        return reader

    def read(self, index: int, boundary: bool = True, anchors: bool = False) -> SampleArrays:
        """Sample `index`; without `boundary` that column is neither read nor decoded, nor `anchors` unless asked for.

        Raises:
            StoreError: naming the file and the sample that cannot be read.
        """
        part, row = self._places[index]
        columns = [*(ARRAYS if boundary else ARRAYS[:3]), *([ANCHORS] if anchors else [])]
        size = self.sizes[index]
        try:
            arrays = SampleArrays(**self._read(part, lambda opened: read_arrays(opened, row, *size, columns)))
        except (*READ_ERRORS, StoreError) as error:
            place = f"{self.files[part]}, row {row} (sample {self.names[index]})"
            raise StoreError(f"{place} cannot be read: {error}; {_way_out(error, self._fix)}") from error
        return arrays if self._prior is None else replace(arrays, gradient=edge_prior(arrays.image, self._prior))

    def _each(self, of: Callable[[pq.ParquetFile], Result]) -> Iterator[Result]:
        """The result of `of` for each part, of which one is open at a time. Raises StoreError naming the file."""
        for number in range(len(self.files)):
            try:
                result = self._read(number, of)
                self._opened.pop(number).close()
            except (*READ_ERRORS, StoreError) as error:
                place = self.files[number]
                raise StoreError(f"{place} cannot be read: {error}; {_way_out(error, self._fix)}") from error
            yield result

    def _read(self, part: int, of: Callable[[pq.ParquetFile], Result]) -> Result:
        """The result of `of` for an opened part; retries a part that is read over the network."""
        if isinstance(self.files[part], RemotePath):
            return patiently(lambda: of(self._file(part)))
        try:
            return of(self._file(part))
        except (*READ_ERRORS, StoreError):
            if self.files[part] == self._stored[part]:
                raise
            # The copy was damaged (the next run fetches it again), or evicted for another store.
            self._opened.pop(part, None)
            with suppress(OSError):
                self.files[part].unlink(missing_ok=True)
            self.files[part] = self._stored[part]
            return self._read(part, of)

    def _file(self, part: int) -> pq.ParquetFile:
        if part not in self._opened:
            if len(self._opened) == MOST_OPEN:
                self._opened.pop(next(iter(self._opened))).close()
            self._opened[part] = open_part(self.files[part])
        return self._opened[part]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": {}}


def _way_out(error: Exception, fix: str) -> str:
    if isinstance(error, OSError) and may_pass(error):
        return "once the store answers, rerun the command to resume"
    return fix


def open_store(path: str | AnyPath, expected: DataConfig | None = None, num_classes: int | None = None) -> Store:
    """Opens the store at `path` after checking it against its manifest and against what a run expects.

    The size and the footer's checksum of every file are compared, which takes under a millisecond per file; for a
    remote store only the sizes, with one listing. A damaged row is found when it is read, or when its part is fetched;
    jobs.verify reads all rows.

    Args:
        path: folder or URI.
        expected: the run's data settings, which also set the cache of a remote store.
        num_classes: number of classes of the model.

    Raises:
        StoreError: there is no store, its manifest is damaged, or its files do not match the manifest.
        StaleStoreError: the store was written by another version of this code, its edge settings, fingerprint, splits
            or number of classes are not as expected, or it lacks anchors that the run needs; the message names the
            field and the command that fixes it.
    """
    folder = as_path(path)
    manifest = read_manifest(folder)
    check_files(folder, manifest)
    if expected is not None:
        _check_expected(folder, manifest, expected)
    if num_classes is not None and num_classes != len(manifest.identity.classes):
        count = len(manifest.identity.classes)
        if count < 2:
            raise StaleStoreError(
                f"{folder} has only the class {manifest.identity.classes[0]}, and a model needs two: add the "
                "background as a class of the dataset (docs/datasets.md), and rebuild the store"
            )
        raise StaleStoreError(
            f"{folder} has {count} classes ({', '.join(manifest.identity.classes)}), the model has model.num_classes "
            f"{num_classes}: add --model.num-classes {count}"
        )
    return Store(folder, manifest, expected.cache if expected else CacheConfig())


def check_files(folder: AnyPath, manifest: Manifest) -> None:
    """Compares the files with the manifest. Raises StoreError, naming the files that do not match it."""
    faults = [f"{folder / part.file} {what}" for part, what in _faults(folder, manifest)]
    if faults:
        more = f"; and {len(faults) - SHOWN_FAULTS} more files" if len(faults) > SHOWN_FAULTS else ""
        shown = "; ".join(faults[:SHOWN_FAULTS])
        raise StoreError(f"{folder} is damaged: {shown}{more}; {manifest.how_to_fix(folder)}")


def _faults(folder: AnyPath, manifest: Manifest) -> Iterator[tuple[Part, str]]:
    parts = [part for split in manifest.splits.values() for part in split.parts]
    if isinstance(folder, RemotePath):
        try:
            sizes = {str(below(file, folder)): size for file, size in folder.files().items()}
        except OSError as error:
            raise StoreError(f"{folder} cannot be read: {error}") from error
        whats = ((part, _remote_fault(sizes.get(part.file), part)) for part in parts)
    else:
        whats = ((part, quick_fault(folder, part, manifest.anchors)) for part in parts)
    return ((part, what) for part, what in whats if what is not None)


def _remote_fault(size: int | None, part: Part) -> str | None:
    if size is None:
        return "is missing"
    return None if size == part.bytes else wrong_size(size, part)


def _check_expected(folder: AnyPath, manifest: Manifest, expected: DataConfig) -> None:
    stale = list(differences(manifest.identity.edges.model_dump(), expected.edges.model_dump(), "edges."))
    if stale:
        rebuild = manifest.command(folder, expected.edges, "--overwrite")
        raise StaleStoreError(f"{folder}: {'; '.join(stale)}; run: {rebuild}")
    if expected.fingerprint not in (None, manifest.fingerprint):
        raise StaleStoreError(
            f"{folder}: fingerprint is {manifest.fingerprint}, this run expects {expected.fingerprint}: choose the "
            "store with that fingerprint, or remove --data.fingerprint to accept this one"
        )
    if expected.class_uniform and not manifest.anchors:
        rebuild = manifest.command(folder, manifest.identity.edges, "--overwrite")
        raise StaleStoreError(
            f"{folder} has no anchors of classes, which data.class_uniform {expected.class_uniform:g} needs\n"
            f"rebuild it, with the same fingerprint: {rebuild}\n"
            "or train without: --data.class-uniform 0"
        )
    if expected.train_split not in manifest.splits:
        raise StaleStoreError(
            f"{folder} has no split {expected.train_split!r}; it has: {', '.join(manifest.splits)}: choose one of them "
            "with --data.train-split"
        )
    if not expected.val_share and expected.val_split is not None and expected.val_split not in manifest.splits:
        raise StaleStoreError(
            f"{folder} has no split {expected.val_split!r} to validate on; it has: {', '.join(manifest.splits)}\n"
            f"hold out a share of {expected.train_split}: --data.val-share 0.1\n"
            "or choose another split (--data.val-split NAME), or train without validation (--data.val-split None)"
        )
