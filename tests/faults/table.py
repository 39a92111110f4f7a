"""Collects the rows of docs/operate.md's fault table, one a fault that was injected."""

from tests.tables import add_row

COLUMNS = ("fault", "how it was injected", "what was lost", "seconds until training resumed")


def note(fault: str, how: str, lost: str, seconds: float) -> None:
    """A row, where FAULTS_TABLE names a file."""
    add_row("FAULTS_TABLE", COLUMNS, fault, how, lost, f"{seconds:.0f}")
