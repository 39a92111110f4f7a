"""The rank-0 writer, which logs a run's metrics and pictures."""

import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

import numpy as np
from PIL import Image

from gscnn_platform.runs.ref import RunRef
from gscnn_platform.tracking.outbox.outbox import Outbox, Say, Steps, silent
from gscnn_platform.tracking.outboxes import open_outbox
from gscnn_platform.tracking.uri import artifact_link

SYSTEM_SECONDS: Final = 10.0
"""Seconds between two samples of the machine's load."""
LAST_SECONDS: Final = 5.0
"""Maximum seconds that the end of the training loop waits for the server; the driver delivers what is left."""


class RunWriter:
    """Writes a run's metrics and pictures to its outbox. No method waits for the server."""

    def __init__(self, outbox: Outbox, say: Say = silent) -> None:
        self.outbox, self.run_id = outbox, outbox.journal.run.run_id
        self._say = say

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

    def log_picture(self, picture: np.ndarray, epoch: int, caption: str) -> None:
        """Logs an RGB picture of an epoch as an artifact; the run's description shows the caption and links to it."""
        name = f"epoch-{epoch:03d}.png"
        link = artifact_link(self.run_id, f"validation/{name}", f"validation scenes at epoch {epoch}")
        note = f"{caption}\n\n{link}; all epochs: Artifacts, folder validation"
        png = io.BytesIO()
        Image.fromarray(picture).save(png, format="png")
        try:
            self.outbox.artifact(png.getvalue(), "validation", name, note)
        except OSError as error:
            # If the disk is full, the run continues without the picture.
            self._say(f"tracking: no picture of epoch {epoch}: {error}")


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
