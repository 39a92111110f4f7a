"""The signals after a step. Separate from `control`, so that the driver's checks need no torch."""

from enum import IntEnum


class Signal(IntEnum):
    """The action after a step; the greatest of the workers' signals applies to all."""

    GO_ON = 0
    LOOK = 1
    """All workers check together whether one of their nodes is about to be taken away."""
    SAVE = 2
    STOP = 3
