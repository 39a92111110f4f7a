"""Resumes, ends, evaluates and finds MLflow runs, for the driver and the other jobs."""

import importlib.metadata
import math
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import mlflow
import numpy as np
import torch
from mlflow import pytorch as mlflow_pytorch
from mlflow.entities import Metric, RunStatus
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec
from torch import nn

from gscnn.export import NamedOutputs, example_inputs
from gscnn_platform.runs.ref import RunRef
from gscnn_platform.tracking.creating import FOLDER
from gscnn_platform.tracking.delivery import CHECKPOINT, EVALUATION, NOTE, client_of
from gscnn_platform.tracking.keys import mlflow_key
from gscnn_platform.tracking.outbox.errors import TrackingError
from gscnn_platform.tracking.outbox.left import Left
from gscnn_platform.tracking.outbox.outbox import Say, silent
from gscnn_platform.tracking.outboxes import open_outbox
from gscnn_platform.tracking.refusals import reason
from gscnn_platform.tracking.sync import deliver
from gscnn_platform.tracking.uri import artifact_link, check_database


def reopen_run(run: RunRef) -> None:
    """Marks a resumed run as running. If MLflow does not answer within 3 s, the status is delivered later.

    Raises:
        TrackingError: the outbox holds another run's metrics.
    """
    opened = open_outbox(run).start()
    opened.status(RunStatus.to_string(RunStatus.RUNNING), {})
    opened.close(patience=3, limit=3)


def close_run(
    run: RunRef,
    failure: str | None = None,
    stopped: str | None = None,
    as_planned: bool = False,
    patience: float = 60,
    say: Say = silent,
) -> Left:
    """Ends the run as finished, failed or stopped, and delivers everything that its outbox still holds.

    Args:
        run: the run.
        failure: why it failed; None: it did not fail.
        stopped: what stopped it; None: it was not stopped.
        as_planned: whether a sweep's scheduler stopped it, so that it counts as finished.
        patience: seconds to wait while nothing can be delivered.
        say: prints a line, if the server does not answer.

    Returns:
        What could not be delivered; false if everything was.

    Raises:
        TrackingError: the outbox holds another run's metrics.
    """
    status, tags = RunStatus.FINISHED, {}
    if failure is not None:
        status, tags = RunStatus.FAILED, {"failure": failure[:5000]}
    elif stopped is not None:
        status, tags = RunStatus.FINISHED if as_planned else RunStatus.KILLED, {"stopped": stopped[:5000]}
    opened = open_outbox(run)
    opened.status(RunStatus.to_string(status), tags)
    opened.close(patience=0)
    return deliver(opened.folder, patience, say)


def log_best(run: RunRef, model: nn.Module, checkpoint: Path, metrics: Mapping[str, float]) -> str | None:
    """Puts the best checkpoint, its metrics as `val_best/...`, and the model for `mlflow.pytorch.load_model` into the
    outbox; `close_run` delivers them. Does nothing if the outbox already has them.

    The model is saved as an exported program (pt2): it loads without this project and without unpickling, takes any
    batch and image size, and returns a dictionary with seg_logits [B, K, H, W] and, for a Gated-SCNN, edge_logits
    [B, 1, H, W].

    Returns:
        Why the model is left out: torch cannot export every backbone of timm. None if it is not.

    Raises:
        TrackingError: the outbox holds another run's metrics.
        OSError: the outbox cannot be written, for example because the disk is full.
    """
    values = {f"val/best_{key}": value for key, value in metrics.items()}
    opened = open_outbox(run)
    try:
        if opened.knows_best(values):
            return None
        with tempfile.TemporaryDirectory(dir=opened.folder) as folder:
            saved, unsaved = Path(folder) / "model", None
            try:
                _save_program(model, saved)
            except OSError:
                raise
            except Exception as error:  # torch.export raises errors of many kinds, with no common base.
                unsaved = (str(error) or type(error).__name__).splitlines()[0]
            opened.best(values, checkpoint, CHECKPOINT, None if unsaved else saved)
            return unsaved
    finally:
        opened.close(patience=0)


def log_best_scores(run: RunRef, metrics: Mapping[str, float]) -> None:
    """Puts the best checkpoint's metrics as `val_best/...` into the outbox, without its files.

    Raises:
        TrackingError: the outbox holds another run's metrics.
    """
    opened = open_outbox(run)
    opened.summary({f"val/best_{key}": value for key, value in metrics.items()})
    opened.close(patience=0)


def _save_program(model: nn.Module, folder: Path) -> None:
    example = example_inputs()
    inputs = Schema(
        [
            TensorSpec(np.dtype("float32"), (-1, 3, -1, -1), "image"),
            TensorSpec(np.dtype("float32"), (-1, 1, -1, -1), "gradient"),
        ]
    )
    with torch.inference_mode():
        shown = NamedOutputs(model)(*example)
    outputs = Schema(
        [TensorSpec(np.dtype("float32"), (-1, value.shape[1], -1, -1), key) for key, value in shown.items()]
    )
    mlflow_pytorch.save_model(
        NamedOutputs(model).eval(),
        folder,
        serialization_format="pt2",
        input_example=example,
        signature=ModelSignature(inputs=inputs, outputs=outputs),
        pip_requirements=[f"{name}=={importlib.metadata.version(name)}" for name in ("torch", "numpy", "mlflow")],
    )


def log_evaluation(
    uri: str,
    run_id: str,
    metrics: Mapping[str, float],
    by_distance: Mapping[int, Mapping[str, float]],
    files: Mapping[str, str],
) -> None:
    """Adds an evaluation to the run that trained the model; the run's description links to the page.

    Args:
        uri, run_id: of the run.
        metrics: scores of the whole split.
        by_distance: crop factor -> scores; logged as curves with the factor as step.
        files: name -> text, for the artifact folder `evaluation`.

    Raises:
        TrackingError: the run is not at `uri`, or the server does not answer.
    """
    try:
        check_database(uri)
        client = client_of(uri)
        now = int(time.time() * 1000)
        rows = [(0, metrics), *by_distance.items()]
        client.log_batch(
            run_id,
            metrics=[
                Metric(mlflow_key(key), value, now, step)
                for step, values in rows
                for key, value in values.items()
                if not math.isnan(value)
            ],
        )
        for name, text in files.items():
            client.log_text(run_id, text, f"{EVALUATION}/{name}")
            if name.endswith(".html"):
                _link(client, run_id, f"{EVALUATION}/{name}", f"evaluation page {name.removesuffix('.html')}")
    except (MlflowException, OSError) as error:
        raise TrackingError(f"run {run_id} at {uri}: {reason(error)}") from error


@contextmanager
def checkpoint_of_run(uri: str, run_id: str) -> Iterator[str]:
    """Yields the best checkpoint of a run: its artifact as a local folder, else the run's own folder.

    Raises:
        TrackingError: there is no such run, or it has neither.
    """
    with tempfile.TemporaryDirectory() as folder:
        try:
            check_database(uri)
            client = client_of(uri)
            place = client.get_run(run_id).data.tags.get(FOLDER)
            if client.list_artifacts(run_id, CHECKPOINT):
                place = client.download_artifacts(run_id, CHECKPOINT, folder)
        except (MlflowException, OSError) as error:
            raise TrackingError(f"no checkpoint of MLflow run {run_id} at {uri}: {reason(error)}") from error
        if place is None:
            raise TrackingError(f"no checkpoint of MLflow run {run_id} at {uri}: pass its folder instead")
        yield place


def _link(client: mlflow.MlflowClient, run_id: str, file: str, text: str) -> None:
    """Adds a link to an artifact to the run's description, unless it has the link already."""
    note = client.get_run(run_id).data.tags.get(NOTE, "")
    line = artifact_link(run_id, file, text)
    if line not in note:
        client.set_tag(run_id, NOTE, f"{note}\n\n{line}".strip())
