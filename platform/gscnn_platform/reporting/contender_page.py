"""Renders a comparison as a self-contained HTML page."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gscnn_platform.comparison import (
    DIFFERENT_DATA,
    MIOU,
    Comparison,
    Contender,
    Row,
    best_epoch,
    chosen_by,
    overall,
    per_class,
    percent,
    points,
    score,
    score_row,
    seed_of,
    state,
    title,
)
from gscnn_platform.names import sqlite_path
from gscnn_platform.reporting.contender_curves import colour_of, curves_picture
from gscnn_platform.reporting.templates import ENVIRONMENT, data_uri, fill
from gscnn_platform.scores import IOU, TRACKED_BY_CLASS
from gscnn_platform.tracking import TrackedRun, ui_command

ENVIRONMENT.filters["percent"] = percent
ENVIRONMENT.filters["points"] = points


@dataclass(frozen=True)
class Scenes:
    """A run's picture of its validation scenes at one epoch."""

    contender: str
    run: TrackedRun
    epoch: int
    png: bytes


def render_comparison(comparison: Comparison, scenes: Sequence[Scenes]) -> str:
    """The page: settings that differ, scores with differences, verdicts, curves, scenes and all runs.

    Args:
        comparison: the comparison to show.
        scenes: pictures to show, at most one per contender.
    """
    contenders = comparison.contenders
    runs = [run for contender in contenders for run in contender.runs]
    by_class = {of_classes.title: per_class(contenders, of_classes) for of_classes in TRACKED_BY_CLASS}
    return fill(
        "contender_page.html.jinja",
        title=_title([contender.name for contender in contenders]),
        warning=DIFFERENT_DATA,
        different_data=comparison.different_data,
        facts=_facts(comparison, runs),
        names=[contender.name for contender in contenders],
        colours=[colour_of(place) for place in range(len(contenders))],
        cards=_cards(comparison),
        metric=title(comparison.metric),
        verdicts=[_split(sentence) for sentence in comparison.verdicts],
        notes=comparison.notes,
        differences=comparison.differences,
        table=comparison.table,
        blocks={"score": overall(contenders)}
        | {f"{name} of class": _tracked(rows) for name, (rows, _) in by_class.items()},
        other_classes=by_class[IOU.title][1],
        curves=data_uri(curves_picture(contenders, comparison.metric)),
        losses_differ=any("loss." in cell for cell in _keys_of(comparison)),
        scenes=[_scene(each) for each in scenes],
        several_seeds=any(len(contender.counted) > 1 for contender in contenders),
        some_do_not_count=any(run not in contender.counted for contender in contenders for run in contender.runs),
        same_scenes=len({_samples(each.run) for each in scenes}) < 2,
        runs=_runs(comparison),
        ui=sorted({ui_command(run.uri) for run in runs if sqlite_path(run.uri)}),
    )


def _tracked(rows: Sequence[Row]) -> Sequence[Row]:
    """The rows; none if no contender has any of them, as of runs of an earlier version."""
    return rows if any(cell.score for row in rows for cell in row.cells) else []


def _title(names: Sequence[str]) -> str:
    if len(names) == 1:
        return names[0]
    others = ", ".join(names[1:]) if len(names) < 4 else f"{len(names) - 1} others"
    return f"{names[0]} against {others}"


def _facts(comparison: Comparison, runs: Sequence[TrackedRun]) -> dict[str, str]:
    data = {f"{run.dataset or 'unknown'}, fingerprint {run.fingerprint or 'unknown'}": None for run in runs}
    splits = {
        f"{run.profile.get('samples', {}).get(split, 'an unknown number of')} samples of split {split}": None
        for run in runs
        for split in [run.validated_on]
    }
    return {
        "data": "; ".join(data),
        "validated on": "; ".join(splits),
        "scores": (
            f"in percent, at each run's best epoch by {chosen_by(comparison.contenders)}; mean ± standard deviation "
            "over seeds"
        ),
        "differences": f"in points, to {comparison.contenders[0].name}",
        "tracked at": ", ".join(dict.fromkeys(run.place for run in runs)),
    }


def _split(sentence: str) -> tuple[str, str]:
    """The finding, and the verdict after its colon."""
    finding, _, verdict = sentence.rpartition(": ")
    return (finding, verdict) if finding else (verdict, "")


def _cards(comparison: Comparison) -> list[dict[str, Any]]:
    headline = score_row(title(comparison.metric), comparison.metric, comparison.contenders)
    seeds = [row[-1] for row in comparison.table.rows]
    return [
        {
            "name": contender.name,
            "colour": colour_of(place),
            "score": percent(cell.score),
            "change": cell.change,
            "seeds": f"{count} {'seed' if count == '1' else 'seeds'}",
        }
        for place, (contender, cell, count) in enumerate(zip(comparison.contenders, headline.cells, seeds, strict=True))
    ]


def _keys_of(comparison: Comparison) -> list[str]:
    """The headers of columns and rows, which include the settings that differ."""
    table = comparison.differences
    return [*table.header, *(row[0] for row in table.rows)]


def _scene(each: Scenes) -> dict[str, Any]:
    value = each.run.curves.get(MIOU, {}).get(each.epoch)
    scored = "" if value is None else f", {title(MIOU)} {100 * value:.1f}"
    when = "best epoch" if each.epoch == best_epoch(each.run) else "last picture, epoch"
    return {
        "name": each.contender,
        "caption": f"run {each.run.name}, seed {seed_of(each.run)}, {when} {each.epoch}{scored}",
        "picture": data_uri(each.png),
    }


def _samples(run: TrackedRun) -> tuple[str | None, ...]:
    """The settings that decide which samples a run draws."""
    return run.fingerprint, run.validated_on, run.params.get("training.pictures")


def _runs(comparison: Comparison) -> list[dict[str, Any]]:
    return [
        {
            "contender": contender.name,
            "colour": colour_of(place),
            "name": run.name,
            "id": run.run_id,
            "link": run.link,
            "seed": seed_of(run),
            "state": state(run),
            "counts": run in contender.counted,
            "epoch": best_epoch(run),
            "score": score(run, comparison.metric),
            "minutes": None if run.ended is None else (run.ended - run.started).total_seconds() / 60,
            "why": run.tags.get("failure") or run.tags.get("stopped") or "",
        }
        for place, contender in enumerate(comparison.contenders)
        for run in contender.runs
    ]


def shown_run(contender: Contender) -> TrackedRun | None:
    """The run whose pictures represent a contender: of the runs that count, the one with the lowest seed."""
    return contender.counted[0] if contender.counted else None
