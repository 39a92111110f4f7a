"""Runs long work in a thread, so that the main thread can handle signals."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


def in_thread(call: Callable[[], T], meanwhile: Callable[[], None], seconds: float = 0.5) -> T:
    """Runs `call` in a thread and waits for it so that signals are handled; calls `meanwhile` every `seconds`.

    In the main thread, Ray Train replaces the handler of SIGINT by one that aborts the workers; Ray Data prints
    tracebacks when a signal interrupts it.
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
