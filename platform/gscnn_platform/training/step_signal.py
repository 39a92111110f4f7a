"""The signals after a step. Separate from `control`, so that the driver's checks need no torch."""

from enum import IntEnum


class Signal(IntEnum):
    """What follows a step; of several workers' signals the greatest holds for all."""

    GO_ON = 0
    LOOK = 1
    """All workers check together whether one of their nodes is about to be taken away."""
    SAVE = 2
    STOP = 3
