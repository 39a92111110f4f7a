"""SCORES: what a validation or an evaluation measures, in the order of tables and pages. Readable without torch.

A score from existing counts needs only an entry here. Any other score also needs its counts in
gscnn_platform.evaluation.Counts, and their result in Measured.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from gscnn.metrics import BoundaryIoUScores, BoundaryScores, Distance, SegmentationScores

RADII: Final = (3, 5, 9, 12)
"""Radii of boundary F, in pixels, as in the paper's tables (arXiv:1907.05740, table 3)."""

RING_DISTANCES: Final = (0.02, 3)
"""Distances of boundary IoU: 2% of the frame's diagonal, as in its paper (arXiv:2103.16562), and 3 pixels."""


class Measured(NamedTuple):
    """Results of the counts over a split."""

    confusion: SegmentationScores
    boundary: Mapping[int, BoundaryScores]
    """Radius of RADII -> boundary F."""
    boundary_iou: Mapping[Distance, BoundaryIoUScores]
    """Distance of RING_DISTANCES -> boundary IoU."""


class ByClass(NamedTuple):
    """What a score is the mean of: one number per class, which an evaluation's tables show."""

    key: str
    """Their name in files."""
    title: str
    """Their name for users."""
    column: str
    """Heading in an evaluation's tables."""
    values: Callable[[Measured], Sequence[float]]
    """In the order of the train ids; NaN for a class of which nothing was counted."""
    tracked: bool = False
    """Whether MLflow and comparisons have them as well."""

    @property
    def tracked_as(self) -> str:
        """Prefix of their keys in MLflow for a training's validation: `val_iou/`, which a class name follows."""
        return f"val_{self.key}/"


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
    by_class: ByClass | None = None
    """Its classes; None: they are not shown."""
    charted_first: bool = False
    """Whether it is among the first charts in MLflow, and in the description of a run."""

    @property
    def tracked_as(self) -> str:
        """Its key for a training's validation: `val/miou`. In MLflow, gscnn_platform.tracking.keys."""
        return f"val/{self.key}"


def _boundary_f(radius: int) -> Score:
    return Score(
        f"boundary_f_{radius}px",
        f"boundary F {radius} px",
        lambda measured: measured.boundary[radius]["official"],
        can_be_best=True,
        column=f"F {radius} px",
        charted_first=radius == min(RADII),
    )


def _boundary_f_present(radius: int) -> Score:
    key, title = f"boundary_f_{radius}px_present", f"boundary F {radius} px, classes present"
    return Score(
        key,
        title,
        lambda measured: measured.boundary[radius]["present_only"],
        by_class=ByClass(
            key, title, f"F {radius} px", lambda measured: measured.boundary[radius]["present_only_per_class"]
        ),
    )


def _boundary_iou(key: str, distance: Distance) -> Score:
    width = f"{distance:.0%}" if isinstance(distance, float) else f"{distance} px"
    title, column = f"boundary IoU {width}", f"BIoU {width}"
    return Score(
        key,
        title,
        lambda measured: measured.boundary_iou[distance]["mean"],
        can_be_best=True,
        column=column,
        by_class=ByClass(
            key, title, column, lambda measured: measured.boundary_iou[distance]["per_class"], tracked=True
        ),
        charted_first=distance == RING_DISTANCES[0],
    )


IOU: Final = ByClass("iou", "IoU", "IoU", lambda measured: measured.confusion.iou.tolist(), tracked=True)
MIOU: Final = Score(
    "miou",
    "mIoU",
    lambda measured: measured.confusion.miou,
    can_be_best=True,
    column="mIoU",
    by_class=IOU,
    charted_first=True,
)
PIXEL_ACCURACY: Final = Score(
    "pixel_accuracy",
    "pixel accuracy",
    lambda measured: measured.confusion.pixel_accuracy,
    can_be_best=True,
    charted_first=True,
)
BOUNDARY_F_PRESENT: Final = {radius: _boundary_f_present(radius) for radius in RADII}
"""Radius -> mean over the classes that are in a frame."""
BOUNDARY_F: Final = {radius: _boundary_f(radius) for radius in RADII}
"""Radius -> mean as in the official code, where a class that a frame lacks scores 1."""
BOUNDARY_IOU: Final = tuple(map(_boundary_iou, ("boundary_iou", "boundary_iou_3px"), RING_DISTANCES))

SCORES: Final[tuple[Score, ...]] = (
    MIOU,
    PIXEL_ACCURACY,
    *BOUNDARY_F_PRESENT.values(),
    *BOUNDARY_F.values(),
    *BOUNDARY_IOU,
)
"""All of them; tests/conformance/test_scores.py tests each."""

BY_CLASS: Final = tuple(score.by_class for score in SCORES if score.by_class is not None)
"""Columns of an evaluation's tables by class."""
TRACKED_BY_CLASS: Final = tuple(of_classes for of_classes in BY_CLASS if of_classes.tracked)


def score_of(key: str) -> Score:
    """The entry of a key, `miou`, that a config has checked."""
    return next(score for score in SCORES if score.key == key)


def title_of(tracked: str) -> str | None:
    """Title by a key in MLflow, of `val/miou` "mIoU", of `val_iou/road` "IoU of road"; None if no score has the key."""
    for of_classes in TRACKED_BY_CLASS:
        if tracked.startswith(of_classes.tracked_as):
            return f"{of_classes.title} of {tracked.removeprefix(of_classes.tracked_as)}"
    return next((score.title for score in SCORES if score.tracked_as == tracked), None)


def place_of(tracked: str) -> int:
    """Place of a key in MLflow in the order of SCORES; after the last if no score has the key."""
    return next((place for place, score in enumerate(SCORES) if score.tracked_as == tracked), len(SCORES))
