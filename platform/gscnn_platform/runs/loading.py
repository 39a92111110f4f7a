"""Reads checkpoints, by path or URI: the model to use, the weights alone, or the state to resume from.

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

from pyarrow.fs import FileType, LocalFileSystem, copy_files

import gscnn
from gscnn_platform import machine
from gscnn_platform.config import ExperimentConfig
from gscnn_platform.data.store import Identity
from gscnn_platform.paths import filesystem_of
from gscnn_platform.remote_errors import naming
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
from gscnn_platform.runs.released import RELEASED, RELEASED_DATASET
from gscnn_platform.weight_files import WeightFileError, check_weight_file, sha256_of

if TYPE_CHECKING:
    from gscnn.model import SegmentationModel


@dataclass(frozen=True)
class WeightFile:
    """A file of weights that no run of ours has trained."""

    location: str
    """Absolute path or URI."""
    sha256: str


@dataclass(frozen=True)
class LoadedModel:
    """A trained model on the CPU, in evaluation mode, with its config and dataset."""

    model: SegmentationModel
    config: ExperimentConfig
    dataset: Identity
    metrics: dict[str, float]
    """Metrics of the validation at which it was saved."""
    run_id: str | None
    """The MLflow run that trained it; None: it is of a file."""
    file: WeightFile | None = None
    """The authors' released checkpoint; None: a run trained it."""

    @property
    def origin(self) -> str:
        """The MLflow run's id, or the digest of the file: what tells its weights from others."""
        assert self.run_id is not None or self.file is not None
        return self.run_id or f"sha256:{self.file.sha256}"  # pyright: ignore[reportOptionalMemberAccess]


def load_model(path: str | Path) -> LoadedModel:
    """Returns the model of a checkpoint, or of a run's best checkpoint, from the folder's path or URI; or that of the
    authors' released checkpoint, a file.

    Raises:
        CheckpointError: a file of the checkpoint is missing or damaged, or a file is not the authors' checkpoint.
    """
    if is_file(str(path)):
        return _load_released(str(path))
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


def _load_released(location: str) -> LoadedModel:
    with as_file(location) as file:
        if (file.parent / CONFIG).is_file():
            raise CheckpointError(f"{location} is a file of a checkpoint: pass its folder, {file.parent}")
        check_file(location, file)
        from gscnn.released_weights import with_unit_prior
        from gscnn_platform.released_checkpoint import ReleasedCheckpointError, load_released_checkpoint

        try:
            model = load_released_checkpoint(file)
        except ReleasedCheckpointError as error:
            raise CheckpointError(
                f"{error}. A file can only be the authors' released checkpoint; of this project's models pass the "
                "folder or the MLflow run id"
            ) from error
        model.load_state_dict(with_unit_prior(model.state_dict()), assign=True)
        source = WeightFile(location if "://" in location else str(file), sha256_of(file))
    return LoadedModel(model, RELEASED, RELEASED_DATASET, metrics={}, run_id=None, file=source)


def check_file(location: str, file: Path) -> None:
    """Raises CheckpointError where the local copy of a file is none of weights, by its first and last bytes."""
    try:
        with file.open("rb") as opened:
            check_weight_file(opened, location)
    except WeightFileError as error:
        raise CheckpointError(str(error)) from error


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


def is_file(location: str) -> bool:
    """Whether a path or URI is of a file, not of a folder."""
    if "://" not in location:
        return machine.expanded(location).is_file()
    filesystem, inside = filesystem_of(location)
    with naming(location):
        return filesystem.get_file_info(inside).type == FileType.File


@contextmanager
def as_file(location: str) -> Iterator[Path]:
    """A file, given by path or URI, on this machine."""
    if "://" not in location:
        yield machine.expanded(location).absolute()
        return
    filesystem, inside = filesystem_of(location)
    with tempfile.TemporaryDirectory() as folder, naming(location):
        copy = Path(folder) / inside.rpartition("/")[2]
        copy_files(inside, str(copy), filesystem, LocalFileSystem())
        yield copy


@contextmanager
def as_folder(path: str) -> Iterator[Path]:
    """Yields a checkpoint, or a run's best one, as a local folder; `path` is a path or URI. Raises CheckpointError."""
    is_uri = "://" in path
    if not is_uri and not machine.expanded(path).is_dir():
        raise CheckpointError(
            f"{path} is not a folder or a file: pass a checkpoint's or a run's folder, an MLflow run id, or the "
            "authors' released checkpoint"
        )
    named = path.rstrip("/") if is_uri else str(machine.expanded(path).absolute())
    filesystem, inside = filesystem_of(RunFolder(named).best() or named)
    if isinstance(filesystem, LocalFileSystem):
        yield Path(inside)
        return
    with tempfile.TemporaryDirectory() as folder:
        copy_files(inside, folder, filesystem, LocalFileSystem())
        yield Path(folder)
