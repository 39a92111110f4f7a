"""The trials of a sweep for its figures, and the elements that the figures share."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from jaxtyping import UInt8
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from gscnn_platform.sweeps.domains import Domain

State = Literal["finished", "stopped", "failed"]

LOOK: Final[dict[Any, Any]] = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.25,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "legend.frameon": False,
}
"""matplotlib settings for all figures of a sweep; typed as Any because matplotlib types the keys as a Literal."""

BLUE: Final = "#0072B2"
ORANGE: Final = "#E69F00"
MARKS: Final[dict[str, dict[str, Any]]] = {
    "finished": {"marker": "o", "facecolor": BLUE, "edgecolor": "white", "s": 42, "linewidth": 0.6},
    "stopped": {"marker": "o", "facecolor": "none", "edgecolor": "#7F7F7F", "s": 26, "linewidth": 1.1},
    "failed": {"marker": "x", "color": "#D55E00", "s": 30, "linewidth": 1.4},
    "best": {"marker": "*", "facecolor": ORANGE, "edgecolor": "black", "s": 190, "linewidth": 0.7},
}
"""Marker of each trial state; the markers differ in shape as well as in colour."""


@dataclass(frozen=True)
class TrialPoint:
    """One trial of a sweep, at its end."""

    name: str
    params: Mapping[str, Any]
    """Searched key -> value."""
    score: float | None
    """Score at the end of the trial; None: it failed, diverged or reported nothing."""
    ended: float
    """Seconds from the start of the sweep to the end of the trial."""
    epochs: int
    """Number of epochs that the trial ran."""
    state: State
    """`stopped`: by the scheduler, before the last epoch."""


class EndedTrials:
    """The trials in the order in which they ended, split into those with a score and the others.

    Non-finite scores and scores of failed trials do not count: those trials left no checkpoint to keep.
    """

    def __init__(self, trials: Sequence[TrialPoint], domains: Mapping[str, Domain], metric: str) -> None:
        self.domains = domains
        self.metric = metric
        self.scored: list[TrialPoint] = []
        self.scores: list[float] = []
        self.lost: list[TrialPoint] = []
        for trial in sorted(trials, key=lambda trial: trial.ended):
            if trial.state == "failed" or trial.score is None or not math.isfinite(trial.score):
                self.lost.append(trial)
            else:
                self.scored.append(trial)
                self.scores.append(trial.score)

    @property
    def winner(self) -> int:
        """Index of the best trial in `scored`."""
        return int(np.argmax(self.scores))

    @property
    def title(self) -> str:
        """Two lines: how the trials ended, and which trial is the best."""
        states = [trial.state for trial in self.scored]
        ends = {
            "finished": states.count("finished"),
            "stopped early": states.count("stopped"),
            "failed": len(self.lost),
        }
        counts = ", ".join(f"{count} {end}" for end, count in ends.items() if count)
        number = len(states) + len(self.lost)
        name = self.scored[self.winner].name
        name = name if len(name) <= 60 else f"{name[:57]}..."
        best = f"best {self.metric} {self.scores[self.winner]:.4g}: {name}"
        return f"{number} trial{'s' if number > 1 else ''}: {counts}\n{best}"

    def scatter(self, axes: Axes, scored: Sequence[float], lost: Sequence[float]) -> None:
        """Draws each scored trial at its score and the given horizontal position; lost trials along the lower edge."""
        x, y = np.array(scored), np.array(self.scores)
        alpha = 1.0 if len(x) <= 60 else 0.6
        for state in ("stopped", "finished"):
            chosen = [index for index, trial in enumerate(self.scored) if trial.state == state]
            axes.scatter(x[chosen], y[chosen], zorder=3, alpha=alpha, **MARKS[state])
        axes.scatter(x[[self.winner]], y[[self.winner]], zorder=4, **MARKS["best"])
        bottom = axes.get_xaxis_transform()
        axes.margins(y=0.1)
        axes.scatter(lost, [0.025] * len(lost), transform=bottom, clip_on=False, zorder=3, **MARKS["failed"])

    def legend(self, figure: Figure, more: Sequence[Line2D]) -> None:
        """Adds a legend below the figure for the markers of `scatter` that occur in it."""
        stopped = [trial.epochs for trial in self.scored if trial.state == "stopped"]
        finished = any(trial.state == "finished" for trial in self.scored)
        early = f"stopped after {_range(stopped)}" if stopped else ""
        labels = {"best": "best", "finished": "finished" if finished else "", "stopped": early}
        labels["failed"] = "failed or no score" if self.lost else ""
        empty = figure.axes[0]
        handles = [empty.scatter([], [], label=label, **MARKS[mark]) for mark, label in labels.items() if label]
        figure.legend(
            handles=[*more, *handles], loc="outside lower center", ncols=5, columnspacing=1.2, handletextpad=0.4
        )


def _range(epochs: Sequence[int]) -> str:
    low, high = min(epochs), max(epochs)
    return f"{low} to {high} epochs" if low < high else f"{low} epoch{'s' if low > 1 else ''}"


def to_array(figure: Figure) -> UInt8[np.ndarray, "H W 3"]:
    """Returns the figure as an RGB picture."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
