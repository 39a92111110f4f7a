"""Writes and checks checkpoints: the weights to use, and the state to resume from.

A checkpoint is a folder: config.json, dataset.json, model.pt (the weights to use: averaged if an average is kept),
metrics.json, run.json (the MLflow run), training.pt (the state to resume from) and checksums.json of all of these. The
checksums are written last: a folder without them is not a checkpoint. No file is unpickled. runs/folder.py decides
which checkpoints a run keeps, and runs/loading.py reads them.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyarrow.fs import FileSystem, copy_files

from gscnn_platform.config import ExperimentConfig
from gscnn_platform.data.store import Identity

MODEL, TRAINING = "model.pt", "training.pt"
CONFIG, DATASET, METRICS, RUN = "config.json", "dataset.json", "metrics.json", "run.json"
EVALUATED = (MODEL, CONFIG, DATASET, METRICS, RUN)
"""Files that evaluation needs and MLflow keeps."""
CHECKSUMS = "checksums.json"
INITIAL = "initial.pt"
"""Weights that a run starts from (runs/initial.py): in the run's folder, not in a checkpoint."""


class CheckpointError(ValueError):
    """There is no checkpoint at the given path, or it is incomplete or damaged."""


@dataclass(frozen=True)
class Content:
    """The content of a checkpoint to write."""

    weights: dict[str, Any]
    """state_dict of the model to use."""
    training_state: dict[str, Any]
    config: ExperimentConfig
    dataset: Identity
    metrics: dict[str, float]
    run_id: str


def save(folder: Path, content: Content, resumable: bool = True) -> None:
    """Writes a checkpoint into an empty folder, without the state to resume from unless `resumable`."""
    import torch

    for name, state in ((MODEL, content.weights), (TRAINING, content.training_state if resumable else None)):
        if state is not None:
            # Into an open file: given a path, torch does not report a full disk.
            with (folder / name).open("wb") as file:
                torch.save(state, file)
    (folder / CONFIG).write_text(content.config.model_dump_json(indent=1), encoding="utf-8")
    (folder / DATASET).write_text(content.dataset.model_dump_json(indent=1), encoding="utf-8")
    (folder / METRICS).write_text(json.dumps(content.metrics, indent=1), encoding="utf-8")
    (folder / RUN).write_text(json.dumps({"run_id": content.run_id}), encoding="utf-8")
    sums = {file.name: _sha256(file) for file in sorted(folder.iterdir())}
    (folder / CHECKSUMS).write_text(json.dumps(sums, indent=1), encoding="utf-8")


def copy(files: list[str], source: FileSystem, folder: str, filesystem: FileSystem) -> None:
    """Copies a checkpoint's files, the checksums last, so that an interrupted copy is not a checkpoint."""
    for file in sorted(files, key=lambda each: each.endswith(CHECKSUMS)):
        copy_files(file, f"{folder}/{file.rpartition('/')[2]}", source, filesystem)


def faults(folder: Path) -> list[str]:
    """Returns a message for each missing or damaged file of a checkpoint; empty if it is intact."""
    try:
        sums: dict[str, str] = json.loads((folder / CHECKSUMS).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return [f"{CHECKSUMS} is missing"]
    except ValueError:
        return [f"{CHECKSUMS} is damaged"]
    missing = [f"{name} is missing" for name in sums if not (folder / name).is_file()]
    changed = [name for name in sums if (folder / name).is_file() and _sha256(folder / name) != sums[name]]
    return [*missing, *(f"{name} is damaged" for name in changed)]


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
