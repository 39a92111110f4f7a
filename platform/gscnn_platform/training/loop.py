"""The training loop of each worker: a TrainingWorker, its checkpoints and, on rank 0, the writer."""

import logging
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Any

import ray
import ray.train
import ray.train.torch
import torch
import torch.distributed
from ray.actor import ActorHandle

from gscnn_platform.data.disk_full import StorageError
from gscnn_platform.data.store import StoreError, open_store
from gscnn_platform.evaluation import EvalReport
from gscnn_platform.runs.checkpoint import CheckpointError, Content, faults
from gscnn_platform.runs.folder import RunFolder
from gscnn_platform.runs.initial import read_initial
from gscnn_platform.runs.loading import as_folder, load_training_state
from gscnn_platform.tracking import RunWriter
from gscnn_platform.training.control import Control
from gscnn_platform.training.job import WorkerJob
from gscnn_platform.training.progress import say
from gscnn_platform.training.step_signal import Signal
from gscnn_platform.training.stopping import Watch
from gscnn_platform.training.worker import NonFiniteLossError, TrainingWorker


@dataclass(frozen=True)
class Place:
    """A worker's rank and device and, on rank 0, its connection to the driver."""

    rank: int
    world_size: int
    device: torch.device
    asked: Callable[[], Signal]
    """See Control."""
    preempted: Callable[[], bool]
    tell: Callable[[dict[str, float]], object]
    """Receives the scores of each validation after its checkpoint is written."""


def train_loop_per_worker(job: WorkerJob, link: ActorHandle) -> None:
    """Trains as one of Ray Train's workers. Errors that would recur after a restart are reported to the driver."""
    if ray.get(link.arrive.remote()) is not None:
        return
    logging.getLogger("ray.train").setLevel(logging.WARNING)
    context = ray.train.get_context()
    rank = context.get_world_rank()
    try:
        with ExitStack() as stack:
            place = Place(
                rank,
                context.get_world_size(),
                ray.train.torch.get_device(),
                asked=stack.enter_context(closing(Watch(link))) if rank == 0 else lambda: Signal.GO_ON,
                preempted=lambda: ray.train.get_preemption_info() is not None,
                tell=link.tell.remote,
            )
            train(job, place)
    except (NonFiniteLossError, CheckpointError) as error:
        # All workers raise this at the same step, so none waits for another.
        ray.get(link.fail.remote(error))
    except (StoreError, StorageError) as error:
        # Only this worker failed: raising makes Ray stop the others, and all return at once after the restart. The
        # driver shows the error, so the chain of causes, which Ray would print in full, is dropped.
        ray.get(link.fail.remote(error))
        raise type(error)(str(error)) from None


def train(job: WorkerJob, place: Place) -> None:
    """Trains from the last undamaged checkpoint, or from the start, until the last step or a stop signal.

    Raises:
        NonFiniteLossError, CheckpointError: on all workers.
        StoreError, StorageError: on this worker only.
    """
    config = job.config
    if place.device.type == "cpu":
        torch.set_num_threads(job.cpus)
    with ExitStack() as stack:
        writer = None
        if place.rank == 0:
            writer = stack.enter_context(RunWriter.opened(job.run, config.tracking.system_metrics, say))
        resumed = _newest_undamaged_state(job.folder, place.rank, place.world_size)
        starts = resumed is None and config.init.weights is not None
        worker = TrainingWorker(
            config,
            open_store(job.store, config.data, config.model.num_classes),
            place.rank,
            place.world_size,
            place.device,
            resumed=resumed,
            initial=read_initial(job.folder) if starts else None,
            writer=writer,
        )
        scores: dict[str, float] = {}

        def save(report: EvalReport | None) -> None:
            if place.rank != 0:
                return
            if report is not None:
                scores.clear()
                scores.update(report.metrics("val"))
            epoch = worker.step / worker.steps
            metrics = {"step": worker.step, "total_steps": worker.total_steps, "epoch": epoch, **scores}
            content = Content(
                weights=worker.evaluated.state_dict(),
                training_state=worker.state(),
                config=config,
                dataset=worker.store.manifest.identity,
                metrics=metrics,
                run_id=job.run.run_id,
            )
            # Without validation, the last checkpoint counts as the best.
            best = worker.val_reader is None or (report is not None and worker.best.get("epoch") == epoch)
            job.folder.keep(worker.step, content, best)
            if report is not None:
                place.tell({**metrics, "began": worker.began})

        def preempted() -> bool:
            noticed = place.preempted()
            if noticed and place.rank == 0:
                say(f"a node is about to be taken away: checkpoint after step {worker.step}")
            return noticed

        finished = worker.train(save, Control(config.training, place.rank, place.world_size, place.asked, preempted))
        if not finished and place.rank == 0:
            say(f"stopped after step {worker.step} of {worker.total_steps}")


def _newest_undamaged_state(run: RunFolder, rank: int, world_size: int) -> dict[str, Any] | None:
    """Returns the state of the newest undamaged checkpoint, the same on all workers; None if the run is new.

    Raises:
        CheckpointError: all checkpoints of the run are damaged.
    """
    # Rank 0 chooses for all workers: None if there is no checkpoint, "" if all are damaged.
    choice: list[str | None] = [None]
    if rank == 0:
        for name in run.steps():
            with as_folder(run.at(name)) as folder:
                found = faults(folder)
            choice = ["" if found else name]
            if not found:
                break
            say(f"checkpoint {name} is damaged ({', '.join(found)}): resuming from the previous one")
    if world_size > 1:
        torch.distributed.broadcast_object_list(choice, src=0)
    if choice[0] is None:
        return None
    if not choice[0]:
        raise CheckpointError(f"all checkpoints in {run} are damaged: start a new run under another --run-name")
    return load_training_state(run.at(choice[0]))
