"""The only module that imports mlflow: one MLflow run per training run.

The driver creates the run (and, once, the database: several processes that open a fresh SQLite store at once break
it) and closes it; in between rank 0 alone writes to it.
"""

import importlib.metadata
import json
import logging
import math
import os
import re
import socket
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import mlflow
import numpy as np
import torch
from mlflow import pytorch as mlflow_pytorch
from mlflow.data.code_dataset_source import CodeDatasetSource
from mlflow.data.meta_dataset import MetaDataset
from mlflow.entities import Metric, RunStatus
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec
from torch import nn

from gscnn.export import NamedOutputs, example_inputs
from gscnn_platform.config import ExperimentConfig, TrackingConfig, flatten
from gscnn_platform.data.store import Store
from gscnn_platform.provenance import run_tags

CHECKPOINT: Final = "checkpoint"
"""Artifact folder of the best checkpoint."""
EXPERIMENT_TAGS: Final = {"mlflow.experimentKind": "custom_model_development"}
"""Lets the UI open with training runs and charts; its default is the view of language model traces."""


NOTE: Final = "mlflow.note.content"
"""Tag that the UI shows as a run's description, in Markdown."""


class TrackingError(ValueError):
    """The tracking server does not answer, or does not have what was asked for."""


def tracking_uri(config: TrackingConfig, storage: str) -> str:
    """The config's URI, else MLFLOW_TRACKING_URI, else SQLite in the storage folder (or here, for a remote one)."""
    if config.uri or os.environ.get("MLFLOW_TRACKING_URI"):
        return config.uri or os.environ["MLFLOW_TRACKING_URI"]
    folder = Path.home() / "gscnn-runs" if "://" in storage else Path(storage)
    folder.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{folder / 'mlflow.db'}"


def ui_command(uri: str) -> str:
    """How to look at the runs of a tracking URI."""
    return f"mlflow ui --backend-store-uri {uri}" if uri.startswith("sqlite") else f"open {uri}"


def create_run(uri: str, config: ExperimentConfig, run_name: str, store: Store) -> str:
    """Creates the run with all that is known before the first step; returns its id.

    Raises:
        TrackingError: the tracking URI does not answer.
    """
    try:
        _check_listening(uri)
        client = mlflow.MlflowClient(uri)
        experiment = client.get_experiment_by_name(config.tracking.experiment)
        if experiment is not None:
            experiment_id = experiment.experiment_id
        else:
            artifacts = _artifact_folder(uri)
            experiment_id = client.create_experiment(config.tracking.experiment, artifacts, EXPERIMENT_TAGS)
        run = client.create_run(experiment_id, run_name=run_name, tags=run_tags(config, store))
    except (MlflowException, OSError) as error:
        raise TrackingError(
            f"tracking URI {uri} does not work: {error}; set --tracking.uri or MLFLOW_TRACKING_URI"
        ) from error
    run_id = run.info.run_id
    with _active(uri, run_id):
        mlflow.log_params({key: str(value) for key, value in flatten(config.model_dump()).items()})
        mlflow.log_input(_StoreDataset(store), context="training")
        mlflow.log_dict(store.manifest.model_dump(mode="json"), "dataset/manifest.json")
        mlflow.log_dict(config.model_dump(mode="json"), "config.json")
    return run_id


def close_run(uri: str, run_id: str, failure: str | None = None) -> None:
    """Marks the run as finished, or as failed with the reason as a tag."""
    client = mlflow.MlflowClient(uri)
    if failure is not None:
        client.set_tag(run_id, "failure", failure[:5000])
    client.set_terminated(run_id, RunStatus.to_string(RunStatus.FAILED if failure else RunStatus.FINISHED))


class RunWriter:
    """Rank 0's pen: opens the run for as long as the training loop runs."""

    def __init__(self, uri: str, run_id: str) -> None:
        self.uri, self.run_id = uri, run_id
        self._client = mlflow.MlflowClient(uri)

    @classmethod
    @contextmanager
    def opened(cls, uri: str, run_id: str, system_metrics: bool) -> "Iterator[RunWriter]":
        """Writes system metrics in the background while open. Leaves the run's status to the driver."""
        with _active(uri, run_id, system_metrics):
            yield cls(uri, run_id)

    def log_steps(self, steps: Sequence[tuple[int, Mapping[str, float]]]) -> None:
        """Values of several steps in one request."""
        now = int(time.time() * 1000)
        metrics = [Metric(key, value, now, step) for step, values in steps for key, value in values.items()]
        for first in range(0, len(metrics), 1000):  # MLflow takes 1000 a request at most.
            self._client.log_batch(self.run_id, metrics=metrics[first : first + 1000])

    def log_picture(self, picture: np.ndarray, epoch: int, caption: str) -> None:
        """An RGB picture of an epoch as an artifact; the run's description names it and links to the latest."""
        file = f"validation/epoch-{epoch:03d}.png"
        self._client.log_image(self.run_id, picture, artifact_file=file)
        link = _artifact_link(self.run_id, file, f"validation scenes at epoch {epoch}")
        note = f"{caption}\n\n{link}; all epochs: Artifacts, folder validation"
        self._client.set_tag(self.run_id, NOTE, note)


def log_best(uri: str, run_id: str, model: nn.Module, checkpoint: Path, metrics: Mapping[str, float]) -> None:
    """Logs the best checkpoint, its metrics as `val/best_...`, and the model for `mlflow.pytorch.load_model`.

    The model is logged as an exported program (pt2): it loads without this project and without unpickling, takes any
    batch and image size, and returns a dictionary with seg_logits [B, K, H, W] and, of a Gated-SCNN, edge_logits
    [B, 1, H, W].
    """
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
    with _active(uri, run_id):
        mlflow.log_metrics({f"val/best_{key}": value for key, value in metrics.items()})
        mlflow.log_artifacts(str(checkpoint), CHECKPOINT)
        mlflow_pytorch.log_model(
            NamedOutputs(model).eval(),
            name="model",
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
    """Adds an evaluation to the run that trained the model; its description links to the page.

    Args:
        uri, run_id: of the run.
        metrics: scores of the whole split.
        by_distance: crop factor -> scores, a curve with the factor as its step.
        files: name -> text, for the artifact folder `evaluation`.

    Raises:
        TrackingError: the run is not at `uri`, or that does not answer.
    """
    try:
        client = mlflow.MlflowClient(uri)
        now = int(time.time() * 1000)
        rows = [(0, metrics), *by_distance.items()]
        client.log_batch(
            run_id,
            metrics=[
                Metric(key, value, now, step)
                for step, values in rows
                for key, value in values.items()
                if not math.isnan(value)
            ],
        )
        for name, text in files.items():
            client.log_text(run_id, text, f"evaluation/{name}")
            if name.endswith(".html"):
                _link(client, run_id, f"evaluation/{name}", f"evaluation page {name.removesuffix('.html')}")
    except (MlflowException, OSError) as error:
        raise TrackingError(f"run {run_id} at {uri}: {error}") from error


def is_run_id(text: str) -> bool:
    """Whether `text` looks like an MLflow run id: 32 hex digits."""
    return re.fullmatch(r"[0-9a-f]{32}", text) is not None


@contextmanager
def checkpoint_of_run(uri: str, run_id: str) -> Iterator[Path]:
    """The best checkpoint of a run as a local folder.

    Raises:
        TrackingError: no such run, or it has no checkpoint.
    """
    with tempfile.TemporaryDirectory() as folder:
        try:
            checkpoint = mlflow.MlflowClient(uri).download_artifacts(run_id, CHECKPOINT, folder)
        except (MlflowException, OSError) as error:
            raise TrackingError(f"no checkpoint of MLflow run {run_id} at {uri}: {error}") from error
        yield Path(checkpoint)


def _link(client: mlflow.MlflowClient, run_id: str, file: str, text: str) -> None:
    """Adds a line with a link to an artifact to the run's description, once."""
    note = client.get_run(run_id).data.tags.get(NOTE, "")
    line = _artifact_link(run_id, file, text)
    if line not in note:
        client.set_tag(run_id, NOTE, f"{note}\n\n{line}".strip())


def _artifact_link(run_id: str, file: str, text: str) -> str:
    return f"[{text}](get-artifact?path={file}&run_uuid={run_id})"


class _StoreDataset(MetaDataset):
    """A store as MLflow dataset: its fingerprint as digest, its counts as profile."""

    def __init__(self, store: Store) -> None:
        identity = store.manifest.identity
        self._profile = {
            "classes": len(identity.classes),
            "samples": {name: split.samples for name, split in store.manifest.splits.items()},
            "pixels": {
                name: dict(zip((*identity.classes, "void"), (*split.pixels, split.void_pixels), strict=True))
                for name, split in store.manifest.splits.items()
            },
        }
        command = store.manifest.command(store.path, identity.edges)
        source = CodeDatasetSource({"store": str(store.path), "command": command})
        super().__init__(source, name=identity.dataset, digest=store.manifest.fingerprint)

    @property
    def profile(self) -> dict[str, Any]:
        return self._profile

    def to_dict(self) -> dict[str, str]:
        return super().to_dict() | {"profile": json.dumps(self._profile)}


@contextmanager
def _active(uri: str, run_id: str, system_metrics: bool = False) -> Iterator[None]:
    """The run as MLflow's active one in this thread, with its status as it was afterwards."""
    mlflow.set_tracking_uri(uri)
    for chatty in ("mlflow.system_metrics", "mlflow.store.db.utils"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    # Artifacts and models of a local store need no links to a page that is not open.
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    mlflow.start_run(run_id=run_id, log_system_metrics=system_metrics)
    try:
        yield
    finally:
        mlflow.end_run(RunStatus.to_string(RunStatus.RUNNING))


def _check_listening(uri: str) -> None:
    """Raises OSError where nothing listens at an http(s) URI: MLflow itself would retry for minutes."""
    address = urlsplit(uri)
    if address.scheme in ("http", "https") and address.hostname:
        port = address.port or {"http": 80, "https": 443}[address.scheme]
        socket.create_connection((address.hostname, port), timeout=5).close()


def _artifact_folder(uri: str) -> str | None:
    """Beside a SQLite file; elsewhere the server decides. MLflow's default is the current folder of any process."""
    if not uri.startswith("sqlite:///"):
        return None
    return (Path(uri.removeprefix("sqlite:///")).parent / "mlartifacts").as_uri()
