"""Calculates what a training of `cityscapes` needs from network, disks, cores and servers on 1, 8, 64 and 512 GPUs.

    python -m benchmarks.scale [--backbones resnet50 wide_resnet38] [--network-gbit 100] [--teraflops 50] [...]

Nothing is trained. Counted on the meta device: parameters, batch norm layers and their channels, arithmetic of a step.
Measured before, on one core or one disk, with the commands in benchmarks/README.md: bytes of a row, the time to decode
and augment it, the time to write a checkpoint. Assumed, and to be replaced by your values through the options:
everything about GPUs, links and storage. Quote the printed line of assumptions with the tables.

The model: gradients are float32 and go around a ring through all GPUs, 2 (n - 1) / n times their size, during the
backward pass, two thirds of a step. Ranks on a node are neighbours, so each node's link carries the ring's traffic
once. SyncBN gathers 2 C + 1 floats from every GPU in each layer (torch.nn.SyncBatchNorm) and sums 2 C in the backward
pass; both take as many hops as there are GPUs. A node reads the whole train split into its cache before its first step.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from math import ceil
from typing import Final

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.environment import describe, markdown_table
from gscnn.model import build_model
from gscnn_platform.config import ExperimentConfig, with_overrides
from gscnn_platform.recipes import RECIPES

SIZES: Final = (1, 8, 64, 512)
TRAIN_SAMPLES, VAL_SAMPLES, FRAME = 2975, 500, (1024, 2048)
"""Cityscapes, finely annotated."""

ROW_MB, DECODE_MS, AUGMENT_MS = 5.5, 11.2, 11.8
"""benchmarks/README.md: store, read and decode, and augmentation, of a 2048x1024 frame on one core; drawn frames."""
DISK_MB_S = 487 / 0.84
"""benchmarks/README.md: a checkpoint of `cityscapes`, checksums included, on a local disk."""
MLFLOW_MS = 20.0
"""One `log_batch` of 15 to 30 ms, by SQLite."""
TERMS = 7
"""MLflow rows per step: four loss terms, their total, norm of the gradients, learning rate."""
POLL_SECONDS = 1.0
"""The outbox's interval: a run that keeps up sends at most one batch of metrics in this time."""
TRAIN_POLL_SECONDS = 2.0
"""RAY_TRAIN_HEALTH_CHECK_INTERVAL_S: the controller polls every worker."""


@dataclass(frozen=True)
class Assumed:
    """Values that were not measured here; the comment after a default explains it."""

    teraflops: float = 50.0  # a sixth of an A100's peak in bf16 (312); benchmarks.train_step measures images/s
    gpus_per_node: int = 8
    images_per_gpu: int = 2  # 16 on 8 GPUs, as in the paper
    network_gbit: float = 100.0  # of a node, each way
    nvlink_gbyte: float = 300.0  # of a GPU, each way; A100
    network_hop_us: float = 10.0  # of a small message from node to node
    nvlink_hop_us: float = 2.0  # from GPU to GPU
    storage_gbit: float = 10.0  # of what all nodes read the store from, together: an NFS server with one port, say
    cores: int = 96  # of a node
    mlflow_processes: int = 4  # of the server: MLflow's default


@dataclass(frozen=True)
class Counted:
    """A model and one image's share of a training step."""

    parameters: int
    norms: int
    """Batch norm layers."""
    channels: int
    """Channels of all batch norm layers."""
    teraflops: float
    """Forward and backward pass of one crop."""

    @classmethod
    def of(cls, recipe: ExperimentConfig) -> "Counted":
        images = 2
        height, width = recipe.augmentation.crop
        with torch.device("meta"), FlopCounterMode(display=False) as counter:
            model = build_model(recipe.model.model_copy(update={"weights": None}))
            output = model(torch.empty(images, 3, height, width), torch.empty(images, 1, height, width))
            torch.autograd.backward([logits.sum() for logits in output if logits is not None])
        norms = [each for each in model.modules() if isinstance(each, nn.BatchNorm2d)]
        return cls(
            parameters=sum(parameter.numel() for parameter in model.parameters()),
            norms=len(norms),
            channels=sum(norm.num_features for norm in norms),
            teraflops=counter.get_total_flops() / images / 1e12,
        )


class Scale:
    """One training on a number of GPUs; times in seconds, sizes in MB."""

    def __init__(self, gpus: int, recipe: ExperimentConfig, model: Counted, assumed: Assumed) -> None:
        self.gpus, self.recipe, self.model, self.assumed = gpus, recipe, model, assumed
        self.nodes = ceil(gpus / assumed.gpus_per_node)
        self.batch = max(recipe.training.batch_size, assumed.images_per_gpu * gpus)
        self.images_per_second = gpus * assumed.teraflops / model.teraflops
        self.step = self.batch / self.images_per_second
        self.steps = ceil(TRAIN_SAMPLES / self.batch)
        self.epoch = self.steps * self.step
        self.training = self.epoch * recipe.training.epochs

    @property
    def link(self) -> float:
        """GB/s of the slowest part of the ring, each way."""
        return self.assumed.network_gbit / 8 if self.nodes > 1 else self.assumed.nvlink_gbyte

    @property
    def gradients(self) -> float:
        """MB that each GPU sends and receives per step, and each node's link as well, because its ranks are
        neighbours."""
        return 2 * (self.gpus - 1) / self.gpus * 4 * self.model.parameters / 1e6

    @property
    def gradient_time(self) -> float:
        return self.gradients / 1e3 / self.link

    @property
    def hidden_above(self) -> float:
        """Gbit/s of a node's link from which the backward pass hides the all-reduce."""
        return self.gradients * 8 / 1e3 / (self.step * 2 / 3) if self.nodes > 1 else 0.0

    @property
    def sync_bn(self) -> float:
        """MB that each GPU receives per step."""
        gathered = (self.gpus - 1) * (2 * self.model.channels + self.model.norms)
        summed = 2 * (self.gpus - 1) / self.gpus * 2 * self.model.channels
        return 4 * (gathered + summed) / 1e6

    @property
    def sync_bn_time(self) -> float:
        if self.gpus == 1:
            return 0.0
        over_network = self.nodes if self.nodes > 1 else 0
        around = over_network * self.assumed.network_hop_us + (self.gpus - over_network) * self.assumed.nvlink_hop_us
        return 2 * self.model.norms * around / 1e6 + self.sync_bn / 1e3 / self.link

    @property
    def ingest(self) -> float:
        """Images/s per node."""
        return self.images_per_second / self.nodes

    @property
    def cores(self) -> float:
        return self.ingest * (DECODE_MS + AUGMENT_MS) / 1e3

    @property
    def store(self) -> float:
        """MB read into all nodes' caches."""
        return self.nodes * TRAIN_SAMPLES * ROW_MB

    @property
    def filling(self) -> float:
        return self.store * 8e-3 / self.assumed.storage_gbit

    @property
    def validation(self) -> float:
        """Seconds of forward passes, each a third of a step, over whole frames."""
        height, width = self.recipe.augmentation.crop
        return VAL_SAMPLES * FRAME[0] * FRAME[1] / (height * width) / 3 / self.images_per_second

    @property
    def checkpoint(self) -> float:
        """MB of the weights to use, the weights to resume from, and the momentum."""
        return 3 * 4 * self.model.parameters / 1e6

    @property
    def between_checkpoints(self) -> float:
        minutes = self.recipe.training.checkpoint_minutes
        validated = self.recipe.training.validate_every * self.epoch + self.validation
        return validated if minutes is None else min(60 * minutes, validated)

    @property
    def mlflow_rows(self) -> float:
        """Per second, for one run."""
        return TERMS / self.step

    @property
    def mlflow_calls(self) -> float:
        """Per second, for one run."""
        return min(1 / POLL_SECONDS, 1 / (self.recipe.training.log_every * self.step))

    @property
    def loads(self) -> dict[str, float]:
        """Each part's load relative to its capacity; above 1, training waits for it or runs out of it."""
        one_run = Scale(self.assumed.gpus_per_node, self.recipe, self.model, self.assumed)
        answering = self.nodes * one_run.mlflow_calls * MLFLOW_MS / 1e3
        return {
            "gradient all-reduce / backward pass": self.gradient_time / (self.step * 2 / 3),
            "SyncBN waiting time / step": self.sync_bn_time / self.step,
            "cores that decode and augment / cores of a node": self.cores / self.assumed.cores,
            "filling all caches from shared storage / training": self.filling / self.training,
            "writing checkpoints / time between two": self.checkpoint / DISK_MB_S / self.between_checkpoints,
            "MLflow server, for a sweep with a run on each node": answering / self.assumed.mlflow_processes,
        }


ROWS: Final[dict[str, Callable[[Scale], object]]] = {
    "nodes": lambda at: at.nodes,
    "images per GPU at 16 per step": lambda at: at.recipe.training.batch_size / at.gpus,
    "images per step": lambda at: at.batch,
    "`lr` under `lr_scaling linear`": lambda at: at.recipe.optimizer.scaled_lr(at.batch),
    "steps per epoch": lambda at: at.steps,
    "step, ms": lambda at: at.step * 1e3,
    "175 epochs without validation, hours": lambda at: at.training / 3600,
    "gradients: MB per step sent by each GPU, and over each node's link": lambda at: at.gradients,
    "the same over a node's link if ranks were not ordered by node": lambda at: (
        at.gradients * at.assumed.gpus_per_node if at.nodes > 1 else 0.0
    ),
    "link speed that hides them behind the backward pass, Gbit/s": lambda at: at.hidden_above,
    "SyncBN: collectives per step": lambda at: 2 * at.model.norms if at.gpus > 1 else 0,
    "SyncBN: MB per step received by each GPU": lambda at: at.sync_bn,
    "SyncBN: waiting time per step, ms": lambda at: at.sync_bn_time * 1e3,
    "ingest: images/s per node": lambda at: at.ingest,
    "ingest: MB/s per node, from its cache": lambda at: at.ingest * ROW_MB,
    "ingest: cores per node": lambda at: at.cores,
    "filling all nodes' caches before the first step, GB": lambda at: at.store / 1e3,
    "the same, seconds": lambda at: at.filling,
    "checkpoint: MB, written by rank 0": lambda at: at.checkpoint,
    "checkpoint: seconds between two": lambda at: at.between_checkpoints,
    "restart: GB of state read by the nodes": lambda at: at.checkpoint * at.nodes / 1e3,
    "MLflow: rows/s of the run": lambda at: at.mlflow_rows,
    "MLflow: calls/s of the run": lambda at: at.mlflow_calls,
    "Ray: workers polled by Train's controller, per second": lambda at: at.gpus / TRAIN_POLL_SECONDS,
}


def table(scales: Sequence[Scale]) -> str:
    """Requirements by size."""
    header = ["GPUs", *(str(at.gpus) for at in scales)]
    return markdown_table(header, [[name, *(of(at) for at in scales)] for name, of in ROWS.items()])


def load_table(scales: Sequence[Scale]) -> str:
    """Each part's load by size, the largest of a size in bold."""
    loads = [at.loads for at in scales]

    def cell(load: dict[str, float], name: str) -> str:
        return f"**{load[name]:.1%}**" if load[name] == max(load.values()) else f"{load[name]:.1%}"

    rows = [[name, *(cell(load, name) for load in loads)] for name in loads[0]]
    return markdown_table(["load", *(str(at.gpus) for at in scales)], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbones", nargs="+", default=["resnet50", "wide_resnet38"])
    for name, value in asdict(Assumed()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value, help=f"assumed: {value:g}")
    arguments = vars(parser.parse_args())
    backbones = arguments.pop("backbones")
    assumed = Assumed(**arguments)
    print(describe(), end="\n\n")
    print("assumed: " + ", ".join(f"{name} {value:g}" for name, value in arguments.items()), end="\n\n")
    for backbone in backbones:
        changes = {"model.backbone": backbone, "optimizer.lr_scaling": "linear"}
        recipe = with_overrides(RECIPES["cityscapes"], changes)
        model = Counted.of(recipe)
        print(
            f"`cityscapes` with {backbone}: {model.parameters / 1e6:.1f} million parameters, {model.norms} batch norm "
            f"layers of {model.channels} channels in all, {model.teraflops:.2f} TFLOP a crop, forward and backward",
            end="\n\n",
        )
        scales = [Scale(gpus, recipe, model, assumed) for gpus in SIZES]
        print(table(scales), load_table(scales), sep="\n\n", end="\n\n")


if __name__ == "__main__":
    main()
