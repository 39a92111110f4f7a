"""The rank-0 writer, which logs a run's metrics, pictures and description."""

import io
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Final

import numpy as np
from PIL import Image

from gscnn_platform.runs.ref import RunRef
from gscnn_platform.tracking.description import LAST, PICTURES, SHOWN, WIDTH, describe, picture_name
from gscnn_platform.tracking.outbox.outbox import Outbox, Say, Steps, silent
from gscnn_platform.tracking.outboxes import open_outbox

SYSTEM_SECONDS: Final = 10.0
"""Seconds between two samples of the machine's load."""
LAST_SECONDS: Final = 5.0
"""Maximum seconds that the end of the training loop waits for the server; the driver delivers what is left."""


class RunWriter:
    """Writes a run's metrics, pictures and description to its outbox. No method waits for the server."""

    def __init__(self, outbox: Outbox, say: Say = silent) -> None:
        self.outbox, self._say = outbox, say
        self._best: tuple[int, Mapping[str, float]] = (-1, {})
        """The best epoch that the description showed, and its scores."""

    @classmethod
    @contextmanager
    def opened(cls, run: RunRef, system_metrics: bool, say: Say = silent) -> "Iterator[RunWriter]":
        """Yields a writer; while open, delivers in the background and samples the machine's load. Sets no status.

        Args:
            run: the run.
            system_metrics: whether to log CPU, memory, disk, network and GPU use of this machine.
            say: prints a line, when the server stops answering and, at the end, for what is left in the outbox.

        Raises:
            TrackingError: the folder holds the outbox of another run.
        """
        opened = open_outbox(run, say).start()
        stop = threading.Event()
        sampler = threading.Thread(target=_sample, args=(opened, stop), name="system metrics", daemon=True)
        if system_metrics:
            sampler.start()
        try:
            yield cls(opened, say)
        finally:
            stop.set()
            if system_metrics:
                sampler.join()
            left = opened.close(patience=LAST_SECONDS, limit=LAST_SECONDS)
            if left:
                say(f"tracking: {left}")

    def log_steps(self, steps: Steps) -> None:
        """Logs the values of several steps, except those that were logged before the run was resumed."""
        self.outbox.metrics(steps)

    def describe(
        self,
        caption: str,
        epoch: int,
        scores: Mapping[str, float],
        best: int | None = None,
        picture: np.ndarray | None = None,
    ) -> None:
        """Updates the run's description after a validation.

        Args:
            caption: its first line.
            epoch: of the validation.
            scores: of the validation, `val/...`.
            best: the best epoch so far, whose scores are shown too.
            picture: RGB picture of the validation, which becomes an artifact that the description shows.
        """
        if best == epoch:
            self._best = (epoch, scores)
        elif best is not None and self._best[0] != best:
            # The run was resumed after this epoch: a scan of the journal, once.
            self._best = (best, self.outbox.values_at(best, [score.tracked_as for score in SHOWN]))
        shown = {epoch: scores} if best is None else {epoch: scores, best: self._best[1]}
        kept = picture is not None and self._keep(picture, epoch)
        self.outbox.note(describe(self.outbox.journal.run, caption, shown, best, epoch if kept else None))

    def _keep(self, picture: np.ndarray, epoch: int) -> bool:
        """Puts an epoch's picture into the outbox, and a small copy for the description; returns False if it cannot."""
        image = Image.fromarray(picture)
        small = image.copy()
        small.thumbnail((WIDTH, WIDTH))
        try:
            self.outbox.artifact(_encoded(image, "png"), PICTURES, picture_name(epoch))
            self.outbox.artifact(_encoded(small, "jpeg"), PICTURES, LAST)
        except OSError as error:
            # If the disk is full, the run continues without the picture.
            self._say(f"tracking: no picture of epoch {epoch}: {error}")
            return False
        return True


def _encoded(image: Image.Image, form: str) -> bytes:
    file = io.BytesIO()
    image.save(file, format=form, quality=90)
    return file.getvalue()


def _sample(outbox: Outbox, stop: threading.Event) -> None:
    # Importing MLflow takes 4 s of a core: not during a run's first steps.
    if stop.wait(SYSTEM_SECONDS):
        return
    from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
    from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
    from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
    from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

    cpu = CPUMonitor()
    # The first measurement of the CPU's use has nothing to compare with and returns 0%.
    cpu.collect_metrics()
    cpu.clear_metrics()
    monitors = [cpu, DiskMonitor(), NetworkMonitor()]
    with suppress(RuntimeError, ImportError):  # Raised by MLflow if there is no GPU, or no NVML.
        monitors.append(GPUMonitor())
    while not stop.wait(SYSTEM_SECONDS):
        values: dict[str, float] = {}
        for monitor in monitors:
            monitor.collect_metrics()
            values |= {f"system/{key}": value for key, value in monitor.aggregate_metrics().items()}
            monitor.clear_metrics()
        outbox.system(values)
