"""What is on disk of a training run: weights to use, and all that is needed to go on.

A checkpoint is a folder: config.json and dataset.json (what was trained, on what), model.pt (the weights to use: the
averaged ones where an average is kept), metrics.json, run.json (the MLflow run), training.pt (state to resume from) and
checksums.json of all of these, written last. All are read without unpickling code. A run's folder holds its last
checkpoints, step-NNNNNNNN-xxxx, and its best one, best-NNNNNNNN, which has no state to resume from.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pyarrow.fs import FileSelector, FileSystem, FileType, copy_files
from ray.train import Checkpoint

from gscnn.model import DeepLabV3Plus, GatedSCNN, build_model
from gscnn_platform import tracking
from gscnn_platform.config import ExperimentConfig
from gscnn_platform.data.store import Identity

MODEL, TRAINING = "model.pt", "training.pt"
CONFIG, DATASET, METRICS, RUN = "config.json", "dataset.json", "metrics.json", "run.json"
EVALUATED = (MODEL, CONFIG, DATASET, METRICS, RUN)
"""What evaluation needs, and MLflow keeps."""
CHECKSUMS = "checksums.json"
STEP, BEST = "step-", "best-"
"""How the names of a run's checkpoints start; the number of the step follows."""
KEPT = 2
"""Last checkpoints that a run keeps: where the newest turns out to be damaged, there is the one before it."""


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


def checkpoint_name(prefix: str, step: int) -> str:
    """`step-00001200`: names sort by their steps."""
    return f"{prefix}{step:08d}"


def save(
    folder: Path,
    weights: dict[str, Any],
    training_state: dict[str, Any] | None,
    config: ExperimentConfig,
    dataset: Identity,
    metrics: dict[str, float],
    run_id: str,
) -> None:
    """Writes a checkpoint into an empty folder; without `training_state` one to use, but not to resume from."""
    for name, content in ((MODEL, weights), (TRAINING, training_state)):
        if content is not None:
            # Into an open file: by path, torch does not say that a disk is full.
            with (folder / name).open("wb") as file:
                torch.save(content, file)
    (folder / CONFIG).write_text(config.model_dump_json(indent=1))
    (folder / DATASET).write_text(dataset.model_dump_json(indent=1))
    (folder / METRICS).write_text(json.dumps(metrics, indent=1))
    (folder / RUN).write_text(json.dumps({"run_id": run_id}))
    sums = {file.name: _sha256(file) for file in sorted(folder.iterdir())}
    (folder / CHECKSUMS).write_text(json.dumps(sums, indent=1))


def faults(folder: Path) -> list[str]:
    """What is missing from a checkpoint or differs from what was written; empty for a whole one."""
    try:
        sums: dict[str, str] = json.loads((folder / CHECKSUMS).read_text())
    except FileNotFoundError:
        return [f"{CHECKSUMS} is missing"]
    except ValueError:
        return [f"{CHECKSUMS} is damaged"]
    missing = [f"{name} is missing" for name in sums if not (folder / name).is_file()]
    changed = [name for name in sums if (folder / name).is_file() and _sha256(folder / name) != sums[name]]
    return [*missing, *(f"{name} is damaged" for name in changed)]


def keep_best(folder: Path, run_folder: str, step: int) -> None:
    """Copies a checkpoint to a run's folder, a path or URI, as its best; the one before goes once it is there."""
    filesystem, root = FileSystem.from_uri(run_folder)
    name = checkpoint_name(BEST, step)
    filesystem.create_dir(f"{root}/{name}")
    # The checksums come last: a copy that was cut short has none, and counts for nothing.
    for file in sorted(folder.iterdir(), key=lambda each: each.name == CHECKSUMS):
        copy_files(str(file), f"{root}/{name}/{file.name}", destination_filesystem=filesystem)
    for other in _names(filesystem, root, BEST):
        if other != name:
            filesystem.delete_dir(f"{root}/{other}")


def discard(run_folder: str, *names: str) -> None:
    """Removes what there is of these checkpoints of a run, a path or URI."""
    filesystem, root = FileSystem.from_uri(run_folder)
    for name in names:
        if filesystem.get_file_info(f"{root}/{name}").type == FileType.Directory:
            filesystem.delete_dir(f"{root}/{name}")


def after(run_folder: str, newest: Checkpoint | None) -> list[str]:
    """Names of the checkpoints of later steps than `newest`: a crash came before Ray Train heard of them."""
    filesystem, root = FileSystem.from_uri(run_folder)
    end = len(checkpoint_name(STEP, 0))
    last = "" if newest is None else newest.path.rpartition("/")[2][:end]
    return [name for name in _names(filesystem, root, STEP) if name[:end] > last]


def resumable(newest: Checkpoint) -> list[Checkpoint]:
    """`newest` and the checkpoints before it in the same run's folder, newest first."""
    root, _, name = newest.path.rpartition("/")
    end = len(checkpoint_name(STEP, 0))
    names = [other for other in _names(newest.filesystem, root, STEP) if other != name and other[:end] <= name[:end]]
    return [newest, *(Checkpoint(f"{root}/{other}", newest.filesystem) for other in reversed(names))]


def load_training_state(checkpoint: Checkpoint) -> dict[str, Any]:
    """What `save` was given as training_state, on the CPU.

    Raises:
        CheckpointError: a file of the checkpoint is missing or damaged.
    """
    with checkpoint.as_directory() as folder:
        found = faults(Path(folder))
        if found:
            raise CheckpointError(f"checkpoint {checkpoint.path} cannot be used: {', '.join(found)}")
        return torch.load(Path(folder) / TRAINING, map_location="cpu", weights_only=True)


def load_model(path: str | Path) -> LoadedModel:
    """The model of a checkpoint's folder, or of a run's folder: then of its best checkpoint. Also by URI.

    Raises:
        CheckpointError: naming what is missing.
    """
    with as_folder(str(path)) as folder:
        missing = [file for file in EVALUATED if not (folder / file).is_file()]
        if missing:
            raise CheckpointError(f"{path} is no checkpoint: it lacks {', '.join(missing)}")
        damaged = faults(folder)
        if damaged:
            raise CheckpointError(f"{path} cannot be used: {', '.join(damaged)}")
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
def as_folder(path: str) -> Iterator[Path]:
    """A checkpoint, or a run's best one, as a local folder; of a path or URI. Raises CheckpointError."""
    is_uri = "://" in path
    if not is_uri and not Path(path).expanduser().is_dir():
        raise CheckpointError(f"{path} is no folder: name a checkpoint's or a run's folder, or an MLflow run id")
    named = path.rstrip("/") if is_uri else str(Path(path).expanduser().absolute())
    with Checkpoint(best_of_run(named) or named).as_directory() as folder:
        yield Path(folder)


def best_of_run(run_folder: str) -> str | None:
    """Path or URI of a run's best checkpoint; None before there is one."""
    filesystem, root = FileSystem.from_uri(run_folder)
    names = _names(filesystem, root, BEST)
    infos = filesystem.get_file_info([f"{root}/{name}/{CHECKSUMS}" for name in names])
    whole = [name for name, info in zip(names, infos, strict=True) if info.type == FileType.File]
    return f"{run_folder}/{whole[-1]}" if whole else None


def _names(filesystem: FileSystem, root: str, prefix: str) -> list[str]:
    """Folders below `root` whose names start with `prefix`, sorted; none where `root` is not there."""
    entries = filesystem.get_file_info(FileSelector(root, allow_not_found=True))
    folders = [entry.base_name for entry in entries if entry.type == FileType.Directory]
    return sorted(name for name in folders if name.startswith(prefix))


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
