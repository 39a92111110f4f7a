"""Centred crops of a frame, a stand-in for distance from the camera (Takikawa et al. 2019)."""

from typing import Final

DISTANCE_FACTORS: Final = (0, 100, 200, 300, 400)
"""Rows cut from the top and from the bottom of a frame of 1024 rows; 0 is the whole frame."""

REFERENCE_HEIGHT: Final = 1024


def distance_crop(height: int, width: int, factor: int) -> tuple[slice, slice] | None:
    """Rows and columns that remain of a frame, or None if nothing remains.

    `factor` rows are cut from the top and from the bottom, and twice as many columns from the left and from the right.
    This is for 1024 rows; for another height, the factor is first scaled by height / 1024 and rounded to the nearest
    pixel, halves up.

    Args:
        height: of the frame, in pixels.
        width: of the frame, in pixels.
        factor: one of DISTANCE_FACTORS, or any other number, 0 or more.

    Raises:
        ValueError: a negative factor, or a frame without pixels.
    """
    if factor < 0:
        raise ValueError(f"factor is {factor}: need 0 or more")
    if height < 1 or width < 1:
        raise ValueError(f"height is {height}, width is {width}: need 1 pixel or more")
    rows = (2 * factor * height + REFERENCE_HEIGHT) // (2 * REFERENCE_HEIGHT)
    columns = 2 * rows
    if 2 * rows >= height or 2 * columns >= width:
        return None
    return slice(rows, height - rows), slice(columns, width - columns)
