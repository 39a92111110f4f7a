"""Finds the step at which a gradient stopped being finite, without making the GPU wait for the host."""

from collections import deque

import torch
from torch import Tensor


class FiniteCheck:
    """Norms of the last steps' gradients on their way to the host.

    On a GPU a norm is looked at once the next step has been queued, so that the GPU never idles: one further step may
    then have been taken in memory, but none is ever saved. On the CPU it is looked at at once.
    """

    def __init__(self, device: torch.device) -> None:
        self.lag = 1 if device.type == "cuda" else 0
        self._waiting: deque[tuple[int, Tensor, torch.cuda.Event | None]] = deque()

    def add(self, step: int, norm: Tensor) -> None:
        """The norm of a step's gradients, over all parameters and workers."""
        if self.lag == 0:
            self._waiting.append((step, norm, None))
            return
        host = torch.empty((), dtype=norm.dtype, pin_memory=True).copy_(norm, non_blocking=True)
        arrived = torch.cuda.Event()
        arrived.record()
        self._waiting.append((step, host, arrived))

    def first_bad(self, all_of_them: bool = False) -> int | None:
        """The first step whose norm was NaN or infinite, of those that may be looked at by now."""
        while len(self._waiting) > (0 if all_of_them else self.lag):
            step, norm, arrived = self._waiting.popleft()
            if arrived is not None:
                arrived.synchronize()
            if not norm.isfinite():
                return step
        return None
