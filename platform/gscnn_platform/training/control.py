"""Decides when to save and when to stop, in agreement with all workers at every step. Knows nothing of Ray."""

import time
from collections.abc import Callable
from datetime import timedelta
from typing import cast

import torch
import torch.distributed

from gscnn_platform.config import TrainingConfig
from gscnn_platform.training.step_signal import Signal

LOOK_SECONDS = 5.0
"""Seconds between checks: a check is a barrier of 5 ms, and notices come at least 25 s ahead."""


class Control:
    """Decides after each step whether to continue, save or stop: rank 0 decides, and all workers follow at that step.

    Args:
        config: minutes and steps between checkpoints.
        rank, world_size: of this process.
        asked: returns the signal that was requested from outside; called after every step, so it must not block.
        preempted: whether a node is about to be preempted; called on all workers at the same steps.
    """

    def __init__(
        self,
        config: TrainingConfig,
        rank: int = 0,
        world_size: int = 1,
        asked: Callable[[], Signal] = lambda: Signal.GO_ON,
        preempted: Callable[[], bool] = lambda: False,
    ) -> None:
        self.config, self.rank, self.world_size = config, rank, world_size
        self.asked, self.preempted = asked, preempted
        self.steps_since_save, self.saved_at = 0, time.monotonic()
        self.looked_at, self.saved_for_preemption = time.monotonic(), False
        # A separate CPU group takes 0.1 to 0.3 ms per step; over NCCL every step would wait for the GPU.
        self._group = None
        if world_size > 1:
            patience = timedelta(minutes=config.collective_timeout_minutes)
            group = torch.distributed.new_group(backend="gloo", timeout=patience)
            self._group = cast(torch.distributed.ProcessGroup, group)

    def after_step(self) -> Signal:
        """Returns the signal for all workers; every worker calls this after every step."""
        self.steps_since_save += 1
        signal = torch.tensor(self._decide() if self.rank == 0 else Signal.GO_ON, dtype=torch.int32)
        if self._group is not None:
            torch.distributed.broadcast(signal, src=0, group=self._group)
        if signal != Signal.LOOK:
            return Signal(int(signal))
        if self.saved_for_preemption or not self.preempted():
            return Signal.GO_ON
        self.saved_for_preemption = True
        return Signal.SAVE

    def saved(self) -> None:
        """Restarts the checkpoint interval; call it after a checkpoint was written."""
        self.steps_since_save, self.saved_at = 0, time.monotonic()

    def _decide(self) -> Signal:
        minutes, steps = self.config.checkpoint_minutes, self.config.checkpoint_steps
        due = (steps is not None and self.steps_since_save >= steps) or (
            minutes is not None and time.monotonic() - self.saved_at >= 60 * minutes
        )
        look = time.monotonic() - self.looked_at >= LOOK_SECONDS
        signal = max(self.asked(), Signal.SAVE if due else Signal.GO_ON, Signal.LOOK if look else Signal.GO_ON)
        if signal == Signal.LOOK:
            self.looked_at = time.monotonic()
        return signal
