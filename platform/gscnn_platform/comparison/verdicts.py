"""Sentences that say whether the differences to the first contender are more than noise between seeds."""

from collections.abc import Sequence
from typing import Final

from gscnn_platform.comparison.contenders import Contender, plural
from gscnn_platform.comparison.noise import FEWEST, LEVEL, Paired, holm, paired
from gscnn_platform.comparison.tables import title

WITHIN_NOISE: Final = "the difference cannot be distinguished from noise"


def verdicts(contenders: Sequence[Contender], metric: str) -> list[str]:
    """A sentence for each contender after the first: its difference to the first, and whether that is more than noise.

    The test is Student's t-test, paired over the seeds that both have; if several contenders are compared with the
    first, the p values are corrected by Holm's method. With fewer than 3 shared seeds there is no verdict; if all
    contenders have one seed, a single sentence says so.
    """
    first, *others = contenders
    if len(contenders) > 2 and all(len(contender.by_seed(metric)) == 1 for contender in contenders):
        return [f"One seed each: none of the differences to {first.name} can be distinguished from noise"]
    tests = [paired(first.by_seed(metric), other.by_seed(metric)) for other in others]
    p_values = iter(holm([test.p for test in tests if test is not None]))
    compared = sum(test is not None for test in tests)
    return [
        _untested(first, other, metric)
        if test is None
        else _tested(first, other, metric, test, next(p_values), compared)
        for other, test in zip(others, tests, strict=True)
    ]


def _tested(first: Contender, other: Contender, metric: str, test: Paired, p: float, compared: int) -> str:
    n = test.spread.n
    shared = f"{n} seeds" if n == len(first.counted) == len(other.counted) else f"the {n} seeds that both have"
    if test.low == test.high == 0:
        return f"{other.name} and {first.name} have the same {title(metric)} in {shared}"
    interval = f"95% interval {100 * test.low:.1f} to {100 * test.high:.1f}"
    corrected = f" after Holm's correction for {compared} comparisons" if compared > 1 else ""
    if n < FEWEST:
        verdict = f"{n} seeds are too few for a verdict, train with {FEWEST} or more"
    else:
        verdict = "more than noise" if p < LEVEL else WITHIN_NOISE
    deviation = test.spread.deviation
    return (
        f"{_distance(first, other, metric, test.spread.mean, deviation)} over {shared} "
        f"({interval}; paired t-test, {_p(p)}{corrected}): {verdict}"
    )


def _untested(first: Contender, other: Contender, metric: str) -> str:
    before, after = first.spread(metric), other.spread(metric)
    for contender, found in ((first, before), (other, after)):
        if found is None:
            return f"{contender.name} has no {title(metric)}: nothing to compare {_rest(first, other, contender)} with"
    assert before is not None and after is not None
    distance = _distance(first, other, metric, after.mean - before.mean, None)
    if before.n == after.n == 1:
        return f"{distance}; one seed each: {WITHIN_NOISE}"
    shared = len(first.by_seed(metric).keys() & other.by_seed(metric).keys())
    return (
        f"{distance} on average ({plural(after.n, 'seed')} and {plural(before.n, 'seed')}, of which they share "
        f"{shared or 'none'}; a paired test needs 2): {WITHIN_NOISE}"
    )


def _rest(first: Contender, other: Contender, without: Contender) -> str:
    return first.name if without is other else other.name


def _distance(first: Contender, other: Contender, metric: str, change: float, deviation: float | None) -> str:
    spread = "" if deviation is None else f" ± {100 * deviation:.1f}"
    direction = "above" if change >= 0 else "below"
    return f"{other.name} is {direction} {first.name} by {100 * abs(change):.1f}{spread} points of {title(metric)}"


def _p(p: float) -> str:
    if p < 0.001:
        return "p < 0.001"
    return f"p = {p:.2f}" if p >= 0.1 else f"p = {p:.2g}"
