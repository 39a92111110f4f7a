"""The weights that a run starts from, in its folder from its creation until its first checkpoint.

So all workers can read them, wherever the user's file lies, and a run that resumes does not need that file.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gscnn_platform.paths import as_path, upload
from gscnn_platform.runs.checkpoint import INITIAL, CheckpointError
from gscnn_platform.runs.folder import INIT_REPORT, RunFolder
from gscnn_platform.runs.loading import as_file

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class InitialWeights:
    """Tensors that a model starts from, and where they are from."""

    tensors: Mapping[str, Tensor]
    """Under the model's names; what is missing is initialized."""
    report: Mapping[str, Any]
    """For a JSON file: source, its sha256, and which tensors were loaded, initialized and unused."""
    description: str
    """The same for users."""


def write_initial(folder: RunFolder, initial: InitialWeights) -> None:
    """Writes tensors and report into a run's folder. Raises OSError."""
    import torch

    folder.write_json(INIT_REPORT, dict(initial.report))
    place = folder.path / INITIAL
    with tempfile.TemporaryDirectory() as temporary:
        file = place.with_name(f".{INITIAL}.partial") if isinstance(place, Path) else Path(temporary) / INITIAL
        # Into an open file: by path, torch does not say that a disk is full.
        try:
            with file.open("wb") as opened:
                torch.save(dict(initial.tensors), opened)
            if isinstance(place, Path):
                file.replace(place)
            else:
                upload(file, place)
        finally:
            file.unlink(missing_ok=True)


def read_initial(folder: RunFolder) -> dict[str, Tensor]:
    """The tensors, on the CPU.

    Raises:
        CheckpointError: they are not there: somebody removed them.
    """
    import torch

    if not as_path(folder.at(INITIAL)).is_file():
        raise CheckpointError(f"{folder} has no checkpoint and no {INITIAL}: start a new run under another --run-name")
    with as_file(folder.at(INITIAL)) as file:
        return torch.load(file, map_location="cpu", weights_only=True)


def init_report(folder: RunFolder) -> dict[str, Any] | None:
    """The report of a run; None if it started from no file."""
    try:
        return folder.read_json(INIT_REPORT)
    except FileNotFoundError:
        return None
