"""What each worker runs."""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray.train
import ray.train.torch
import torch
import torch.distributed
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from gscnn.batch import SegBatch
from gscnn.losses import JointLoss
from gscnn.metrics import ConfusionMatrix
from gscnn.model import build_model
from gscnn_platform.config import ExperimentConfig
from gscnn_platform.data.loader import batches, describe_epoch, steps_per_epoch, to_batch, whole_images
from gscnn_platform.data.store import Store, open_store
from gscnn_platform.evaluation import EvalReport, autocast, evaluate
from gscnn_platform.figures import Panels, draw_panels, predict_panels
from gscnn_platform.tracking import RunWriter
from gscnn_platform.training import checkpoints
from gscnn_platform.training.progress import Progress


@dataclass(frozen=True)
class WorkerJob:
    """What the driver hands to every worker; paths are absolute."""

    config: ExperimentConfig
    store: str
    tracking_uri: str
    run_id: str
    cpus: int


class NonFiniteLossError(ArithmeticError):
    """A loss term became NaN or infinite."""


def train_loop_per_worker(job: WorkerJob) -> None:
    """Trains from the last checkpoint of the run, or from the start, to the last epoch.

    Every `validate_every` epochs all workers validate, and rank 0 reports a checkpoint to Ray Train and the scores to
    MLflow.
    """
    worker = _Worker(job)
    config = job.config
    with ExitStack() as stack:
        if worker.rank == 0:
            opened = RunWriter.opened(job.tracking_uri, job.run_id, config.tracking.system_metrics)
            worker.writer = stack.enter_context(opened)
            print(f"training on {describe_epoch(len(worker.train_reader), config.training.batch_size)}", flush=True)
        if worker.first_epoch == 0:
            worker.validate(epoch=0)
        train_batches = batches(
            worker.train_reader, config, worker.rank, worker.first_epoch, pin_memory=worker.device.type == "cuda"
        )
        for epoch in range(worker.first_epoch, config.training.epochs):
            worker.train_epoch(epoch, train_batches)
            done = epoch + 1
            if done % config.training.validate_every == 0 or done == config.training.epochs:
                worker.report(done, worker.validate(done))


class _Worker:
    """One worker's model, optimizer and data, and the steps that all workers take together."""

    writer: RunWriter | None = None
    """Rank 0's only."""

    def __init__(self, job: WorkerJob) -> None:
        self.job, self.config = job, job.config
        context = ray.train.get_context()
        self.rank, self.world_size = context.get_world_rank(), context.get_world_size()
        self.device = ray.train.torch.get_device()
        if self.device.type == "cpu":
            torch.set_num_threads(job.cpus)
        self.store: Store = open_store(job.store, self.config.data, self.config.model.num_classes)
        self.train_reader = self.store.split(self.config.data.train_split)
        self.val_reader = self.store.split(self.config.data.val_split)
        self.steps = steps_per_epoch(len(self.train_reader), self.config.training.batch_size)
        self._build()

    def _build(self) -> None:
        config, training = self.config, self.config.training
        checkpoint = ray.train.get_checkpoint()
        resumed = None if checkpoint is None else checkpoints.load_training_state(checkpoint)
        torch.manual_seed(config.seed)
        weights = None if resumed else config.model.weights
        self.model: nn.Module = build_model(config.model.model_copy(update={"weights": weights}))
        if training.sync_bn:
            self.model = nn.SyncBatchNorm.convert_sync_batchnorm(self.model)
        self.memory_format = torch.channels_last if training.channels_last else torch.contiguous_format
        self.model.to(self.device, memory_format=self.memory_format)
        optimizer = config.optimizer
        self.optimizer = torch.optim.SGD(
            self.model.parameters(),
            lr=optimizer.lr,
            momentum=optimizer.momentum,
            nesterov=optimizer.nesterov,
            weight_decay=optimizer.weight_decay,
        )
        total = self.steps * training.epochs
        self.scheduler = torch.optim.lr_scheduler.PolynomialLR(self.optimizer, total, optimizer.poly_power)
        self.average = (
            None
            if training.ema_decay is None
            else AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(training.ema_decay), use_buffers=True)
        )
        self.first_epoch = 0
        if resumed:
            self.first_epoch = resumed["epoch"]
            self.model.load_state_dict(resumed["model"])
            self.optimizer.load_state_dict(resumed["optimizer"])
            self.scheduler.load_state_dict(resumed["scheduler"])
            if self.average is not None:
                self.average.load_state_dict(resumed["average"])
        self.loss = JointLoss(config.loss)
        if training.compile:
            self.model.compile()
        distributed = self.world_size > 1
        self.forward: nn.Module = DistributedDataParallel(self.model) if distributed else self.model
        self.progress = Progress(training.epochs, self.steps, training.batch_size, self.first_epoch)

    @property
    def evaluated(self) -> nn.Module:
        """The weights that are validated and saved as the model: the average where one is kept."""
        return self.model if self.average is None else self.average.module

    def train_epoch(self, epoch: int, train_batches: Iterator[SegBatch]) -> None:
        training = self.config.training
        # Whatever draws from torch's generator in this epoch does so alike after a restart at its beginning.
        torch.manual_seed(hash((self.config.seed, self.rank, epoch)) % 2**63)
        self.model.train()
        self.progress.resumed()
        names: list[str] = []
        pending: list[Tensor] = []
        rates: list[float] = []
        for step in range(self.steps):
            rates.append(self.scheduler.get_last_lr()[0])
            names, values = self._step(train_batches)
            pending.append(values)
            if (step + 1) % training.log_every == 0 or step + 1 == self.steps:
                self._log(epoch * self.steps + step + 1, names, pending, rates)
                pending, rates = [], []

    def _step(self, train_batches: Iterator[SegBatch]) -> tuple[list[str], Tensor]:
        """One optimizer step; the loss terms stay on the device, so that it does not wait for them."""
        training = self.config.training
        sums: dict[str, Tensor] = {}
        for part in range(training.accumulate):
            batch = next(train_batches).to(self.device, self.memory_format)
            last = part + 1 == training.accumulate
            wait = isinstance(self.forward, DistributedDataParallel) and not last
            with self.forward.no_sync() if wait else nullcontext():  # pyright: ignore[reportCallIssue]
                with autocast(self.device, training.precision):
                    terms = self.loss(self.forward(batch.image, batch.gradient), batch)
                (terms["total"] / training.accumulate).backward()
            for name, value in terms.items():
                sums[name] = sums.get(name, 0) + value.detach() / training.accumulate
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.scheduler.step()
        if self.average is not None:
            self.average.update_parameters(self.model)
        return list(sums), torch.stack(list(sums.values()))

    def _log(self, step: int, names: list[str], pending: list[Tensor], rates: list[float]) -> None:
        """Means over the workers of each step's terms since the last line, in one transfer."""
        values = torch.stack(pending)
        if self.world_size > 1:
            torch.distributed.all_reduce(values)
            values /= self.world_size
        speed = self.progress.images_per_second(step)
        rows = [dict(zip(names, row, strict=True)) for row in values.tolist()]
        first = step - len(rows) + 1
        for number, row in enumerate(rows):
            if not all(map(torch.isfinite, map(torch.tensor, row.values()))):
                raise NonFiniteLossError(f"step {first + number}: loss terms are {row}; try a smaller --optimizer.lr")
        if self.writer is None:
            return
        self.writer.log_steps(
            [
                (
                    first + number,
                    {f"train/{name}": value for name, value in row.items()}
                    | {"train/lr": rate, "train/images_per_second": speed},
                )
                for number, (row, rate) in enumerate(zip(rows, rates, strict=True))
            ]
        )
        mean = {name: sum(row[name] for row in rows) / len(rows) for name in names}
        print(self.progress.line(step, mean, rates[-1], speed), flush=True)

    def validate(self, epoch: int) -> EvalReport:
        """Counts of the whole validation split, summed over the workers; rank 0 writes scores and pictures."""
        data = self.config.data
        classes = self.store.manifest.identity.classes
        mine = whole_images(
            self.val_reader,
            data.eval_batch_size,
            self.rank,
            self.world_size,
            data.loader_processes,
            pin_memory=self.device.type == "cuda",
        )
        confusion = evaluate(self.evaluated, mine, classes, self.device, self.config.training.precision).confusion
        counts = confusion.counts.to(self.device)
        if self.world_size > 1:
            torch.distributed.all_reduce(counts)
        total = ConfusionMatrix(len(classes))
        total.counts = counts.cpu()
        report = EvalReport(classes, total)
        if self.writer is not None:
            self._write_validation(self.writer, epoch, report)
        return report

    def _write_validation(self, writer: RunWriter, epoch: int, report: EvalReport) -> None:
        metrics = report.metrics("val")
        writer.log_steps([(epoch, metrics)])
        when = f"epoch {epoch}/{self.config.training.epochs}" if epoch else "before training"
        print(f"{when} · validation mIoU {metrics['val/miou']:.4f}", flush=True)
        chosen = fixed_samples(len(self.val_reader), self.config.training.pictures)
        if not chosen:
            return
        panels: list[Panels] = []
        for index in chosen:
            batch = to_batch([self.val_reader.read(index)]).to(self.device)
            panels += predict_panels(self.evaluated, batch)
        identity = self.store.manifest.identity
        names = [self.val_reader.names[index] for index in chosen]
        title = f"{self.config.name} · {when} · mIoU {metrics['val/miou']:.3f}"
        writer.log_picture(draw_panels(panels, names, identity.classes, identity.colours, title), "validation", epoch)

    def report(self, epoch: int, report: EvalReport) -> None:
        """Hands Ray Train a checkpoint; every worker calls it, rank 0 brings the files."""
        metrics: dict[str, Any] = {"epoch": epoch, "val/miou": report.scores.miou}
        if self.rank != 0:
            ray.train.report(metrics)
            return
        with tempfile.TemporaryDirectory() as folder:
            checkpoints.save(
                Path(folder),
                weights=self.evaluated.state_dict(),
                training_state={
                    "epoch": epoch,
                    "model": self.model.state_dict(),
                    "optimizer": self.optimizer.state_dict(),
                    "scheduler": self.scheduler.state_dict(),
                    "average": None if self.average is None else self.average.state_dict(),
                    "run_id": self.job.run_id,
                },
                config=self.config,
                dataset=self.store.manifest.identity,
                metrics=metrics | report.metrics("val"),
            )
            ray.train.report(metrics, checkpoint=ray.train.Checkpoint.from_directory(folder))


def fixed_samples(num_samples: int, count: int) -> list[int]:
    """Up to `count` indices, evenly spread over a split and the same at every epoch."""
    count = min(count, num_samples)
    return [(2 * number + 1) * num_samples // (2 * count) for number in range(count)]
