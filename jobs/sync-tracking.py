"""python -m jobs.sync-tracking runs: delivers what ended runs could not while the tracking server was down."""  # noqa: N999

import sys
from pathlib import Path

import tyro

from gscnn_platform.command_line import read, user_errors


def deliver(
    folders: tyro.conf.Positional[tuple[Path, ...]], /, uri: str | None = None, restore_deleted: bool = False
) -> None:
    """Delivers the outboxes of ended runs; exits with status 1 if the server does not answer or a run is still running.

    Args:
        folders: run folders, or storage folders that hold runs.
        uri: MLflow tracking URI, if the server has moved since the run; by default the run's own.
        restore_deleted: restore MLflow runs that were deleted in the UI.
    """
    from gscnn_platform.tracking import sync

    sys.exit(0 if sync(folders, uri, lambda line: print(line, flush=True), restore_deleted) else 1)


def main() -> None:
    with user_errors():
        read(deliver, __doc__, needs="run folders, or storage folders that hold runs")


if __name__ == "__main__":
    main()
