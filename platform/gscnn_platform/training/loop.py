"""What Ray Train runs on each worker: a TrainingWorker, its checkpoints and its pen."""

import logging
import tempfile
from contextlib import ExitStack
from pathlib import Path

import ray.train
import ray.train.torch
import torch

from gscnn_platform.config import Config, ExperimentConfig
from gscnn_platform.data.store import open_store
from gscnn_platform.evaluation import EvalReport
from gscnn_platform.tracking import RunWriter
from gscnn_platform.training import checkpoints
from gscnn_platform.training.worker import TrainingWorker


class WorkerJob(Config):
    """What the driver hands to every worker; paths are absolute."""

    config: ExperimentConfig
    store: str
    tracking_uri: str
    run_id: str
    cpus: int


def train_loop_per_worker(job: WorkerJob) -> None:
    """Trains from the run's last checkpoint, or from the start, to the last epoch.

    After each validation every worker reports to Ray Train, and rank 0 brings a checkpoint.
    """
    logging.getLogger("ray.train").setLevel(logging.WARNING)  # Two long lines a checkpoint.
    config = job.config
    context = ray.train.get_context()
    device = ray.train.torch.get_device()
    if device.type == "cpu":
        torch.set_num_threads(job.cpus)
    checkpoint = ray.train.get_checkpoint()
    rank = context.get_world_rank()
    with ExitStack() as stack:
        writer = None
        if rank == 0:
            opened = RunWriter.opened(job.tracking_uri, job.run_id, config.tracking.system_metrics)
            writer = stack.enter_context(opened)
        worker = TrainingWorker(
            config,
            open_store(job.store, config.data, config.model.num_classes),
            rank,
            context.get_world_size(),
            device,
            resumed=None if checkpoint is None else checkpoints.load_training_state(checkpoint),
            writer=writer,
        )

        def report(epoch: int, scores: EvalReport) -> None:
            metrics = {"epoch": epoch, "val/miou": scores.scores.miou}
            if rank != 0:
                ray.train.report(metrics)
                return
            with tempfile.TemporaryDirectory() as folder:
                checkpoints.save(
                    Path(folder),
                    weights=worker.evaluated.state_dict(),
                    training_state=worker.state(epoch),
                    config=config,
                    dataset=worker.store.manifest.identity,
                    metrics=metrics | scores.metrics("val"),
                    run_id=job.run_id,
                )
                ray.train.report(metrics, checkpoint=ray.train.Checkpoint.from_directory(folder))

        worker.train(report)
