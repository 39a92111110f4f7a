"""Searchers, schedulers and domains for Ray Tune: choose the next trial's settings and the trials that continue."""

import logging
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import cloudpickle
import numpy as np
import optuna
from optuna.samplers import TPESampler
from ray import tune
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, PopulationBasedTraining, TrialScheduler
from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch

from gscnn_platform.sweeps.config import SweepConfig, SweepError
from gscnn_platform.sweeps.domains import Domain
from gscnn_platform.sweeps.space import SearchSpace

NUMBER: Final = "number"
"""Key of a trial's number: how many trials started before it."""
SCORE: Final = "score"
"""Key of the score for searcher and scheduler: the highest validation score so far, in [0, 1]; 0 if it diverged."""
EPOCH: Final = "epoch"


def tune_domain(domain: Domain) -> Any:
    """Returns the Ray Tune domain with the same values."""
    if domain.kind == "choice":
        return tune.choice(list(domain.args))
    return getattr(tune, domain.kind)(*domain.numbers)


class Listed(Searcher):
    """Searcher over trials that are known in advance: a grid, or random samples."""

    def __init__(self, trials: list[dict[str, Any]]) -> None:
        super().__init__(metric=SCORE, mode="max")
        self.trials, self.given = trials, 0

    def suggest(self, trial_id: str) -> Any:
        if self.given == len(self.trials):
            return Searcher.FINISHED
        self.given += 1
        return {NUMBER: self.given - 1, **self.trials[self.given - 1]}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        pass

    def save(self, checkpoint_path: str) -> None:
        Path(checkpoint_path).write_bytes(cloudpickle.dumps(self.__dict__))

    def restore(self, checkpoint_path: str) -> None:
        self.__dict__.update(cloudpickle.loads(Path(checkpoint_path).read_bytes()))


class Numbered(OptunaSearch):
    """Optuna's TPE, which learns from each finished trial; numbers the trials in the order of its suggestions."""

    given = 0

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        found = super().suggest(trial_id)
        if found is None:
            return None
        self.given += 1
        return {NUMBER: self.given - 1, **found}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Ignores results of epochs: TPE uses the final one, and Optuna warns if a resumed sweep repeats epochs."""


def number_of_trials(config: SweepConfig, space: SearchSpace) -> int:
    """Returns the number of trials of a sweep.

    Raises:
        SearchSpaceError: grid search over a continuous domain.
    """
    if (config.search or space.search) == "grid" and config.scheduler != "pbt":
        return min(len(space.grid()), config.num_trials or len(space.grid()))
    return config.num_trials or 16


def number_of(trial_id: str, config: Mapping[str, Any]) -> int:
    """Returns a trial's number: from its config, or for PBT from Tune's trial id.

    PBT copies the whole config of a good trial, which would include the number.
    """
    return config[NUMBER] if NUMBER in config else int(trial_id.rpartition("_")[2])


def searcher(config: SweepConfig, space: SearchSpace) -> Searcher | None:
    """Returns the searcher of `config`, or the default of the space; None for PBT, for which Tune samples at random.

    Raises:
        SearchSpaceError: grid search over a continuous domain.
        SweepError: grid search or Optuna with PBT, which changes settings during a trial.
    """
    if config.scheduler == "pbt":
        if config.search not in (None, "random"):
            raise SweepError(f"--search {config.search} does not work with --scheduler pbt, which changes settings")
        return None
    count, kind = number_of_trials(config, space), config.search or space.search
    domains = {key: tune_domain(domain) for key, domain in space.parsed().items()}
    if kind == "grid":
        return Listed(space.grid()[:count])
    if kind == "optuna":
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        logging.getLogger("ray.tune.search.optuna").setLevel(logging.ERROR)
        return Numbered(domains, metric=SCORE, mode="max", sampler=TPESampler(seed=config.recipe.seed))
    random = np.random.RandomState(config.recipe.seed)
    return Listed([{key: domain.sample(random_state=random) for key, domain in domains.items()} for _ in range(count)])


def scheduler(config: SweepConfig, space: SearchSpace) -> TrialScheduler:
    """Returns the scheduler of `config`, which compares the best score so far after a number of epochs."""
    if config.scheduler == "fifo":
        return FIFOScheduler()
    if config.scheduler == "asha":
        return AsyncHyperBandScheduler(
            time_attr=EPOCH,
            metric=SCORE,
            mode="max",
            max_t=config.recipe.training.epochs,
            grace_period=config.grace,
            reduction_factor=2,
            # A run ends by itself after its last checkpoint.
            stop_last_trials=False,
        )
    return PopulationBasedTraining(
        time_attr=EPOCH,
        metric=SCORE,
        mode="max",
        perturbation_interval=config.grace,
        hyperparam_mutations={key: tune_domain(domain) for key, domain in space.parsed().items()},
        custom_explore_fn=partial(within, space.parsed()),
    )


def within(domains: Mapping[str, Domain], sampled: dict[str, Any]) -> dict[str, Any]:
    """Returns PBT's settings clipped to their domains: PBT multiplies values by 0.8 or 1.2, even beyond the ends."""
    clipped = dict(sampled)
    for key, domain in domains.items():
        if domain.kind != "choice":
            low, high = domain.numbers[:2]
            clipped[key] = min(max(sampled[key], low), high - (domain.kind == "randint"))
    return clipped
