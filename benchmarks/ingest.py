"""How fast a recipe's training batches come out of a store, and whether a training step ever waits for them.

    python -m benchmarks.ingest --store DIR [--recipe camvid] [--processes 0 1 2 4] [--step-time]

No model is involved without --step-time. With it, three speeds are measured in turn: the loader alone, the recipe's
training step on one batch that stays on the device, and the same step fed by the loader. Loader over step shows whether
loading keeps up (1 or more); fed over step is the share of time in which the device is not waiting. Figures are medians
over rounds in which the process counts take turns, so ratios hold on a noisy machine.

Needs albumentations, pyarrow and tqdm in addition to the needs of benchmarks.train_step; neither Ray nor MLflow.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from benchmarks.environment import describe, markdown_table
from benchmarks.stepper import StepConfig, Stepper, best_device
from gscnn.batch import SegBatch
from gscnn_platform.config import ExperimentConfig, with_overrides
from gscnn_platform.data.loader import batches
from gscnn_platform.data.store import SplitReader, open_store
from gscnn_platform.recipes import RECIPES

ENDLESS = 1_000_000
"""Number of epochs: no measurement reaches the end of the data."""


@dataclass
class Readings:
    """Measurements of one process count, one value per round; speeds in images/s."""

    first_batch: list[float] = field(default_factory=list)
    """Seconds from requesting the iterator to its first batch."""
    loader: list[float] = field(default_factory=list)
    step: list[float] = field(default_factory=list)
    fed: list[float] = field(default_factory=list)


def images_per_second(work: Callable[[], int], now: Callable[[], float], seconds: float) -> float:
    """Calls `work`, which returns the images that it handled, for at least `seconds`."""
    images, began = 0, now()
    while time.perf_counter() - began < seconds:
        images += work()
    return images / (now() - began)


def measure(
    reader: SplitReader, config: ExperimentConfig, stepper: Stepper | None, seconds: float, readings: Readings
) -> None:
    """One round of one process count."""
    began = time.perf_counter()
    feed = batches(reader, config, rank=0, pin_memory=best_device().type == "cuda")
    batch = next(feed)
    readings.first_batch.append(time.perf_counter() - began)
    # Batches that were ready before the clock starts do not count.
    for _ in range(5 * config.data.loader_processes):
        next(feed)
    readings.loader.append(images_per_second(lambda: len(next(feed)), time.perf_counter, seconds))
    if stepper is None:
        return
    resident = stepper.place(batch)
    stepper.step(resident)

    def take(chosen: SegBatch) -> int:
        stepper.step(chosen)
        return len(chosen)

    readings.step.append(images_per_second(lambda: take(resident), stepper.now, seconds))
    readings.fed.append(images_per_second(lambda: take(stepper.place(next(feed))), stepper.now, seconds))


def make_stepper(config: ExperimentConfig) -> Stepper:
    """The recipe's training step, with random weights, which are as fast as any."""
    training = config.training
    model = config.model.model_copy(update={"weights": None})
    step = StepConfig(model, config.loss, training.precision, training.channels_last, training.compile)
    return Stepper(step, best_device())


def readings_in_turns(
    recipe: ExperimentConfig, store: str, counts: Sequence[int], step_time: bool, seconds: float, rounds: int
) -> dict[int, Readings]:
    """Number of loader processes -> its measurements, one of each count in every round."""
    recipe = with_overrides(recipe, {"training.epochs": ENDLESS})
    reader = open_store(store, recipe.data, recipe.model.num_classes).split(recipe.data.train_split)
    stepper = make_stepper(recipe) if step_time else None
    readings = {count: Readings() for count in counts}
    for _ in range(rounds):
        for count, of_count in readings.items():
            measure(reader, with_overrides(recipe, {"data.loader_processes": count}), stepper, seconds, of_count)
    return readings


def row(processes: int, readings: Readings) -> list[object]:
    cells: list[object] = [
        processes,
        float(np.median(readings.first_batch)),
        float(np.median(readings.loader)),
    ]
    if readings.step:
        loader, step, fed = (np.array(values) for values in (readings.loader, readings.step, readings.fed))
        cells += [
            float(np.median(step)),
            float(np.median(fed)),
            float(np.median(loader / step)),
            float(np.median(fed / step)),
        ]
    return cells


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", required=True, help="folder that jobs.precompute wrote")
    parser.add_argument("--recipe", default="camvid", choices=list(RECIPES))
    parser.add_argument("--processes", type=int, nargs="+", default=[0, 1, 2], help="loader processes to try")
    parser.add_argument("--step-time", action="store_true", help="compare with the recipe's training step")
    parser.add_argument("--seconds", type=float, default=8.0, help="length of each timed window")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()

    recipe = RECIPES[arguments.recipe]
    readings = readings_in_turns(
        recipe, arguments.store, arguments.processes, arguments.step_time, arguments.seconds, arguments.rounds
    )

    height, width = recipe.augmentation.crop
    print(describe(), end="\n\n")
    print(
        f"recipe {recipe.name}: crops of {width}x{height}, {recipe.images_per_batch} images per batch, "
        f"{arguments.rounds} windows of {arguments.seconds:g} s\n"
    )
    header = ["loader processes", "first batch s", "loader images/s"]
    if arguments.step_time:
        header += ["step images/s", "step fed by loader images/s", "loader / step", "fed / step"]
    print(markdown_table(header, [row(count, of_count) for count, of_count in readings.items()]))


if __name__ == "__main__":
    main()
