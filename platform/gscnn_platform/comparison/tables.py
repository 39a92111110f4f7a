"""Tables of contenders: scores with differences to the first, and the settings that differ. Scores are in percent."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

from gscnn_platform.comparison.contenders import MIOU, SEED, Contender, best_by
from gscnn_platform.comparison.noise import Spread, paired
from gscnn_platform.scores import IOU, SCORES, ByClass, place_of, title_of
from gscnn_platform.tracking import TrackedRun


@dataclass(frozen=True)
class Table:
    """A header and rows of the same length; the first column names the row."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def __str__(self) -> str:
        """Aligned text with a rule below the header."""
        widths = [max(map(len, column)) for column in zip(self.header, *self.rows, strict=True)]
        lines = [self.header, tuple("-" * width for width in widths), *self.rows]
        return "\n".join(
            "  ".join(
                cell.rjust(width) if place else cell.ljust(width)
                for place, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in lines
        )


@dataclass(frozen=True)
class Cell:
    """A contender's score, and its difference to the first contender's; None if there is no score."""

    score: Spread | None
    change: float | None
    clear: bool
    """Whether the 95% interval of the change over shared seeds excludes 0."""


@dataclass(frozen=True)
class Row:
    """One metric of all contenders."""

    title: str
    cells: tuple[Cell, ...]


def table(contenders: Sequence[Contender], metric: str = MIOU) -> Table:
    """A table like the paper's, one row per contender: `metric` as mean ± standard deviation over seeds, its change
    against the first row (for named variants also against the row above), the other scores with a column, seeds.

    Scores are in percent and changes in points, at each run's best epoch; "-" if nothing is tracked.
    """
    variants = all(contender.is_variant for contender in contenders)
    columns = {score.tracked_as: score.column for score in SCORES if score.column and score.tracked_as != metric}
    others = {key: text for key, text in columns.items() if any(contender.spread(key) for contender in contenders)}
    header = [
        "variant" if variants else "contender",
        title(metric),
        *(["vs row above"] if variants else []),
        *([f"vs {contenders[0].name}"] if len(contenders) > 1 else []),
        *others.values(),
        "seeds",
    ]
    rows = []
    for place, contender in enumerate(contenders):
        above, first = (contenders[place - 1], contenders[0]) if place else (None, None)
        held_against = [*([above] if variants else []), *([first] if len(contenders) > 1 else [])]
        changes = [points(_change(other, contender, metric)) for other in held_against]
        of_others = [percent(contender.spread(key), deviation=False) for key in others]
        rows.append((contender.name, percent(contender.spread(metric)), *changes, *of_others, _seeds(contender)))
    return Table(tuple(header), tuple(rows))


def differences(contenders: Sequence[Contender], execution: Set[str]) -> Table:
    """The settings, and code and data, that differ between contenders.

    Rows are settings or contenders, whichever are more. The seed is included only if each contender is a single run.

    Args:
        contenders: the contenders to compare.
        execution: config keys that say how a run is carried out; these are left out.
    """
    of_contenders = [_settings(contender, execution) for contender in contenders]
    if any(len(contender.runs) > 1 for contender in contenders):
        for settings in of_contenders:
            settings.pop(SEED, None)
    keys = dict.fromkeys(key for settings in of_contenders for key in settings)
    differing = [key for key in keys if len({settings.get(key, "-") for settings in of_contenders}) > 1]
    header = ("setting", *(contender.name for contender in contenders))
    rows = [(key, *_shortened([settings.get(key, "-") for settings in of_contenders])) for key in differing]
    if rows and len(rows) < len(contenders):
        turned = list(zip(header, *rows, strict=True))
        return Table(("contender", *turned[0][1:]), tuple(turned[1:]))
    return Table(header, tuple(rows))


def overall(contenders: Sequence[Contender]) -> list[Row]:
    """All scores of the whole split that any contender has."""
    known = dict.fromkeys(key for contender in contenders for run in contender.runs for key in run.curves)
    keys = [key for key in known if key.startswith("val/")]
    return [score_row(title(key), key, contenders) for key in sorted(keys, key=place_of)]


def per_class(contenders: Sequence[Contender], of_classes: ByClass = IOU) -> tuple[list[Row], list[str]]:
    """A score of the classes that all contenders' data has, in the data's order; the names of the other classes."""
    of_contenders = [_classes(contender) for contender in contenders]
    everything = dict.fromkeys(name for names in of_contenders for name in names)
    common = [name for name in everything if all(name in names for names in of_contenders)]
    rows = [score_row(name, f"{of_classes.tracked_as}{name}", contenders) for name in common]
    return rows, [name for name in everything if name not in common]


def title(metric: str) -> str:
    """The title of a metric: `val/boundary_f_3px_present` is "boundary F 3 px, classes present"."""
    return title_of(metric) or metric


def chosen_by(contenders: Sequence[Contender]) -> str:
    """The scores by which the runs chose their best checkpoints: "mIoU", "mIoU or boundary F 3 px"."""
    return " or ".join(dict.fromkeys(title(best_by(run)) for contender in contenders for run in contender.runs))


def score_row(name: str, key: str, contenders: Sequence[Contender]) -> Row:
    """One metric of all contenders, with the differences to the first."""
    first = contenders[0].by_seed(key)
    cells = []
    for contender in contenders:
        tested = None if contender is contenders[0] else paired(first, contender.by_seed(key))
        change = None if contender is contenders[0] else _change(contenders[0], contender, key)
        cells.append(Cell(contender.spread(key), change, tested is not None and tested.clear))
    return Row(name, tuple(cells))


def _change(first: Contender | None, other: Contender, metric: str) -> float | None:
    """The difference between the means of two contenders."""
    before, after = first and first.spread(metric), other.spread(metric)
    return None if before is None or after is None else after.mean - before.mean


def _classes(contender: Contender) -> list[str]:
    """The validation split's classes, in the order of the train ids; if they are unknown, the classes with a score."""
    run = contender.runs[0]
    pixels = run.profile.get("pixels", {}).get(run.params.get("data.val_split"), {})
    prefix = IOU.tracked_as
    tracked = [key.removeprefix(prefix) for run in contender.runs for key in run.curves if key.startswith(prefix)]
    return [name for name in pixels if name != "void"] or sorted(set(tracked))


def _settings(contender: Contender, execution: Set[str]) -> dict[str, str]:
    """Dotted key -> value, or values if the contender's runs have several."""
    values: dict[str, dict[str, None]] = {}
    for run in contender.runs:
        params: Mapping[str, str] = {key: value for key, value in run.params.items() if key not in execution}
        for key, value in {**params, **_origin(run)}.items():
            values.setdefault(key, {})[value] = None
    return {key: ", ".join(of_key) for key, of_key in values.items()}


def _shortened(values: Sequence[str]) -> list[str]:
    """Long numbers, as a search samples them, with 4 digits if the values still differ."""
    short = [_four_digits(value) for value in values]
    return short if len(set(short)) == len(set(values)) else list(values)


def _four_digits(value: str) -> str:
    try:
        return min(f"{float(value):.4g}", value, key=len) if "." in value else value
    except ValueError:
        return value


def _origin(run: TrackedRun) -> dict[str, str]:
    """Code and data of a run, which its config does not have."""
    tags = {"code (sha256)": run.tags.get("code.sha256"), "data (fingerprint)": run.fingerprint}
    return {key: value for key, value in tags.items() if value is not None}


def _seeds(contender: Contender) -> str:
    counted, all_of_them = len(contender.counted), len(contender.runs)
    return str(counted) if counted == all_of_them else f"{counted} of {all_of_them}"


def percent(score: Spread | None, deviation: bool = True) -> str:
    """A score in percent: `23.2 ± 0.6` for a mean of 0.232; "-" for None."""
    if score is None:
        return "-"
    tail = f" ± {100 * score.deviation:.1f}" if deviation and score.deviation is not None else ""
    return f"{100 * score.mean:.1f}{tail}"


def points(change: float | None) -> str:
    """A change in points: `+1.2` for 0.012, `0.0` without a sign if it rounds to 0; "-" for None."""
    if change is None:
        return "-"
    text = f"{100 * change:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text
