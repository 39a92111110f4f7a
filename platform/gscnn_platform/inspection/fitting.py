"""Fits a recipe to a dataset, and builds the small store of a raw dataset that it is tried on."""

import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import numpy as np

from gscnn.constants import IGNORE_INDEX
from gscnn_platform.config import EdgeConfig, ExperimentConfig, flatten, with_overrides
from gscnn_platform.data.held_out import held_out
from gscnn_platform.data.store import Identity, SampleArrays, Store, StoreError, open_store
from gscnn_platform.data.store.manifest import SCHEMA_VERSION, Manifest, Split, write_manifest
from gscnn_platform.data.store.parts import write_part
from gscnn_platform.invalid_values import shown

TRIED: Final = 16
"""Samples of a raw dataset that are built to try a recipe: 3.3 s for drawn frames of 2048x1024 on one core."""


@dataclass(frozen=True)
class Amount:
    """How many samples a recipe would train and validate on."""

    training: int
    validation: int

    @classmethod
    def of(cls, samples: Mapping[str, int], config: ExperimentConfig) -> Self:
        """The amount for a dataset whose splits have so many samples each."""
        data = config.data
        count = samples.get(data.train_split, 0)
        if data.val_share and count > 1:
            out = len(held_out(count, data.val_share, data.val_seed))
            return cls(count - out, out)
        return cls(count, samples.get(data.val_split or "", 0))


def fitted(recipe: ExperimentConfig, classes: int, edges: EdgeConfig) -> ExperimentConfig:
    """The recipe for a dataset of so many classes and a store of these edge settings.

    Raises:
        pydantic.ValidationError: the recipe does not allow that number of classes.
    """
    return with_overrides(recipe, {"model.num_classes": classes, "data.edges": edges})


def training_command(recipe: ExperimentConfig, config: ExperimentConfig, store: str) -> str:
    """The command that trains `config`, which is the recipe with some settings changed, on a store."""
    before, after = flatten(recipe.model_dump()), flatten(config.model_dump())
    changed = (_typed(key, after[key]) for key in after if after[key] != before[key])
    return " ".join(["python -m jobs.train", recipe.name, "--store", shlex.quote(store), *changed])


def _typed(key: str, value: object) -> str:
    option = f"--{key.replace('_', '-')}"
    if not isinstance(value, bool):
        return f"{option} {shown(value)}"
    # A switch takes no value.
    group, dot, leaf = option[2:].rpartition(".")
    return option if value else f"--{group}{dot}no-{leaf}"


def spread(count: int) -> list[int]:
    """Up to TRIED of `count` indices, spread evenly."""
    return [number * count // min(TRIED, count) for number in range(min(TRIED, count))]


def small_store(
    folder: Path,
    split: str,
    classes: tuple[str, ...],
    colours: tuple[tuple[int, int, int], ...],
    edges: EdgeConfig,
    samples: Iterable[tuple[str, SampleArrays]],
) -> Store:
    """Writes samples as the only split of a store, in this process and without a raw dataset's table, and opens it.

    Args:
        folder: an existing, empty one.
        split: name of the split.
        classes, colours, edges: of the dataset.
        samples: name and arrays, with boundary and anchors, of each.

    Raises:
        StoreError: there are no samples.
    """
    pixels, voids = np.zeros(256, np.int64), 0

    def counted() -> Iterator[tuple[str, SampleArrays]]:
        nonlocal pixels, voids
        for name, arrays in samples:
            pixels += np.bincount(arrays.label.ravel(), minlength=256)
            voids += int((arrays.label == IGNORE_INDEX).all())
            yield name, arrays

    (folder / split).mkdir()
    part = write_part(folder / split / "part.parquet", counted())
    if part is None:
        raise StoreError(f"no sample of split {split} can be used, and a recipe trains on it")
    written = Split(
        samples=part.rows,
        parts=(part,),
        pixels=tuple(pixels[: len(classes)].tolist()),
        void_pixels=int(pixels[IGNORE_INDEX]),
        all_void=voids,
    )
    identity = Identity(
        schema_version=SCHEMA_VERSION,
        dataset="folder",
        edges=edges,
        ignore_index=IGNORE_INDEX,
        classes=classes,
        colours=colours,
        label_table={},
        content="",
    )
    splits = {split: written}
    write_manifest(folder, Manifest(fingerprint=identity.fingerprint, identity=identity, splits=splits, anchors=True))
    return open_store(folder)
