"""Collects the rows of docs/cluster.md's table, one a step that a user takes."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.tables import add_row


def note(step: str, seconds: float) -> None:
    """A row, where HOSTS_TABLE names a file."""
    add_row("HOSTS_TABLE", ("step", "seconds"), step, f"{seconds:.0f}")


@contextmanager
def timed(step: str) -> Iterator[None]:
    """A row with the seconds of the block, if it ends well."""
    began = time.monotonic()
    yield
    note(step, time.monotonic() - began)
