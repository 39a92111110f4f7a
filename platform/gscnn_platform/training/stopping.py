"""SIGTERM and Ctrl-C at the driver -> a checkpoint on all workers at the same step."""

import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final, TypeVar

import ray
from ray.actor import ActorHandle

from gscnn_platform.training.control import Signal

T = TypeVar("T")
POLL_SECONDS: Final = 1.0


class TrainingStoppedError(Exception):
    """A signal ended the run before its last step; its last checkpoint is whole."""

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.exit_status = 128 + number


class StopFlag:
    """What driver and workers have to say to each other: an actor, since Train's workers get no signals.

    From the driver: stop. From a worker: an error that no restart mends, so that Ray Train's restarts end at once.
    """

    def __init__(self) -> None:
        self._raised = False
        self._error: Exception | None = None

    def fail(self, error: Exception) -> None:
        self._error = self._error or error

    def error(self) -> Exception | None:
        return self._error

    def raise_it(self) -> None:
        self._raised = True

    def raised(self) -> bool:
        return self._raised


class Stopper:
    """Turns the first SIGTERM or SIGINT into a request to stop; the second ends the driver as usual."""

    def __init__(self) -> None:
        self.flag: Any = ray.remote(num_cpus=0)(StopFlag).remote()
        self.number: int | None = None

    def error(self) -> Exception | None:
        """What a worker could not mend by starting again."""
        found: Any = ray.get(self.flag.error.remote())
        assert found is None or isinstance(found, Exception)
        return found

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Only in the main thread, the only one that gets signals; elsewhere, as in a trial, it does nothing."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._stop) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _stop(self, number: int, _: FrameType | None) -> None:
        if self.number is not None:
            raise KeyboardInterrupt
        self.number = number
        print(f"\n{signal.Signals(number).name}: stopping after a checkpoint; again to end at once", flush=True)
        self.flag.raise_it.remote()


def in_thread(call: Callable[[], T], meanwhile: Callable[[], None]) -> T:
    """Runs `call` in a thread and waits for it so that signals are heard; calls `meanwhile` twice a second.

    Ray Train replaces the handler of SIGINT where it runs in the main thread, by one that aborts the workers.
    """
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, name="train", daemon=True).start()
    while True:
        try:
            return future.result(timeout=0.5)
        except TimeoutError:
            if future.done():
                raise
            meanwhile()


class Watch:
    """Rank 0's ear: asks the flag in the background, so that no step waits for the answer."""

    def __init__(self, flag: ActorHandle) -> None:
        self._raised = threading.Event()
        self._thread = threading.Thread(target=self._ask, args=(flag,), name="stop flag", daemon=True)
        self._ended = threading.Event()
        self._thread.start()

    def __call__(self) -> Signal:
        return Signal.STOP if self._raised.is_set() else Signal.GO_ON

    def _ask(self, flag: ActorHandle) -> None:
        while not self._ended.wait(POLL_SECONDS):
            if ray.get(flag.raised.remote()):
                self._raised.set()
                return

    def close(self) -> None:
        self._ended.set()
        self._thread.join(timeout=5)
