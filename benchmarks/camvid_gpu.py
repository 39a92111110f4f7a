"""What the shape stream gains on CamVid: a recipe and its control without it, same seeds, same epochs, in one process.

    python -m benchmarks.camvid_gpu --store DIR --minutes 50 [--seeds 0 1 2] [--weights none] [--out DIR]

Trains with gscnn_platform's TrainingWorker, without Ray and without MLflow. Two epochs of each model are timed first,
to choose the number of epochs with which all runs end within --minutes; --epochs sets it instead. Models alternate
within a seed, so that an interrupted benchmark has pairs; the JSON is rewritten after each run. The gain is the
difference at the last epoch, averaged over the seeds (the best epoch is chosen on the validation split, which flatters
it).

Needs everything that the platform's training needs, except Ray: see benchmarks/README.md.
"""

import argparse
import gc
import json
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from benchmarks.environment import describe, markdown_table
from benchmarks.stepper import best_device
from gscnn_platform.config import ExperimentConfig, with_overrides
from gscnn_platform.data.store import Store, open_store
from gscnn_platform.evaluation import EvalReport
from gscnn_platform.recipes import RECIPES, deeplab_control
from gscnn_platform.training.control import Control
from gscnn_platform.training.worker import TrainingWorker

VALIDATIONS = 10
"""Maximum validations per run, besides the one before training."""
SPARE = 0.93
"""Share of the remaining time that the runs may take: later epochs can be slower than the timed one."""


class TimedWorker(TrainingWorker):
    """Records the seconds of each epoch and of each validation separately."""

    def __init__(self, config: ExperimentConfig, store: Store, device: torch.device) -> None:
        super().__init__(config, store, rank=0, world_size=1, device=device)
        self.epoch_seconds: list[float] = []
        self.validation_seconds: list[float] = []
        self._validated, self._since = 0, time.perf_counter()

    def validate(self) -> EvalReport | None:
        began, epoch = time.perf_counter(), self.step // self.steps
        if epoch > self._validated:
            self.epoch_seconds.append((began - self._since) / (epoch - self._validated))
        report = super().validate()
        self._validated, self._since = epoch, time.perf_counter()
        self.validation_seconds.append(self._since - began)
        return report


@dataclass(frozen=True)
class Run:
    """One training run; mIoU and IoU are on the validation split, in [0, 1]."""

    model: str
    seed: int
    epochs: int
    miou: dict[int, float]
    """Epoch -> mIoU."""
    iou: dict[str, float | None]
    """Class -> IoU at the last epoch; None for a class in neither ground truth nor prediction."""
    images_per_second: float
    """Training speed, without the first epoch."""
    peak_gib: float | None
    """None on the CPU, where torch does not measure it."""
    seconds: float
    """Total time."""
    first_seconds: float
    """Everything except later epochs and validations: building the model, and the first epoch."""
    epoch_seconds: float
    validation_seconds: float

    @property
    def last(self) -> float:
        return self.miou[self.epochs]

    @property
    def best(self) -> float:
        return max(self.miou.values())


def train(config: ExperimentConfig, store: Store, device: torch.device, picture: Path | None = None) -> Run:
    """Trains to the end and writes the model's view of some validation samples to `picture`."""
    on_gpu = device.type == "cuda"
    if on_gpu:
        gc.collect()  # The last run's model may be in a reference cycle, and would count towards this one's peak.
        torch.cuda.reset_peak_memory_stats()
    began = time.perf_counter()
    worker = TimedWorker(config, store, device)
    reports: dict[int, EvalReport] = {}

    def keep(report: EvalReport | None) -> None:
        if report is not None:
            reports[worker.step // worker.steps] = report

    worker.train(keep, Control(config.training))
    seconds = time.perf_counter() - began
    peak = torch.cuda.max_memory_allocated() / 2**30 if on_gpu else None
    scores = {epoch: report.scores for epoch, report in reports.items()}
    last = scores[config.training.epochs]
    if picture is not None:
        title = f"{config.name} · seed {config.seed} · mIoU {last.miou:.3f}"
        cv2.imwrite(str(picture), cv2.cvtColor(worker.picture(title), cv2.COLOR_RGB2BGR))
    later_epochs = worker.epoch_seconds[1:] or worker.epoch_seconds
    epoch_seconds = float(np.median(later_epochs))
    return Run(
        model=config.name,
        seed=config.seed,
        epochs=config.training.epochs,
        miou={epoch: score.miou for epoch, score in scores.items()},
        iou={
            name: None if math.isnan(value) else float(value)
            for name, value in zip(store.manifest.identity.classes, last.iou, strict=True)
        },
        images_per_second=worker.steps * config.training.batch_size / epoch_seconds,
        peak_gib=peak,
        seconds=seconds,
        first_seconds=seconds - sum(worker.epoch_seconds[1:]) - sum(worker.validation_seconds),
        epoch_seconds=epoch_seconds,
        validation_seconds=float(np.median(worker.validation_seconds)),
    )


def with_epochs(config: ExperimentConfig, epochs: int) -> ExperimentConfig:
    every = math.ceil(epochs / VALIDATIONS)
    return with_overrides(config, {"training.epochs": epochs, "training.validate_every": every})


def epochs_within(seconds: float, trials: Sequence[Run], num_seeds: int) -> int:
    """The most epochs that let every model of `trials` run once per seed within `seconds`."""
    fixed = num_seeds * sum(trial.first_seconds + (VALIDATIONS + 1) * trial.validation_seconds for trial in trials)
    epoch = num_seeds * sum(trial.epoch_seconds for trial in trials)
    epochs = 1 + int((seconds * SPARE - fixed) / epoch)
    if epochs < 2:
        needed = (fixed + epoch) / SPARE / 60
        raise SystemExit(f"{seconds / 60:.1f} minutes are left after the trial; two epochs per run need {needed:.1f}")
    return epochs


def gain(runs: Sequence[Run], models: tuple[str, str]) -> list[float]:
    """For each seed that has both: mIoU at the last epoch of the first model minus the second's."""
    last = {(run.model, run.seed): run.last for run in runs}
    seeds = [seed for model, seed in last if model == models[1] and (models[0], seed) in last]
    return [last[models[0], seed] - last[models[1], seed] for seed in seeds]


def mean_iou(runs: Sequence[Run]) -> dict[str, float]:
    """Per class, over the runs; NaN if a run has none."""
    return {
        name: float(np.mean([math.nan if (iou := run.iou[name]) is None else iou for run in runs]))
        for name in runs[0].iou
    }


def tables(runs: Sequence[Run], models: tuple[str, str]) -> str:
    """Every run; model by seed; IoU by class; and the gain. mIoU has four decimals: gains show in the third."""
    scored = {(run.model, run.seed): run.last for run in runs}
    seeds = sorted({run.seed for run in runs})
    each = [
        [
            *(run.model, run.seed, f"{run.last:.4f}", f"{run.best:.4f}", run.images_per_second),
            "-" if run.peak_gib is None else run.peak_gib,
            run.seconds / 60,
        ]
        for run in runs
    ]
    by_seed = [[model, *(f"{scored[model, seed]:.4f}" for seed in seeds)] for model in models]
    of_class = {model: mean_iou([run for run in runs if run.model == model]) for model in models}
    classes = [
        [name, *(of_class[model][name] for model in models), of_class[models[0]][name] - of_class[models[1]][name]]
        for name in runs[0].iou
    ]
    gains = gain(runs, models)
    spread = f" ± {np.std(gains, ddof=1):.4f} (standard deviation)" if len(gains) > 1 else ""
    header = ["run", "seed", "mIoU last", "mIoU best", "images/s", "peak GiB", "minutes"]
    return "\n\n".join(
        [
            markdown_table(header, each),
            markdown_table(["mIoU, last epoch", *(f"seed {seed}" for seed in seeds)], by_seed),
            markdown_table(["IoU, mean over seeds", *models, "difference"], classes),
            f"gain of the shape stream in mIoU: {np.mean(gains):+.4f}{spread} over {len(gains)} seeds",
        ]
    )


def command_line() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", required=True, help="folder that jobs.precompute wrote")
    with_shape_stream = [name for name, recipe in RECIPES.items() if recipe.model.architecture == "gscnn"]
    parser.add_argument("--recipe", default="camvid", choices=with_shape_stream)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    length = parser.add_mutually_exclusive_group(required=True)
    length.add_argument("--minutes", type=float, help="total, including the timed epochs")
    length.add_argument("--epochs", type=int, help="epochs of each run")
    parser.add_argument(
        "--weights", choices=["imagenet", "none"], help="initial weights of the backbone; default: the recipe's"
    )
    parser.add_argument("--processes", type=int, help="loader processes; default: the recipe's")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/camvid_gpu"), help="folder for the JSON and the pictures"
    )
    return parser.parse_args()


def chosen_recipe(arguments: argparse.Namespace) -> ExperimentConfig:
    changes: dict[str, object] = {}
    if arguments.weights:
        changes["model.weights"] = None if arguments.weights == "none" else arguments.weights
    if arguments.processes is not None:
        changes["data.loader_processes"] = arguments.processes
    return with_overrides(RECIPES[arguments.recipe], changes)


def main() -> None:
    began = time.perf_counter()
    arguments = command_line()
    recipe = chosen_recipe(arguments)
    pair = (recipe, deeplab_control(recipe))
    store = open_store(arguments.store, recipe.data, recipe.model.num_classes)
    device = best_device()
    arguments.out.mkdir(parents=True, exist_ok=True)

    epochs = arguments.epochs
    if epochs is None:
        trials = [train(with_epochs(config, 2), store, device) for config in pair]
        left = arguments.minutes * 60 - (time.perf_counter() - began)
        epochs = epochs_within(left, trials, len(arguments.seeds))
    settings = with_epochs(recipe, epochs).model_dump(exclude={"seed", "store", "storage", "tracking"})
    runs: list[Run] = []
    for seed in arguments.seeds:
        for config in pair:
            seeded = with_overrides(with_epochs(config, epochs), {"seed": seed})
            runs.append(train(seeded, store, device, arguments.out / f"{config.name}-seed{seed}.png"))
            results = {"environment": describe(), "recipe": settings, "runs": [asdict(run) for run in runs]}
            (arguments.out / "results.json").write_text(
                json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
            )

    start = recipe.model.weights or "random weights"
    print(f"\n{describe()}\n\nrecipe {recipe.name}: {epochs} epochs from {start}, store {store.manifest.fingerprint}\n")
    print(tables(runs, (pair[0].name, pair[1].name)))


if __name__ == "__main__":
    main()
