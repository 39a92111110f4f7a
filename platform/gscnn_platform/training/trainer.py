"""The driver's side of training: checks everything, starts the workers, names what came out."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import ray
from ray.train import CheckpointConfig, Result, RunConfig, ScalingConfig, WorkerGroupError
from ray.train.torch import TorchTrainer

from gscnn.model import build_model
from gscnn_platform import cluster, tracking
from gscnn_platform.config import ExperimentConfig
from gscnn_platform.data.store import Store, StoreError, open_store
from gscnn_platform.training import checkpoints
from gscnn_platform.training.entry import run_worker
from gscnn_platform.training.loop import WorkerJob
from gscnn_platform.training.worker import NonFiniteLossError


@dataclass(frozen=True)
class TrainingResult:
    """Where a finished run is to be found."""

    run_name: str
    run_id: str
    """MLflow's."""
    tracking_uri: str
    best_checkpoint: str
    """Path or URI of the checkpoint with the highest validation mIoU."""
    best_metrics: dict[str, float]
    last_checkpoint: str


def run_training(config: ExperimentConfig) -> TrainingResult:
    """Trains as `config` says, on the cluster that there is; blocks until the end.

    What can be known to fail is found before a worker starts, in the first seconds.

    Raises:
        StoreError: the store is missing, damaged or another than the config asks for.
        ResourcesError: the cluster is too small.
        TrackingError: the tracking URI does not work.
        NonFiniteLossError: the losses went wrong on the way.
        ValueError: another value of the config that cannot work here.
    """
    store = _open_store(config)
    storage = cluster.resolve(config.storage, "--storage") if config.storage else cluster.default_storage()
    uri = tracking.tracking_uri(config.tracking, storage)
    run_name = config.run_name or f"{config.name}-{datetime.now():%Y%m%d-%H%M%S}"
    if "://" not in storage and (Path(storage) / run_name).exists():
        raise ValueError(f"--run-name {run_name!r} is used already in {storage}: choose another, or leave it out")
    build_model(config.model)  # Finds missing pretrained weights here rather than on every worker.
    cluster.connect()
    use_gpu, cpus = _resources(config)
    run_id = tracking.create_run(uri, config, run_name, store)
    print(f"run {run_name} · store {store.path} ({store.manifest.fingerprint}) · tracked at {uri}", flush=True)
    job = WorkerJob(config=config, store=str(store.path), tracking_uri=uri, run_id=run_id, cpus=cpus)
    trainer = TorchTrainer(
        run_worker,
        train_loop_config=job.model_dump(mode="json"),
        scaling_config=ScalingConfig(
            num_workers=config.num_workers, use_gpu=use_gpu, resources_per_worker={"CPU": cpus, "GPU": int(use_gpu)}
        ),
        run_config=RunConfig(
            name=run_name,
            storage_path=storage,
            # Beyond the best, Ray Train always keeps the last.
            checkpoint_config=CheckpointConfig(num_to_keep=1, checkpoint_score_attribute="val/miou"),
        ),
    )
    with _closing(uri, run_id):
        result = _fit(trainer)
        assert result.checkpoint is not None and result.best_checkpoints
        best = max(result.best_checkpoints, key=lambda pair: pair[1]["val/miou"])[0]
        with best.as_directory() as source, checkpoints.for_tracking(Path(source)) as folder:
            loaded = checkpoints.load_model(folder)
            of_best = {
                key.removeprefix("val/"): value
                for key, value in loaded.metrics.items()
                if key == "epoch" or key.startswith("val/")
            }
            tracking.log_best(uri, run_id, loaded.model, folder, of_best)
    # Ray's own paths lack the scheme of a remote storage.
    best_path, last_path = (f"{storage}/{run_name}/{Path(kept.path).name}" for kept in (best, result.checkpoint))
    return TrainingResult(run_name, run_id, uri, best_path, loaded.metrics, last_path)


def _fit(trainer: TorchTrainer) -> Result:
    """Raises the worker's own error where it is one that a user can mend, rather than Ray's around it."""
    try:
        return trainer.fit()
    except WorkerGroupError as error:
        for failure in error.worker_failures.values():
            if isinstance(failure, (NonFiniteLossError, StoreError)):
                raise failure from error
        raise


@contextmanager
def _closing(uri: str, run_id: str) -> Iterator[None]:
    """Marks the MLflow run as finished, or as failed with the reason, whatever ends it."""
    try:
        yield
    except BaseException as error:
        tracking.close_run(uri, run_id, failure=f"{type(error).__name__}: {error}")
        raise
    tracking.close_run(uri, run_id)


def _open_store(config: ExperimentConfig) -> Store:
    if config.store is None:
        raise StoreError("--store is missing: name the folder that python -m jobs.precompute wrote")
    return open_store(cluster.resolve(config.store, "--store"), config.data, config.model.num_classes)


def _resources(config: ExperimentConfig) -> tuple[bool, int]:
    """Whether the workers get a GPU each, and their CPU cores.

    Raises:
        ResourcesError: the cluster has less, and the run does not wait for nodes.
        ValueError: synchronised batch norm without GPUs.
    """
    there = ray.cluster_resources()
    use_gpu = bool(there.get("GPU")) if config.use_gpu is None else config.use_gpu
    if config.training.sync_bn and not use_gpu:
        raise ValueError("training.sync_bn works on GPUs only, and the workers get none: add --training.no-sync-bn")
    cpus = config.cpus_per_worker or max(1, int(there.get("CPU", 1)) // config.num_workers)
    if not config.wait_for_nodes:
        cluster.check_resources(config.num_workers, cpus, int(use_gpu))
    return use_gpu, cpus
