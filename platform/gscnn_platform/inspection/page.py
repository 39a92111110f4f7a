"""Renders an inspection as a self-contained HTML page."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from gscnn_platform.inspection.checks import RARE, Finding, class_shares
from gscnn_platform.inspection.gallery import ODDNESS, PANELS, Picture
from gscnn_platform.inspection.survey import Survey
from gscnn_platform.reporting.templates import data_uri, fill

SHOWN = 40
"""Samples that a finding lists."""
COLOUR = "#{:02x}{:02x}{:02x}"


def render(survey: Survey, found: Sequence[Finding], pictures: Sequence[Picture], recipe: str = "") -> str:
    """The page: findings, counts by class and split, the HTML about a recipe, and the gallery."""
    source = survey.source
    places = {(each.sample.split, each.sample.name): place for place, each in enumerate(pictures)}
    return fill(
        "inspection_page.html.jinja",
        title=f"{source.path.name}: what the data holds",
        facts=_facts(survey),
        findings=[_finding(each, places) for each in found],
        splits=survey.splits,
        classes=_class_rows(survey),
        largest={split: max(class_shares(survey, split), default=0) for split in survey.splits},
        rare=RARE,
        totals=[_totals(survey, split) for split in survey.splits],
        orders=[{"key": order.key, "title": order.title} for order in ODDNESS],
        class_names=source.classes,
        panels=PANELS,
        pictures=[_picture(each) for each in pictures],
        left_out=len(survey.samples) - len(pictures),
        recipe=Markup(recipe),
    )


def numbers(survey: Survey) -> dict[str, float]:
    """The page's numbers by key: `pixels/train/road` and `images/train/road` are shares, `void/train` as well."""
    values: dict[str, float] = {}
    for split in survey.splits:
        row = _totals(survey, split)
        count = max(1, row["samples"])
        values |= {f"{key}/{split}": float(row[key]) for key in ("samples", "void", "edges", "unseen")}
        for name, share, images in zip(
            survey.source.classes, class_shares(survey, split), survey.images_with(split), strict=True
        ):
            values |= {f"pixels/{split}/{name}": share, f"images/{split}/{name}": float(images) / count}
    return values


def _facts(survey: Survey) -> dict[str, str]:
    source = survey.source
    edges = source.edges
    return {
        "data": f"{source.path} ({source.dataset}, {source.kind})",
        "samples": ", ".join(f"{len(survey.of(split))} {split}" for split in survey.splits),
        "classes": str(len(source.classes)),
        "edges": f"edge prior {edges.gradient}, edge label of radius {edges.radius} px",
    }


def _finding(finding: Finding, places: Mapping[tuple[str, str], int]) -> dict[str, Any]:
    named = [{"text": str(each), "place": places.get((each.split, each.name))} for each in finding.listed[:SHOWN]]
    return {
        "level": finding.level,
        "what": finding.what,
        "advice": finding.advice,
        "samples": named,
        "more": len(finding.listed) - len(named),
    }


def _class_rows(survey: Survey) -> list[dict[str, Any]]:
    by_split = {
        split: (class_shares(survey, split), survey.images_with(split), len(survey.of(split)))
        for split in survey.splits
    }
    return [
        {
            "name": name,
            "colour": COLOUR.format(*colour),
            "cells": [
                {
                    "split": split,
                    "share": shares[train_id],
                    "images": int(images[train_id]),
                    "of": count,
                }
                for split, (shares, images, count) in by_split.items()
            ],
        }
        for train_id, (name, colour) in enumerate(zip(survey.source.classes, survey.source.colours, strict=True))
    ]


def _totals(survey: Survey, split: str) -> dict[str, Any]:
    samples, counted = survey.of(split), survey.manifest.splits[split]
    every = sum(counted.pixels) + counted.void_pixels
    sizes = Counter(each.size for each in samples).most_common()
    unseen = [each.unseen for each in samples if each.edges]
    return {
        "split": split,
        "samples": len(samples),
        "megapixels": every / 1e6,
        "void": counted.void_pixels / max(1, every),
        "edges": float(np.mean([each.edges for each in samples])) if samples else 0.0,
        "unseen": float(np.mean(unseen)) if unseen else 0.0,
        "sizes": ", ".join(f"{size} ({count})" if len(sizes) > 1 else size for size, count in sizes[:4])
        + (f" and {len(sizes) - 4} more" if len(sizes) > 4 else ""),
    }


def _picture(picture: Picture) -> dict[str, Any]:
    sample = picture.sample
    return {
        "split": sample.split,
        "name": sample.name,
        "size": sample.size,
        "class_ids": np.flatnonzero(sample.pixels).tolist(),
        "oddness": dict(picture.oddness),
        "values": [order.shown(picture.oddness[order.key]) for order in ODDNESS[1:]],
        "notes": picture.notes,
        "panels": [data_uri(panel, "webp") for panel in picture.panels],
    }
