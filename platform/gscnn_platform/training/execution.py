"""Runs a WorkerJob on Ray Train's workers, or in this process if there is only one worker."""

import time
from collections.abc import Callable
from contextlib import ExitStack
from math import ceil
from typing import Any, Final

import ray
from ray.train import FailureConfig, LoggingConfig, RunConfig, ScalingConfig, WorkerGroupError
from ray.train.torch import TorchConfig, TorchTrainer
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from gscnn_platform import cluster
from gscnn_platform.activity import doing
from gscnn_platform.config import ExperimentConfig
from gscnn_platform.threads import in_thread
from gscnn_platform.training.job import WorkerJob, run_worker
from gscnn_platform.training.progress import say
from gscnn_platform.training.stopping import DriverLink, Stopper

OF_OWN_CLUSTER: Final = {"RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0"}
"""Ray settings for a local cluster: it is never preempted, and the watcher costs a process and a line of output."""
WHEN_THERE: Final = (
    "Training resumes from the last checkpoint once they are available. Or stop it and rerun the command with fewer "
    "--num-workers, or with --min-workers to resume with fewer automatically"
)
"""Advice to the user after a node is lost."""
LOOK_SECONDS: Final = 5.0
"""Seconds between checks of the cluster for missing nodes."""
Tell = Callable[[dict[str, float]], None]


def resources(config: ExperimentConfig) -> cluster.Workers:
    """Returns the resources of each training worker.

    Raises:
        ResourcesError: as `cluster.workers_for`.
        ValueError: synchronized batch norm is set and the workers get no GPU.
    """
    workers = cluster.workers_for(config, config.num_workers, needed=config.min_workers)
    check_sync_bn(config, workers)
    return workers


def check_sync_bn(config: ExperimentConfig, workers: cluster.Workers) -> None:
    """Raises ValueError if synchronized batch norm is set and the workers get no GPU."""
    if config.training.sync_bn and not workers.use_gpu:
        raise ValueError("training.sync_bn works on GPUs only, and the workers get none: add --training.no-sync-bn")


class Waiting:
    """Prints a line when the cluster becomes too small and when it is large enough again; Ray Train waits silently.

    Args:
        needed: minimum number of workers.
        cpus, gpus: per worker.
        advice: what happens next, and what the user can do.
    """

    def __init__(self, needed: int, cpus: int, gpus: int, advice: str) -> None:
        self.needed, self.cpus, self.gpus, self.advice = needed, cpus, gpus, advice
        self._looked_at = time.monotonic()
        self._lacking: str | None = None

    def __call__(self) -> None:
        if time.monotonic() - self._looked_at < LOOK_SECONDS:
            return
        self._looked_at = time.monotonic()
        before, self._lacking = self._lacking, cluster.lacking(self.needed, self.cpus, self.gpus)
        if self._lacking and self._lacking != before:
            workers = f"{self.needed} workers need" if self.needed > 1 else "a worker needs"
            say(f"waiting for nodes: {workers} {self._lacking}. {self.advice}")
        elif before and not self._lacking:
            say("all required nodes are available")


def train_on_workers(job: WorkerJob, stopper: Stopper, tell: Tell) -> None:
    """Runs the job on `config.num_workers` processes of the cluster.

    Raises:
        NonFiniteLossError, CheckpointError, StoreError, StorageError: raised by a worker; the user can fix them.
        WorkerGroupError: raised by Ray Train if workers failed more than `training.max_failures` times.
    """
    config = job.config
    # On the driver's node, because losing any other node must not end the run.
    here: Any = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    link: Any = ray.remote(num_cpus=0, scheduling_strategy=here)(DriverLink).remote()
    trainer = TorchTrainer(
        run_worker,
        torch_config=TorchConfig(timeout_s=ceil(60 * config.training.collective_timeout_minutes)),
        train_loop_config={"job": job.model_dump(mode="json"), "link": link},
        scaling_config=ScalingConfig(
            num_workers=config.num_workers if config.min_workers is None else (config.min_workers, config.num_workers),
            use_gpu=job.use_gpu,
            resources_per_worker={"CPU": job.cpus, "GPU": int(job.use_gpu)},
        ),
        run_config=RunConfig(
            name=job.folder.name,
            storage_path=job.folder.storage,
            failure_config=FailureConfig(max_failures=config.training.max_failures),
            # Ray logs each step of its start; this module reports what matters, and warnings are still shown.
            logging_config=LoggingConfig(log_level="WARNING"),
        ),
    )
    waiting = Waiting(config.min_workers or config.num_workers, job.cpus, int(job.use_gpu), WHEN_THERE)
    starting = ExitStack()
    starting.enter_context(doing(_start_of(config.num_workers, job.cpus)))
    asked = False

    def meanwhile() -> None:
        nonlocal asked
        waiting()
        if stopper.stopping and not asked:
            asked = True
            link.stop.remote()
        arrived, told = ray.get(link.look.remote())
        if arrived:
            starting.close()
        for scores in told:
            tell(scores)

    def own_error() -> Exception | None:
        found: Any = ray.get(link.error.remote())
        return found

    try:
        with starting, cluster.environment(OF_OWN_CLUSTER if cluster.is_own() else {}):
            in_thread(trainer.fit, meanwhile)
    except WorkerGroupError as error:
        raise own_error() or error from error
    error = own_error()
    if error is not None:
        raise error
    meanwhile()


def _start_of(num_workers: int, cpus: int) -> str:
    """Returns the activity to show until the first worker is ready."""
    needed, free = num_workers * cpus, int(ray.available_resources().get("CPU", 0))
    if free < needed:
        return f"waiting for {needed} free CPUs, {free} are free now"
    return f"loading torch on {num_workers} worker{'s' if num_workers > 1 else ''}"


def train_here(job: WorkerJob, stopper: Stopper, tell: Tell) -> None:
    """Runs the job in this process. Without Ray Train's start, a warm process takes its first step at once.

    Raises:
        NonFiniteLossError, CheckpointError, StoreError, StorageError: as `train_on_workers`.
    """
    import torch

    from gscnn_platform.training.loop import Place, train

    device = torch.device("cuda" if job.use_gpu else "cpu")
    train(job, Place(0, 1, device, stopper.asked, preempted=lambda: False, tell=tell))
