"""Builds one part of a store from raw samples: a Parquet file and a report. Each task of precompute runs this."""

import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gscnn.constants import IGNORE_INDEX
from gscnn.edges import boundary_map
from gscnn_platform.config import Config, EdgeConfig
from gscnn_platform.data.class_uniform import anchors_of
from gscnn_platform.data.disk_full import Failure
from gscnn_platform.data.formats.base import Sample, remap
from gscnn_platform.data.formats.decoding import BadSampleError
from gscnn_platform.data.formats.subset import source_of
from gscnn_platform.data.images import edge_prior
from gscnn_platform.data.store.manifest import Part, Skipped
from gscnn_platform.data.store.parts import SampleArrays, write_part
from gscnn_platform.paths import AnyPath, RemotePath, upload
from gscnn_platform.remote_errors import patiently


@dataclass(frozen=True)
class BuildJob:
    """The input of every task: all samples, and how and where to write them."""

    samples: dict[str, list[Sample]]
    folder: AnyPath
    prefix: str
    """Prefix of this build's file names."""
    edges: EdgeConfig
    label_table: dict[int, int]


class Chunk(Config):
    """The samples of one part: `start` (inclusive) to `stop` (exclusive) of a split."""

    split: str
    start: int
    stop: int


class PartReport(Config):
    """The result of a task."""

    split: str
    part: Part | None
    """None if no sample could be used, or if the part could not be written."""
    samples: int
    """Samples written."""
    bytes: int
    """Their size on disk."""
    pixels: tuple[int, ...]
    """Pixels of each value of a label, 256 long."""
    all_void: int
    """Samples written whose labels are entirely void."""
    bad: tuple[Skipped, ...]
    failure: Failure | None
    """Why the part could not be written; no file is left then."""


def build_part(chunk: Chunk, job: BuildJob, tell: Callable[[int], object] = lambda count: None) -> PartReport:
    """Reads, derives and writes the samples of one part; calls `tell(1)` for each sample, including bad ones."""
    bad: list[Skipped] = []
    pixels = np.zeros(256, np.int64)
    begun, all_void = 0, 0

    def rows() -> Iterator[tuple[str, SampleArrays]]:
        nonlocal begun, all_void
        for sample in job.samples[chunk.split][chunk.start : chunk.stop]:
            tell(1)
            try:
                arrays = to_arrays(sample, job.label_table, job.edges)
            except BadSampleError as error:
                bad.append(Skipped(split=chunk.split, name=sample.name, reason=str(error)))
                continue
            pixels[:] += np.bincount(arrays.label.ravel(), minlength=256)
            begun += 1
            all_void += int((arrays.label == IGNORE_INDEX).all())
            yield sample.name, arrays

    name = f"{job.prefix}{uuid.uuid4().hex}.parquet"
    part, samples, size, failure = None, 0, 0, None
    with _local_folder(job.folder, chunk.split) as folder:
        file = folder / name
        try:
            part = write_part(file, rows())
            if part is not None:
                samples, size = part.rows, part.bytes
                if isinstance(job.folder, RemotePath):
                    place = job.folder / part.file
                    patiently(lambda: upload(file, place))
        except OSError as error:
            failure = Failure.of(error)
            if part is None:
                samples, size = max(begun - 1, 0), file.stat().st_size if file.exists() else 0
            part = None
            file.unlink(missing_ok=True)
    return PartReport(
        split=chunk.split,
        part=part,
        samples=samples,
        bytes=size,
        pixels=tuple(pixels.tolist()),
        all_void=all_void,
        bad=tuple(bad),
        failure=failure,
    )


def to_arrays(sample: Sample, label_table: dict[int, int], edges: EdgeConfig) -> SampleArrays:
    """A raw sample as stored: remapped, with edge prior and edge label. Raises BadSampleError."""
    image, raw_label = sample.read()
    label = remap(raw_label, label_table, source_of(sample))
    gradient = edge_prior(image, edges)
    boundary = boundary_map(label, edges.radius, IGNORE_INDEX, edges.void_edges)
    return SampleArrays(image, label, gradient, boundary, anchors_of(label))


@contextmanager
def _local_folder(folder: AnyPath, split: str) -> Iterator[Path]:
    """The folder to write a split's parts to: in the store, or a temporary one on this node for an upload."""
    if isinstance(folder, Path):
        yield folder / split
        return
    with tempfile.TemporaryDirectory(prefix="gscnn-") as temporary:
        (Path(temporary) / split).mkdir()
        yield Path(temporary) / split
