"""Reads checkpoints, by path or URI: the model to use, or the state to resume from.

Only functions that read tensors import torch: the driver finds checkpoints without it.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyarrow.fs import LocalFileSystem, copy_files

import gscnn
from gscnn_platform import machine
from gscnn_platform.config import ExperimentConfig
from gscnn_platform.data.store import Identity
from gscnn_platform.paths import filesystem_of
from gscnn_platform.runs.checkpoint import (
    CONFIG,
    DATASET,
    EVALUATED,
    METRICS,
    MODEL,
    RUN,
    TRAINING,
    CheckpointError,
    faults,
)
from gscnn_platform.runs.folder import RunFolder

if TYPE_CHECKING:
    from gscnn.model import SegmentationModel


@dataclass(frozen=True)
class LoadedModel:
    """A trained model on the CPU, in evaluation mode, with its config and dataset."""

    model: SegmentationModel
    config: ExperimentConfig
    dataset: Identity
    metrics: dict[str, float]
    """Metrics of the validation at which it was saved."""
    run_id: str
    """The MLflow run that trained it."""


def load_model(path: str | Path) -> LoadedModel:
    """Returns the model of a checkpoint, or of a run's best checkpoint, from the folder's path or URI.

    Raises:
        CheckpointError: a file of the checkpoint is missing or damaged.
    """
    with as_folder(str(path)) as folder:
        missing = [file for file in EVALUATED if not (folder / file).is_file()]
        if missing:
            raise CheckpointError(f"{path} is not a checkpoint: it lacks {', '.join(missing)}")
        damaged = faults(folder)
        if damaged:
            raise CheckpointError(f"{path} cannot be used: {', '.join(damaged)}")
        config = ExperimentConfig.model_validate_json((folder / CONFIG).read_text(encoding="utf-8"))
        import torch

        model = gscnn.build_model(config.model.model_copy(update={"weights": None}))
        model.load_state_dict(torch.load(folder / MODEL, map_location="cpu", weights_only=True))
        return LoadedModel(
            model=model.eval(),
            config=config,
            dataset=Identity.model_validate_json((folder / DATASET).read_text(encoding="utf-8")),
            metrics=json.loads((folder / METRICS).read_text(encoding="utf-8")),
            run_id=json.loads((folder / RUN).read_text(encoding="utf-8"))["run_id"],
        )


def load_training_state(checkpoint: str) -> dict[str, Any]:
    """Returns a checkpoint's state to resume from, on the CPU.

    Raises:
        CheckpointError: a file of the checkpoint is missing or damaged.
    """
    import torch

    with as_folder(checkpoint) as folder:
        found = faults(folder)
        if found:
            raise CheckpointError(f"checkpoint {checkpoint} cannot be used: {', '.join(found)}")
        return torch.load(folder / TRAINING, map_location="cpu", weights_only=True)


def metrics_of(checkpoint: str) -> dict[str, float]:
    """Returns the metrics of a checkpoint, a path or URI: step, total_steps, epoch and the last validation's scores."""
    filesystem, path = filesystem_of(checkpoint)
    with filesystem.open_input_stream(f"{path}/{METRICS}") as stream:
        return json.loads(stream.read())


@contextmanager
def as_folder(path: str) -> Iterator[Path]:
    """Yields a checkpoint, or a run's best one, as a local folder; `path` is a path or URI. Raises CheckpointError."""
    is_uri = "://" in path
    if not is_uri and not machine.expanded(path).is_dir():
        raise CheckpointError(f"{path} is not a folder: pass a checkpoint's or a run's folder, or an MLflow run id")
    named = path.rstrip("/") if is_uri else str(machine.expanded(path).absolute())
    filesystem, inside = filesystem_of(RunFolder(named).best() or named)
    if isinstance(filesystem, LocalFileSystem):
        yield Path(inside)
        return
    with tempfile.TemporaryDirectory() as folder:
        copy_files(inside, folder, filesystem, LocalFileSystem())
        yield Path(folder)
