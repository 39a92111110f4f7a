"""Whether a label lies beside its image: the correlation of its outlines with the image's edges over all shifts."""

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from gscnn.edges import boundary_map

WORKING_SIDE: Final = 640
"""Pixels of the longer side, above which image and label are reduced by a whole factor before they are compared."""
MOST_SHIFT: Final = 24
"""Largest shift that is tried along each axis, in pixels of the reduced image; a sixth of the shorter side if that is
less."""
LEAST_SIDE: Final = 120
"""Shorter side from which one label can be judged: on 96x64 street scenes 1 of 60 aligned labels seemed shifted, on
192x128 ones none of 60."""
LEAST_SAMPLES: Final = 8
"""Labels from which a whole split can be judged."""

NEAR: Final = 2
"""Shift in reduced pixels that counts as aligned: hand-drawn outlines are that inaccurate. Of CamVid's 468 labels 463
have their best shift within it, of the training split's mean correlation it is 1."""
LEAST_SHIFT: Final = 4
"""Smallest shift of one label that is reported, in reduced pixels."""
LEAST_GAIN: Final = 1.0
"""How much better than aligned the best shift of one label must be, in standard deviations over all shifts. CamVid's
labels reach 0.52 as they are; shifted by 6 pixels, 97% of them exceed 1.0, by 8 pixels 99%, by 12 pixels all."""
LEAST_PEAK: Final = 4.0
"""How much better than the mean over all shifts the best must be, in standard deviations, to be no accident: noise
reaches 4.2. Of CamVid's labels shifted by 8 pixels 97% are reported, and none as they are."""
LEAST_CORRELATION: Final = 0.1
"""Smallest correlation coefficient of the best shift, below which there is nothing to align: noise of 200x140 pixels
reaches 0.07; of CamVid's labels all reach 0.10 and 95% 0.18."""
LEAST_SPLIT_GAIN: Final = 0.5
"""As LEAST_GAIN, of the mean over a split, where accidents cancel: 0.00 on both of CamVid's splits."""


@dataclass(frozen=True)
class Shift:
    """How far a label lies beside its image, in pixels of the image: down and right are positive."""

    down: int
    right: int

    def __str__(self) -> str:
        """Such as `12 px right, 4 px up`."""
        across = f"{abs(self.right)} px {'right' if self.right > 0 else 'left'}" if self.right else ""
        along = f"{abs(self.down)} px {'down' if self.down > 0 else 'up'}" if self.down else ""
        return ", ".join(filter(None, (across, along)))


@dataclass(frozen=True)
class Correlation:
    """Correlation coefficient of a label's outlines with the image's edges, for each shift of the label."""

    surface: Float32[np.ndarray, "S S"]
    """Shift along rows and columns, -reach to reach."""
    factor: int
    """By which image and label were reduced."""
    judges_one: bool
    """Whether the image is large enough for a verdict on this label alone."""


def correlation(image: UInt8[np.ndarray, "H W 3"], label: UInt8[np.ndarray, "H W"]) -> Correlation | None:
    """None if the label has no outline, or the image no edge, or if it is smaller than 24 pixels."""
    factor = -(-max(label.shape) // WORKING_SIDE)
    height, width = (side // factor for side in label.shape)
    if factor > 1:
        image = np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
        label = np.asarray(cv2.resize(label, (width, height), interpolation=cv2.INTER_NEAREST), np.uint8)
    reach = min(MOST_SHIFT, min(height, width) // 6)
    if reach < LEAST_SHIFT:
        return None
    outlines = cv2.GaussianBlur(boundary_map(label, 1).astype(np.float32), (0, 0), 1)
    inner = outlines[reach : height - reach, reach : width - reach]
    edges = _edges(image)
    if inner.max() == 0 or edges.max() == 0:
        return None
    # Where the inner part of the label fits best, from -reach to reach: the label is shifted the other way.
    fits = cv2.matchTemplate(edges, inner, cv2.TM_CCOEFF_NORMED)
    return Correlation(np.ascontiguousarray(fits[::-1, ::-1]), factor, min(height, width) >= LEAST_SIDE)


def _edges(image: UInt8[np.ndarray, "H W 3"]) -> Float32[np.ndarray, "H W"]:
    """Gradient of the grey values, divided by its local mean: an outline in shadow counts as one in the sun."""
    grey = cv2.GaussianBlur(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (0, 0), 1)
    magnitude = cv2.magnitude(cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1))
    return magnitude / (cv2.GaussianBlur(magnitude, (0, 0), 8) + 10)  # 10: noise of a flat surface stays small.


def shift_of(found: Correlation) -> Shift | None:
    """How far one label is shifted; None if it is aligned, or if that cannot be told."""
    return _best(found, LEAST_GAIN, LEAST_PEAK, LEAST_SHIFT) if found.judges_one else None


def common_shift(total: Float32[np.ndarray, "S S"], factor: int, samples: int) -> Shift | None:
    """How far the labels of a split are shifted together, from the sum of their correlations."""
    if samples < LEAST_SAMPLES:
        return None
    return _best(Correlation(total / samples, factor, True), LEAST_SPLIT_GAIN, LEAST_PEAK, NEAR + 1)


def _best(found: Correlation, least_gain: float, least_peak: float, least_shift: int) -> Shift | None:
    surface, reach = found.surface, len(found.surface) // 2
    row, column = (int(place) for place in np.unravel_index(np.argmax(surface), surface.shape))
    down, right = row - reach, column - reach
    near = slice(reach - NEAR, reach + NEAR + 1)
    spread, best = float(surface.std()), float(surface.max())
    is_clear = best - surface[near, near].max() >= least_gain * spread and best - surface.mean() >= least_peak * spread
    if best < LEAST_CORRELATION or not is_clear or np.hypot(down, right) < least_shift:
        return None
    return Shift(down * found.factor, right * found.factor)
