"""Collects the rows of docs/operate.md's fault table, one a fault that was injected."""

import os
from pathlib import Path

HEADER = "| fault | how it was injected | what was lost | seconds until training went on |\n| --- | --- | --- | --- |\n"


def note(fault: str, how: str, lost: str, seconds: float) -> None:
    """Adds a row to the file that FAULTS_TABLE names; without it, to none."""
    named = os.environ.get("FAULTS_TABLE")
    if named is None:
        return
    file = Path(named)
    before = file.read_text() if file.exists() else HEADER
    file.write_text(f"{before}| {fault} | {how} | {lost} | {seconds:.0f} |\n")
