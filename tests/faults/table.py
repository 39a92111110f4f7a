"""Collects the rows of the fault table in docs/operate.md, one per injected fault."""

from tests.tables import add_row

COLUMNS = ("fault", "how it was injected", "what was lost", "seconds until training resumed")


def note(fault: str, how: str, lost: str, seconds: float) -> None:
    """Adds a row if FAULTS_TABLE names a file."""
    add_row("FAULTS_TABLE", COLUMNS, fault, how, lost, f"{seconds:.0f}")
