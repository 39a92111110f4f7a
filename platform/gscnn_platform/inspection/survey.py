"""Reads every sample once, in threads, and measures it: OpenCV, zstd and hashing release the GIL."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from jaxtyping import Int64, UInt8
from tqdm import tqdm

from gscnn.constants import IGNORE_INDEX
from gscnn_platform import machine
from gscnn_platform.data.store.manifest import SCHEMA_VERSION, Identity, Manifest, Skipped, Split
from gscnn_platform.data.store.parts import SampleArrays
from gscnn_platform.inspection.alignment import Correlation, Shift, common_shift, correlation, shift_of
from gscnn_platform.inspection.likeness import Likeness, likeness
from gscnn_platform.inspection.sources import Source

CHUNK: Final = 8
"""Samples of a task: the bar moves every 0.3 s on a core, and a part of a store is opened once for them."""
NEAR_PRIOR: Final = 2
"""Distance in pixels, along rows and columns, up to which the edge prior is looked up for a pixel of the edge label: as
far as an edge label of radius 2 reaches."""
FLAT: Final = 1.0
"""Standard deviation of an image's values, in every channel, up to which it shows nothing but the noise of a sensor."""


@dataclass(frozen=True)
class Measured:
    """One sample's numbers."""

    split: str
    name: str
    index: int
    """Its place in the split."""
    height: int
    width: int
    pixels: Int64[np.ndarray, "K"]
    """Pixels of each class."""
    void: float
    """Share of the pixels that are void."""
    edges: float
    """Share of the pixels that are edge label."""
    unseen: float
    """How little of the edge label the edge prior has: 0 if it is all edge, 1 if none; NaN without an edge label."""
    is_flat: bool
    turned: bool
    likeness: Likeness
    shift: Shift | None

    @property
    def size(self) -> str:
        """Width and height, such as `480x360`."""
        return f"{self.width}x{self.height}"


@dataclass(frozen=True)
class Survey:
    """All samples' numbers."""

    source: Source
    samples: tuple[Measured, ...]
    """By split, in the order of their names."""
    bad: tuple[Skipped, ...]
    """Samples that cannot be used, and those that the store lacks."""
    common_shifts: dict[str, Shift]
    """Split -> how far its labels are shifted together, for those that are."""
    manifest: Manifest
    """What a store of these samples would say of them; it has no parts."""
    unread: int
    """Samples that `--max-samples` left out."""

    def of(self, split: str) -> list[Measured]:
        return [sample for sample in self.samples if sample.split == split]

    @property
    def splits(self) -> list[str]:
        return list(self.source.names)

    def images_with(self, split: str) -> Int64[np.ndarray, "K"]:
        """Number of the split's images that have each class."""
        return sum((sample.pixels > 0 for sample in self.of(split)), np.zeros(len(self.source.classes), np.int64))


def survey(source: Source, max_samples: int | None = None) -> Survey:
    """Measures the samples of all splits, or `max_samples` spread evenly over them.

    Raises:
        StoreError: a sample of the store cannot be read.
    """
    chosen = {split: _spread(len(names), _share(source, split, max_samples)) for split, names in source.names.items()}
    tasks = [
        (split, indices[start : start + CHUNK])
        for split, indices in chosen.items()
        for start in range(0, len(indices), CHUNK)
    ]
    total = sum(map(len, chosen.values()))
    samples: list[Measured] = []
    bad: list[Skipped] = list(source.skipped)
    sums: dict[str, _Sums] = defaultdict(_Sums)
    with (
        ThreadPoolExecutor(max_workers=machine.cores()) as pool,
        tqdm(total=total, unit=" samples", desc=f"inspect {source.path.name}") as bar,
    ):
        for results in pool.map(lambda task: list(_measured(source, *task)), tasks):
            for result in results:
                bar.update()
                if isinstance(result, Skipped):
                    bad.append(result)
                    continue
                sample, found = result
                samples.append(sample)
                if found is not None:
                    sums[sample.split].add(found)
    shifts = {split: of_split.shift() for split, of_split in sums.items()}
    return Survey(
        source=source,
        samples=tuple(samples),
        bad=tuple(bad),
        common_shifts={split: shift for split, shift in shifts.items() if shift is not None},
        manifest=_manifest(source, samples),
        unread=sum(map(len, source.names.values())) - total,
    )


def _share(source: Source, split: str, max_samples: int | None) -> int:
    """How many samples of a split are read; at least 1 of each."""
    count, total = len(source.names[split]), sum(map(len, source.names.values()))
    return count if max_samples is None or max_samples >= total else max(1, math.floor(count * max_samples / total))


def _spread(count: int, chosen: int) -> list[int]:
    """`chosen` indices below `count`, spread evenly."""
    return [place * count // chosen for place in range(chosen)] if count else []


def _measured(
    source: Source, split: str, indices: Sequence[int]
) -> Iterator[tuple[Measured, Correlation | None] | Skipped]:
    for index, read in zip(indices, source.read(split, indices), strict=True):
        if isinstance(read, Skipped):
            yield read
            continue
        arrays = read.arrays
        assert arrays.boundary is not None
        counts = np.bincount(arrays.label.ravel(), minlength=256)
        found = correlation(arrays.image, arrays.label)
        yield (
            Measured(
                split=split,
                name=source.names[split][index],
                index=index,
                height=arrays.label.shape[0],
                width=arrays.label.shape[1],
                pixels=counts[: len(source.classes)],
                void=counts[IGNORE_INDEX] / arrays.label.size,
                edges=float(arrays.boundary.mean()),
                unseen=unseen(arrays),
                is_flat=float(cv2.meanStdDev(arrays.image)[1].max()) <= FLAT,
                turned=read.turned,
                likeness=likeness(arrays.image),
                shift=None if found is None else shift_of(found),
            ),
            found,
        )


def unseen(arrays: SampleArrays) -> float:
    """The mean over the edge label of 1 minus the largest edge prior nearby, of the image's largest."""
    assert arrays.boundary is not None
    side = 2 * NEAR_PRIOR + 1
    near: UInt8[np.ndarray, "H W"] = np.asarray(cv2.dilate(arrays.gradient, np.ones((side, side), np.uint8)), np.uint8)
    on_edges = near[arrays.boundary > 0]
    return 1 - float(on_edges.mean()) / max(1, int(near.max())) if on_edges.size else math.nan


class _Sums:
    """The sum of a split's correlations, by size: a surface's reach and its unit depend on it."""

    def __init__(self) -> None:
        self.by_size: dict[tuple[int, int], tuple[np.ndarray, int]] = {}

    def add(self, found: Correlation) -> None:
        key = len(found.surface), found.factor
        total, count = self.by_size.get(key, (np.zeros_like(found.surface), 0))
        self.by_size[key] = total + found.surface, count + 1

    def shift(self) -> Shift | None:
        """Of the most frequent size."""
        (_, factor), (total, count) = max(self.by_size.items(), key=lambda item: item[1][1])
        return common_shift(total, factor, count)


def _manifest(source: Source, samples: Sequence[Measured]) -> Manifest:
    identity = Identity(
        schema_version=SCHEMA_VERSION,
        dataset=source.dataset,
        edges=source.edges,
        ignore_index=IGNORE_INDEX,
        classes=source.classes,
        colours=source.colours,
        label_table={},
        content="",
    )
    counts = Counter(sample.split for sample in samples)
    splits = {
        split: Split(
            samples=counts[split],
            parts=(),
            pixels=tuple(
                sum(int(sample.pixels[train_id]) for sample in samples if sample.split == split)
                for train_id in range(len(source.classes))
            ),
            void_pixels=sum(
                round(sample.void * sample.height * sample.width) for sample in samples if sample.split == split
            ),
            all_void=sum(sample.void == 1 for sample in samples if sample.split == split),
        )
        for split in source.names
    }
    return Manifest(fingerprint=identity.fingerprint, identity=identity, splits=splits, anchors=True)
