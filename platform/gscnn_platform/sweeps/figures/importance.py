"""Importance of each key of a sweep for its metric: shares of variance, by Optuna's fANOVA."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
import optuna
from jaxtyping import UInt8
from matplotlib.figure import Figure
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.importance import FanovaImportanceEvaluator, get_param_importances

from gscnn_platform.sweeps.domains import Domain
from gscnn_platform.sweeps.figures.points import BLUE, EndedTrials, to_array

TRIALS_PER_KEY: Final = 2
"""Minimum trials per varying key; with fewer, shares are noise."""
RESAMPLES: Final = 10
TREES: Final = 64
RESAMPLE_TREES: Final = 16
"""Fewer than TREES, to save time: a share varies more with the resampled trials than with the trees."""


def importances(sweep: EndedTrials) -> dict[str, list[float]]:
    """Returns key -> shares of the variance that single keys explain, for the keys that vary, largest first.

    The first share of a key is computed on all scored trials, the others on RESAMPLES bootstrap samples of them. Empty
    if shares are meaningless: fewer than two keys vary, there are fewer than TRIALS_PER_KEY trials per varying key, or
    all scores are equal. Scores of trials that were stopped early are used unchanged: in 12 synthetic ASHA sweeps of 50
    trials and 6 keys this ranked the dominant key first in 11; with only the finished trials it did in 1, and with the
    epochs as an additional key in 3.

    Uses fANOVA instead of Optuna's default, PED-ANOVA, which compares the best tenth with the rest: on 8 random
    quadratics of 6 keys with 50 trials PED-ANOVA ranked the dominant key first in 4, fANOVA in 8; with 16 trials both
    did in 4.
    """
    varying = [key for key in sweep.domains if len({trial.params[key] for trial in sweep.scored}) > 1]
    if len(varying) < 2 or len(sweep.scored) < TRIALS_PER_KEY * len(varying) or len(set(sweep.scores)) < 2:
        return {}
    distributions = {key: _distribution(sweep.domains[key]) for key in varying}
    frozen = [
        optuna.trial.create_trial(
            params={key: _encoded(sweep.domains[key], trial.params[key]) for key in varying},
            distributions=distributions,
            value=score,
        )
        for trial, score in zip(sweep.scored, sweep.scores, strict=True)
    ]
    random = np.random.default_rng(0)
    shares = {key: [share] for key, share in _fanova(frozen, varying, TREES).items()}
    for _ in range(RESAMPLES):
        drawn = [frozen[index] for index in random.integers(len(frozen), size=len(frozen))]
        for key, share in _fanova(drawn, varying, RESAMPLE_TREES).items():
            shares[key].append(share)
    if any(len(values) < 2 for values in shares.values()):
        return {}
    return dict(sorted(shares.items(), key=lambda item: -item[1][0]))


def draw_importance(sweep: EndedTrials, shares: Mapping[str, Sequence[float]]) -> UInt8[np.ndarray, "H W 3"]:
    """Draws a bar per key, with the spread over the bootstrap samples as a line; returns an RGB picture."""
    figure = Figure(figsize=(8, 0.42 * len(shares) + 1.6), dpi=110, layout="constrained")
    axes = figure.subplots()
    rows = range(len(shares))
    percent = [100 * np.array(values) for values in shares.values()]
    axes.barh(rows, [values[0] for values in percent], color=BLUE, height=0.62)
    ends = [np.quantile(values[1:], [0.1, 0.9]) for values in percent]
    for row, values, (low, high) in zip(rows, percent, ends, strict=True):
        axes.plot([low, high], [row, row], color="0.15", linewidth=1.2)
        label = {"xytext": (5, 0), "textcoords": "offset points", "va": "center"}
        axes.annotate(f"{values[0]:.0f}%", (max(values[0], high), row), **label)
    axes.set_xlim(0, 1.12 * max(percent[0][0], *(high for _, high in ends)))
    axes.set_yticks(rows, list(shares))
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set_xlabel(f"% of the variance of {sweep.metric} that keys explain by themselves (fANOVA)")
    stopped = sum(trial.state == "stopped" for trial in sweep.scored)
    early = f", {stopped} of them stopped early" if stopped else ""
    axes.set_title(f"{len(sweep.scored)} trials{early}\nlines: 80% of {RESAMPLES} bootstrap samples of the trials")
    return to_array(figure)


def _fanova(trials: Sequence[optuna.trial.FrozenTrial], keys: list[str], trees: int) -> dict[str, float]:
    with _quiet():
        study = optuna.create_study(direction="maximize")
    study.add_trials(trials)
    try:
        return get_param_importances(study, evaluator=FanovaImportanceEvaluator(n_trees=trees, seed=0), params=keys)
    except RuntimeError:
        # Raised by Optuna if the trees cannot split: nearly equal scores, or a sample of a single repeated trial.
        return {}


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences Optuna, which logs every new study to stderr."""
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(level)


def _distribution(domain: Domain) -> BaseDistribution:
    """Returns the Optuna distribution of `_encoded` values: fANOVA integrates uniformly over each key's range."""
    if domain.kind == "choice":
        return CategoricalDistribution(domain.args)
    low, high = (_encoded(domain, end) for end in domain.numbers[:2])
    return FloatDistribution(low, high)


def _encoded(domain: Domain, value: Any) -> Any:
    if domain.kind == "choice":
        return value
    low, high = domain.numbers[:2]
    # A log-uniform sample may exceed its ends by a rounding error, which Optuna rejects.
    inside = min(max(value, low), high)
    return math.log(inside) if domain.kind == "loguniform" else float(inside)
