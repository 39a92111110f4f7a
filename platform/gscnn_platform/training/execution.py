"""The two ways to run a WorkerJob: on Ray Train's workers, or in this process where one worker is all there is."""

from collections.abc import Callable
from math import ceil
from typing import Any

import ray
from ray.train import FailureConfig, RunConfig, ScalingConfig, WorkerGroupError
from ray.train.torch import TorchConfig, TorchTrainer
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from gscnn_platform import cluster
from gscnn_platform.config import ExperimentConfig
from gscnn_platform.training.entry import run_worker
from gscnn_platform.training.job import WorkerJob
from gscnn_platform.training.stopping import DriverLink, Stopper, in_thread
from gscnn_platform.training.waiting import Waiting

Tell = Callable[[dict[str, float]], None]


def resources(config: ExperimentConfig) -> tuple[bool, int]:
    """Whether the workers get a GPU each, and their CPU cores.

    Raises:
        ResourcesError: the cluster has less, and the run does not wait for nodes.
        ValueError: synchronised batch norm without GPUs, or a wait for nodes without `use_gpu`, with and without GPUs.
    """
    there = cluster.alive_nodes()
    has_gpus = any(node.gpus for node in there)
    use_gpu = has_gpus if config.use_gpu is None else config.use_gpu
    needed = config.min_workers or config.num_workers
    cpus = config.cpus_per_worker or cluster.share(there, config.num_workers, int(use_gpu))
    if config.wait_for_nodes and config.use_gpu is None and not has_gpus and cluster.lacking(needed, cpus, 0):
        raise ValueError(
            "--wait-for-nodes, and no GPU node has joined yet: pass --use-gpu True to wait for one, or --use-gpu False "
            "to train on the CPU"
        )
    if config.training.sync_bn and not use_gpu:
        raise ValueError("training.sync_bn works on GPUs only, and the workers get none: add --training.no-sync-bn")
    if not config.wait_for_nodes:
        cluster.check_resources(needed, cpus, int(use_gpu))
    return use_gpu, cpus


def train_on_workers(job: WorkerJob, storage: str, stopper: Stopper, tell: Tell) -> None:
    """Runs the job on `config.num_workers` processes of the cluster.

    Raises:
        NonFiniteLossError, CheckpointError, StoreError, StorageError: a worker's own error, where a user can fix it.
        WorkerGroupError: of Ray Train, where workers failed too often.
    """
    config = job.config
    # Beside the driver: on a node that dies it would take the run with it.
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
            name=job.folder.rpartition("/")[2],
            storage_path=storage,
            failure_config=FailureConfig(max_failures=config.training.max_failures),
        ),
    )
    waiting = Waiting(config, job.cpus, job.use_gpu)
    asked = False

    def meanwhile() -> None:
        nonlocal asked
        waiting()
        if stopper.stopping and not asked:
            asked = True
            link.stop.remote()
        for scores in ray.get(link.take_scores.remote()):
            tell(scores)

    def own_error() -> Exception | None:
        found: Any = ray.get(link.error.remote())
        return found

    try:
        in_thread(trainer.fit, meanwhile)
    except WorkerGroupError as error:
        raise own_error() or error from error
    error = own_error()
    if error is not None:
        raise error
    meanwhile()


def train_here(job: WorkerJob, stopper: Stopper, tell: Tell) -> None:
    """Runs the job in this process, without a start of Ray Train's: a warm process takes its first step at once.

    Raises:
        NonFiniteLossError, CheckpointError, StoreError, StorageError: as `train_on_workers`.
    """
    import torch

    from gscnn_platform.training.loop import Place, train

    device = torch.device("cuda" if job.use_gpu else "cpu")
    train(job, Place(0, 1, device, stopper.asked, preempted=lambda: False, tell=tell))
