"""Chooses the settings of the next trial and the trials that continue: domains for Ray Tune, searchers, schedulers."""

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
"""Key for the number of trials before this one."""
SCORE: Final = "score"
"""The score for searcher and scheduler: the highest validation score so far, in [0, 1]; 0 if the trial diverged."""
EPOCH: Final = "epoch"


def tune_domain(domain: Domain) -> Any:
    """The same values as a domain of Ray Tune."""
    if domain.kind == "choice":
        return tune.choice(list(domain.args))
    return getattr(tune, domain.kind)(*domain.numbers)


class Listed(Searcher):
    """Trials whose settings are known beforehand: a grid, or random samples."""

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
    """Optuna's TPE, which learns from each finished trial; trials are numbered as they are given out."""

    given = 0

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        found = super().suggest(trial_id)
        if found is None:
            return None
        self.given += 1
        return {NUMBER: self.given - 1, **found}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """TPE learns from final results only. Optuna would warn of the epochs that a resumed sweep reports again."""


def number_of_trials(config: SweepConfig, space: SearchSpace) -> int:
    """The number of trials of a sweep.

    Raises:
        SearchSpaceError: a grid over a continuum.
    """
    if (config.search or space.search) == "grid" and config.scheduler != "pbt":
        return min(len(space.grid()), config.num_trials or len(space.grid()))
    return config.num_trials or 16


def number_of(trial_id: str, config: Mapping[str, Any]) -> int:
    """The number of trials before this one: the searcher's count, or under PBT the one in Tune's name of the trial.

    PBT copies the whole of a good trial's config, a number included.
    """
    return config[NUMBER] if NUMBER in config else int(trial_id.rpartition("_")[2])


def searcher(config: SweepConfig, space: SearchSpace) -> Searcher | None:
    """The searcher that `config` names, or that fits the space; None for PBT, which has Tune draw at random.

    Raises:
        SearchSpaceError: a grid over a continuum.
        SweepError: a grid or Optuna with PBT, which changes settings on the way.
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
    """The scheduler that `config` names, by epochs and the best score so far."""
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
            # The run itself ends after its last checkpoint.
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
    """PBT multiplies by 0.8 or 1.2, past the ends of a domain too: a config might refuse that."""
    clipped = dict(sampled)
    for key, domain in domains.items():
        if domain.kind != "choice":
            low, high = domain.numbers[:2]
            clipped[key] = min(max(sampled[key], low), high - (domain.kind == "randint"))
    return clipped
