"""Reads a whole store and lists every fault in it. It uses threads: hashing, zstd and OpenCV release the GIL."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock

import numpy as np
import pyarrow.parquet as pq
from tqdm import tqdm

from gscnn.constants import IGNORE_INDEX
from gscnn.edges import boundary_map
from gscnn_platform import cluster, machine
from gscnn_platform.config import VerifyConfig
from gscnn_platform.data.image_files import is_clutter
from gscnn_platform.data.store.manifest import MANIFEST, Manifest, Part, Split, StoreError, parse_manifest
from gscnn_platform.data.store.parts import (
    ANCHORS,
    ARRAYS,
    READ_ERRORS,
    file_digest,
    is_inside,
    open_part,
    quick_fault,
    read_arrays,
    read_keys,
    schema_of,
)
from gscnn_platform.paths import AnyPath, as_path, below


@dataclass(frozen=True)
class Fault:
    file: str
    """Path below the store."""
    what: str
    row: int | None = None
    sample: str | None = None
    """Name, if it can be read."""

    def __str__(self) -> str:
        row = "" if self.row is None else f", row {self.row}"
        sample = "" if self.sample is None else f" (sample {self.sample})"
        return f"{self.file}{row}{sample}: {self.what}"


@dataclass(frozen=True)
class Verification:
    store: AnyPath
    samples: int
    files: int
    bytes: int
    seconds: float
    faults: tuple[Fault, ...]


def verify(config: VerifyConfig) -> Verification:
    """Compares every file with its checksum, and checks every row.

    Checked in each row: that it decodes, the sizes of its arrays, the label's values, that the boundary is that of the
    label, that anchors are pixels of their classes and every class has one, and the edge prior's values. Checked in
    each split: duplicate names and the pixel counts.

    Raises:
        StoreError: there is no store, or its manifest cannot be read.
    """
    began = time.perf_counter()
    folder = as_path(cluster.resolve(config.store, "--store"))
    manifest, contradictions = parse_manifest(folder)
    faults = [Fault(MANIFEST, what) for what in contradictions]
    parts = [(split, part) for split, of_split in manifest.splits.items() for part in of_split.parts]
    samples, lock = sum(part.rows for _, part in parts), Lock()
    with tqdm(total=samples, unit=" samples", desc=f"verify {folder.name}") as bar:

        def advance(rows: int) -> None:
            with lock:
                bar.update(rows)

        reads = [_PartRead(folder, split, part, manifest, advance) for split, part in parts]
        with ThreadPoolExecutor(max_workers=config.threads or machine.cores()) as pool:
            list(pool.map(_PartRead.run, reads))
    faults += [fault for read in reads for fault in read.faults]
    for name, split in manifest.splits.items():
        faults += _split_faults(name, split, [read for read in reads if read.split == name])
    found = (below(file, folder) for file in folder.glob("**/*.parquet"))
    data = {str(path) for path in found if not any(map(is_clutter, path.parts))}
    strays = sorted(data - {part.file for _, part in parts})
    faults += [Fault(file, "is not in the manifest, and is never read") for file in strays]
    size = sum(part.bytes for _, part in parts)
    return Verification(folder, samples, len(parts), size, time.perf_counter() - began, tuple(faults))


def describe(result: Verification) -> str:
    """A line for each fault, and a summary."""
    amount = f"{result.samples} samples in {result.files} files, {result.bytes / 1e6:.1f} MB, {result.seconds:.1f} s"
    if not result.faults:
        return f"no fault in {result.store}: {amount}"
    count = f"{len(result.faults)} fault{'s' if len(result.faults) > 1 else ''}"
    return "\n".join([*map(str, result.faults), f"{count} in {result.store}: {amount}"])


class _PartRead:
    """Reads one part and collects its faults."""

    def __init__(
        self, folder: AnyPath, split: str, part: Part, manifest: Manifest, advance: Callable[[int], None]
    ) -> None:
        self.folder, self.split, self.part, self.manifest, self.advance = folder, split, part, manifest, advance
        self.faults: list[Fault] = []
        self.names: list[str] = []
        self.pixels = np.zeros(256, np.int64)
        """Pixels of each train id."""
        self.labels = 0
        """Rows whose label is counted in `pixels`."""

    def run(self) -> None:
        done = 0
        for row in self._rows():
            self._check_row(*row)
            self.advance(1)
            done += 1
        self.advance(self.part.rows - done)

    def _rows(self) -> Iterator[tuple[pq.ParquetFile, int]]:
        """Checks the file as a whole, then yields its rows if it can be opened."""
        path = self.folder / self.part.file
        quick = quick_fault(self.folder, self.part, self.manifest.anchors)
        if quick is not None:
            self._fault(quick)
        if not path.is_file() or not is_inside(self.folder, path):
            return
        try:
            if quick is None and file_digest(path) != self.part.sha256:
                self._fault("differs from what was written: its sha256 is not the manifest's")
            opened = open_part(path)
        except READ_ERRORS as error:
            self._fault(f"none of its rows can be read: {error}")
            return
        with opened:
            if opened.schema_arrow.equals(schema_of(self.manifest.anchors)):
                yield from ((opened, row) for row in range(opened.num_row_groups))

    def _check_row(self, opened: pq.ParquetFile, row: int) -> None:
        try:
            keys = read_keys(opened, [row])
        except READ_ERRORS as error:
            self._fault(f"name and size cannot be read: {error}", row)
            return
        if len(keys) != 1:
            self._fault(f"{len(keys)} samples in one row group", row)
            return
        name, height, width = keys[0]
        self.names.append(name)
        arrays: dict[str, np.ndarray] = {}
        for key in [*ARRAYS, ANCHORS] if self.manifest.anchors else ARRAYS:
            try:
                arrays |= read_arrays(opened, row, height, width, [key])
            except (*READ_ERRORS, StoreError) as error:
                self._fault(f"{key} cannot be read: {error}", row, name)
        for what in self._wrong_values(arrays):
            self._fault(what, row, name)

    def _wrong_values(self, arrays: dict[str, np.ndarray]) -> Iterator[str]:
        identity = self.manifest.identity
        edges, void, classes = identity.edges, identity.ignore_index, len(identity.classes)
        if "label" in arrays:
            pixels = np.bincount(arrays["label"].ravel(), minlength=256)
            self.pixels += pixels
            self.labels += 1
            unknown = [value for value in range(classes, 256) if value != void and pixels[value]]
            if unknown:
                values = ", ".join(f"{value} ({pixels[value]} px)" for value in unknown)
                yield f"label holds {values}; classes are 0 to {classes - 1}, void is {void}"
        if "label" in arrays and "boundary" in arrays:
            expected = boundary_map(arrays["label"], edges.radius, void, edges.void_edges)
            wrong = np.count_nonzero(expected != arrays["boundary"])
            if wrong:
                yield f"boundary differs in {wrong} of {expected.size} px from what the label gives"
        if "label" in arrays and ANCHORS in arrays:
            yield from _wrong_anchors(arrays[ANCHORS], arrays["label"], void)
        if "gradient" in arrays and edges.gradient != "sobel":
            wrong = np.count_nonzero((arrays["gradient"] != 0) & (arrays["gradient"] != 255))
            if wrong:
                yield f"gradient has {wrong} px that are neither 0 nor 255, the only values of {edges.gradient}"

    def _fault(self, what: str, row: int | None = None, sample: str | None = None) -> None:
        self.faults.append(Fault(self.part.file, what, row, sample))


def _wrong_anchors(anchors: np.ndarray, label: np.ndarray, void: int) -> Iterator[str]:
    """What is wrong with a row's anchors: those that are no pixel of their class, and classes without one."""
    train_ids, rows, columns = anchors.T
    inside = (rows >= 0) & (rows < label.shape[0]) & (columns >= 0) & (columns < label.shape[1])
    right = anchors[inside]
    right = right[label[right[:, 1], right[:, 2]] == right[:, 0]]
    if len(right) < len(train_ids):
        yield f"anchors has {len(anchors) - len(right)} of {len(anchors)} that are no pixel of their class"
    lacking = sorted(set(np.unique(label).tolist()) - {void, *right[:, 0].tolist()})
    if lacking:
        yield f"anchors has none of classes {', '.join(map(str, lacking))}, which the label has"


def _split_faults(name: str, split: Split, reads: Sequence[_PartRead]) -> Iterator[Fault]:
    names = Counter(sample for read in reads for sample in read.names)
    for sample, times in names.items():
        if times > 1:
            yield Fault(name, f"sample {sample} occurs {times} times")
    if sum(read.labels for read in reads) != split.samples:
        return  # Unreadable rows are faults already, and their pixels are unknown.
    pixels = sum((read.pixels for read in reads), np.zeros(256, np.int64))
    counted = (*pixels[: len(split.pixels)].tolist(), int(pixels[IGNORE_INDEX]))
    for train_id, (ours, theirs) in enumerate(zip((*split.pixels, split.void_pixels), counted, strict=True)):
        if ours != theirs:
            of = f"class {train_id}" if train_id < len(split.pixels) else "void"
            yield Fault(MANIFEST, f"split {name}: {ours} pixels of {of}, the labels have {theirs}")
