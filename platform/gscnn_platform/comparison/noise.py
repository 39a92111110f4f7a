"""Tests whether a difference between two settings is more than the effect of the seed."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy import stats

LEVEL: Final = 0.05
"""Significance level: a difference with a smaller p value is more than noise; intervals have confidence 1 - LEVEL."""
FEWEST: Final = 3
"""Minimum shared seeds for a verdict: with 2, each side of the 95% interval is 9 times the standard deviation."""


@dataclass(frozen=True)
class Spread:
    """Mean over runs that differ only in their seed."""

    mean: float
    deviation: float | None
    """Standard deviation with n - 1 in the denominator; None for a single run."""
    n: int


@dataclass(frozen=True)
class Paired:
    """Differences to the first contender, seed by seed, in the metric's own unit."""

    spread: Spread
    low: float
    high: float
    """Ends of the 95% confidence interval of the mean difference, by Student's t."""
    p: float
    """p value of the two-sided paired t-test; 1 if all differences are 0, and 0 if all have the same other value."""

    @property
    def clear(self) -> bool:
        """Whether there are enough seeds and the interval excludes 0."""
        return self.spread.n >= FEWEST and not self.low <= 0 <= self.high


def spread(values: Sequence[float]) -> Spread | None:
    """Mean and standard deviation; None if there are no values."""
    if not values:
        return None
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return Spread(float(np.mean(values)), deviation, len(values))


def paired(first: Mapping[int, float], other: Mapping[int, float]) -> Paired | None:
    """The differences of `other` to `first` over the seeds that both have; None if these are fewer than 2.

    Args:
        first, other: seed -> score.
    """
    seeds = sorted(first.keys() & other.keys())
    of_seeds = spread([other[seed] - first[seed] for seed in seeds])
    if of_seeds is None or of_seeds.deviation is None:
        return None
    # A deviation this small is rounding, and the test would return an arbitrary p value.
    if of_seeds.deviation < 1e-12:
        if abs(of_seeds.mean) < 1e-12:
            return Paired(Spread(0.0, 0.0, of_seeds.n), 0.0, 0.0, 1.0)
        return Paired(of_seeds, of_seeds.mean, of_seeds.mean, 0.0)
    tested = stats.ttest_rel([other[seed] for seed in seeds], [first[seed] for seed in seeds])
    half = float(stats.t.ppf(1 - LEVEL / 2, of_seeds.n - 1)) * of_seeds.deviation / math.sqrt(of_seeds.n)
    return Paired(of_seeds, of_seeds.mean - half, of_seeds.mean + half, float(tested.pvalue))


def holm(p_values: Sequence[float]) -> list[float]:
    """p values corrected for multiple comparisons (Holm 1979), in the given order.

    The k-th smallest of m is multiplied by m - k + 1, but is at least the corrected value before it and at most 1.
    """
    corrected = [0.0] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda index: p_values[index])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = highest
    return corrected
