"""What Ray Train runs on each worker: a TrainingWorker, its checkpoints and its pen."""

import logging
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import ray
import ray.train
import ray.train.torch
import torch
import torch.distributed
from ray.actor import ActorHandle

from gscnn_platform.config import Config, ExperimentConfig
from gscnn_platform.data.storage import StorageError, is_full, readable
from gscnn_platform.data.store import StoreError, open_store
from gscnn_platform.evaluation import EvalReport
from gscnn_platform.tracking import RunWriter
from gscnn_platform.training import checkpoints
from gscnn_platform.training.checkpoints import CheckpointError
from gscnn_platform.training.control import Control
from gscnn_platform.training.progress import say
from gscnn_platform.training.stopping import Watch
from gscnn_platform.training.worker import NonFiniteLossError, TrainingWorker


class WorkerJob(Config):
    """What the driver hands to every worker; paths are absolute."""

    config: ExperimentConfig
    store: str
    folder: str
    """Of the run, a path or URI."""
    outbox: str
    """Folder for what waits for the tracking server."""
    tracking_uri: str
    run_id: str
    cpus: int


def train_loop_per_worker(job: WorkerJob, stop_flag: ActorHandle) -> None:
    """Runs `train`, and tells the driver of an error that would come again after every restart."""
    if ray.get(stop_flag.error.remote()) is not None:
        return
    try:
        train(job, stop_flag)
    except (NonFiniteLossError, CheckpointError) as error:
        # All workers come here at the same step, and none waits for another.
        ray.get(stop_flag.fail.remote(error))
    except (StoreError, StorageError) as error:
        # This worker alone: raising it makes Ray end the others, and they all return as soon as they are back. The
        # driver shows the error; Ray would print its whole chain.
        ray.get(stop_flag.fail.remote(error))
        raise type(error)(str(error)) from None


def train(job: WorkerJob, stop_flag: ActorHandle) -> None:
    """Trains from the run's last whole checkpoint, or from the start, to the last step or to a signal to stop.

    At each checkpoint every worker reports to Ray Train, and rank 0 brings the files.
    """
    logging.getLogger("ray.train").setLevel(logging.WARNING)  # Two long lines a checkpoint.
    config = job.config
    context = ray.train.get_context()
    device = ray.train.torch.get_device()
    if device.type == "cpu":
        torch.set_num_threads(job.cpus)
    rank, world_size = context.get_world_rank(), context.get_world_size()
    with ExitStack() as stack:
        writer, asked = None, None
        if rank == 0:
            opened = RunWriter.opened(job.outbox, job.tracking_uri, job.run_id, config.tracking.system_metrics, say)
            writer = stack.enter_context(opened)
            asked = stack.enter_context(closing(Watch(stop_flag)))
        worker = TrainingWorker(
            config,
            open_store(job.store, config.data, config.model.num_classes),
            rank,
            world_size,
            device,
            resumed=_last_whole_state(job.folder, rank, world_size),
            writer=writer,
        )
        scores: dict[str, float] = {}

        def save(report: EvalReport | None) -> None:
            if report is not None:
                scores.clear()
                scores.update(report.metrics("val"))
            epoch = worker.step / worker.steps
            metrics = {"step": worker.step, "total_steps": worker.total_steps, "epoch": epoch, **scores}
            # Ray prints what it is told, so it is told little.
            told = {key: metrics[key] for key in ("step", "total_steps", "val/miou") if key in metrics}
            if rank != 0:
                ray.train.report(told)
                return
            model = {
                "weights": worker.evaluated.state_dict(),
                "config": config,
                "dataset": worker.store.manifest.identity,
                "metrics": metrics,
                "run_id": job.run_id,
            }
            # A step that is redone gets a folder of its own: Ray may still count on the old one, and deletes both.
            name = f"{checkpoints.checkpoint_name(checkpoints.STEP, worker.step)}-{uuid.uuid4().hex[:4]}"
            best_name = checkpoints.checkpoint_name(checkpoints.BEST, worker.step)
            with _space_for(job.folder, name, best_name), tempfile.TemporaryDirectory() as folder:
                if report is not None and worker.best.get("epoch") == metrics["epoch"]:
                    best = Path(folder) / "best"
                    best.mkdir()
                    checkpoints.save(best, training_state=None, **model)
                    checkpoints.keep_best(best, job.folder, worker.step)
                last = Path(folder) / "last"
                last.mkdir()
                checkpoints.save(last, training_state=worker.state(), **model)
                ray.train.report(told, ray.train.Checkpoint.from_directory(last), checkpoint_dir_name=name)

        def preempted() -> bool:
            noticed = ray.train.get_preemption_info() is not None
            if noticed and rank == 0:
                say(f"a node is about to be taken away: checkpoint after step {worker.step}")
            return noticed

        finished = worker.train(
            save, Control(config.training, rank, world_size, **({"asked": asked} if asked else {}), preempted=preempted)
        )
        if not finished and rank == 0:
            say(f"stopped after step {worker.step} of {worker.total_steps}")


@contextmanager
def _space_for(run_folder: str, *names: str) -> Iterator[None]:
    """Turns a full disk in the block, which writes these checkpoints, into a StorageError, and removes what it wrote.

    Other errors of writing, those of a network say, may pass: Ray Train restarts the workers.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        if not is_full(error):
            raise
        with suppress(OSError):
            checkpoints.discard(run_folder, *names)
        folders = [folder for folder in (tempfile.gettempdir(), run_folder) if "://" not in folder]
        free = " and ".join(f"{readable(shutil.disk_usage(folder).free)} in {folder}" for folder in folders)
        raise StorageError(
            f"checkpoint {names[0]} cannot be written, a disk or its quota is full: free are {free}. The checkpoints "
            "before it are whole: make space, then the same command goes on from the last one"
        ) from error


def _last_whole_state(run_folder: str, rank: int, world_size: int) -> dict[str, Any] | None:
    """The state of the newest checkpoint without a fault, the same on all workers; None where the run is new.

    Raises:
        CheckpointError: there are checkpoints, and all of them are damaged.
    """
    newest = ray.train.get_checkpoint()
    if rank == 0:
        checkpoints.discard(run_folder, *checkpoints.after(run_folder, newest))
    if newest is None:
        return None
    candidates = checkpoints.resumable(newest)
    choice: list[int] = [-1]
    if rank == 0:
        for index, candidate in enumerate(candidates):
            with candidate.as_directory() as folder:
                found = checkpoints.faults(Path(folder))
            if not found:
                choice = [index]
                break
            say(f"checkpoint {candidate.path} is damaged ({', '.join(found)}): going on from the one before it")
    if world_size > 1:
        torch.distributed.broadcast_object_list(choice, src=0)
    if choice[0] < 0:
        raise checkpoints.CheckpointError(
            f"no checkpoint of this run is whole, the newest being {newest.path}: start anew under another --run-name"
        )
    return checkpoints.load_training_state(candidates[choice[0]])
