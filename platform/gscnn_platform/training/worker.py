"""A worker's model, optimizer and data, and the steps that all workers take together. Knows nothing of Ray."""

import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.distributed
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import clip_grad_norm_
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from gscnn.batch import SegBatch
from gscnn.losses import JointLoss
from gscnn.model import build_model
from gscnn_platform import machine
from gscnn_platform.config import ExperimentConfig
from gscnn_platform.data.held_out import describe_validation, training_samples, validation_samples
from gscnn_platform.data.loader import (
    batches,
    describe_epoch,
    epoch_plan,
    shares,
    steps_per_epoch,
    whole_images,
)
from gscnn_platform.data.store import Store
from gscnn_platform.evaluation import EvalReport, autocast, evaluate
from gscnn_platform.scores import score_of
from gscnn_platform.training.control import Control
from gscnn_platform.training.crop_counts import CropCounts
from gscnn_platform.training.optim import (
    build_optimizer,
    learning_rate,
    load_optimizer_state,
    optimizer_state,
    set_learning_rate,
)
from gscnn_platform.training.progress import Progress, say
from gscnn_platform.training.step_log import FiniteCheck, StepLog
from gscnn_platform.training.step_signal import Signal
from gscnn_platform.training.validation import describe_score, validation_picture

if TYPE_CHECKING:
    # The benchmarks train without tracking, on machines without MLflow.
    from gscnn_platform.tracking import RunWriter

Save = Callable[[EvalReport | None], None]
"""Writes a checkpoint of the worker's state, with the scores of the validation if there has just been one."""


class NonFiniteLossError(ValueError):
    """A loss term or a gradient became NaN or infinite."""


class TrainingWorker:
    """The training state of one process, which is one of torch.distributed's group or the only one.

    Args:
        config: the run's config.
        store: the run's data, opened and checked.
        rank, world_size: of this process; `world_size` divides the batch.
        device: where to compute.
        resumed: `state()` of the run to resume; None starts from scratch.
        initial: tensors that a new run starts from, as `init.weights` says; the others are initialized.
        writer: MLflow writer, on rank 0 only; None tracks nothing.
    """

    def __init__(
        self,
        config: ExperimentConfig,
        store: Store,
        rank: int,
        world_size: int,
        device: torch.device,
        resumed: dict[str, Any] | None = None,
        initial: Mapping[str, Tensor] | None = None,
        writer: "RunWriter | None" = None,
    ) -> None:
        self.config, self.store, self.rank, self.world_size = config, store, rank, world_size
        self.device, self.writer = device, writer
        if device.type == "cpu":
            machine.keep_freed_memory()
        self.train_reader = training_samples(store, config.data)
        self.val_reader = validation_samples(store, config.data)
        training = config.training
        self.steps = steps_per_epoch(len(self.train_reader), training.batch_size)
        torch.manual_seed(config.seed)
        weights = None if resumed else config.model.weights
        model = build_model(config.model.model_copy(update={"weights": weights}))
        assert resumed or (initial is None) == (config.init.weights is None)
        if initial is not None:
            model.load_state_dict(initial, strict=False)
        if training.sync_bn:
            model.synchronize_batch_norms()
        self.memory_format = torch.channels_last if training.channels_last else torch.contiguous_format
        self.model = model.to(device).to(memory_format=self.memory_format)
        self.optimizer = build_optimizer(self.model, config)
        self.average: AveragedModel | None = None
        if training.ema_decay is not None:
            average = get_ema_multi_avg_fn(training.ema_decay)
            self.average = AveragedModel(self.model, multi_avg_fn=average, use_buffers=True)
        self.step, self.skipped = 0, 0
        self.saved: int | None = None
        """Step of the last checkpoint."""
        self.best: dict[str, float] = {}
        self.began = time.time()
        """When the first step of this process began, in seconds since 1970."""
        if resumed is not None:
            self._load(resumed)
        self.loss = JointLoss(
            config.loss,
            group=torch.distributed.group.WORLD if world_size > 1 else None,
            class_weights=store.class_weights(config.loss, config.data.train_split),
        ).to(device)
        if training.compile:
            self.model.compile()
        # Not true of 1x1 convolutions, whose strides can be written in several ways (pytorch/pytorch#157862).
        warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
        self.forward: nn.Module = DistributedDataParallel(self.model) if world_size > 1 else self.model
        self.progress = Progress(training.epochs, self.steps, training.batch_size, self.step)
        self.log = StepLog(self.progress, world_size, writer, speak=rank == 0)
        self.finite = FiniteCheck(device)
        self.crops = CropCounts(store, config.data.train_split, device, world_size, writer, speak=rank == 0)

    @property
    def total_steps(self) -> int:
        return self.steps * self.config.training.epochs

    @property
    def learning_rate(self) -> float:
        """Learning rate of the next step."""
        return learning_rate(self.config, self.step, self.steps)

    def state(self) -> dict[str, Any]:
        """Returns the state that any worker needs to resume after `step` steps, on any number of workers.

        Order of samples, augmentation, dropout and noise are functions of seed, rank and step, and are not stored.
        """
        return {
            "step": self.step,
            "skipped": self.skipped,
            "best": self.best,
            "model": self.model.state_dict(),
            "optimizer": optimizer_state(self.model, self.optimizer, self.config.optimizer),
            "average": None if self.average is None else self.average.state_dict(),
        }

    def _load(self, state: dict[str, Any]) -> None:
        self.step, self.skipped, self.best = state["step"], state["skipped"], state["best"]
        self.saved = self.step
        self.model.load_state_dict(state["model"])
        load_optimizer_state(self.model, self.optimizer, self.config.optimizer, state["optimizer"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])

    def train(self, save: Save, control: Control) -> bool:
        """Takes all remaining steps; returns False if `control` stopped it before the last.

        Calls `save` on every worker at the same steps: after each validation except the one at the start, and whenever
        `control` requests it.
        """
        training = self.config.training
        samples = describe_epoch(len(self.train_reader), training.batch_size)
        self._say(f"training on {samples} · {self.config.optimizer.describe_lr(training.batch_size)}")
        if self.val_reader is None or self.config.data.val_share:
            self._say(describe_validation(self.config.data, self.val_reader))
        if self.step == 0 and training.validate_at_start:
            self.validate()
        elif self.step:
            self._say(f"resuming after step {self.step} of {self.total_steps} on {self.world_size} workers")
        feed = batches(
            self.train_reader, self.config, self.rank, self.world_size, self.step, self.device.type == "cuda"
        )
        self.model.train()
        self.progress.resumed()
        self.began = time.time()
        while self.step < self.total_steps:
            self._take_step(feed)
            epoch, in_epoch = divmod(self.step, self.steps)
            if in_epoch == 0 or in_epoch % training.log_every == 0:
                self._require_finite(all_of_them=True)
                self.log.tell(self.step)
            if in_epoch == 0:
                self.crops.tell(epoch)
            signal = control.after_step()
            if in_epoch == 0 and (epoch % training.validate_every == 0 or epoch == training.epochs):
                self._save(save, self.validate())
                control.saved()
            elif signal >= Signal.SAVE:
                self._save(save, None)
                control.saved()
            if signal == Signal.STOP and self.step < self.total_steps:
                return False
        return True

    def _save(self, save: Save, report: EvalReport | None) -> None:
        """Saves a checkpoint, unless a step was not finite; logs all steps to MLflow first."""
        self._require_finite(all_of_them=True)
        self.log.flush(self.step)
        save(report)
        self.saved = self.step
        self.progress.resumed()

    @property
    def evaluated(self) -> nn.Module:
        """The model that is validated and saved: the weight average if `training.ema_decay` is set."""
        return self.model if self.average is None else self.average.module

    def _take_step(self, feed: Iterator[SegBatch]) -> None:
        """Takes one optimizer step without waiting for the GPU."""
        # Dropout and other draws from torch's generators are then the same after a restart.
        torch.manual_seed(hash((self.config.seed, self.rank, self.step)) % 2**63)
        skip = self.config.training.on_nonfinite == "skip"
        # A NaN in an activation would stay in batch norm's running statistics forever.
        before = [buffer.clone() for buffer in self.model.buffers()] if skip else []
        terms = self._gradients(feed)
        clip = self.config.optimizer.clip_norm
        rates = set_learning_rate(self.optimizer, self.learning_rate)
        terms["grad_norm"] = clip_grad_norm_(self.model.parameters(), float("inf") if clip is None else clip)
        self.step += 1
        if skip and not terms["grad_norm"].isfinite():
            self._skip(terms, before, rates)
        else:
            self.log.add(terms, rates, self.skipped)
            self.finite.add(self.step, terms["grad_norm"])
            self._require_finite()
            self.optimizer.step()
            if self.average is not None:
                self.average.update_parameters(self.model)
        self.optimizer.zero_grad(set_to_none=True)

    def _gradients(self, feed: Iterator[SegBatch]) -> dict[str, Tensor]:
        """Accumulates the gradients of a step's batches; returns the sums of the loss terms, on the device.

        The mean of the gradients over the workers is the step's gradient, and likewise for the terms: the loss weights
        each worker by its share of images and pixels (gscnn.losses.JointLoss).
        """
        accumulate = self.config.training.accumulate
        parts = [next(feed).to(self.device, self.memory_format) for _ in range(accumulate)]
        for batch in parts:
            self.crops.add(batch.label)
        # A single batch is counted in its forward pass, together with what the prediction decides: one collective less.
        counts = self.loss.count(parts) if accumulate > 1 else [None]
        progress = self.step / self.total_steps
        sums: dict[str, Tensor] = {}
        for number, (batch, of_step) in enumerate(zip(parts, counts, strict=True)):
            wait = isinstance(self.forward, DistributedDataParallel) and number + 1 < accumulate
            with self.forward.no_sync() if wait else nullcontext():  # pyright: ignore[reportCallIssue]
                with autocast(self.device, self.config.training.precision):
                    output = self.forward(batch.image, batch.gradient)
                    terms = self.loss(output, batch, of_step, self._noise_seeds(number), progress)
                terms["total"].backward()
            for name, value in terms.items():
                sums[name] = sums[name] + value.detach() if name in sums else value.detach()
        return sums

    def _noise_seeds(self, part: int) -> list[int]:
        """Returns a seed per image of an accumulated batch: the same for any number of workers."""
        training = self.config.training
        places = shares(np.arange(training.batch_size), training.accumulate, self.world_size)[part][self.rank]
        return [hash((self.config.seed, self.step, int(place))) % 2**63 for place in places]

    def _skip(self, terms: dict[str, Tensor], before: list[Tensor], rates: dict[str, float]) -> None:
        for buffer, kept in zip(self.model.buffers(), before, strict=True):
            buffer.copy_(kept)
        self.skipped += 1
        self._say(f"step {self.step} skipped, {self.skipped} so far: {self._terms_and_samples(self.step, terms)}")
        if self.skipped > self.config.training.max_skipped:
            raise NonFiniteLossError(
                f"step {self.step}: {self.skipped} steps were not finite, more than training.max_skipped "
                f"{self.config.training.max_skipped}; try a smaller --optimizer.lr, or --optimizer.clip-norm"
            )
        self.log.add(terms, rates, self.skipped)

    def _require_finite(self, all_of_them: bool = False) -> None:
        """Raises NonFiniteLossError if a gradient, which all workers share, was not finite."""
        bad = self.finite.first_bad(all_of_them)
        if bad is not None:
            kept = (
                "There is no checkpoint yet" if self.saved is None else f"The last checkpoint is at step {self.saved}"
            )
            raise NonFiniteLossError(
                f"step {bad}: loss or gradient is not finite. {self._terms_and_samples(bad, None)}. "
                f"{kept}. Start a new run under another --run-name, with a smaller --optimizer.lr, with "
                "--optimizer.clip-norm or with --training.on-nonfinite skip"
            )

    def _terms_and_samples(self, step: int, terms: dict[str, Tensor] | None) -> str:
        """Returns each worker's loss terms and samples at a step as text; called on all workers together."""
        mine = (
            self.log.last_of_this_worker(self.step - step)
            if terms is None
            else {name: float(value) for name, value in terms.items()}
        )
        all_terms: list[dict[str, float]] = [mine]
        if self.world_size > 1:
            all_terms = [{} for _ in range(self.world_size)]
            torch.distributed.all_gather_object(all_terms, mine)
        epoch, in_epoch = divmod(step - 1, self.steps)
        training = self.config.training
        planned, _ = epoch_plan(self.train_reader, self.config, epoch)
        samples = shares(planned[in_epoch], training.accumulate, self.world_size)
        return "; ".join(
            f"worker {rank}: {', '.join(f'{name} {value:.4g}' for name, value in of_rank.items())} on samples "
            f"{', '.join(self.train_reader.names[index] for batch in samples for index in batch[rank])}"
            for rank, of_rank in enumerate(all_terms)
        )

    def validate(self) -> EvalReport | None:
        """Returns the report over all validation samples and workers, which rank 0 logs; None without such samples."""
        if self.val_reader is None:
            return None
        data, epoch = self.config.data, self.step // self.steps
        if self.world_size > 1:
            # Each worker has its own running statistics of batch norm; rank 0's are the ones that are saved.
            for buffer in self.evaluated.buffers():
                torch.distributed.broadcast(buffer, src=0)
        training, identity = self.config.training, self.store.manifest.identity
        mine = whole_images(
            self.val_reader,
            data.eval_batch_size,
            self.rank,
            self.world_size,
            data.loader_processes,
            pin_memory=self.device.type == "cuda",
        )
        report = evaluate(self.evaluated, mine, identity.classes, self.device, training.precision, distance_factors=())
        report.whole.add_over(self._sum_over_workers)
        scores, best = report.metrics("val"), score_of(training.best_metric)
        score = scores.get(best.tracked_as, math.nan)
        # Without a score, as on labels that are all void, the last checkpoint counts as the best.
        if epoch and not score <= self.best.get("score", -1.0):
            self.best = {"score": score, "epoch": epoch}
        when = f"epoch {epoch}/{training.epochs}" if epoch else "before training"
        self._say(f"{when} · {describe_score(best, score)}")
        if self.writer is not None:
            self.writer.log_steps([(epoch, scores)])
            shown = "no score" if math.isnan(score) else f"{best.title} {score:.3f}"
            title = f"{self.config.name} · {when} · {shown}"
            picture = self.picture(title) if training.pictures else None
            self.writer.describe(title, epoch, scores, None if not self.best else int(self.best["epoch"]), picture)
        self.model.train()
        self.progress.resumed()
        return report

    def _sum_over_workers(self, tensor: Tensor) -> Tensor:
        total = tensor.to(self.device)
        if self.world_size > 1:
            torch.distributed.all_reduce(total)
        return total.to(tensor.device)

    def picture(self, title: str) -> np.ndarray:
        """Returns an RGB picture of the model's predictions for a few validation samples, always the same ones."""
        assert self.val_reader is not None
        identity, count = self.store.manifest.identity, self.config.training.pictures
        return validation_picture(self.evaluated, self.val_reader, identity, count, title)

    def _say(self, line: str) -> None:
        if self.rank == 0:
            say(line)
