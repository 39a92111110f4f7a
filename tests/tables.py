"""Markdown tables of measurements, which tests write to the file that an environment variable names."""

import os
from pathlib import Path


def add_row(variable: str, columns: tuple[str, ...], *cells: object) -> None:
    """Adds a row to the file that `variable` names, with a header if it is the first; does nothing without it."""
    named = os.environ.get(variable)
    if named is None:
        return
    file = Path(named)
    head = f"{_line(columns)}{_line(('---',) * len(columns))}"
    file.write_text((file.read_text() if file.exists() else head) + _line(cells))


def _line(cells: tuple[object, ...]) -> str:
    return f"| {' | '.join(map(str, cells))} |\n"
