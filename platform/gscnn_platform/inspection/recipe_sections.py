"""The sections of the page about a recipe: the crops that it draws, and what it would cost."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import cv2
import numpy as np
from pydantic import ValidationError

from gscnn.constants import IGNORE_INDEX
from gscnn_platform.config import EdgeConfig, ExperimentConfig
from gscnn_platform.data.disk_full import readable
from gscnn_platform.data.store import SampleArrays, Store
from gscnn_platform.inspection.cost import Cost, CostError, RecipeTrial, roughly
from gscnn_platform.inspection.fitting import Amount, fitted, small_store, training_command
from gscnn_platform.inspection.trial_process import Drawn
from gscnn_platform.interrupts import tell
from gscnn_platform.invalid_values import explain
from gscnn_platform.reporting.templates import data_uri, fill

LOSSLESS: Final = 101
"""OpenCV's quality of a WebP file that keeps every value."""


@dataclass(frozen=True)
class Tried:
    """A recipe that is being tried on a dataset."""

    recipe: ExperimentConfig
    trial: RecipeTrial
    store: str
    """The store to train on, for the command: its path, or a placeholder for a raw dataset."""

    def sections(self) -> str:
        """HTML of both sections, for a page that extends base.html.jinja; prints the cost.

        Takes the trial's steps, so nothing else should keep the machine busy. A recipe that cannot be tried gives the
        reason instead.
        """
        shown: dict[str, Any] = {"crops": None, "cost": None, "refusal": ""}
        try:
            shown["crops"] = _crops(self.trial.drawn(), self.trial.config)
            cost = self.trial.cost()
            command = training_command(self.recipe, cost.config, self.store)
            shown["cost"] = _cost(cost, command)
            tell(cost.sentence)
            if cost.did_not_fit:
                tell(f"note: {_did_not_fit(cost)}")
        except CostError as error:
            shown["refusal"] = str(error)
            tell(f"note: {error}")
        return fill("recipe_sections.html.jinja", recipe=self.recipe.name, **shown)


@contextmanager
def tried_on_store(recipe: ExperimentConfig, store: Store) -> Iterator[Tried]:
    """Tries a recipe on a store. Enter it early: torch is loaded beside whatever else the block does.

    Raises:
        CostError: the recipe does not allow the store's number of classes.
    """
    identity, splits = store.manifest.identity, store.manifest.splits
    config = _fitted(recipe, len(identity.classes), identity.edges)
    amount = Amount.of({name: split.samples for name, split in splits.items()}, config)
    with RecipeTrial(config, str(store.path), amount) as trial:
        yield Tried(recipe, trial, str(store.path))


@contextmanager
def tried_on_samples(
    recipe: ExperimentConfig,
    classes: tuple[str, ...],
    colours: tuple[tuple[int, int, int], ...],
    edges: EdgeConfig,
    amounts: Mapping[str, int],
    samples: Iterable[tuple[str, SampleArrays]],
) -> Iterator[Tried]:
    """As `tried_on_store`, on a store of a few samples of a raw dataset, which is removed at the end.

    Args:
        recipe: the recipe.
        classes, colours: of the dataset.
        edges: settings of the samples' edge priors and edge labels.
        amounts: samples of each split.
        samples: name and arrays of some of the training split (gscnn_platform.inspection.fitting.spread).

    Raises:
        CostError: as `tried_on_store`.
        StoreError: there are no samples.
    """
    config = _fitted(recipe, len(classes), edges)
    with TemporaryDirectory(prefix="gscnn-") as folder:
        store = small_store(Path(folder), config.data.train_split, classes, colours, edges, samples)
        with RecipeTrial(config, str(store.path), Amount.of(amounts, config)) as trial:
            yield Tried(recipe, trial, "STORE")


def _fitted(recipe: ExperimentConfig, classes: int, edges: EdgeConfig) -> ExperimentConfig:
    try:
        return fitted(recipe, classes, edges)
    except ValidationError as error:
        raise CostError(f"{recipe.name} does not fit a dataset of {classes} classes: {explain(error)}") from error


def _crops(drawn: Drawn, config: ExperimentConfig) -> dict[str, Any]:
    rows = {
        "image": [_uri(crop.image, quality=90) for crop in drawn.crops],
        "label": [_uri(crop.colours) for crop in drawn.crops],
        "edge prior": [_uri(crop.prior) for crop in drawn.crops],
        "edge label": [_uri(crop.boundary * np.uint8(255)) for crop in drawn.crops],
    }
    return {
        "sample": drawn.sample,
        "seed": config.seed,
        "rows": rows,
        "facts": _facts(drawn, config),
        "warning": _padding(drawn, config),
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


def _cost(cost: Cost, command: str) -> dict[str, Any]:
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
        "command": command,
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
