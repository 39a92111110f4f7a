"""Creates tracked runs from curves, in memory or in a real MLflow store, for tests of comparisons."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param

from gscnn_platform.comparison import Contender, TrackedSweep
from gscnn_platform.tracking import TrackedRun

CLASSES = ("road", "car", "pole")
PROFILE = {"samples": {"train": 6, "val": 3}, "pixels": {"val": {"road": 60, "car": 30, "pole": 10, "void": 5}}}
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


def tracked(
    name: str,
    miou: Mapping[int, float] | float,
    seed: int = 0,
    *,
    params: Mapping[str, Any] | None = None,
    tags: Mapping[str, str] | None = None,
    curves: Mapping[str, Mapping[int, float]] | None = None,
    status: str = "FINISHED",
    fingerprint: str = "f00d",
    started: int = 0,
) -> TrackedRun:
    """Returns a run of 2 epochs with `miou` by epoch, or as the value of the last epoch; `started` is in minutes."""
    by_epoch = miou if isinstance(miou, Mapping) else {0: 0.01, 1: miou / 2, 2: miou}
    began = EPOCH + timedelta(minutes=started)
    return TrackedRun(
        uri="sqlite:///runs/mlflow.db",
        run_id=f"{abs(hash((name, seed, started))):032x}"[:32],
        experiment_id="1",
        name=name,
        status=status,
        started=began,
        ended=began + timedelta(minutes=3),
        params={
            "seed": str(seed),
            "training.epochs": "2",
            "data.val_split": "val",
            **{key: str(value) for key, value in (params or {}).items()},
        },
        tags={"code.sha256": "c0de", **(tags or {})},
        curves={"val/miou": by_epoch, **(curves or {})},
        dataset="streets",
        fingerprint=fingerprint,
        profile=PROFILE,
    )


def trial(variant: str, miou: float, seed: int, **others: Any) -> TrackedRun:
    """Returns a run of a sweep with named variants."""
    overrides = json.dumps({"seed": seed, "loss.edge": others.get("params", {}).get("loss.edge", 1)})
    tags = {"gscnn.variant": variant, "gscnn.overrides": overrides}
    return tracked(f"{variant}-{seed}", miou, seed, tags=tags, **others)


def group(name: str, scores: list[float], first_seed: int = 0) -> Contender:
    """Returns a contender with a run per score, with successive seeds."""
    return Contender(
        name, tuple(tracked(f"{name}-{seed}", value, seed + first_seed) for seed, value in enumerate(scores))
    )


def sweep_of(*trials: TrackedRun, **tags: str) -> TrackedSweep:
    """Returns a sweep of these trials, with additional tags on its parent run."""
    return TrackedSweep(tracked("the sweep", {}, tags={"gscnn.sweep": "space", **tags}), trials)


def log(client: MlflowClient, run: TrackedRun, experiment: str, pictures: Mapping[str, str] | None = None) -> str:
    """Writes a run to MLflow as training does; returns its id.

    Args:
        client: of a store.
        run: what to write.
        experiment: its id.
        pictures: artifact folder -> local folder that goes there.
    """
    start = int(run.started.timestamp() * 1000)
    created = client.create_run(experiment, start_time=start, run_name=run.name, tags=dict(run.tags))
    run_id = created.info.run_id
    rows = [Metric(key, value, start, step) for key, curve in run.curves.items() for step, value in curve.items()]
    for first in range(0, len(rows), 1000):
        client.log_batch(run_id, metrics=rows[first : first + 1000])
    client.log_batch(run_id, params=[Param(key, value) for key, value in run.params.items()])
    if run.fingerprint:
        dataset = Dataset(str(run.dataset), run.fingerprint, "code", "{}", profile=json.dumps(run.profile))
        client.log_inputs(run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])])
    for folder, local in (pictures or {}).items():
        client.log_artifacts(run_id, local, folder)
    if run.status == "RUNNING":
        return run_id
    assert run.ended is not None
    client.set_terminated(run_id, run.status, int(run.ended.timestamp() * 1000))
    return run_id
