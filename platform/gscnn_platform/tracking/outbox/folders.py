"""Outboxes as folders: found, moved aside, and given to another run."""

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from gscnn_platform.tracking.outbox.errors import TrackingError
from gscnn_platform.tracking.outbox.journal import Journal
from gscnn_platform.tracking.outbox.left import left_in
from gscnn_platform.tracking.outbox.outbox import Say
from gscnn_platform.tracking.outbox.parts import HEADER, Address, parts, read_json, write_json


def find_outboxes(folders: Iterable[Path]) -> list[Path]:
    """The outboxes in run folders, or in storage folders that hold such, or the folders themselves.

    Raises:
        TrackingError: a folder has none.
    """
    found: list[Path] = []
    for folder in folders:
        headers = [path for depth in range(1, 4) for path in folder.absolute().glob("*/" * depth + HEADER)]
        if not headers:
            raise TrackingError(
                f"{folder} holds no outbox: name a run's folder, or a storage folder with runs; those of runs whose "
                "storage is a URI are in ~/gscnn-runs/outbox of the machine that started them"
            )
        found += sorted(path.parent.parent for path in headers)
    return list(dict.fromkeys(found))


def make_way(outbox: str | Path, run_id: str, say: Say) -> None:
    """Moves aside the outbox of an earlier run with the same name.

    Args:
        outbox: the folder; there may be none.
        run_id: of the new run.
        say: hears where to, if something in it was not delivered.
    """
    place = Path(outbox)
    others = [known["run_id"] for part in parts(place) if (known := read_json(part / HEADER)) is not None]
    other = next((each for each in others if each != run_id), None)
    if other is None:
        return
    left = left_in(place)
    aside = place.with_name(f"{place.name}-{other[:8]}")
    place.rename(aside)
    if left.waiting:
        say(f"tracking: an earlier run of this name has undelivered data, now in {aside}: {left.waiting}")


def give_to(outbox: Path, address: Address) -> None:
    """Gives an outbox to another run: all its entries are to be delivered again, to that one.

    Args:
        outbox: the folder; there may be none yet.
        address: of the other run.
    """
    for part in parts(outbox):
        journal = Journal(part)
        try:
            (part / "delivered.json").unlink(missing_ok=True)
            (part / "refused.jsonl").unlink(missing_ok=True)
            write_json(part / HEADER, asdict(address))
        finally:
            journal.close()
    (outbox / "steps.json").unlink(missing_ok=True)
