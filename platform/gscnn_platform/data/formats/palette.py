"""Chooses colours for classes that have none of their own."""

import colorsys
from collections.abc import Sequence

from gscnn.constants import IGNORE_INDEX
from gscnn_platform.data.formats.colour_labels import Colour


def distinct_colours(chosen: Sequence[Colour | None]) -> tuple[Colour, ...]:
    """One colour per class: its own, or the next unused colour of a fixed sequence."""
    taken = {colour for colour in chosen if colour is not None}
    # Steps of the golden ratio keep neighbouring hues apart; three brightnesses distinguish later rounds.
    sequence = (
        tuple(round(255 * part) for part in colorsys.hsv_to_rgb(step * 0.618034 % 1.0, 0.75, (0.9, 0.6, 0.4)[step % 3]))
        for step in range(4 * IGNORE_INDEX)
    )
    colours: list[Colour] = []
    for own in chosen:
        colour = own
        while colour is None:
            red, green, blue = next(sequence)
            colour = (red, green, blue) if (red, green, blue) not in taken else None
        taken.add(colour)
        colours.append(colour)
    return tuple(colours)
