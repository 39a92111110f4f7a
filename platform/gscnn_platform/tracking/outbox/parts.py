"""Reads the parts of an outbox, whichever process holds them."""

import json
import os
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from gscnn_platform.runs.ref import RunRef
from gscnn_platform.tracking.outbox.errors import TrackingError

HEADER: Final = "outbox.json"
JOURNAL: Final = "journal.jsonl"
ROWS: Final = ("metrics", "summary", "system")
"""Kinds of entries that are metric rows."""

Entry = dict[str, Any]
"""A line of the journal, complete in itself; its first key is "kind"."""


def parts(outbox: Path) -> list[Path]:
    """Returns the folders of an outbox's parts, in order."""
    return sorted((path.parent for path in outbox.glob(f"*/{HEADER}")), key=lambda part: int(part.name))


def entries(part: Path, kind: str) -> Iterator[Entry]:
    """Yields all entries of one kind, delivered or not, whichever process holds the part."""
    start = f'{{"kind":"{kind}"'.encode()
    for entry, _ in lines(part, 0, None, start):
        if entry is not None:
            yield entry


def undelivered(part: Path) -> list[Entry]:
    """Returns the undelivered entries, whichever process holds the part."""
    return [entry for entry, _ in lines(part, delivered_bytes(part), None) if entry is not None]


def refused(part: Path) -> list[str]:
    """Returns the server's reason for each rejected entry."""
    file = part / "refused.jsonl"
    return (
        [json.loads(line)["reason"] for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []
    )


def run_of(part: Path) -> RunRef:
    """Returns the run of a part's entries, and where they are delivered.

    Raises:
        TrackingError: a crash left the file damaged; resuming the run writes it again.
    """
    known = read_json(part / HEADER)
    if known is None:
        raise TrackingError(f"{part / HEADER} is missing or damaged")
    return RunRef(part.parent, known["tracking_uri"], known["run_id"])


def write_run(part: Path, run: RunRef) -> None:
    """Assigns the part's entries to a run."""
    write_json(part / HEADER, {"tracking_uri": run.tracking_uri, "run_id": run.run_id})


def complete_bytes(part: Path) -> int:
    """Returns the size of the journal's complete lines, in bytes."""
    size = 0
    with (part / JOURNAL).open("rb") as file:
        for line in file:
            size += len(line) if line.endswith(b"\n") else 0
    return size


def delivered_bytes(part: Path) -> int:
    """Returns the delivered bytes of the journal; 0 if unknown, since delivering an entry again changes nothing."""
    position = (read_json(part / "delivered.json") or {}).get("bytes", 0)
    try:
        with (part / JOURNAL).open("rb") as file:
            file.seek(max(0, position - 1))
            return position if position and file.read(1) == b"\n" else 0
    except FileNotFoundError:
        return 0


def read_json(file: Path) -> Mapping[str, Any] | None:
    """Returns the file's content; None if there is no such file, or if a crash left it damaged."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None


def write_json(file: Path, data: Mapping[str, Any], over: bool = True) -> None:
    """Writes a file atomically; if `over` is false, only if there is no such file."""
    new = file.with_name(f"{file.stem}-{uuid.uuid4().hex[:8]}.new")
    try:
        new.write_text(json.dumps(data), encoding="utf-8")
        if over:
            new.replace(file)
        else:
            os.link(new, file)
    except FileExistsError:
        pass
    finally:
        new.unlink(missing_ok=True)


def lines(part: Path, start: int, end: int | None, prefix: bytes = b"") -> Iterator[tuple[Entry | None, int]]:
    """Yields the entries between two positions whose lines begin with `prefix`, each with the position after it."""
    position = start
    if not (part / JOURNAL).exists():
        return  # The process that created the part was killed before its first entry.
    with (part / JOURNAL).open("rb") as file:
        file.seek(start)
        for line in file:
            position += len(line)
            if (end is not None and position > end) or not line.endswith(b"\n"):
                return
            if line.startswith(prefix):
                try:
                    yield json.loads(line), position
                except ValueError:
                    yield None, position
