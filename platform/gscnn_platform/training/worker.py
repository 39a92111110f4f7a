"""One worker's model, optimizer and data, and the steps that all workers take together. Knows nothing of Ray."""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from math import isfinite
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.distributed
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from gscnn.batch import SegBatch
from gscnn.losses import JointLoss
from gscnn.model import build_model
from gscnn_platform.config import ExperimentConfig
from gscnn_platform.data.loader import batches, describe_epoch, steps_per_epoch, to_batch, whole_images
from gscnn_platform.data.store import Store
from gscnn_platform.evaluation import EvalReport, autocast, evaluate
from gscnn_platform.figures import Panels, draw_panels, predict_panels
from gscnn_platform.training.progress import Progress, say

if TYPE_CHECKING:
    # The benchmarks train without tracking, on machines without MLflow.
    from gscnn_platform.tracking import RunWriter


class NonFiniteLossError(ValueError):
    """A loss term became NaN or infinite."""


class TrainingWorker:
    """What one process trains with; the processes are torch.distributed's, or one alone.

    Args:
        config: the run.
        store: its data, opened and checked.
        rank, world_size: of this process; world_size must be the config's num_workers.
        device: where to compute.
        resumed: what `state` returned in the run that is to be continued.
        writer: MLflow's, on rank 0 only; None tracks nothing.
    """

    def __init__(
        self,
        config: ExperimentConfig,
        store: Store,
        rank: int,
        world_size: int,
        device: torch.device,
        resumed: dict[str, Any] | None = None,
        writer: "RunWriter | None" = None,
    ) -> None:
        assert world_size == config.num_workers
        self.config, self.store, self.rank, self.world_size = config, store, rank, world_size
        self.device, self.writer = device, writer
        self.train_reader = store.split(config.data.train_split)
        self.val_reader = store.split(config.data.val_split)
        training, optimizer = config.training, config.optimizer
        self.steps = steps_per_epoch(len(self.train_reader), training.batch_size)
        torch.manual_seed(config.seed)
        weights = None if resumed else config.model.weights
        model: nn.Module = build_model(config.model.model_copy(update={"weights": weights}))
        if training.sync_bn:
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        self.memory_format = torch.channels_last if training.channels_last else torch.contiguous_format
        self.model = model.to(device).to(memory_format=self.memory_format)
        self.optimizer = torch.optim.SGD(
            self.model.parameters(),
            lr=optimizer.lr,
            momentum=optimizer.momentum,
            nesterov=optimizer.nesterov,
            weight_decay=optimizer.weight_decay,
        )
        self.scheduler = torch.optim.lr_scheduler.PolynomialLR(
            self.optimizer, self.steps * training.epochs, optimizer.poly_power
        )
        self.average: AveragedModel | None = None
        if training.ema_decay is not None:
            average = get_ema_multi_avg_fn(training.ema_decay)
            self.average = AveragedModel(self.model, multi_avg_fn=average, use_buffers=True)
        self.first_epoch = 0
        if resumed is not None:
            self._load(resumed)
        self.loss = JointLoss(config.loss)
        if training.compile:
            self.model.compile()
        self.forward: nn.Module = DistributedDataParallel(self.model) if world_size > 1 else self.model
        self.progress = Progress(training.epochs, self.steps, training.batch_size, self.first_epoch)

    def state(self, epoch: int) -> dict[str, Any]:
        """All that a worker needs to go on after `epoch` epochs."""
        return {
            "epoch": epoch,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
        }

    def _load(self, state: dict[str, Any]) -> None:
        self.first_epoch = state["epoch"]
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])

    def train(self, report: Callable[[int, EvalReport], None]) -> None:
        """All epochs that are left; calls `report` on every worker after each validation but that of the start."""
        training = self.config.training
        self._say(f"training on {describe_epoch(len(self.train_reader), training.batch_size)}")
        if self.first_epoch == 0:
            self.validate(epoch=0)
        pin_memory = self.device.type == "cuda"
        train_batches = batches(self.train_reader, self.config, self.rank, self.first_epoch, pin_memory)
        for epoch in range(self.first_epoch, training.epochs):
            self.train_epoch(epoch, train_batches)
            done = epoch + 1
            if done % training.validate_every == 0 or done == training.epochs:
                report(done, self.validate(done))

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
            rates.append(float(self.scheduler.get_last_lr()[0]))
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
                mean = value.detach() / training.accumulate
                sums[name] = sums[name] + mean if name in sums else mean
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
            if not all(map(isfinite, row.values())):
                raise NonFiniteLossError(f"step {first + number}: loss terms are {row}; try a smaller --optimizer.lr")
        if self.writer is not None:
            named = [{f"train/{name}": value for name, value in row.items()} for row in rows]
            rest = [{"train/lr": rate, "train/images_per_second": speed} for rate in rates]
            values_of = [(first + number, named[number] | rest[number]) for number in range(len(rows))]
            self.writer.log_steps(values_of)
        mean = {name: sum(row[name] for row in rows) / len(rows) for name in names}
        self._say(self.progress.line(step, mean, rates[-1], speed))

    def validate(self, epoch: int) -> EvalReport:
        """Counts of the whole validation split, summed over the workers; rank 0 writes scores and pictures."""
        data = self.config.data
        if self.world_size > 1:
            # Batch norm's running statistics are each worker's own; rank 0's are those that are saved.
            for buffer in self.evaluated.buffers():
                torch.distributed.broadcast(buffer, src=0)
        classes = self.store.manifest.identity.classes
        mine = whole_images(
            self.val_reader,
            data.eval_batch_size,
            self.rank,
            self.world_size,
            data.loader_processes,
            pin_memory=self.device.type == "cuda",
        )
        report = evaluate(
            self.evaluated, mine, classes, self.device, self.config.training.precision, distance_factors=()
        )
        report.whole.add_over(self._sum_over_workers)
        when = f"epoch {epoch}/{self.config.training.epochs}" if epoch else "before training"
        self._say(f"{when} · validation mIoU {report.scores.miou:.4f}")
        if self.writer is not None:
            self.writer.log_steps([(epoch, report.metrics("val"))])
            if self.config.training.pictures:
                title = f"{self.config.name} · {when} · mIoU {report.scores.miou:.3f}"
                self.writer.log_picture(self.picture(title), epoch, title)
        return report

    def _sum_over_workers(self, tensor: Tensor) -> Tensor:
        total = tensor.to(self.device)
        if self.world_size > 1:
            torch.distributed.all_reduce(total)
        return total.to(tensor.device)

    def picture(self, title: str) -> np.ndarray:
        """The model's view of a few validation samples, always the same, as an RGB picture."""
        chosen = fixed_samples(len(self.val_reader), self.config.training.pictures)
        panels: list[Panels] = []
        for index in chosen:
            batch = to_batch([self.val_reader.read(index)]).to(self.device)
            panels += predict_panels(self.evaluated, batch)
        identity = self.store.manifest.identity
        names = [self.val_reader.names[index] for index in chosen]
        return draw_panels(panels, names, identity.classes, identity.colours, title)

    def _say(self, line: str) -> None:
        if self.rank == 0:
            say(line)


def fixed_samples(num_samples: int, count: int) -> list[int]:
    """Up to `count` indices, evenly spread over a split and the same at every epoch."""
    count = min(count, num_samples)
    return [(2 * number + 1) * num_samples // (2 * count) for number in range(count)]
