"""Segmentation metrics as counts: they add over batches and workers, and are divided once."""

from gscnn.metrics.boundary_f import BoundaryF, BoundaryScores
from gscnn.metrics.boundary_iou import BoundaryIoU, BoundaryIoUScores, Distance
from gscnn.metrics.boundary_pixels import BoundaryCounts, boundary_counts
from gscnn.metrics.confusion import ConfusionMatrix, SegmentationScores
from gscnn.metrics.distance import DISTANCE_FACTORS, distance_crop
from gscnn.metrics.labels import Labels

__all__ = [
    "DISTANCE_FACTORS",
    "BoundaryCounts",
    "BoundaryF",
    "BoundaryIoU",
    "BoundaryIoUScores",
    "BoundaryScores",
    "ConfusionMatrix",
    "Distance",
    "Labels",
    "SegmentationScores",
    "boundary_counts",
    "distance_crop",
]
