"""The driver of a training run: checks everything, starts or resumes the run, and reports the result."""

import shlex
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import gscnn
from gscnn_platform import cluster, tracking
from gscnn_platform.config import ExperimentConfig, Metric
from gscnn_platform.data.disk_full import StorageError, has_room_for_program, readable
from gscnn_platform.data.store import Store, StoreError, open_store
from gscnn_platform.data.store.notices import void_notices, weight_notices
from gscnn_platform.importing import imported_meanwhile
from gscnn_platform.interrupts import InterruptedJobError, TrainingStoppedError, from_now_on, leaving_nothing_behind
from gscnn_platform.runs.alive import alive
from gscnn_platform.runs.folder import RunFolder, usable
from gscnn_platform.runs.initial import InitialWeights, init_report, write_initial
from gscnn_platform.runs.loading import as_folder, load_model, metrics_of
from gscnn_platform.runs.record import RunRecord, State
from gscnn_platform.runs.ref import RunRef
from gscnn_platform.runs.resume import choose_run, wanted_run
from gscnn_platform.training.initial_weights import check_initial_weights, read_initial_weights
from gscnn_platform.training.job import WorkerJob
from gscnn_platform.training.progress import say
from gscnn_platform.training.stopping import Stopper


@dataclass(frozen=True)
class TrainingResult:
    """The scores of a finished run, and where to find its checkpoints and its MLflow run."""

    run_name: str
    run_id: str
    """MLflow run id."""
    tracking_uri: str
    best_checkpoint: str
    """Path or URI of the checkpoint with the highest `best_metric`, or of the last one if there was no validation."""
    best_metrics: dict[str, float]
    last_checkpoint: str
    best_metric: Metric = "miou"
    """The run's `training.best_metric`."""
    page: str | None = None
    """How to look at its charts in MLflow, as text; None of a sweep's trial."""

    def __str__(self) -> str:
        """Returns the best score and the locations of checkpoints and MLflow run, one per line."""
        lines = [
            self.score,
            f"best checkpoint  {self.best_checkpoint}",
            f"last checkpoint  {self.last_checkpoint}",
            f"MLflow run       {self.run_id}",
            *([] if self.page is None else [f"look at it       {self.page}"]),
        ]
        return "\n".join(lines)

    @property
    def score(self) -> str:
        """The best score as text for users: `best validation mIoU 0.4321 at epoch 7`."""
        score, epoch = self.best_metrics.get(f"val/{self.best_metric}"), self.best_metrics["epoch"]
        if score is None:
            return "no validation score: the last checkpoint counts as the best"
        name = "mIoU" if self.best_metric == "miou" else self.best_metric
        return f"best validation {name} {score:.4f} at epoch {epoch:.0f}"


@dataclass(frozen=True)
class Trial:
    """What a sweep adds to the training run of a trial. Only the model of the sweep's best trial is logged."""

    tags: Mapping[str, str]
    """MLflow tags that group the run under the sweep."""
    tell: Callable[[dict[str, float]], None]
    """Receives step, epoch and scores of each validation, and as `began` the time of the process's first step."""
    stopper: Stopper = field(default_factory=Stopper)
    """Ends the run early."""
    clone_from: RunFolder | None = None
    """Another run whose last checkpoint this run resumes from, instead of its own."""


def run_training(config: ExperimentConfig, trial: Trial | None = None) -> TrainingResult:
    """Trains with `config` on the available cluster; blocks until training ends.

    If a run with the same config and data crashed or was stopped, it resumes from its last checkpoint and in its MLflow
    run (gscnn_platform.runs.resume). Foreseeable errors are raised within seconds, before a worker starts. A trial with
    one worker runs in this process.

    Raises:
        StoreError: the store is missing, damaged, or does not match the config.
        InitialWeightsError: a new run cannot start from `init.weights`.
        NamingError: the run's name cannot be used.
        ResumeError: the named run cannot be resumed with these settings.
        ClusterError: there is no cluster to run on.
        ResourcesError: the cluster is too small.
        TrackingError: the tracking URI does not work.
        DeletedError: the MLflow run of a resuming run was deleted.
        NonFiniteLossError: a loss or gradient became NaN or infinite.
        CheckpointError: all checkpoints of the run are damaged.
        StorageError: the disk of the checkpoints is full.
        TrainingStoppedError: SIGTERM, Ctrl-C or the sweep ended the run, after a checkpoint.
        ValueError: another value of the config cannot work here.
    """
    store = _open_store(config)
    storage = cluster.default_storage() if config.storage is None else cluster.resolve(config.storage, "--storage")
    wanted = wanted_run(config, store.manifest.fingerprint)
    with usable(storage):
        folder, before = choose_run(wanted, storage, is_trial=trial is not None)
    if before is None:
        check_initial_weights(config.init)
        tracking.check_named_uri(config.tracking)
        cluster.check_can_write(storage, "--storage")
    cluster.check_can_connect()
    # Ray, torch and MLflow are imported from here on, so that earlier errors take only a second.
    initial: InitialWeights | None = None
    if before is None and config.init.weights is not None:
        initial = read_initial_weights(config, tracking.tracking_uri(config.tracking, storage))
    has_checkpoint = before is not None and bool(folder.steps())
    if initial is None and not has_checkpoint and config.model.known_when_built:
        gscnn.build_model(config.model)  # Fails here rather than on every worker; a checkpoint needs no other weights.
    with imported_meanwhile("mlflow", "ray.train.torch"):
        cluster.connect()
    from gscnn_platform.training.execution import resources, train_here, train_on_workers

    is_deleted = (
        before is not None
        and before.state != "finished"
        and tracking.needs_new_run(before.tracking_uri, before.run_id, config.tracking.on_deleted)
    )
    workers = resources(config)
    stopper = trial.stopper if trial else Stopper()
    if before is not None and before.state == "finished":
        return _result(_job(config, before, store, folder, workers), trial, stopper)
    with leaving_nothing_behind(f"rerun the command to resume run {folder.name}"), alive(folder):
        if before is None:
            record = _new_run(config, folder, store, trial, initial and initial.report)
            tracking.make_way(folder.ref(record), say)
            if initial is not None:
                write_initial(folder, initial)
            folder.write(record)  # From here on, rerunning the command resumes this run, however it ends.
            say(f"run {folder.name} · store {store.path} ({record.fingerprint}) · tracked at {record.tracking_uri}")
            if trial is None:
                say(f"look at it  {tracking.look_at(record.tracking_uri, record.run_id, indent=12)}")
            if initial is not None:
                say(initial.description)
            data, manifest = config.data, store.manifest
            for notice in (
                *void_notices(manifest, (data.train_split, data.val_split or "")),
                *weight_notices(manifest, data.train_split, config.loss.class_weights),
            ):
                say(f"note: {notice}")
        else:
            record = before.model_copy(update={"config": config})
            if is_deleted:
                record = _in_new_mlflow_run(record, folder, store, trial)
            tracking.reopen_run(folder.ref(record))
            say(f"run {folder.name} resumes (previous state: {before.state}) · {_changes(before.config, config)}")
        if trial and trial.clone_from:
            folder.clone(trial.clone_from)
        with _recording(folder, record):
            job = _job(config, record, store, folder, workers)
            with stopper.listening():
                if trial and config.num_workers == 1:
                    train_here(job, stopper, trial.tell)
                else:
                    train_on_workers(job, stopper, trial.tell if trial else lambda scores: None)
            result = _result(job, trial, stopper)
            from_now_on(f"run {folder.name} is finished, and all of it is kept")
            return result


def _job(
    config: ExperimentConfig, record: RunRecord, store: Store, folder: RunFolder, workers: cluster.Workers
) -> WorkerJob:
    return WorkerJob(
        config=config,
        store=str(store.path),
        folder=folder,
        run=folder.ref(record),
        use_gpu=workers.use_gpu,
        cpus=workers.cpus,
    )


def _result(job: WorkerJob, trial: Trial | None, stopper: Stopper) -> TrainingResult:
    run, last, best = job.run, job.folder.last(), job.folder.best()
    done = metrics_of(last)
    scores = {} if best is None else metrics_of(best)
    if trial is not None:
        tracking.log_best_scores(run, of_best(scores))
    if done["step"] < done["total_steps"]:
        how = " by the sweep" if stopper.by_sweep else "; rerun the command to resume from there"
        raise TrainingStoppedError(f"stopped after step {done['step']}{how}", stopper.number, stopper.by_sweep)
    assert best is not None
    if trial is None:
        log_best(run, best)
    metric = job.config.training.best_metric
    page = None if trial is not None else tracking.look_at(run.tracking_uri, run.run_id, indent=17)
    return TrainingResult(job.folder.name, run.run_id, run.tracking_uri, best, scores, last, metric, page)


def log_best(run: RunRef, checkpoint: str) -> None:
    """Puts a run's best checkpoint, its scores and its model into the run's outbox.

    Uses the record's run id: a checkpoint that is older than the current MLflow run names the deleted one.

    Raises:
        StorageError: the disk of the outbox has no room for them.
    """
    with as_folder(checkpoint) as path:
        run.outbox.mkdir(parents=True, exist_ok=True)
        # The outbox takes the checkpoint and a program with the same weights.
        if not has_room_for_program(run.outbox, 2 * sum(file.stat().st_size for file in path.iterdir())):
            raise StorageError(
                f"the best model cannot be saved for MLflow, the disk of {run.outbox} or its quota is full: "
                f"{readable(shutil.disk_usage(run.outbox).free)} are left. All checkpoints are intact: free space, "
                "then rerun the command to save it"
            )
        loaded = load_model(path)
        unsaved = tracking.log_best(run, loaded.model, path, of_best(loaded.metrics))
    if unsaved is not None:
        say(f"note: MLflow gets the best checkpoint and no model to load, because torch cannot export it: {unsaved}")


def of_best(metrics: Mapping[str, float]) -> dict[str, float]:
    """Returns the best checkpoint's scores for MLflow, without the prefix `val/`."""
    return {
        key.removeprefix("val/"): value for key, value in metrics.items() if key == "epoch" or key.startswith("val/")
    }


def _new_run(
    config: ExperimentConfig, folder: RunFolder, store: Store, trial: Trial | None, init: Mapping[str, Any] | None
) -> RunRecord:
    uri = tracking.tracking_uri(config.tracking, folder.storage)
    tags = {} if trial is None else trial.tags
    return RunRecord(
        name=folder.name,
        config=config,
        fingerprint=store.manifest.fingerprint,
        tracking_uri=uri,
        run_id=tracking.create_run(uri, config, folder, store, tags, init=init),
        state="running",
    )


def _in_new_mlflow_run(record: RunRecord, folder: RunFolder, store: Store, trial: Trial | None) -> RunRecord:
    """Returns the run's record with a new MLflow run, which gets everything that was tracked in the deleted run."""
    uri, old = record.tracking_uri, record.run_id
    tags = {tracking.REPLACES: old, **(trial.tags if trial else {})}
    began = tracking.start_time_of(uri, old)
    new = tracking.create_run(uri, record.config, folder, store, tags, began, init_report(folder))
    tracking.move_to(folder.ref(record), new)
    print(f"MLflow run {old} was deleted: everything is tracked in the new run {new}", flush=True)
    record = record.model_copy(update={"run_id": new})
    folder.write(record)
    return record


@contextmanager
def _recording(folder: RunFolder, record: RunRecord) -> Iterator[None]:
    """Keeps the run's record and the status of its MLflow run correct, however the run ends."""
    run = folder.ref(record)

    def end(state: State, failure: str | None = None, stopped: str | None = None, as_planned: bool = False) -> None:
        # If the disk is full, the record still says "running", and the run resumes as after a crash.
        with suppress(OSError):
            folder.write(record.model_copy(update={"state": state}))
        rest = f"to deliver what MLflow does not have yet: python -m jobs.sync-tracking {shlex.quote(str(run.outbox))}"
        with leaving_nothing_behind(rest):
            left = tracking.close_run(run, failure, stopped, as_planned, say=say)
        if left:
            say(f"tracking: {left}")

    folder.write(record.model_copy(update={"state": "running"}))
    try:
        yield
    except TrainingStoppedError as stopped:
        end("stopped", stopped=str(stopped), as_planned=stopped.as_planned)
        raise
    except InterruptedJobError as stopped:
        end("stopped", stopped=str(stopped))
        raise
    except BaseException as error:
        end("failed", failure=f"{type(error).__name__}: {error}")
        raise
    end("finished")


def _changes(before: ExperimentConfig, now: ExperimentConfig) -> str:
    """Returns how a changed number of workers affects training, as text."""
    if before.num_workers == now.num_workers:
        return f"on {now.num_workers} workers, as before"
    images = [config.images_per_batch for config in (before, now)]
    return (
        f"on {now.num_workers} workers, previously {before.num_workers}: same learning rate and "
        f"{now.training.batch_size} images per step; batch norm sees {images[1]} images instead of {images[0]}"
    )


def _open_store(config: ExperimentConfig) -> Store:
    if config.store is None:
        raise StoreError("--store is missing: pass the folder that python -m jobs.precompute wrote")
    return open_store(cluster.resolve(config.store, "--store"), config.data, config.model.num_classes)
