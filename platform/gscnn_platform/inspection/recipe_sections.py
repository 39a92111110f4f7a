"""The sections of the page about a recipe: the crops that it draws, and what it would cost."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import cv2
import numpy as np
from pydantic import ValidationError

from gscnn.constants import IGNORE_INDEX
from gscnn_platform.config import ExperimentConfig
from gscnn_platform.data.disk_full import readable
from gscnn_platform.data.store import SampleArrays, Store, StoreError
from gscnn_platform.data.store.manifest import precompute_command
from gscnn_platform.inspection.cost import Cost, CostError, RecipeTrial, roughly
from gscnn_platform.inspection.fitting import Amount, fitted, small_store, spread, training_command
from gscnn_platform.inspection.sources import Read, Source
from gscnn_platform.inspection.trial_process import Drawn
from gscnn_platform.interrupts import tell
from gscnn_platform.invalid_values import explain
from gscnn_platform.names import file_name
from gscnn_platform.reporting.templates import data_uri, fill

LOSSLESS: Final = 101
"""OpenCV's quality of a WebP file that keeps every value."""
WHITE: Final = np.uint8(255)
PANELS: Final = ("image", "label", "edge prior", "edge label")


@dataclass(frozen=True)
class Sections:
    """What the page and the MLflow run of an inspection get about a recipe."""

    html: str
    numbers: Mapping[str, float]
    """Key of a metric -> value; empty if nothing could be measured."""
    files: Mapping[str, bytes]
    """Path -> content of a picture."""


NOT_TRIED: Final = Sections("", {}, {})


@dataclass(frozen=True)
class Tried:
    """A recipe that is being tried on a dataset."""

    recipe: ExperimentConfig
    trial: RecipeTrial | str
    """Or why there is none."""
    store: str
    """The store to train on, for the command."""
    before: str = ""
    """The command that builds this store; empty if it exists."""

    def sections(self) -> Sections:
        """The sections, once the trial's steps are taken, beside which nothing else should keep the machine busy.

        Prints the cost. A recipe that cannot be tried gives the reason instead.
        """
        drawn, cost, refusal = None, None, ""
        try:
            if isinstance(self.trial, str):
                raise CostError(self.trial)
            drawn = self.trial.drawn()
            cost = self.trial.cost()
        except CostError as error:
            refusal = str(error)
        tell(f"note: {refusal}" if cost is None else cost.sentence)
        if cost is not None and cost.did_not_fit:
            tell(f"note: {_did_not_fit(cost)}")
        html = fill(
            "recipe_sections.html.jinja",
            recipe=self.recipe.name,
            crops=None if drawn is None else _crops(drawn, self.recipe),
            cost=None if cost is None else _cost(cost, self._commands(cost)),
            refusal=refusal,
        )
        files = {} if drawn is None else {f"pictures/crops-{file_name(self.recipe.name)}.png": _mosaic(drawn)}
        return Sections(html, {} if cost is None else _numbers(cost), files)

    def _commands(self, cost: Cost) -> list[str]:
        return [*filter(None, [self.before]), training_command(self.recipe, cost.config, self.store)]


@contextmanager
def tried(recipe: ExperimentConfig, source: Source) -> Iterator[Tried]:
    """Tries a recipe on a store, or on one of a few samples of a raw dataset that is removed at the end.

    Enter it early: torch is loaded beside whatever else the block does.

    Raises:
        StoreError: a sample of the store cannot be read.
    """
    if source.store is not None:
        with _trial(recipe, source, source.store) as trial:
            yield Tried(recipe, trial, str(source.path))
        return
    split, store = recipe.data.train_split, f"data/{source.path.name}"
    before = precompute_command(source.dataset, store, source.edges, root=str(source.path))
    with TemporaryDirectory(prefix="gscnn-") as folder:
        try:
            small = small_store(
                Path(folder), split, source.classes, source.colours, source.edges, _some_of(source, split)
            )
        except StoreError as error:
            yield Tried(recipe, str(error), store, before)
            return
        with _trial(recipe, source, small) as trial:
            yield Tried(recipe, trial, store, before)


@contextmanager
def _trial(recipe: ExperimentConfig, source: Source, store: Store) -> Iterator[RecipeTrial | str]:
    try:
        config = fitted(recipe, len(source.classes), source.edges)
    except ValidationError as error:
        yield f"{recipe.name} does not fit a dataset of {len(source.classes)} classes: {explain(error)}"
        return
    amount = Amount.of({split: len(names) for split, names in source.names.items()}, config)
    with RecipeTrial(config, str(store.path), amount) as trial:
        yield trial


def _some_of(source: Source, split: str) -> Iterator[tuple[str, SampleArrays]]:
    """Samples from all over a split of a raw dataset, without those that cannot be used."""
    names = source.names.get(split, ())
    indices = spread(len(names))
    for index, read in zip(indices, source.read(split, indices), strict=True):
        if isinstance(read, Read):
            yield names[index], read.arrays


def _crops(drawn: Drawn, config: ExperimentConfig) -> dict[str, Any]:
    columns = [
        [_uri(crop.image, quality=90), *map(_uri, (crop.colours, crop.prior, crop.boundary * WHITE))]
        for crop in drawn.crops
    ]
    return {
        "sample": drawn.sample,
        "seed": config.seed,
        "rows": PANELS,
        "columns": columns,
        "facts": _facts(drawn, config),
        "warning": _padding(drawn, config),
    }


def _mosaic(drawn: Drawn) -> bytes:
    """A PNG file with a column for each crop."""
    columns = [
        np.vstack([crop.image, crop.colours, *(_grey(picture) for picture in (crop.prior, crop.boundary * WHITE))])
        for crop in drawn.crops
    ]
    _, data = cv2.imencode(".png", cv2.cvtColor(np.hstack(columns), cv2.COLOR_RGB2BGR))
    return data.tobytes()


def _grey(picture: np.ndarray) -> np.ndarray:
    return np.repeat(picture[..., None], 3, axis=2)


def _numbers(cost: Cost) -> dict[str, float]:
    return {
        "cost/step_seconds": cost.step_seconds,
        "cost/epoch_seconds": cost.epoch_seconds,
        "cost/run_seconds": cost.run_seconds,
        "cost/step_memory_gb": cost.measured.memory / 1e9,
        "cost/parameters": float(cost.measured.parameters),
    }


def _facts(drawn: Drawn, config: ExperimentConfig) -> str:
    augmentation, (height, width) = config.augmentation, drawn.size
    smallest, largest = augmentation.scale
    facts = [
        f"crops of {_size(augmentation.crop)} (height x width) from this image of {height}x{width}",
        f"resized to {smallest:g} to {largest:g} times its size",
        f"flipped with probability {augmentation.flip:g}",
    ]
    if augmentation.colour_jitter:
        facts.append(f"colours varied by {augmentation.colour_jitter:.0%}")
    if augmentation.blur:
        facts.append(f"blurred with probability {augmentation.blur:g}")
    if config.data.class_uniform:
        facts.append(f"a share of {config.data.class_uniform:g} of all crops around a pixel of a class")
    return ", ".join(facts)


def _padding(drawn: Drawn, config: ExperimentConfig) -> str:
    """What lies outside of the image in these crops, where the image is often smaller than they are; or empty."""
    scale = config.augmentation.scale[0]
    if all(scale * side >= crop for side, crop in zip(drawn.size, config.augmentation.crop, strict=True)):
        return ""
    void = float(np.mean([crop.label == IGNORE_INDEX for crop in drawn.crops]))
    return (
        f"The resized image can be smaller than the crop, and the rest of the crop is void: {void:.0%} of these crops "
        "are void. Smaller crops (--augmentation.crop) or a larger --augmentation.scale waste less of a step."
    )


def _cost(cost: Cost, commands: Sequence[str]) -> dict[str, Any]:
    parameters = cost.measured.parameters
    return {
        "sentence": cost.sentence,
        "cards": {
            "whole training": roughly(cost.run_seconds),
            "an epoch": roughly(cost.epoch_seconds),
            "a step": roughly(cost.step_seconds),
            "memory of a step": readable(cost.measured.memory),
            "parameters": f"{parameters / 1e6:.1f} M",
        },
        "notes": [*([_did_not_fit(cost)] if cost.did_not_fit else []), *cost.notes],
        "commands": commands,
    }


def _did_not_fit(cost: Cost) -> str:
    return (
        f"{cost.did_not_fit}. {cost.config.images_per_batch} at once fit: add --training.accumulate "
        f"{cost.config.training.accumulate}, with the same number of images in a step"
    )


def _size(size: tuple[int, int]) -> str:
    return "x".join(map(str, size))


def _uri(picture: np.ndarray, quality: int = LOSSLESS) -> str:
    pixels = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR) if picture.ndim == 3 else picture
    _, data = cv2.imencode(".webp", pixels, [cv2.IMWRITE_WEBP_QUALITY, quality])
    return data_uri(data.tobytes(), "webp")
