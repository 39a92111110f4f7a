"""Which value of one setting trains better: the same recipe and the same seeds with each, in one process.

    python -m benchmarks.settings --store DIR --recipe camvid --setting augmentation.gradient=resized,derived
    python -m benchmarks.settings --store DIR --recipe camvid --setting model.init=torch,kaiming --seeds 0 1 2

Trains with gscnn_platform's TrainingWorker, without Ray and without MLflow, on a GPU if there is one. Values take turns
within a seed, so that an interrupted benchmark has pairs; results.json is rewritten after each run. Validation is on
whole images with the store's edge prior, whatever training reads. If the mean difference over the seeds is less than
twice its standard error, the table says that it is noise.
"""

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks.camvid_gpu import with_epochs
from benchmarks.environment import describe, markdown_table
from benchmarks.stepper import best_device
from gscnn_platform.config import ExperimentConfig, with_overrides
from gscnn_platform.data.store import Store, open_store
from gscnn_platform.evaluation import EvalReport
from gscnn_platform.recipes import RECIPES
from gscnn_platform.training.control import Control
from gscnn_platform.training.worker import TrainingWorker

SCORES = ("miou", "boundary_f_3px")


@dataclass(frozen=True)
class Run:
    """One training; scores are on the validation split at the last epoch, in [0, 1]."""

    value: str
    seed: int
    scores: dict[str, float]
    by_epoch: dict[int, float]
    """mIoU at each validation."""


def train(config: ExperimentConfig, value: str, store: Store) -> Run:
    worker = TrainingWorker(config, store, rank=0, world_size=1, device=best_device())
    reports: dict[int, EvalReport] = {}

    def keep(report: EvalReport | None) -> None:
        if report is not None:
            reports[worker.step // worker.steps] = report

    worker.train(keep, Control(config.training))
    last = reports[config.training.epochs].metrics("val")
    by_epoch = {epoch: report.scores.miou for epoch, report in reports.items()}
    return Run(value, config.seed, {name: last[f"val/{name}"] for name in SCORES}, by_epoch)


def difference(runs: Sequence[Run], values: tuple[str, str], score: str) -> str:
    """`+0.0042 ± 0.0010 over 3 seeds`: the second value's gain over the first, and whether it is more than noise."""
    scored = {(run.value, run.seed): run.scores[score] for run in runs}
    seeds = [seed for value, seed in scored if value == values[1] and (values[0], seed) in scored]
    gains = [scored[values[1], seed] - scored[values[0], seed] for seed in seeds]
    if len(gains) < 2:
        return f"{gains[0]:+.4f} of one seed: says nothing" if gains else "-"
    error = float(np.std(gains, ddof=1)) / math.sqrt(len(gains))
    verdict = "noise" if abs(np.mean(gains)) < 2 * error else "more than noise"
    return f"{np.mean(gains):+.4f} ± {error:.4f} (standard error) over {len(gains)} seeds: {verdict}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", required=True, help="folder that jobs.precompute wrote")
    parser.add_argument("--recipe", default="camvid", choices=list(RECIPES))
    parser.add_argument("--setting", required=True, help="a field of the recipe and two values: field=first,second")
    parser.add_argument("--set", nargs="*", default=[], metavar="FIELD=VALUE", help="other fields, of all runs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--epochs", type=int, help="epochs of each run; default: the recipe's")
    parser.add_argument(
        "--weights", choices=["imagenet", "none"], help="initial weights of the backbone; default: the recipe's"
    )
    parser.add_argument("--processes", type=int, help="loader processes; default: the recipe's")
    parser.add_argument("--out", type=Path, default=Path("runs/settings"), help="for results.json")
    arguments = parser.parse_args()
    field, _, given = arguments.setting.partition("=")
    first, second = given.split(",")
    changes: dict[str, object] = dict(text.split("=", 1) for text in arguments.set)
    if arguments.weights:
        changes["model.weights"] = None if arguments.weights == "none" else arguments.weights
    if arguments.processes is not None:
        changes["data.loader_processes"] = arguments.processes
    recipe = with_overrides(RECIPES[arguments.recipe], changes)
    recipe = with_epochs(recipe, arguments.epochs or recipe.training.epochs)
    configs = {value: with_overrides(recipe, {field: value}) for value in (first, second)}
    store = open_store(arguments.store, recipe.data, recipe.model.num_classes)
    arguments.out.mkdir(parents=True, exist_ok=True)
    runs: list[Run] = []
    for seed in arguments.seeds:
        for value, config in configs.items():
            runs.append(train(with_overrides(config, {"seed": seed}), value, store))
            results = {"environment": describe(), "setting": field, "runs": [asdict(run) for run in runs]}
            (arguments.out / "results.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    rows = [[run.value, run.seed, *(f"{run.scores[score]:.4f}" for score in SCORES)] for run in runs]
    print(f"\n{describe()}\n\n{', '.join([recipe.name, *arguments.set, f'{recipe.training.epochs} epochs', field])}\n")
    print(markdown_table([field, "seed", *SCORES], rows))
    for score in SCORES:
        print(f"\n{second} over {first}, {score}: {difference(runs, (first, second), score)}")


if __name__ == "__main__":
    main()
