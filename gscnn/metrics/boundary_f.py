"""Boundary F: how close the outlines of a prediction are to those of the ground truth (Perazzi et al. 2016)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from gscnn.constants import IGNORE_INDEX
from gscnn.metrics.boundary_pixels import BoundaryCounts, boundary_counts, require_radii
from gscnn.metrics.counts import mean_of_known, quotients, require_equal_settings
from gscnn.metrics.labels import Labels, frames_of


class BoundaryScores(TypedDict):
    """Boundary F at one radius, in [0, 1]; means are over classes and ignore NaN."""

    official: float
    """As in the official code: an image in which a class has no boundary, in either map, scores 1 for that class."""
    present_only: float
    """Over the images in which the class has a boundary in either map: does not overrate rare classes."""
    official_per_class: list[float]
    present_only_per_class: list[float]
    """NaN for a class that had no boundary in any image."""


class BoundaryF:
    """Boundary F of each class and image, averaged over images and then over classes.

    In one image, precision is the share of predicted boundary pixels with a boundary pixel of the ground truth within
    the radius, recall is the share of the ground truth's boundary pixels with a predicted one within the radius, and
    F = 2PR / (P + R), or 0 if P + R is 0. With a boundary in one map only, F is 0.

    The state is three tensors on the CPU, which add over images and workers; F does not depend on the order of updates
    except for the last bits of the sums.

    Args:
        num_classes: K.
        radii: R radii of the disk in which boundaries match, in pixels; intended for up to a few dozen pixels.
        ignore_index: value of void in the ground truth: its pixels are background in both maps.

    Attributes:
        f_sums: float64 [R, K], F summed over the images in which the class has a boundary in either map.
        present: int64 [K], the number of those images.
        images: int64 scalar, the number of all images with a pixel that is not void.

    Raises:
        ValueError: there are no classes or no radii, or a radius is not a positive integer.
    """

    def __init__(
        self, num_classes: int, radii: Sequence[int] = (3, 5, 9, 12), ignore_index: int = IGNORE_INDEX
    ) -> None:
        if num_classes < 1:
            raise ValueError(f"num_classes is {num_classes}: need 1 or more")
        self.num_classes = num_classes
        self.radii = require_radii(radii)
        self.ignore_index = ignore_index
        self.f_sums: Float64[Tensor, "R K"]
        self.present: Int64[Tensor, " K"]
        self.images: Int64[Tensor, ""]
        self.reset()

    def reset(self) -> None:
        """Forgets all images and moves the state back to the CPU."""
        self.f_sums = torch.zeros(len(self.radii), self.num_classes, dtype=torch.float64)
        self.present = torch.zeros(self.num_classes, dtype=torch.int64)
        self.images = torch.zeros((), dtype=torch.int64)

    def update(self, prediction: Labels, truth: Labels) -> None:
        """Scores a frame [H, W] or a batch of frames [B, H, W]; on an error, nothing is added.

        Frames that are entirely void are skipped.

        Raises:
            ValueError: the shapes differ or are neither of these, the values are not integers, or one is neither a
                class nor, in the ground truth, void. On void pixels, the prediction may have any value.
        """
        # A frame that is entirely void says nothing about a prediction: the official 1 would overrate every class.
        frames = frames_of(prediction, truth, self.ignore_index)
        for counts in [boundary_counts(*pair, self.num_classes, self.radii, self.ignore_index) for pair in frames]:
            self.add(counts)

    def add(self, counts: BoundaryCounts) -> None:
        """Adds an image by its counts, which `boundary_counts` returns for the same classes, radii and void."""
        present = (counts.predicted > 0) | (counts.truth > 0)
        both = (counts.predicted > 0) & (counts.truth > 0)
        precision = counts.matched_predicted / np.where(both, counts.predicted, 1)
        recall = counts.matched_truth / np.where(both, counts.truth, 1)
        total = precision + recall
        f = 2 * precision * recall / np.where(total > 0, total, 1)
        self.f_sums = self.f_sums + torch.from_numpy(f).to(self.f_sums.device)
        self.present = self.present + torch.from_numpy(present).to(self.present.device)
        self.images = self.images + 1

    def merge(self, other: BoundaryF) -> None:
        """Adds another worker's images.

        Raises:
            ValueError: `other` has other classes, radii or another void value.
        """
        require_equal_settings(self, other, ("num_classes", "radii", "ignore_index"))
        self.f_sums = self.f_sums + other.f_sums.to(self.f_sums.device)
        self.present = self.present + other.present.to(self.present.device)
        self.images = self.images + other.images.to(self.images.device)

    def compute(self) -> dict[int, BoundaryScores]:
        """Radius -> its scores; NaN if no image was counted, and for means over no class."""
        sums, present, images = self.f_sums.cpu().numpy(), self.present.cpu().numpy(), int(self.images)
        scores: dict[int, BoundaryScores] = {}
        for radius, of_class in zip(self.radii, sums, strict=True):
            official = quotients(of_class + (images - present), np.full_like(present, images))
            present_only = quotients(of_class, present)
            scores[radius] = BoundaryScores(
                official=mean_of_known(official),
                present_only=mean_of_known(present_only),
                official_per_class=official.tolist(),
                present_only_per_class=present_only.tolist(),
            )
        return scores
