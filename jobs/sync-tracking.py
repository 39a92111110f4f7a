"""python -m jobs.sync-tracking FOLDER...: delivers what ended runs could not, for the tracking server was away."""  # noqa: N999

import sys
from pathlib import Path

import tyro

from jobs.command_line import user_errors


def main(folders: tyro.conf.Positional[tuple[Path, ...]], /, uri: str | None = None) -> None:
    """Delivers the outboxes of ended runs; fails where the server does not answer, or a run still goes on.

    Args:
        folders: run folders, or storage folders that hold runs.
        uri: MLflow tracking URI, where the server has moved since the run; else the run's own.
    """
    with user_errors():
        from gscnn_platform.tracking import sync

        delivered = sync(folders, uri, say=lambda line: print(line, flush=True))
    sys.exit(0 if delivered else 1)


if __name__ == "__main__":
    tyro.cli(main)
