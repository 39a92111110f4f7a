"""What is on disk of a training run: weights to use, and all that is needed to go on.

A checkpoint is a folder: config.json and dataset.json (what was trained, on what), model.pt (the weights to use: the
averaged ones where an average is kept), metrics.json, run.json (the MLflow run), and training.pt (state to resume
from). All are read without unpickling code.
"""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from ray.train import Checkpoint

from gscnn.model import DeepLabV3Plus, GatedSCNN, build_model
from gscnn_platform import tracking
from gscnn_platform.config import ExperimentConfig
from gscnn_platform.data.store import Identity

MODEL, TRAINING = "model.pt", "training.pt"
CONFIG, DATASET, METRICS, RUN = "config.json", "dataset.json", "metrics.json", "run.json"
EVALUATED = (MODEL, CONFIG, DATASET, METRICS, RUN)
"""What evaluation needs, and MLflow keeps."""


class CheckpointError(ValueError):
    """There is no checkpoint at the path that was named, or it is not whole."""


@dataclass(frozen=True)
class LoadedModel:
    """A trained model on the CPU, in evaluation mode, with what it was trained on."""

    model: GatedSCNN | DeepLabV3Plus
    config: ExperimentConfig
    dataset: Identity
    metrics: dict[str, float]
    """Of the validation at which it was saved."""
    run_id: str
    """The MLflow run that trained it."""


def save(
    folder: Path,
    weights: dict[str, Any],
    training_state: dict[str, Any],
    config: ExperimentConfig,
    dataset: Identity,
    metrics: dict[str, float],
    run_id: str,
) -> None:
    """Writes a checkpoint into an empty folder."""
    torch.save(weights, folder / MODEL)
    torch.save(training_state, folder / TRAINING)
    (folder / CONFIG).write_text(config.model_dump_json(indent=1))
    (folder / DATASET).write_text(dataset.model_dump_json(indent=1))
    (folder / METRICS).write_text(json.dumps(metrics, indent=1))
    (folder / RUN).write_text(json.dumps({"run_id": run_id}))


def load_training_state(checkpoint: Checkpoint) -> dict[str, Any]:
    """What `save` was given as training_state, on the CPU."""
    with checkpoint.as_directory() as folder:
        return torch.load(Path(folder) / TRAINING, map_location="cpu", weights_only=True)


def load_model(path: str | Path) -> LoadedModel:
    """The model of a checkpoint's folder, or of a run's folder: then of its best checkpoint. Also by URI.

    Raises:
        CheckpointError: naming what is missing.
    """
    with _as_folder(str(path)) as folder:
        missing = [file for file in EVALUATED if not (folder / file).is_file()]
        if missing:
            raise CheckpointError(f"{path} is no checkpoint: it lacks {', '.join(missing)}")
        config = ExperimentConfig.model_validate_json((folder / CONFIG).read_text())
        model = build_model(config.model.model_copy(update={"weights": None}))
        model.load_state_dict(torch.load(folder / MODEL, map_location="cpu", weights_only=True))
        return LoadedModel(
            model=model.eval(),
            config=config,
            dataset=Identity.model_validate_json((folder / DATASET).read_text()),
            metrics=json.loads((folder / METRICS).read_text()),
            run_id=json.loads((folder / RUN).read_text())["run_id"],
        )


def find_model(reference: str, uri: str) -> LoadedModel:
    """The model that a user names: by a checkpoint's or a run's folder or URI, or by an MLflow run id at `uri`.

    Raises:
        CheckpointError: naming what is missing.
        TrackingError: no such run, or it has no checkpoint.
    """
    if not tracking.is_run_id(reference):
        return load_model(reference)
    with tracking.checkpoint_of_run(uri, reference) as folder:
        return load_model(folder)


@contextmanager
def for_tracking(source: Path) -> Iterator[Path]:
    """A checkpoint's folder without the state to resume from, which evaluation does not need."""
    with tempfile.TemporaryDirectory() as folder:
        for file in EVALUATED:
            (Path(folder) / file).symlink_to((source / file).absolute())
        yield Path(folder)


@contextmanager
def _as_folder(path: str) -> Iterator[Path]:
    if "://" in path:
        with Checkpoint(path).as_directory() as folder:
            yield Path(folder)
        return
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise CheckpointError(f"{path} is no folder: name a checkpoint's or a run's folder, or an MLflow run id")
    yield _best_of_run(folder)


def _best_of_run(folder: Path) -> Path:
    """`folder` itself, or the best of the checkpoints in it where it is a run's."""
    if (folder / MODEL).is_file():
        return folder
    scores = {
        file.parent: json.loads(file.read_text()).get("val/miou", float("-inf"))
        for file in sorted(folder.glob(f"checkpoint_*/{METRICS}"))
    }
    return max(scores, key=lambda path: scores[path]) if scores else folder
