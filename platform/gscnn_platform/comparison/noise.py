"""Tests whether a difference between two settings is more than the effect of another seed."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy import stats

LEVEL: Final = 0.05
"""A difference whose p value is below it is called more than noise; intervals hold 1 - LEVEL."""
FEWEST: Final = 3
"""Shared seeds from which on there is a verdict: with 2, the 95% interval is 9 times the differences' own spread."""


@dataclass(frozen=True)
class Spread:
    """Mean over runs that differ in their seed alone."""

    mean: float
    deviation: float | None
    """Standard deviation with n - 1 in the denominator; None of a single run."""
    n: int


@dataclass(frozen=True)
class Paired:
    """Differences to the first contender, seed by seed, in the metric's own unit."""

    spread: Spread
    low: float
    high: float
    """Ends of the 95% confidence interval of the mean difference, by Student's t."""
    p: float
    """Of the two-sided paired t-test; 1 where no seed makes a difference, 0 where all make the same."""

    @property
    def clear(self) -> bool:
        """Whether there are seeds enough, and the interval leaves out 0."""
        return self.spread.n >= FEWEST and not self.low <= 0 <= self.high


def spread(values: Sequence[float]) -> Spread | None:
    """Mean and standard deviation; None of no values."""
    if not values:
        return None
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return Spread(float(np.mean(values)), deviation, len(values))


def paired(first: Mapping[int, float], other: Mapping[int, float]) -> Paired | None:
    """How far `other` is above `first` in the seeds that both have; None where these are fewer than 2.

    Args:
        first, other: seed -> score.
    """
    seeds = sorted(first.keys() & other.keys())
    of_seeds = spread([other[seed] - first[seed] for seed in seeds])
    if of_seeds is None or of_seeds.deviation is None:
        return None
    # Below the digits of the scores a deviation is rounding, of which the test would make any p value.
    if of_seeds.deviation < 1e-12:
        if abs(of_seeds.mean) < 1e-12:
            return Paired(Spread(0.0, 0.0, of_seeds.n), 0.0, 0.0, 1.0)
        return Paired(of_seeds, of_seeds.mean, of_seeds.mean, 0.0)
    tested = stats.ttest_rel([other[seed] for seed in seeds], [first[seed] for seed in seeds])
    half = float(stats.t.ppf(1 - LEVEL / 2, of_seeds.n - 1)) * of_seeds.deviation / math.sqrt(of_seeds.n)
    return Paired(of_seeds, of_seeds.mean - half, of_seeds.mean + half, float(tested.pvalue))


def holm(p_values: Sequence[float]) -> list[float]:
    """p values corrected for all of them being looked at (Holm 1979), in the order given.

    The k-th smallest of m is multiplied by m - k + 1; none comes out smaller than one before it, or above 1.
    """
    corrected = [0.0] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda index: p_values[index])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = highest
    return corrected
