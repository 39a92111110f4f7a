"""Collects the rows of the table in docs/cluster.md, one per step that a user takes."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.tables import add_row


def note(step: str, seconds: float) -> None:
    """Adds a row if HOSTS_TABLE names a file."""
    add_row("HOSTS_TABLE", ("step", "seconds"), step, f"{seconds:.0f}")


@contextmanager
def timed(step: str) -> Iterator[None]:
    """Adds a row with the seconds of the block, if it succeeds."""
    began = time.monotonic()
    yield
    note(step, time.monotonic() - began)
