"""Stops training on SIGTERM, Ctrl-C or a closed terminal, after a checkpoint on all workers at the same step."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Final, TypeVar

from gscnn_platform.interrupts import InterruptedJobError, drop_dead_output, heard, is_again, tell_of_signal
from gscnn_platform.training.step_signal import Signal

if TYPE_CHECKING:
    from ray.actor import ActorHandle

T = TypeVar("T")
POLL_SECONDS: Final = 1.0


class DriverLink:
    """Actor that carries messages between driver and workers, because Ray Train's workers receive no signals.

    From the driver: the request to stop. From a worker: an error that no restart fixes, which ends Ray Train's restarts
    at once, and the scores of each validation.
    """

    def __init__(self) -> None:
        self._raised = False
        self._arrived = False
        self._error: Exception | None = None
        self._scores: list[dict[str, float]] = []

    def fail(self, error: Exception) -> None:
        self._error = self._error or error

    def error(self) -> Exception | None:
        return self._error

    def stop(self) -> None:
        self._raised = True

    def stopped(self) -> bool:
        return self._raised

    def tell(self, scores: dict[str, float]) -> None:
        self._scores.append(scores)

    def arrive(self) -> Exception | None:
        """Records that a worker is ready; returns the error that ended the previous workers, if there was one."""
        self._arrived = True
        return self._error

    def look(self) -> tuple[bool, list[dict[str, float]]]:
        """Returns whether a worker has arrived, and the scores reported since the last call."""
        taken, self._scores = self._scores, []
        return self._arrived, taken


class Stopper:
    """Turns the first SIGTERM, SIGINT or SIGHUP into a request to stop; the second ends the driver at once."""

    def __init__(self) -> None:
        self.number: int | None = None
        self._first = 0.0
        self.by_sweep = False
        self._raised = threading.Event()

    def asked(self) -> Signal:
        """Returns the requested signal; passed to the Control of a worker in this process."""
        return Signal.STOP if self._raised.is_set() else Signal.GO_ON

    @property
    def stopping(self) -> bool:
        return self._raised.is_set()

    def stop(self, by_sweep: bool = False) -> None:
        """Requests a stop, as a signal does; a sweep calls it when its scheduler stops the trial."""
        self.by_sweep = by_sweep
        self._raised.set()

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Handles signals while open. Python delivers them to the main thread only; elsewhere this does nothing."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._stop) for number in heard()}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _stop(self, number: int, _: FrameType | None) -> None:
        if self.number is not None:
            if not is_again(number, self._first):
                return
            raise InterruptedJobError(number, "ended at once; rerun the command to resume from the last checkpoint")
        self._first = time.monotonic()
        self.number = number
        drop_dead_output()
        tell_of_signal(number, "stopping after a checkpoint; repeat to end at once", stream=1)
        self.stop()


class Watch:
    """Stop signal poller on rank 0: asks the driver in the background, so that no step waits for the answer."""

    def __init__(self, link: "ActorHandle") -> None:
        self._raised = threading.Event()
        self._thread = threading.Thread(target=self._ask, args=(link,), name="stop", daemon=True)
        self._ended = threading.Event()
        self._thread.start()

    def __call__(self) -> Signal:
        return Signal.STOP if self._raised.is_set() else Signal.GO_ON

    def _ask(self, link: "ActorHandle") -> None:
        import ray

        while not self._ended.wait(POLL_SECONDS):
            if ray.get(link.stopped.remote()):
                self._raised.set()
                return

    def close(self) -> None:
        self._ended.set()
        self._thread.join(timeout=5)
