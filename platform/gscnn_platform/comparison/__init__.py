"""Compares runs that MLflow tracked: how they differ in settings and scores, and whether that is more than noise.

Pure functions on the runs that gscnn_platform.tracking has read: no MLflow, no Ray, no files.
"""

from gscnn_platform.comparison.contenders import (
    CURVES,
    MIOU,
    Contender,
    TrackedSweep,
    best_epoch,
    contenders_of,
    plural,
    score,
    seed_of,
    state,
)
from gscnn_platform.comparison.noise import Paired, Spread, holm, paired, spread
from gscnn_platform.comparison.results import DIFFERENT_DATA, Comparison, DifferentDataError, compare
from gscnn_platform.comparison.tables import (
    Cell,
    Row,
    Table,
    chosen_by,
    differences,
    overall,
    per_class,
    percent,
    points,
    score_row,
    table,
    title,
)
from gscnn_platform.comparison.verdicts import verdicts

__all__ = [
    "CURVES",
    "DIFFERENT_DATA",
    "MIOU",
    "Cell",
    "Comparison",
    "Contender",
    "DifferentDataError",
    "Paired",
    "Row",
    "Spread",
    "Table",
    "TrackedSweep",
    "best_epoch",
    "chosen_by",
    "compare",
    "contenders_of",
    "differences",
    "holm",
    "overall",
    "paired",
    "per_class",
    "percent",
    "plural",
    "points",
    "score",
    "score_row",
    "seed_of",
    "spread",
    "state",
    "table",
    "title",
    "verdicts",
]
