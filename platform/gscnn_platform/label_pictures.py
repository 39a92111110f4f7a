"""Labels in their classes' colours, alone and over their image; without torch."""

from collections.abc import Sequence
from typing import Final

import cv2
import numpy as np
from jaxtyping import UInt8

from gscnn.edges import boundary_map

VOID_COLOUR: Final = (0, 0, 0)


def colourise(label: UInt8[np.ndarray, "H W"], colours: Sequence[tuple[int, int, int]]) -> UInt8[np.ndarray, "H W 3"]:
    """Returns train ids in the dataset's colours; void is black."""
    palette = np.full((256, 3), VOID_COLOUR, np.uint8)
    palette[: len(colours)] = colours
    return palette[label]


def overlay(
    image: UInt8[np.ndarray, "H W 3"],
    label: UInt8[np.ndarray, "H W"],
    colours: Sequence[tuple[int, int, int]],
) -> UInt8[np.ndarray, "H W 3"]:
    """Returns the image under half-transparent class colours, with white lines at class boundaries."""
    picture = cv2.addWeighted(image, 0.5, colourise(label, colours), 0.5, 0)
    picture[boundary_map(label, 1) > 0] = 255
    return picture
