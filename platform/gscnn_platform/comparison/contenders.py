"""Groups runs into contenders: single runs, or several runs with the same settings and different seeds."""

import json
import re
from collections import Counter
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import takewhile
from typing import Final

from gscnn_platform.comparison.noise import Spread, spread
from gscnn_platform.scores import TRACKED_BY_CLASS
from gscnn_platform.tracking import OVERRIDES, VARIANT, VARIANTS, TrackedRun

CURVES: Final = re.compile(
    "|".join([r"val/(?!best_).+", *(f"{of_classes.tracked_as}.+" for of_classes in TRACKED_BY_CLASS), "train/total"])
)
"""Pattern of the metric histories that a comparison reads from a run."""
MIOU: Final = "val/miou"
BEST_METRIC: Final = "training.best_metric"
"""Name of the setting that names the validation score by which a run chooses its best checkpoint."""
MOST: Final = 8
"""Maximum contenders of a sweep without named variants: as many as there are distinguishable colours."""
SEED: Final = "seed"


@dataclass(frozen=True)
class TrackedSweep:
    """A sweep's parent run and its trials, in the order of their starts."""

    parent: TrackedRun
    trials: Sequence[TrackedRun]


@dataclass(frozen=True)
class Contender:
    """Runs with the same settings."""

    name: str
    runs: tuple[TrackedRun, ...]
    """In the order of their seeds, then of their starts."""
    is_variant: bool = False
    """Whether it is a named variant of a search space."""

    @cached_property
    def counted(self) -> tuple[TrackedRun, ...]:
        """The runs whose scores count: finished runs with a score or, if there are none, all runs with a score so far.
        Of several runs with the same seed, only the last counts."""
        scored = [run for run in self.runs if best_epoch(run) is not None]
        complete = [run for run in scored if is_complete(run)]
        return tuple({seed_of(run): run for run in complete or scored}.values())

    def by_seed(self, metric: str) -> dict[int, float]:
        """Seed -> score of a metric at the run's best epoch, for the runs that count."""
        scores = {seed_of(run): score(run, metric) for run in self.counted}
        return {seed: value for seed, value in scores.items() if value is not None}

    def spread(self, metric: str) -> Spread | None:
        """Mean and standard deviation over seeds; None if the metric is not tracked."""
        return spread(list(self.by_seed(metric).values()))

    def shortfall(self) -> str | None:
        """A sentence on the runs that do not count and on incomplete runs that count; None if there are none."""
        seeds = {seed_of(run) for run in self.counted if is_complete(run)}
        out = Counter(
            "earlier run of a seed that counts" if is_complete(run) and seed_of(run) in seeds else state(run)
            for run in self.runs
            if run not in self.counted
        )
        early = Counter(state(run) for run in self.counted if not is_complete(run))
        if len(self.runs) == 1 and (out or early):
            return f"{self.name}: {state(self.runs[0])}, {'not counted' if out else 'counted as far as it got'}"
        parts = [f"not counted: {_listed(out)}"] if out else []
        parts += [f"counted as far as they got: {_listed(early)}"] if early else []
        if not parts:
            return None
        return f"{self.name}: {len(self.counted)} of {plural(len(self.runs), 'run')}; {'; '.join(parts)}"


def contenders_of(
    named: Sequence[TrackedRun | TrackedSweep], metric: str, execution: Set[str]
) -> tuple[list[Contender], list[str]]:
    """Contenders in the order of `named`, and notes on how they were chosen.

    Single runs with the same settings, data and code are one contender, unless it would be the only one. A sweep's
    trials are grouped by variant, or by the settings that the sweep chose, except the seed; if groups have no names,
    the best by `metric` are taken, best first.

    Args:
        named: single runs and sweeps. No run is taken twice: a run that is named before its sweep represents its
            whole group, and so puts the group first.
        metric: the score by which groups are ranked.
        execution: config keys that say how a run is carried out; they do not distinguish settings.

    Raises:
        ValueError: a sweep has no trials.
    """
    single = [each for each in named if isinstance(each, TrackedRun)]
    groups = _grouped(single, lambda run: _settings(run, execution))
    if len(named) == len(single) > 1 and len(groups) == 1:
        groups = [[run] for run in _unique(single)]
    found: list[Contender] = []
    notes: list[str] = []
    for each in named:
        if isinstance(each, TrackedSweep):
            of_sweep, more = _of_sweep(each, metric, execution)
            notes += more
        else:
            of_sweep = [Contender(_common_name(group), _in_order(group)) for group in groups if each in group]
        for contender in of_sweep:
            _take(contender, found)
    return _told_apart(found), notes


def _take(contender: Contender, found: list[Contender]) -> None:
    """Appends the contender; if another one shares runs with it, only the larger of the two stays, in its place."""
    runs = {run.run_id for run in contender.runs}
    for index, other in enumerate(found):
        if runs & {run.run_id for run in other.runs}:
            found[index] = max(other, contender, key=lambda each: len(each.runs))
            return
    found.append(contender)


def best_by(run: TrackedRun) -> str:
    """The validation score by which the run chose its best checkpoint."""
    return f"val/{run.params[BEST_METRIC]}" if BEST_METRIC in run.params else MIOU


def best_epoch(run: TrackedRun) -> int | None:
    """The epoch of the run's best checkpoint; None before the first validation after training has begun."""
    scores = run.curves.get(best_by(run), {})
    curve = {epoch: value for epoch, value in scores.items() if epoch > 0 and value == value}
    return max(curve, key=lambda epoch: curve[epoch]) if curve else None


def score(run: TrackedRun, metric: str) -> float | None:
    """A metric at the run's best epoch; None if it has no value there."""
    epoch = best_epoch(run)
    value = None if epoch is None else run.curves.get(metric, {}).get(epoch)
    return None if value is None or value != value else value


def seed_of(run: TrackedRun) -> int:
    return _whole(run, SEED)


def is_complete(run: TrackedRun) -> bool:
    """Whether the run finished its last epoch; a scheduler may have ended it earlier."""
    return run.status == "FINISHED" and _reached(run) >= _whole(run, "training.epochs")


def state(run: TrackedRun) -> str:
    """The run's state for users: "finished", "failed at epoch 3 of 8"."""
    if is_complete(run):
        return "finished" if best_epoch(run) is not None else "finished without a score"
    words = {"FINISHED": "ended early", "KILLED": "stopped", "FAILED": "failed", "RUNNING": "running"}
    reached, planned = _reached(run), run.params.get("training.epochs", "?")
    return f"{words.get(run.status, run.status.lower())} at epoch {reached} of {planned}"


def plural(count: int, noun: str) -> str:
    """`1 run`, `2 runs`."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _whole(run: TrackedRun, key: str) -> int:
    """A param as a whole number; 0 if it is missing, or if another program wrote something else, such as `None`."""
    try:
        return int(run.params.get(key, 0))
    except ValueError:
        return 0


def _reached(run: TrackedRun) -> int:
    return max(run.curves.get(MIOU, {}), default=0)


def _of_sweep(sweep: TrackedSweep, metric: str, execution: Set[str]) -> tuple[list[Contender], list[str]]:
    if not sweep.trials:
        raise ValueError(f"the sweep {sweep.parent} has no trials yet: wait for its first one")
    groups = _grouped(sweep.trials, lambda run: _group_in_sweep(run, execution))
    if len(groups) == 1 and VARIANT not in groups[0][0].tags:
        return [Contender(sweep.parent.name, _in_order(groups[0]))], []
    contenders = [_of_group(group) for group in groups]
    listed = _tag(sweep.parent, VARIANTS)
    order = listed if isinstance(listed, list) else []
    if all(contender.is_variant for contender in contenders):
        return sorted(contenders, key=lambda each: order.index(each.name) if each.name in order else len(order)), []
    ranked = sorted(contenders, key=lambda each: _mean(each, metric), reverse=True)
    left = ranked[MOST:]
    note = f"{sweep.parent.name}: {plural(len(ranked), 'setting')}, ranked by the scores that are shown"
    if left:
        note = f"{sweep.parent.name}: the best {MOST} of {len(ranked)} settings, ranked by the scores that are shown"
        note += f"; {len(left)} left out"
        without = Counter(state(run) for contender in left if not contender.counted for run in contender.runs)
        note += f", of which without a score: {_listed(without)}" if without else ""
    return ranked[:MOST], [f"{note}. A setting chosen by its score loses some of its lead with new seeds"]


def _of_group(group: Sequence[TrackedRun]) -> Contender:
    tags = group[0].tags
    if VARIANT in tags:
        return Contender(tags[VARIANT], _in_order(group), is_variant=True)
    overrides = _overrides(group[0])
    if not overrides or len(overrides) > 2:
        return Contender(_common_name(group), _in_order(group))
    return Contender(", ".join(f"{key} {_short(value)}" for key, value in overrides.items()), _in_order(group))


def _group_in_sweep(run: TrackedRun, execution: Set[str]) -> str:
    if VARIANT in run.tags:
        return run.tags[VARIANT]
    overrides = _overrides(run)
    return _settings(run, execution) if overrides is None else json.dumps(overrides, sort_keys=True)


def _overrides(run: TrackedRun) -> dict[str, object] | None:
    """The settings that the sweep chose, except the seed; None if they are unknown."""
    overrides = _tag(run, OVERRIDES)
    return {key: value for key, value in overrides.items() if key != SEED} if isinstance(overrides, dict) else None


def _tag(run: TrackedRun, tag: str) -> object:
    """A tag's JSON value; None if the tag is missing, or is no longer JSON after an edit in the UI."""
    try:
        return json.loads(run.tags[tag])
    except (KeyError, ValueError):
        return None


def _settings(run: TrackedRun, execution: Set[str]) -> str:
    """Everything that a run's scores depend on, except the seed."""
    params = {key: value for key, value in run.params.items() if key not in execution and key != SEED}
    return json.dumps([sorted(params.items()), run.fingerprint, run.tags.get("code.sha256")])


def _grouped(runs: Sequence[TrackedRun], key: Callable[[TrackedRun], str]) -> list[list[TrackedRun]]:
    groups: dict[str, list[TrackedRun]] = {}
    for run in _unique(runs):
        groups.setdefault(key(run), []).append(run)
    return list(groups.values())


def _unique(runs: Sequence[TrackedRun]) -> list[TrackedRun]:
    return list({run.run_id: run for run in runs}.values())


def _in_order(runs: Sequence[TrackedRun]) -> tuple[TrackedRun, ...]:
    return tuple(sorted(runs, key=lambda run: (seed_of(run), run.started)))


def _mean(contender: Contender, metric: str) -> float:
    found = contender.spread(metric)
    return float("-inf") if found is None else found.mean


def _common_name(runs: Sequence[TrackedRun]) -> str:
    """The common prefix of the runs' names, without a trailing number or "seed"."""
    if len(runs) == 1:
        return runs[0].name
    letters = takewhile(lambda of_names: len(set(of_names)) == 1, zip(*(run.name for run in runs), strict=False))
    common = "".join(letter for letter, *_ in letters)
    return re.sub(r"([-_. ]+(s|seed))?[-_. \d]*$", "", common) or runs[0].name


def _told_apart(contenders: Sequence[Contender]) -> list[Contender]:
    names = Counter(contender.name for contender in contenders)
    return [
        replace(contender, name=f"{contender.name} {contender.runs[0].run_id[:6]}")
        if names[contender.name] > 1
        else contender
        for contender in contenders
    ]


def _short(value: object) -> str:
    """Three digits of a number, and the last part of a path or URI: names of contenders head columns."""
    if isinstance(value, float):
        return f"{value:.3g}"
    text = str(value)
    return text.rstrip("/").rpartition("/")[2] if text.startswith(("/", "~", ".")) or ":/" in text else text


def _listed(states: Counter[str]) -> str:
    return ", ".join(f"{count} {text}" for text, count in states.items())
