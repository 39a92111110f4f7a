"""Runs long work in a thread, so that the main thread can handle signals."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


def in_thread(call: Callable[[], T], meanwhile: Callable[[], None], seconds: float = 0.5) -> T:
    """Runs `call` in a thread and waits for it so that signals are heard; calls `meanwhile` every so many seconds.

    Ray Train replaces the handler of SIGINT where it runs in the main thread, by one that aborts the workers; Ray Data
    prints tracebacks where a signal interrupts it.
    """
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, name="work", daemon=True).start()
    while True:
        try:
            return future.result(timeout=seconds)
        except TimeoutError:
            if future.done():
                raise
            meanwhile()
