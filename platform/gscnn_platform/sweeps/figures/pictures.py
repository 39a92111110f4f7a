"""Draws the best score over time, one slice per key, and parallel coordinates.

optuna.visualization.matplotlib is not used: it changes pyplot's global style, does not mark trials that were stopped
early, and its labels overlap for more than a few keys.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from textwrap import fill
from typing import Any, Final

import matplotlib
import numpy as np
from jaxtyping import UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from gscnn_platform.names import picture_text
from gscnn_platform.sweeps.domains import Domain
from gscnn_platform.sweeps.figures.importance import draw_importance, importances
from gscnn_platform.sweeps.figures.points import LOOK, ORANGE, EndedTrials, TrialPoint, to_array

DASHES: Final = (0, (4, 2))
MOST_LABELS: Final = 12
"""Maximum number of labelled categories on an axis; with more, every second, third, ... is labelled."""


def draw_sweep(
    trials: Sequence[TrialPoint], domains: Mapping[str, Domain], metric: str
) -> dict[str, UInt8[np.ndarray, "H W 3"]]:
    """Returns RGB pictures by name: best_so_far, slices, parallel_coordinates, importance.

    Pictures without information are left out: all if no trial has a score, parallel_coordinates for a single trial, and
    importance if `importances` returns nothing.
    """
    sweep = EndedTrials(trials, domains, metric)
    if not sweep.scored:
        return {}
    with matplotlib.rc_context(LOOK):
        pictures = {"best_so_far": _best_so_far(sweep), "slices": _slices(sweep)}
        if len(sweep.scored) > 1:
            pictures["parallel_coordinates"] = _parallel_coordinates(sweep)
        shares = importances(sweep)
        if shares:
            pictures["importance"] = draw_importance(sweep, shares)
    return pictures


def _best_so_far(sweep: EndedTrials) -> UInt8[np.ndarray, "H W 3"]:
    figure = Figure(figsize=(8, 4.2), dpi=110, layout="constrained")
    axes = figure.subplots()
    minutes = [trial.ended / 60 for trial in sweep.scored]
    lost = [trial.ended / 60 for trial in sweep.lost]
    last = max(minutes + lost)
    best = np.maximum.accumulate(sweep.scores)
    axes.step([*minutes, last], [*best, best[-1]], where="post", color="0.2", linewidth=1.6, zorder=2)
    sweep.scatter(axes, minutes, lost)
    axes.set_xlim(0, 1.03 * last or 1)
    axes.set_xlabel("end of the trial, minutes since the sweep began")
    axes.set_ylabel(sweep.metric)
    axes.set_title(sweep.title)
    sweep.legend(figure, [Line2D([], [], color="0.2", label="best so far")])
    return to_array(figure)


def _slices(sweep: EndedTrials) -> UInt8[np.ndarray, "H W 3"]:
    keys = list(sweep.domains)
    columns = min(len(keys), 3)
    rows = math.ceil(len(keys) / columns)
    width = {1: 8.0, 2: 4.5, 3: 3.4}[columns]
    figure = Figure(figsize=(width * columns, 2.7 * rows + 1.1), dpi=110, layout="constrained")
    panels = np.ravel(figure.subplots(rows, columns, sharey=True, squeeze=False))
    means = [_slice(axes, sweep, key, width) for axes, key in zip(panels, keys, strict=False)]
    for axes in panels[::columns]:
        axes.set_ylabel(sweep.metric)
    for axes in panels[len(keys) :]:
        axes.set_visible(False)
    figure.suptitle(sweep.title, x=0.01, ha="left", fontsize=10)
    sweep.legend(figure, [Line2D([], [], color="black", label="mean of finished trials")] if any(means) else [])
    return to_array(figure)


def _slice(axes: Axes, sweep: EndedTrials, key: str, width: float) -> bool:
    """Plots the metric against a key; returns whether means were drawn, of categories with two finished trials."""
    domain = sweep.domains[key]
    axes.set_xlabel(key)
    values, lost = ([trial.params[key] for trial in trials] for trials in (sweep.scored, sweep.lost))
    if domain.kind != "choice":
        sweep.scatter(axes, values, lost)
        low, high = domain.numbers[:2]
        if domain.kind == "loguniform":
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(_log_locator(low, high))
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.xaxis.set_minor_formatter(NullFormatter())
            margin = (high / low) ** 0.04
            axes.set_xlim(low / margin, high * margin)
        else:
            axes.set_xlim(low - 0.04 * (high - low), high + 0.04 * (high - low))
        return False
    indices = [domain.args.index(value) for value in values]
    sweep.scatter(axes, _side_by_side(indices), _side_by_side([domain.args.index(value) for value in lost]))
    _label_categories(axes, domain, width)
    finished: dict[int, list[float]] = {}
    for trial, index, score in zip(sweep.scored, indices, sweep.scores, strict=True):
        if trial.state == "finished":
            finished.setdefault(index, []).append(score)
    means = {index: np.mean(scores) for index, scores in finished.items() if len(scores) > 1}
    for index, mean in means.items():
        axes.plot([index - 0.3, index + 0.3], [mean, mean], color="black", linewidth=1.6, zorder=2)
    return bool(means)


def _label_categories(axes: Axes, domain: Domain, width: float) -> None:
    """Labels the categories, slanted if they do not fit into `width` inches at about 13 letters per inch."""
    labels = [fill(_label(value), 14) for value in domain.args]
    step = math.ceil(len(labels) / MOST_LABELS)
    axes.set_xticks(range(0, len(labels), step), labels[::step])
    axes.set_xlim(-0.5, len(labels) - 0.5)
    axes.grid(axis="x", visible=False)
    longest = max(len(line) for label in labels for line in label.splitlines())
    if longest * len(labels[::step]) > 13 * width:
        for tick in axes.get_xticklabels():
            tick.set(rotation=40, ha="right", rotation_mode="anchor")


def _parallel_coordinates(sweep: EndedTrials) -> UInt8[np.ndarray, "H W 3"]:
    keys = list(sweep.domains)
    scores = np.array(sweep.scores)
    low, high = float(scores.min()), float(scores.max())
    if low == high:
        low, high = low - 0.5, high + 0.5
    heights = np.column_stack([*(_heights(sweep, key) for key in keys), (scores - low) / (high - low)])
    figure = Figure(figsize=(max(6.5, 1.75 * len(keys) + 2.2), 4.8), dpi=110, layout="constrained")
    axes = figure.subplots()
    shades = matplotlib.colormaps["viridis_r"]
    alpha = 0.9 if len(scores) <= 40 else 0.45
    for index in np.argsort(scores):
        style: dict[str, Any] = {"linewidth": 1.6, "color": (*shades(0.1 + 0.9 * heights[index, -1])[:3], alpha)}
        if sweep.scored[index].state == "stopped":
            style |= {"linewidth": 1.0, "linestyle": DASHES, "alpha": 0.6 * alpha}
        if index == sweep.winner:
            style = {"linewidth": 3, "color": ORANGE, "zorder": 3}
        axes.plot(*_eased(heights[index]), **style)
    for column, key in enumerate(keys):
        _upright(axes, column, key.replace(".", ".\n", 1), _upright_ticks(sweep.domains[key]))
    ticks = [value for value in MaxNLocator(6).tick_values(low, high) if low <= value <= high]
    _upright(axes, len(keys), sweep.metric, [((value - low) / (high - low), f"{value:g}") for value in ticks])
    axes.set_xlim(-0.3, len(keys) + 0.5)
    axes.set_ylim(-0.08, 1.08)
    axes.axis("off")
    figure.suptitle(sweep.title, x=0.01, ha="left", fontsize=10)
    handles = [Line2D([], [], color=ORANGE, linewidth=3, label="best")]
    states = {trial.state for trial in sweep.scored}
    if "finished" in states:
        handles.append(Line2D([], [], color=shades(0.6), label="finished; darker is better"))
    if "stopped" in states:
        handles.append(Line2D([], [], color=shades(0.6), linestyle=DASHES, label="stopped early"))
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return to_array(figure)


def _heights(sweep: EndedTrials, key: str) -> np.ndarray:
    """Returns the heights at which the trials cross the key's axis, about 0 to 1; sorted by score within a category."""
    domain = sweep.domains[key]
    heights = np.array([_height(domain, trial.params[key]) for trial in sweep.scored])
    if domain.kind == "choice":
        for category in np.unique(heights):
            rows = np.flatnonzero(heights == category)
            order = rows[np.argsort(np.array(sweep.scores)[rows])]
            spread = 0.25 / max(len(domain.args), 4) * min(1, (len(rows) - 1) / 4)
            heights[order] += np.linspace(-spread, spread, len(rows))
    return heights


def _height(domain: Domain, value: Any) -> float:
    if domain.kind == "choice":
        return domain.args.index(value) / (len(domain.args) - 1) if len(domain.args) > 1 else 0.5
    low, high = domain.numbers[:2]
    if domain.kind == "loguniform":
        return math.log(value / low) / math.log(high / low)
    return (value - low) / (high - low)


def _upright_ticks(domain: Domain) -> list[tuple[float, str]]:
    """Returns height and label of each tick."""
    if domain.kind == "choice":
        step = math.ceil(len(domain.args) / MOST_LABELS)
        return [(_height(domain, value), fill(_label(value), 24)) for value in domain.args[::step]]
    low, high = domain.numbers[:2]
    locator = _log_locator(low, high) if domain.kind == "loguniform" else MaxNLocator(5)
    inside = [value for value in locator.tick_values(low, high) if low * (1 - 1e-9) <= value <= high * (1 + 1e-9)]
    return [(_height(domain, value), f"{value:g}") for value in inside]


def _upright(axes: Axes, column: int, title: str, ticks: Sequence[tuple[float, str]]) -> None:
    axes.plot([column, column], [0, 1], color="0.3", linewidth=1, zorder=4)
    axes.text(column, 1.09, title, ha="center", va="bottom", fontsize=9, fontweight="bold")
    box = {"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.8}
    for height, label in ticks:
        axes.plot([column, column + 0.03], [height, height], color="0.3", linewidth=1, zorder=4)
        axes.text(column + 0.05, height, label, va="center", fontsize=8, zorder=5, bbox=box)


def _eased(heights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns a curve through the heights that is horizontal at each axis, so that it can be followed across it."""
    part = np.linspace(0, 1, 25)
    ease = 0.5 - 0.5 * np.cos(math.pi * part)
    along = np.concatenate([column + part for column in range(len(heights) - 1)])
    return along, np.concatenate([start + (end - start) * ease for start, end in pairwise(heights)])


def _side_by_side(categories: Sequence[int]) -> list[float]:
    """Returns positions on a categorical axis at which the points of a category do not hide each other."""
    counts = {category: categories.count(category) for category in set(categories)}
    seen = dict.fromkeys(counts, 0)
    places = []
    for category in categories:
        seen[category] += 1
        places.append(category + 0.5 * (seen[category] / (counts[category] + 1) - 0.5))
    return places


def _log_locator(low: float, high: float) -> LogLocator:
    return LogLocator(subs=(1, 2, 5) if high / low <= 100 else (1,), numticks=12)


def _label(value: Any) -> str:
    return picture_text(value) if isinstance(value, str) else str(value).lower()
