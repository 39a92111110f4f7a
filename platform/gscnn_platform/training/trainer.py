"""The driver's side of training: checks everything, starts or resumes the run, names what came out."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import ray
from ray.train import CheckpointConfig, FailureConfig, Result, RunConfig, ScalingConfig, WorkerGroupError
from ray.train.torch import TorchTrainer

from gscnn.model import build_model
from gscnn_platform import cluster, tracking
from gscnn_platform.config import ExperimentConfig
from gscnn_platform.data.store import Store, StoreError, open_store
from gscnn_platform.training import checkpoints, resume
from gscnn_platform.training.entry import run_worker
from gscnn_platform.training.loop import WorkerJob
from gscnn_platform.training.progress import say
from gscnn_platform.training.resume import RunRecord, State
from gscnn_platform.training.stopping import Stopper, TrainingStoppedError, in_thread
from gscnn_platform.training.waiting import Waiting


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

    The same config on the same data goes on with a run that died or was stopped, from its last checkpoint and in its
    MLflow run (gscnn_platform.training.resume). What can be known to fail is found before a worker starts, in the
    first seconds.

    Raises:
        StoreError: the store is missing, damaged or another than the config asks for.
        ResumeError: the run that is named cannot be gone on with as asked.
        ResourcesError: the cluster is too small.
        TrackingError: the tracking URI does not work.
        NonFiniteLossError: the losses went wrong on the way.
        CheckpointError: no checkpoint of the run is whole.
        TrainingStoppedError: SIGTERM or Ctrl-C ended the run, after a checkpoint.
        ValueError: another value of the config that cannot work here.
    """
    store = _open_store(config)
    storage = cluster.resolve(config.storage, "--storage") if config.storage else cluster.default_storage()
    run_name, before = resume.choose_run(config, storage, store.manifest.fingerprint)
    folder = f"{storage}/{run_name}"
    build_model(config.model)  # Finds missing pretrained weights here rather than on every worker.
    cluster.connect()
    use_gpu, cpus = _resources(config)
    record = before or _new_run(config, run_name, storage, store)
    with resume.alive(folder):
        if before is None:
            print(f"run {run_name} · store {store.path} ({record.fingerprint}) · tracked at {record.tracking_uri}")
        else:
            tracking.reopen_run(_outbox(storage, run_name), record.tracking_uri, record.run_id)
            print(f"run {run_name} goes on, it was {before.state} · {_changes(before.config, config)}", flush=True)
        stopper = Stopper()
        with _recording(folder, record, _outbox(storage, run_name)), stopper.listening():
            job = WorkerJob(
                config=config,
                store=str(store.path),
                folder=folder,
                outbox=_outbox(storage, run_name),
                tracking_uri=record.tracking_uri,
                run_id=record.run_id,
                cpus=cpus,
            )
            result = _fit(_trainer(job, storage, run_name, use_gpu, stopper), stopper, Waiting(config, cpus, use_gpu))
            if stopper.number is not None and not _is_complete(result):
                assert result.metrics is not None
                raise TrainingStoppedError(
                    f"stopped after step {result.metrics['step']}; the same command goes on from there", stopper.number
                )
            best = checkpoints.best_of_run(folder)
            assert best is not None and result.checkpoint is not None
            with checkpoints.as_folder(best) as path:
                loaded = checkpoints.load_model(path)
                tracking.log_best(
                    _outbox(storage, run_name), record.tracking_uri, record.run_id, loaded.model, path, _of_best(loaded)
                )
    last = f"{folder}/{Path(result.checkpoint.path).name}"  # Ray's own path lacks the scheme of a remote storage.
    return TrainingResult(run_name, record.run_id, record.tracking_uri, best, loaded.metrics, last)


def _new_run(config: ExperimentConfig, run_name: str, storage: str, store: Store) -> RunRecord:
    uri = tracking.tracking_uri(config.tracking, storage)
    return RunRecord(
        name=run_name,
        config=config,
        fingerprint=store.manifest.fingerprint,
        tracking_uri=uri,
        run_id=tracking.create_run(uri, config, run_name, store),
        state="running",
    )


def _outbox(storage: str, run_name: str) -> str:
    """What waits for the tracking server: beside the checkpoints, or at home where these are remote."""
    if "://" in storage:
        return str(Path.home() / "gscnn-runs" / "outbox" / run_name)
    return f"{storage}/{run_name}/tracking"


def _trainer(job: WorkerJob, storage: str, run_name: str, use_gpu: bool, stopper: Stopper) -> TorchTrainer:
    config = job.config
    return TorchTrainer(
        run_worker,
        train_loop_config={"job": job.model_dump(mode="json"), "stop_flag": stopper.flag},
        scaling_config=ScalingConfig(
            num_workers=config.num_workers if config.min_workers is None else (config.min_workers, config.num_workers),
            use_gpu=use_gpu,
            resources_per_worker={"CPU": job.cpus, "GPU": int(use_gpu)},
        ),
        run_config=RunConfig(
            name=run_name,
            storage_path=storage,
            checkpoint_config=CheckpointConfig(num_to_keep=checkpoints.KEPT),
            failure_config=FailureConfig(max_failures=config.training.max_failures),
        ),
    )


def _fit(trainer: TorchTrainer, stopper: Stopper, waiting: Waiting) -> Result:
    """Raises the worker's own error where it is one that a user can mend, rather than Ray's around it."""
    try:
        result = in_thread(trainer.fit, meanwhile=waiting)
    except WorkerGroupError as error:
        raise (stopper.error() or error) from error
    own = stopper.error()
    if own is not None:
        raise own
    return result


@contextmanager
def _recording(folder: str, record: RunRecord, outbox: str) -> Iterator[None]:
    """Keeps the run's record and its MLflow run's status true, whatever ends it."""

    def end(state: State, failure: str | None = None, stopped: str | None = None) -> None:
        # Where a full disk does not take it the run goes on as one that died.
        with suppress(OSError):
            resume.write_record(folder, record.model_copy(update={"state": state}))
        left = tracking.close_run(outbox, record.tracking_uri, record.run_id, failure, stopped, say=say)
        if left:
            say(f"tracking: {left}")

    resume.write_record(folder, record.model_copy(update={"state": "running"}))
    try:
        yield
    except TrainingStoppedError as stopped:
        end("stopped", stopped=str(stopped))
        raise
    except BaseException as error:
        end("failed", failure=f"{type(error).__name__}: {error}")
        raise
    end("finished")


def _is_complete(result: Result) -> bool:
    return result.metrics is not None and result.metrics["step"] == result.metrics["total_steps"]


def _of_best(loaded: checkpoints.LoadedModel) -> dict[str, float]:
    return {
        key.removeprefix("val/"): value
        for key, value in loaded.metrics.items()
        if key == "epoch" or key.startswith("val/")
    }


def _changes(before: ExperimentConfig, now: ExperimentConfig) -> str:
    """What a change of the number of workers means for the numbers."""
    if before.num_workers == now.num_workers:
        return f"on {now.num_workers} workers, as before"
    images = [config.images_per_batch for config in (before, now)]
    return (
        f"on {now.num_workers} workers, before on {before.num_workers}: learning rate and {now.training.batch_size} "
        f"images a step stay, batch norm on each sees {images[1]} images instead of {images[0]}"
    )


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
        cluster.check_resources(config.min_workers or config.num_workers, cpus, int(use_gpu))
    return use_gpu, cpus
