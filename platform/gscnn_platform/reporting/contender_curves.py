"""Draws the curves of a comparison page, as the bytes of a PNG file."""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from gscnn_platform.comparison import MIOU, Contender, title
from gscnn_platform.names import picture_text
from gscnn_platform.reporting.checkpoint_pictures import png_of
from gscnn_platform.scores import BOUNDARY_F, RADII
from gscnn_platform.tracking import TrackedRun

COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#444444", "#8c564b")
"""Colours of the contenders in order, repeated if needed; most colour-blind people can distinguish them (Okabe and
Ito)."""
LOSS: Final = "train/total"
POINTS: Final = 80
"""Maximum points of a loss curve: each is a mean over several steps, because the loss of single batches is noisy."""


def colour_of(place: int) -> str:
    """The colour of a contender, by its position in the comparison."""
    return COLOURS[place % len(COLOURS)]


def curves_picture(contenders: Sequence[Contender], metric: str) -> bytes:
    """Plots of the metric, mIoU and boundary F by epoch, and of the total loss by step, with all contenders in each.

    Several seeds are drawn as their mean in a band of one standard deviation; runs that do not count are dotted.
    """
    wanted = dict.fromkeys((metric, MIOU, BOUNDARY_F[min(RADII)].tracked_as))
    keys = [key for key in wanted if _is_tracked(contenders, key)]
    losses = _is_tracked(contenders, LOSS)
    panels = len(keys) + losses
    columns = 2 if panels in (2, 4) else panels
    rows = -(-panels // columns)
    # The legend has four names per line.
    height = 3.4 * rows + 0.25 * -(-len(contenders) // 4)
    figure = Figure(figsize=(12, height), dpi=110, layout="constrained")
    axes = list(np.ravel(figure.subplots(rows, columns, squeeze=False)))
    for axis, key in zip(axes, keys, strict=False):
        for place, contender in enumerate(contenders):
            counted = [_in_percent(run, key) for run in contender.counted if key in run.curves]
            others = [_in_percent(run, key) for run in contender.runs if run not in contender.counted]
            _draw(axis, place, contender.name, counted, others, marker="o")
        _label(axis, f"{title(key)}, %", "epoch")
    if losses:
        for place, contender in enumerate(contenders):
            smoothed = {run.run_id: _smoothed(run.curves[LOSS]) for run in contender.runs if LOSS in run.curves}
            counted = [smoothed.pop(run.run_id) for run in contender.counted if run.run_id in smoothed]
            _draw(axes[len(keys)], place, contender.name, counted, list(smoothed.values()), marker="")
        _label(axes[len(keys)], "total training loss", "optimizer step")
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=min(len(names), 4), fontsize=9, frameon=False)
    return png_of(figure)


def _is_tracked(contenders: Sequence[Contender], key: str) -> bool:
    return any(run.curves.get(key) for contender in contenders for run in contender.runs)


def _in_percent(run: TrackedRun, key: str) -> dict[int, float]:
    return {epoch: 100 * value for epoch, value in run.curves.get(key, {}).items()}


def _smoothed(curve: Mapping[int, float]) -> dict[int, float]:
    """Means over equal shares of the steps, each placed at its last step."""
    shares = np.array_split(np.array(list(curve.items()), float), min(POINTS, len(curve)))
    return {int(share[-1, 0]): float(share[:, 1].mean()) for share in shares}


def _draw(
    axis: Axes,
    place: int,
    name: str,
    counted: Sequence[Mapping[int, float]],
    others: Sequence[Mapping[int, float]],
    marker: str,
) -> None:
    colour = colour_of(place)
    # The mean covers only the epochs that all runs have: it would jump where one of them ends.
    common = sorted(set.intersection(*(set(curve) for curve in counted))) if counted else []
    values = np.array([[curve[step] for step in common] for curve in counted])
    label = picture_text(f"{name} ({len(counted)} seeds)" if len(counted) > 1 else name)
    mean = values.mean(axis=0) if counted else []
    # Drawn even if empty, so that the contender is in the legend.
    axis.plot(common, mean, color=colour, label=label, marker=marker, markersize=3, linewidth=1.6)
    if len(counted) > 1:
        deviation = values.std(axis=0, ddof=1)
        axis.fill_between(common, mean - deviation, mean + deviation, color=colour, alpha=0.15, linewidth=0)
    for curve in others:
        axis.plot(list(curve), list(curve.values()), color=colour, linestyle=":", linewidth=1.1)
        # A cross marks the end of the run.
        axis.plot(list(curve)[-1:], list(curve.values())[-1:], color=colour, marker="x", markersize=6)


def _label(axis: Axes, text: str, below: str) -> None:
    axis.set_title(picture_text(text), fontsize=10)
    axis.set_xlabel(below, fontsize=9)
    axis.tick_params(labelsize=8)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
    axis.grid(alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)
