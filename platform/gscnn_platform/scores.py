"""SCORES: what a validation or an evaluation measures, in the order of tables and pages. Readable without torch.

A score from existing counts needs only an entry here. Any other score also needs its counts in
gscnn_platform.evaluation.Counts, and their result in Measured.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from gscnn.metrics import BoundaryScores, SegmentationScores

RADII: Final = (3, 5, 9, 12)
"""Radii of boundary F, in pixels, as in the paper's tables (arXiv:1907.05740, table 3)."""


class Measured(NamedTuple):
    """Results of the counts over a split."""

    confusion: SegmentationScores
    boundary: Mapping[int, BoundaryScores]
    """Radius of RADII -> boundary F."""


class Score(NamedTuple):
    """One number for a whole split, in [0, 1]: the higher, the better."""

    key: str
    """Its name in `--training.best-metric`, in MLflow and in files."""
    title: str
    """Its name for users."""
    value: Callable[[Measured], float]
    """NaN if nothing was counted."""
    can_be_best: bool = False
    """Whether `training.best_metric` and a sweep's `metric` may name it."""
    column: str | None = None
    """Heading in a comparison's table; None: only on the comparison's page."""

    @property
    def tracked_as(self) -> str:
        """Its key in MLflow for a training's validation: `val/miou`."""
        return f"val/{self.key}"


def _boundary_f(radius: int) -> Score:
    return Score(
        f"boundary_f_{radius}px",
        f"boundary F {radius} px",
        lambda measured: measured.boundary[radius]["official"],
        can_be_best=True,
        column=f"F {radius} px",
    )


def _boundary_f_present(radius: int) -> Score:
    return Score(
        f"boundary_f_{radius}px_present",
        f"boundary F {radius} px, classes present",
        lambda measured: measured.boundary[radius]["present_only"],
    )


MIOU: Final = Score("miou", "mIoU", lambda measured: measured.confusion.miou, can_be_best=True, column="mIoU")
PIXEL_ACCURACY: Final = Score(
    "pixel_accuracy", "pixel accuracy", lambda measured: measured.confusion.pixel_accuracy, can_be_best=True
)
BOUNDARY_F_PRESENT: Final = {radius: _boundary_f_present(radius) for radius in RADII}
"""Radius -> mean over the classes that are in a frame."""
BOUNDARY_F: Final = {radius: _boundary_f(radius) for radius in RADII}
"""Radius -> mean as in the official code, where a class that a frame lacks scores 1."""

SCORES: Final[tuple[Score, ...]] = (MIOU, PIXEL_ACCURACY, *BOUNDARY_F_PRESENT.values(), *BOUNDARY_F.values())
"""All of them; tests/conformance/test_scores.py tests each."""


def score_of(key: str) -> Score:
    """The entry of a key, `miou`, that a config has checked."""
    return next(score for score in SCORES if score.key == key)


def title_of(tracked: str) -> str | None:
    """A score's title by its key in MLflow, `val/miou`; None if no score has the key."""
    return next((score.title for score in SCORES if score.tracked_as == tracked), None)


def place_of(tracked: str) -> int:
    """Place of a key in MLflow in the order of SCORES; after the last if no score has the key."""
    return next((place for place, score in enumerate(SCORES) if score.tracked_as == tracked), len(SCORES))
