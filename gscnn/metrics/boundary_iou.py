"""Boundary IoU: IoU of the rings along the outlines of prediction and ground truth (Cheng et al. 2021).

The rings of all classes come from one label map: a pixel is in the ring of its class at distance d if its (2d+1)x(2d+1)
square has another label, where void and all that lies outside the frame are one more label. That holds if one of the
pixels within d - 1 of it has another label among its 8 neighbours. So a ring takes one dilation of a binary map.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import TypedDict

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Int64
from numpy.typing import NDArray
from torch import Tensor

from gscnn.constants import IGNORE_INDEX
from gscnn.metrics.counts import mean_of_known, quotients, require_equal_settings
from gscnn.metrics.labels import Labels, frames_of, require_label_maps, write_labels

Distance = int | float
"""Width of the rings: an integer in pixels, or a float below 1 as a share of the frame's diagonal."""


class BoundaryIoUScores(TypedDict):
    """Boundary IoU at one distance, in [0, 1]."""

    mean: float
    """Over classes, ignoring NaN."""
    per_class: list[float]
    """NaN for a class in neither ground truth nor prediction."""


class BoundaryIoU:
    """Boundary IoU of each class: intersections and unions summed over images, then divided (arXiv:2103.16562).

    A class is a binary mask, in which void counts as background in both maps. Its ring is the mask minus its erosion by
    a 3x3 square, repeated d times; outside the frame is background. Boundary IoU is the IoU of the two rings.

    The state is two tensors on the CPU, which add exactly over images and workers.

    Args:
        num_classes: K.
        distances: D distances; an integer d in pixels, or a share of the frame's diagonal, which is rounded to whole
            pixels, at least 1. The paper's is 0.02.
        ignore_index: value of void in the ground truth.

    Attributes:
        intersections: int64 [D, K], pixels in the rings of both maps.
        unions: int64 [D, K], pixels in the ring of either map.

    Raises:
        ValueError: there are no classes or no distances, or a distance is neither a positive integer nor a float
            between 0 and 1.
    """

    def __init__(
        self, num_classes: int, distances: Sequence[Distance] = (3,), ignore_index: int = IGNORE_INDEX
    ) -> None:
        if num_classes < 1:
            raise ValueError(f"num_classes is {num_classes}: need 1 or more")
        self.num_classes = num_classes
        self.distances = _require_distances(distances)
        self.ignore_index = ignore_index
        self.intersections: Int64[Tensor, "D K"]
        self.unions: Int64[Tensor, "D K"]
        self.reset()

    def reset(self) -> None:
        """Forgets all images and moves the state back to the CPU."""
        self.intersections = torch.zeros(len(self.distances), self.num_classes, dtype=torch.int64)
        self.unions = torch.zeros(len(self.distances), self.num_classes, dtype=torch.int64)

    def update(self, prediction: Labels, truth: Labels) -> None:
        """Counts a frame [H, W] or a batch of frames [B, H, W]; on an error, nothing is added.

        Raises:
            ValueError: the shapes differ or are neither of these, the values are not integers, or one is neither a
                class nor, in the ground truth, void. On void pixels, the prediction may have any value.
        """
        for intersections, unions in [self._counts(*pair) for pair in frames_of(prediction, truth, self.ignore_index)]:
            self.intersections = self.intersections + torch.from_numpy(intersections).to(self.intersections.device)
            self.unions = self.unions + torch.from_numpy(unions).to(self.unions.device)

    def merge(self, other: BoundaryIoU) -> None:
        """Adds another worker's images.

        Raises:
            ValueError: `other` has other classes, distances or another void value.
        """
        require_equal_settings(self, other, ("num_classes", "distances", "ignore_index"))
        self.intersections = self.intersections + other.intersections.to(self.intersections.device)
        self.unions = self.unions + other.unions.to(self.unions.device)

    def compute(self) -> dict[Distance, BoundaryIoUScores]:
        """Distance, as it was given -> its scores; NaN if nothing was counted."""
        intersections, unions = self.intersections.cpu().numpy(), self.unions.cpu().numpy()
        scores: dict[Distance, BoundaryIoUScores] = {}
        for distance, of_both, of_either in zip(self.distances, intersections, unions, strict=True):
            iou = quotients(of_both, of_either)
            scores[distance] = BoundaryIoUScores(mean=mean_of_known(iou), per_class=iou.tolist())
        return scores

    def _counts(
        self, prediction: NDArray[np.integer], truth: NDArray[np.integer]
    ) -> tuple[Int64[np.ndarray, "D K"], Int64[np.ndarray, "D K"]]:
        """Intersections and unions of one frame."""
        require_label_maps(prediction, truth)
        height, width = truth.shape
        pixels = [_in_pixels(distance, height, width) for distance in self.distances]
        ascending = sorted(set(pixels))
        labels = np.full((2, height + 2, width + 2), self.num_classes, np.min_scalar_type(self.num_classes))
        inside = labels[:, 1:-1, 1:-1]
        write_labels(prediction, truth, slice(0, height), self.num_classes, self.ignore_index, inside)
        # One histogram of both maps together: with three, of each map and of both rings, 2048x1024 took 24 ms, not 18.
        shape = (len(ascending) + 1, self.num_classes + 1)
        kinds = shape[0] * shape[1]
        ours, theirs = (self._codes(framed, ascending, np.min_scalar_type(kinds**2)) for framed in labels)
        ours *= ours.dtype.type(kinds)
        ours += theirs
        joint = np.bincount(ours.ravel(), minlength=kinds**2).reshape(shape * 2)
        # A pixel is void in both maps or in neither.
        joint = joint[:, :-1, :, :-1]
        same_class = np.einsum("ikjk->ijk", joint)
        intersections, unions = np.zeros((2, len(pixels), self.num_classes), np.int64)
        for row, distance in enumerate(pixels):
            within = slice(ascending.index(distance) + 1)
            intersections[row] = same_class[within, within].sum(axis=(0, 1))
            of_ours, of_theirs = joint[within].sum(axis=(0, 2, 3)), joint[:, :, within].sum(axis=(0, 1, 2))
            unions[row] = of_ours + of_theirs - intersections[row]
        return intersections, unions

    def _codes(
        self, framed: NDArray[np.unsignedinteger], distances: Sequence[int], dtype: np.dtype
    ) -> NDArray[np.unsignedinteger]:
        """Label of each pixel, plus K + 1 for each distance at which it is in no ring.

        Args:
            framed: labels with void as K, [H + 2, W + 2], in a frame of void.
            distances: in pixels, ascending.
            dtype: of the codes.
        """
        edge = _edge_pixels(framed).view(np.uint8)
        codes = framed[1:-1, 1:-1].astype(dtype)
        for distance in distances:
            ring = cv2.dilate(edge, np.ones((2 * distance - 1, 2 * distance - 1), np.uint8))
            codes += (ring == 0) * codes.dtype.type(self.num_classes + 1)
        return codes


def _require_distances(distances: Sequence[Distance]) -> tuple[Distance, ...]:
    """The distances, unchanged. Raises ValueError if there are none, or if one is of neither kind."""
    if not distances:
        raise ValueError("distances is empty: need one or more, in pixels or as shares of the diagonal")
    for distance in distances:
        if not (isinstance(distance, int | np.integer) and distance >= 1) and not (
            isinstance(distance, float | np.floating) and 0 < distance < 1
        ):
            raise ValueError(
                f"distances has {distance!r}: need positive integers, in pixels, or floats between 0 and 1, as shares "
                "of the diagonal"
            )
    return tuple(int(each) if isinstance(each, int | np.integer) else float(each) for each in distances)


def _in_pixels(distance: Distance, height: int, width: int) -> int:
    """Of a frame; no more than what takes every pixel of it."""
    if isinstance(distance, float):
        distance = max(1, round(distance * sqrt(height**2 + width**2)))
    return min(distance, (min(height, width) + 1) // 2)


def _edge_pixels(framed: NDArray[np.unsignedinteger]) -> Bool[np.ndarray, "H W"]:
    """Pixels, without the frame of one pixel, with another label among their 8 neighbours."""
    across = framed[:, 1:] != framed[:, :-1]
    across = across[:, 1:] | across[:, :-1]
    down = framed[1:, 1:-1] != framed[:-1, 1:-1]
    edge = down[1:] | down[:-1]
    for row in range(3):
        # The three rows of the square, which the middle column connects.
        edge |= across[row : row + len(edge)]
    return edge
