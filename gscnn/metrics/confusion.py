"""Pixels counted by true and by predicted class: mIoU, IoU of each class, pixel accuracy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from gscnn.constants import IGNORE_INDEX
from gscnn.metrics.counts import quotients, require_equal_settings
from gscnn.metrics.labels import Labels


@dataclass(frozen=True)
class SegmentationScores:
    """The scores of a confusion matrix. NaN stands for a class in neither ground truth nor prediction."""

    miou: float
    """Mean of `iou`, ignoring NaN; NaN if nothing was counted."""
    iou: Float[np.ndarray, " K"]
    """Intersection over union per class."""
    pixel_accuracy: float


class ConfusionMatrix:
    """Pixels counted by true and by predicted class.

    `counts[t, p]` is the number of non-void pixels of class t that were predicted as p. They are int64 and add
    exactly, so the order of updates and merges does not matter.

    Args:
        num_classes: K.
        ignore_index: value of void in the ground truth.
    """

    def __init__(self, num_classes: int, ignore_index: int = IGNORE_INDEX) -> None:
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.counts: Int64[Tensor, "K K"]
        self.reset()

    def reset(self) -> None:
        """Resets all counts and moves them back to the CPU."""
        self.counts = torch.zeros(self.num_classes, self.num_classes, dtype=torch.int64)

    def update(self, prediction: Labels, truth: Labels) -> None:
        """Counts a frame or a batch.

        Raises:
            ValueError: the shapes differ, or a value is neither a class nor, in the ground truth, void.
        """
        predicted, true = _as_tensor(prediction), _as_tensor(truth)
        if predicted.shape != true.shape:
            raise ValueError(f"prediction is {list(predicted.shape)}, truth is {list(true.shape)}")
        valid = true != self.ignore_index
        # Widened first: in uint8, K * 255 would wrap.
        predicted, true = predicted[valid].long(), true[valid].long()
        for name, values in (("prediction", predicted), ("truth", true)):
            if values.numel() and not (values.min() >= 0 and values.max() < self.num_classes):
                raise ValueError(f"{name} holds {values.min()} to {values.max()}: need 0 to {self.num_classes - 1}")
        cells = torch.bincount(true * self.num_classes + predicted, minlength=self.num_classes**2)
        self.counts = self.counts.to(cells.device) + cells.view(self.num_classes, self.num_classes)

    def merge(self, other: ConfusionMatrix) -> None:
        """Adds another worker's counts.

        Raises:
            ValueError: `other` has other classes or another void value.
        """
        require_equal_settings(self, other, ("num_classes", "ignore_index"))
        self.counts = self.counts + other.counts.to(self.counts.device)

    def compute(self) -> SegmentationScores:
        """The scores of everything counted."""
        counts = self.counts.cpu().numpy()
        hits = np.diagonal(counts)
        union = counts.sum(axis=0) + counts.sum(axis=1) - hits
        iou = quotients(hits, union)
        total = counts.sum()
        return SegmentationScores(
            miou=float(np.nanmean(iou)) if total else float("nan"),
            iou=iou,
            pixel_accuracy=float(hits.sum() / total) if total else float("nan"),
        )


def _as_tensor(labels: Labels) -> Tensor:
    # Copied, because torch warns about read-only arrays, such as those read from a store.
    return labels if isinstance(labels, Tensor) else torch.from_numpy(labels.copy())
