"""The signals after a training step. Separate from `control`, so that the driver's checks need no torch."""

from enum import IntEnum


class Signal(IntEnum):
    """The action after a step; the highest of several signals applies."""

    GO_ON = 0
    LOOK = 1
    """All workers check together whether one of their nodes is about to be preempted."""
    SAVE = 2
    STOP = 3
