"""Collects the values of each step on the device until they are printed and logged to MLflow."""

from collections import deque
from collections.abc import Mapping, Sequence
from math import isfinite, nan
from typing import TYPE_CHECKING

import torch
import torch.distributed
from torch import Tensor

from gscnn_platform.training.progress import Progress, say

if TYPE_CHECKING:
    # The benchmarks train without tracking, on machines without MLflow.
    from gscnn_platform.tracking import RunWriter


class StepLog:
    """Loss terms, gradient norm and learning rates of every step since the last transfer to the host.

    Args:
        progress: formats the progress lines.
        world_size: workers over which loss terms are averaged. A worker's term is its part of the step's term times the
            number of workers (gscnn.losses.JointLoss), so the mean is the term of the whole step.
        writer: MLflow writer, on rank 0 only.
        speak: whether this process prints.
    """

    def __init__(self, progress: Progress, world_size: int, writer: "RunWriter | None", speak: bool) -> None:
        self.progress, self.world_size, self.writer, self.speak = progress, world_size, writer, speak
        self._names: list[str] = []
        self._values: list[Tensor] = []
        self._extra: list[dict[str, float]] = []
        self._unprinted: list[dict[str, float]] = []

    def add(self, values: Mapping[str, Tensor], rates: Mapping[str, float], skipped: int) -> None:
        """Adds a step.

        Args:
            values: scalars on the device: this worker's loss terms, "total", and the gradient norm.
            rates: the learning rates by name, with "lr", which the progress line shows.
            skipped: updates skipped so far.
        """
        self._names = list(values)
        self._values.append(torch.stack([value.detach().float() for value in values.values()]))
        self._extra.append({**rates, **({"skipped": skipped} if skipped else {})})

    def last_of_this_worker(self, back: int = 0) -> dict[str, float]:
        """Returns this worker's values of the last step, or of the step `back` steps earlier."""
        return dict(zip(self._names, self._values[-1 - back].tolist(), strict=True))

    def flush(self, step: int) -> None:
        """Logs the steps up to `step` to MLflow; called on all workers at the same steps."""
        if not self._values:
            return
        values = torch.stack(self._values)
        if self.world_size > 1:
            torch.distributed.all_reduce(values)
            values /= self.world_size
        rows = [dict(zip(self._names, row, strict=True)) for row in values.tolist()]
        if self.writer is not None:
            first = step - len(rows) + 1
            self.writer.log_steps(
                [
                    (
                        first + number,
                        {f"train/{name}": value for name, value in {**row, **extra}.items() if isfinite(value)},
                    )
                    for number, (row, extra) in enumerate(zip(rows, self._extra, strict=True))
                ]
            )
        self._unprinted += [{**row, **extra} for row, extra in zip(rows, self._extra, strict=True)]
        self._values, self._extra = [], []

    def tell(self, step: int) -> None:
        """Logs the steps up to `step` and prints the progress line; called on all workers at the same steps."""
        self.flush(step)
        rows, self._unprinted = self._unprinted, []
        speed = self.progress.images_per_second(step)
        if self.writer is not None:
            self.writer.log_steps([(step, {"train/images_per_second": speed})])
        if self.speak:
            terms = [name for name in self._names if name != "grad_norm"]
            mean = {name: _finite_mean([row[name] for row in rows]) for name in terms}
            say(self.progress.line(step, mean, rows[-1]["lr"], speed))


def _finite_mean(values: Sequence[float]) -> float:
    """Returns the mean without skipped steps; NaN if all steps were skipped."""
    finite = [value for value in values if isfinite(value)]
    return sum(finite) / len(finite) if finite else nan


class FiniteCheck:
    """Finds the first step whose gradient norm is not finite; copies the norms to the host in the background.

    On a GPU a norm is checked after the next step was queued, so that the GPU never idles: one further step may then
    have been taken in memory, but it is never saved. On the CPU a norm is checked immediately.
    """

    def __init__(self, device: torch.device) -> None:
        self.lag = 1 if device.type == "cuda" else 0
        self._waiting: deque[tuple[int, Tensor, torch.cuda.Event | None]] = deque()

    def add(self, step: int, norm: Tensor) -> None:
        """Adds the norm of a step's gradients over all parameters and workers."""
        if self.lag == 0:
            self._waiting.append((step, norm, None))
            return
        host = torch.empty((), dtype=norm.dtype, pin_memory=True).copy_(norm, non_blocking=True)
        arrived = torch.cuda.Event()
        arrived.record()
        self._waiting.append((step, host, arrived))

    def first_bad(self, all_of_them: bool = False) -> int | None:
        """Returns the first step whose norm was NaN or infinite, among those that can be checked now, else None.

        Args:
            all_of_them: also check norms that are still being copied, and wait for them.
        """
        while len(self._waiting) > (0 if all_of_them else self.lag):
            step, norm, arrived = self._waiting.popleft()
            if arrived is not None:
                arrived.synchronize()
            if not norm.isfinite():
                return step
        return None
