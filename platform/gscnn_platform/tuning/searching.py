"""Which settings the next trial gets, and which trials go on: domains as Ray Tune's, searchers and schedulers."""

import logging
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

from gscnn_platform.domains import Domain, SearchSpace
from gscnn_platform.tuning.config import SweepConfig, SweepError

NUMBER: Final = "number"
"""What a trial is told beside its settings: how many there were before it."""
SCORE: Final = "score"
"""What searcher and scheduler see: the highest validation score so far, of 0 to 1; 0 of a trial that diverged."""
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
        """TPE learns from ends alone. Optuna would warn of the epochs that a sweep that goes on reports again."""


def number_of_trials(config: SweepConfig, space: SearchSpace) -> int:
    """How many trials a sweep has.

    Raises:
        SearchSpaceError: a grid over a continuum.
    """
    if (config.search or space.search) == "grid":
        return min(len(space.grid()), config.num_trials or len(space.grid()))
    return config.num_trials or 16


def searcher(config: SweepConfig, space: SearchSpace) -> Searcher:
    """The searcher that `config` names, or that fits the space.

    Raises:
        SearchSpaceError: a grid over a continuum.
        SweepError: Optuna with PBT, which changes settings on the way.
    """
    count, kind = number_of_trials(config, space), config.search or space.search
    domains = {key: tune_domain(domain) for key, domain in space.parsed().items()}
    if config.scheduler == "pbt" and kind == "optuna":
        if config.search is not None:
            raise SweepError("--search optuna cannot learn from --scheduler pbt, which changes settings: take random")
        kind = "random"
    if kind == "grid":
        return Listed(space.grid()[:count])
    if kind == "optuna":
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        logging.getLogger("ray.tune.search.optuna").setLevel(logging.ERROR)
        return Numbered(domains, metric=SCORE, mode="max", sampler=TPESampler(seed=config.seed))
    random = np.random.RandomState(config.seed)
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
            max_t=config.training.epochs,
            grace_period=config.grace,
            reduction_factor=2,
            # A run ends by itself, after its last checkpoint.
            stop_last_trials=False,
        )
    return PopulationBasedTraining(
        time_attr=EPOCH,
        metric=SCORE,
        mode="max",
        perturbation_interval=config.grace,
        hyperparam_mutations={key: tune_domain(domain) for key, domain in space.parsed().items()},
    )
