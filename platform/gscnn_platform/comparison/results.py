"""The results of comparing runs, and the checks that the runs can be compared."""

from collections.abc import Sequence, Set
from dataclasses import dataclass
from typing import Final

from gscnn_platform.comparison.contenders import MIOU, Contender, TrackedSweep, contenders_of, plural, score, state
from gscnn_platform.comparison.tables import Table, chosen_by, differences, table
from gscnn_platform.comparison.verdicts import verdicts
from gscnn_platform.names import near_misses
from gscnn_platform.tracking import TrackedRun

DIFFERENT_DATA: Final = "Trained on different data: scores cannot be attributed to settings"


class DifferentDataError(ValueError):
    """The runs were trained on different data, so their scores say nothing about their settings."""


@dataclass(frozen=True)
class Comparison:
    """Contenders and the results of comparing them."""

    metric: str
    contenders: tuple[Contender, ...]
    differences: Table
    """Settings that differ."""
    table: Table
    """Scores, one row per contender."""
    verdicts: tuple[str, ...]
    """Sentences on whether the differences to the first contender are more than noise."""
    notes: tuple[str, ...]
    """Notes for readers: runs that do not count, settings left out, validation on other samples."""
    different_data: tuple[str, ...]
    """A line for each fingerprint with its runs; empty if all are the same."""

    def __str__(self) -> str:
        """The comparison as text, for a terminal."""
        differing = str(self.differences) if self.differences.rows else "only the seed"
        warning = f"{DIFFERENT_DATA}:\n" + "\n".join(self.different_data) if self.different_data else ""
        chosen = f"in percent and points, at each run's best epoch by {chosen_by(self.contenders)}; ± over seeds"
        parts = [
            warning,
            f"what differs\n{differing}" if len(self.contenders) > 1 else "",
            f"{self.table}\n{chosen}",
            "\n".join(self.verdicts),
            "\n".join(self.notes),
        ]
        return "\n\n".join(part for part in parts if part)


def compare(
    named: Sequence[TrackedRun | TrackedSweep], execution: Set[str], metric: str = MIOU, different_data: bool = False
) -> Comparison:
    """Compares runs and sweeps.

    Args:
        named: runs and sweeps, read with the histories that match `CURVES`; the others are compared with the first.
        execution: config keys that say how a run is carried out, not what it computes.
        metric: validation score for the verdicts and for the ranking of a sweep's settings.
        different_data: whether to compare runs even if their data differ.

    Raises:
        DifferentDataError: the runs' data differ; the message names the data and the runs.
        ValueError: a sweep has no trials, or no run has the metric.
    """
    contenders, notes = contenders_of(named, metric, execution)
    fingerprints = _by_fingerprint(contenders)
    if len(fingerprints) > 1 and not different_data:
        raise DifferentDataError(
            "the runs were trained on different data, and their scores are not comparable:\n  "
            + "\n  ".join(fingerprints)
            + "\ntrain them on one store, or add --different-data to compare them anyway"
        )
    _check_tracked(contenders, metric)
    return Comparison(
        metric=metric,
        contenders=tuple(contenders),
        differences=differences(contenders, execution),
        table=table(contenders, metric),
        verdicts=tuple(verdicts(contenders, metric)),
        notes=(*notes, *(note for each in contenders if (note := each.shortfall())), *_other_samples(contenders)),
        different_data=tuple(fingerprints) if len(fingerprints) > 1 else (),
    )


def _by_fingerprint(contenders: Sequence[Contender]) -> list[str]:
    """A line for each store: dataset, fingerprint and the runs on it."""
    runs: dict[str, list[str]] = {}
    for run in (run for contender in contenders for run in contender.runs):
        data = f"{run.dataset or 'unknown data'}, fingerprint {run.fingerprint or 'unknown'}"
        runs.setdefault(data, []).append(str(run))
    return [f"{data}: {', '.join(of_data)}" for data, of_data in runs.items()]


def _check_tracked(contenders: Sequence[Contender], metric: str) -> None:
    if any(contender.spread(metric) for contender in contenders):
        return
    runs = [run for contender in contenders for run in contender.runs]
    known = sorted({key for run in runs for key in run.curves if key.startswith("val") and score(run, key) is not None})
    if not known:
        states = ", ".join(f"{run} {state(run)}" for run in runs[:5])
        raise ValueError(f"none of {plural(len(runs), 'run')} has been validated after an epoch yet: {states}")
    raise ValueError(f"--metric {metric}: no run has it{near_misses(metric, known)}\nThey have {', '.join(known)}.")


def _other_samples(contenders: Sequence[Contender]) -> list[str]:
    """A note if runs were validated on different samples, which the fingerprint, one for all splits, does not show."""
    runs = [run for contender in contenders for run in contender.runs]
    found: dict[str, list[str]] = {}
    for run in runs:
        split = run.validated_on
        count = run.profile.get("samples", {}).get(split)
        found.setdefault(f"{count or 'an unknown number of'} samples of split {split}", []).append(run.name)
    if len(found) < 2:
        return []
    listed = "; ".join(f"{data}: {', '.join(names)}" for data, names in found.items())
    return [f"validated on different samples: {listed}"]
