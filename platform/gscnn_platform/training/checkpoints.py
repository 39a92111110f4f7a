"""Checkpoints on disk: weights to use, and the state to resume from.

A checkpoint is a folder: config.json and dataset.json (what was trained, on what), model.pt (the weights to use:
averaged if an average is kept), metrics.json, run.json (the MLflow run), training.pt (state to resume from) and
checksums.json of all of these, written last: a folder without it is not a checkpoint. All are read without unpickling
code. A run's folder, a path or URI, holds its last checkpoints, step-NNNNNNNN, and its best one, best-NNNNNNNN, which
has no state to resume from. Ray Train does not manage them: a written checkpoint counts at once, and nothing else
deletes any.

Only functions that read or write tensors import torch: the driver looks for checkpoints without it.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyarrow.fs import FileSelector, FileSystem, FileType, LocalFileSystem, copy_files

import gscnn
from gscnn_platform import machine, tracking
from gscnn_platform.config import ExperimentConfig
from gscnn_platform.data.store import Identity
from gscnn_platform.paths import as_path, filesystem_of
from gscnn_platform.remote_errors import naming, patiently

if TYPE_CHECKING:
    from gscnn.model import SegmentationModel

MODEL, TRAINING = "model.pt", "training.pt"
CONFIG, DATASET, METRICS, RUN = "config.json", "dataset.json", "metrics.json", "run.json"
EVALUATED = (MODEL, CONFIG, DATASET, METRICS, RUN)
"""Files that evaluation needs, and MLflow keeps."""
CHECKSUMS = "checksums.json"
STEP, BEST = "step-", "best-"
"""Prefixes of the names of a run's checkpoints; the step number follows."""
KEPT = 2
"""Number of last checkpoints that a run keeps, so that there is a previous one if the newest is damaged."""


class CheckpointError(ValueError):
    """There is no checkpoint at the given path, or it is incomplete or damaged."""


@dataclass(frozen=True)
class LoadedModel:
    """A trained model on the CPU, in evaluation mode, with what it was trained on."""

    model: SegmentationModel
    config: ExperimentConfig
    dataset: Identity
    metrics: dict[str, float]
    """Metrics of the validation at which it was saved."""
    run_id: str
    """The MLflow run that trained it."""


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


def checkpoint_name(prefix: str, step: int) -> str:
    """`step-00001200`: names sort by their steps."""
    return f"{prefix}{step:08d}"


def save(folder: Path, content: Content, resumable: bool = True) -> None:
    """Writes a checkpoint into an empty folder; one that is not `resumable` has no state to resume from."""
    import torch

    for name, state in ((MODEL, content.weights), (TRAINING, content.training_state if resumable else None)):
        if state is not None:
            # Into an open file: by path, torch does not say that a disk is full.
            with (folder / name).open("wb") as file:
                torch.save(state, file)
    (folder / CONFIG).write_text(content.config.model_dump_json(indent=1), encoding="utf-8")
    (folder / DATASET).write_text(content.dataset.model_dump_json(indent=1), encoding="utf-8")
    (folder / METRICS).write_text(json.dumps(content.metrics, indent=1), encoding="utf-8")
    (folder / RUN).write_text(json.dumps({"run_id": content.run_id}), encoding="utf-8")
    sums = {file.name: _sha256(file) for file in sorted(folder.iterdir())}
    (folder / CHECKSUMS).write_text(json.dumps(sums, indent=1), encoding="utf-8")


def keep(run_folder: str, step: int, content: Content, best: bool) -> None:
    """Writes a run's checkpoint of a step, also as its best one where it is, and removes those that it supersedes.

    Raises:
        OSError: of a remote folder, after PATIENCE_SECONDS of further attempts.
    """
    patiently(lambda: _keep(run_folder, step, content, best))


def _keep(run_folder: str, step: int, content: Content, best: bool) -> None:
    name = checkpoint_name(STEP, step)
    _write(run_folder, name, content, resumable=True)
    # Checkpoints of later steps were damaged, and the run resumed from an earlier one.
    last = [other for other in steps_of_run(run_folder) if other <= name][:KEPT]
    discard(run_folder, *(other for other in _names(run_folder, STEP) if other not in last))
    if best:
        name = checkpoint_name(BEST, step)
        _write(run_folder, name, content, resumable=False)
        discard(run_folder, *(other for other in _names(run_folder, BEST) if other != name))


def _write(run_folder: str, name: str, content: Content, resumable: bool) -> None:
    # A step that is done again, after a damaged checkpoint of it say, finds a folder there.
    discard(run_folder, name)
    place = as_path(run_folder) / name
    place.mkdir(parents=True)
    if isinstance(place, Path):
        save(place, content, resumable)
        return
    with tempfile.TemporaryDirectory() as folder:
        save(Path(folder), content, resumable)
        _copy([str(file) for file in Path(folder).iterdir()], LocalFileSystem(), place.path, place.filesystem)


def clone(checkpoint: str, run_folder: str) -> None:
    """Makes another run's checkpoint, a path or URI, the only one that this run resumes from."""
    source, path = filesystem_of(checkpoint)
    filesystem, root = filesystem_of(run_folder)
    name = path.rpartition("/")[2]
    discard(run_folder, name)
    (as_path(run_folder) / name).mkdir(parents=True)
    _copy([entry.path for entry in source.get_file_info(FileSelector(path))], source, f"{root}/{name}", filesystem)
    discard(run_folder, *(other for other in _names(run_folder, STEP) if other != name))


def _copy(files: list[str], source: FileSystem, folder: str, filesystem: FileSystem) -> None:
    """The checksums come last: a copy that was cut short has none."""
    for file in sorted(files, key=lambda each: each.endswith(CHECKSUMS)):
        copy_files(file, f"{folder}/{file.rpartition('/')[2]}", source, filesystem)


def discard(run_folder: str, *names: str) -> None:
    """Removes what there is of these checkpoints of a run."""
    filesystem, root = filesystem_of(run_folder)
    for name in names:
        if filesystem.get_file_info(f"{root}/{name}").type == FileType.Directory:
            filesystem.delete_dir(f"{root}/{name}")


def steps_of_run(run_folder: str) -> list[str]:
    """Names of the checkpoints that a run may resume from, newest first; an interrupted write is not one."""
    return _whole(run_folder, STEP)[::-1]


def best_of_run(run_folder: str) -> str | None:
    """Path or URI of a run's best checkpoint; None before there is one."""
    names = _whole(run_folder, BEST)
    return f"{run_folder}/{names[-1]}" if names else None


def _whole(run_folder: str, prefix: str) -> list[str]:
    filesystem, root = filesystem_of(run_folder)
    names = _names(run_folder, prefix)
    with naming(run_folder):
        infos = filesystem.get_file_info([f"{root}/{name}/{CHECKSUMS}" for name in names])
    return [name for name, info in zip(names, infos, strict=True) if info.type == FileType.File]


def _names(run_folder: str, prefix: str) -> list[str]:
    """Folders in a run's whose names start with `prefix`, sorted; none if it is not there."""
    filesystem, root = filesystem_of(run_folder)
    with naming(run_folder):
        entries = filesystem.get_file_info(FileSelector(root, allow_not_found=True))
    folders = [entry.base_name for entry in entries if entry.type == FileType.Directory]
    return sorted(name for name in folders if name.startswith(prefix))


def faults(folder: Path) -> list[str]:
    """The missing or changed files of a checkpoint; empty for an intact one."""
    try:
        sums: dict[str, str] = json.loads((folder / CHECKSUMS).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return [f"{CHECKSUMS} is missing"]
    except ValueError:
        return [f"{CHECKSUMS} is damaged"]
    missing = [f"{name} is missing" for name in sums if not (folder / name).is_file()]
    changed = [name for name in sums if (folder / name).is_file() and _sha256(folder / name) != sums[name]]
    return [*missing, *(f"{name} is damaged" for name in changed)]


def load_training_state(checkpoint: str) -> dict[str, Any]:
    """The training_state that `save` was given, on the CPU.

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
    """The metrics of a checkpoint, a path or URI: step, total_steps, epoch and the scores of the last validation."""
    filesystem, path = filesystem_of(checkpoint)
    with filesystem.open_input_stream(f"{path}/{METRICS}") as stream:
        return json.loads(stream.read())


def load_model(path: str | Path) -> LoadedModel:
    """The model of a checkpoint's folder, or of a run's folder: then of its best checkpoint. Also by URI.

    Raises:
        CheckpointError: naming what is missing.
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


def find_model(reference: str, uri: str) -> LoadedModel:
    """The model that a user names.

    Args:
        reference: a checkpoint's or a run's folder or URI, or, at `uri`, an MLflow run id or a registered model,
            `models:/NAME@ALIAS`.
        uri: of the tracking server or store.

    Raises:
        CheckpointError: naming what is missing.
        TrackingError: no such run, or it has no checkpoint.
    """
    if reference.startswith(tracking.MODELS):
        reference = tracking.run_of_model(uri, reference)
    if not tracking.is_run_id(reference):
        return load_model(reference)
    with tracking.checkpoint_of_run(uri, reference) as folder:
        return load_model(folder)


@contextmanager
def as_folder(path: str) -> Iterator[Path]:
    """A checkpoint, or a run's best one, as a local folder; of a path or URI. Raises CheckpointError."""
    is_uri = "://" in path
    if not is_uri and not machine.expanded(path).is_dir():
        raise CheckpointError(f"{path} is not a folder: pass a checkpoint's or a run's folder, or an MLflow run id")
    named = path.rstrip("/") if is_uri else str(machine.expanded(path).absolute())
    filesystem, inside = filesystem_of(best_of_run(named) or named)
    if isinstance(filesystem, LocalFileSystem):
        yield Path(inside)
        return
    with tempfile.TemporaryDirectory() as folder:
        copy_files(inside, folder, filesystem, LocalFileSystem())
        yield Path(folder)


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
