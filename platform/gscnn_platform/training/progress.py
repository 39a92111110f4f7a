"""The progress line: position, speed and remaining time of a run."""

import time
from collections.abc import Mapping

from gscnn_platform.interrupts import tell


class Progress:
    """Counts optimizer steps and prints lines such as

    epoch  3/12 · step 40/46 · loss 1.23 (seg 0.912, edge 0.014, attention 0.041) · lr 0.0312 · 21.3 images/s · 40s left
    """

    def __init__(self, epochs: int, steps_per_epoch: int, batch_size: int, first_step: int) -> None:
        self.epochs, self.steps_per_epoch, self.batch_size = epochs, steps_per_epoch, batch_size
        self.total = epochs * steps_per_epoch
        self._first = first_step
        self._at_last_line = (self._first, time.perf_counter())
        self._training_time = 0.0

    def images_per_second(self, step: int) -> float:
        """Returns the speed since the last call; `step` counts optimizer steps from the start of the run."""
        last_step, last_time = self._at_last_line
        now = time.perf_counter()
        self._at_last_line = (step, now)
        self._training_time += now - last_time
        return (step - last_step) * self.batch_size / (now - last_time)

    def line(self, step: int, values: Mapping[str, float], lr: float, speed: float) -> str:
        """Returns the progress line; `values` holds "total" and the loss terms, `speed` is in images/s."""
        epoch, in_epoch = divmod(step - 1, self.steps_per_epoch)
        terms = ", ".join(f"{name} {value:.3f}" for name, value in values.items() if name != "total")
        left = self._training_time / (step - self._first) * (self.total - step)
        return (
            f"epoch {epoch + 1:>{len(str(self.epochs))}}/{self.epochs} · "
            f"step {in_epoch + 1:>{len(str(self.steps_per_epoch))}}/{self.steps_per_epoch} · "
            f"loss {values['total']:.3f} ({terms}) · lr {lr:.4f} · {speed:.1f} images/s · {duration(left)} left"
        )

    def resumed(self) -> None:
        """Restarts the clock after a pause, such as validation, which does not count towards speed and time left."""
        self._at_last_line = (self._at_last_line[0], time.perf_counter())


def duration(seconds: float) -> str:
    """Returns seconds as text: `45s`, `3m 05s`, `2h 10m`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes}m {rest:02d}s" if minutes < 60 else f"{minutes // 60}h {minutes % 60:02d}m"


def say(line: str) -> None:
    """Prints a line at once. Ray Train replaces `print` in its workers with a logger that shows each line twice."""
    tell(line)
