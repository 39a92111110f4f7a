"""Renders one or two evaluated models as a self-contained HTML page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gscnn.metrics import DISTANCE_FACTORS
from gscnn_platform.evaluation import EvalReport, summary
from gscnn_platform.figures import VOID_COLOUR
from gscnn_platform.reporting.templates import data_uri, fill
from gscnn_platform.scores import BOUNDARY_F_PRESENT, BY_CLASS, MIOU, RADII, SCORES


@dataclass(frozen=True)
class FramePicture:
    title: str
    png: bytes


def render(
    title: str,
    facts: Mapping[str, str],
    reports: Mapping[str, EvalReport],
    colours: Sequence[tuple[int, int, int]],
    frames: Sequence[FramePicture],
    distance_png: bytes,
    confusion_png: bytes,
) -> str:
    """The page of one model, or of two side by side with the second's difference to the first.

    Args:
        title: the page's title.
        facts: model, data and settings of the evaluation, shown as a list.
        reports: name of each of the one or two models -> its report on the same frames.
        colours: RGB of each class, for the legend of the frames.
        frames: pictures of single frames.
        distance_png, confusion_png: pictures of all models together.
    """
    assert 1 <= len(reports) <= 2
    all_reports = list(reports.values())
    reference = all_reports[0]
    missing = [str(factor) for factor in DISTANCE_FACTORS if factor and factor not in reference.by_distance]
    return fill(
        "checkpoint_page.html.jinja",
        title=title,
        facts=facts,
        names=list(reports),
        compared=len(reports) == 2,
        cards=_cards(all_reports),
        overall=_overall(all_reports),
        class_columns=[of_classes.column for of_classes in BY_CLASS],
        per_class=_per_class(all_reports),
        distance_missing=", ".join(missing),
        legend=_legend(reference.classes, colours),
        frames=[{"title": frame.title, "picture": data_uri(frame.png)} for frame in frames],
        pictures={"distance": data_uri(distance_png), "confusion": data_uri(confusion_png)},
    )


def _cards(reports: Sequence[EvalReport]) -> list[dict[str, Any]]:
    summaries = [summary(report.whole) for report in reports]
    headline = (MIOU, BOUNDARY_F_PRESENT[min(RADII)])
    cards = [{"title": score.title, "values": [values[score.key] for values in summaries]} for score in headline]
    constant = [{"title": f"{MIOU.title} of the constant prediction", "values": [reports[0].constant_miou]}]
    return cards + constant


def _overall(reports: Sequence[EvalReport]) -> list[dict[str, Any]]:
    summaries = [report.as_data()["summary"] for report in reports]
    return [{"title": score.title, **_cell([values[score.key] for values in summaries])} for score in SCORES]


def _per_class(reports: Sequence[EvalReport]) -> list[dict[str, Any]]:
    rows = []
    for of_models in zip(*(report.per_class() for report in reports), strict=True):
        cells = [_cell([row[of_classes.key] for row in of_models]) for of_classes in BY_CLASS]
        rows.append({"name": of_models[0]["class"], "share": of_models[0]["share"], "cells": cells})
    return rows


def _cell(values: Sequence[float | None]) -> dict[str, Any]:
    """A score of each model, and the difference of the second to the first."""
    first, last = values[0], values[-1]
    change = None if first is None or last is None else last - first
    return {"values": list(values), "change": change}


def _legend(classes: Sequence[str], colours: Sequence[tuple[int, int, int]]) -> dict[str, str]:
    names = (*classes, "void")
    return {name: "rgb({}, {}, {})".format(*rgb) for name, rgb in zip(names, (*colours, VOID_COLOUR), strict=True)}
