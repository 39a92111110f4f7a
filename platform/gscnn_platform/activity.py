"""Prints what a job is doing before it can show progress: one line at once, with its duration after three seconds."""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

PATIENCE_SECONDS: Final = 3.0
"""Seconds before the elapsed time is shown."""


@contextmanager
def doing(what: str) -> Iterator[None]:
    """Prints `what` at once, and its duration, continuously in a terminal and otherwise at the end.

    Other output stays intact: in a terminal it appears above the line with the elapsed time.
    """
    began, ended = time.monotonic(), threading.Event()
    live = sys.stdout.isatty()
    _write(what if live else f"{what}\n")

    def count() -> None:
        while not ended.wait(1.0):
            seconds = time.monotonic() - began
            if seconds > PATIENCE_SECONDS:
                _write(f"\r{what} · {seconds:.0f}s")

    counter = threading.Thread(target=count, name="activity", daemon=True)
    if live:
        counter.start()
    try:
        yield
    finally:
        ended.set()
        if live:
            counter.join()
        seconds = time.monotonic() - began
        took = f" · {seconds:.0f}s" if seconds > PATIENCE_SECONDS else ""
        if live:
            _write(f"\r{what}{took}\n")
        elif took:
            _write(f"{what}{took}\n")


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
