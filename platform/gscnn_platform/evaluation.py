"""A model on a split of a store -> EvalReport, and the report as text and as metrics."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import nn

from gscnn.batch import SegBatch
from gscnn.metrics import ConfusionMatrix, SegmentationScores
from gscnn_platform.config import Config, TrackingConfig


class EvaluateConfig(Config):
    """One evaluation."""

    checkpoint: str
    """A checkpoint's or a run's folder, or an MLflow run id."""
    store: str
    """Folder that jobs.precompute wrote."""
    split: str = "val"
    """Split of the store to count."""
    batch_size: int = Field(default=1, ge=1)
    """Whole images of one size at once, at most."""
    precision: Literal["float32", "bf16"] = "float32"
    """Arithmetic of the forward pass."""
    tracking: TrackingConfig = TrackingConfig()


@dataclass(frozen=True)
class EvalReport:
    """Counts over a whole split, and what they come to."""

    classes: tuple[str, ...]
    confusion: ConfusionMatrix

    @property
    def scores(self) -> SegmentationScores:
        return self.confusion.compute()

    @property
    def constant_miou(self) -> float:
        """mIoU of predicting the split's most frequent class everywhere: what a model must beat to have learnt."""
        of_class = self.confusion.counts.sum(dim=1)
        present = int((of_class > 0).sum())
        return float(of_class.max() / of_class.sum() / present) if present else float("nan")

    def metrics(self, prefix: str) -> dict[str, float]:
        """`prefix/miou`, `prefix/pixel_accuracy` and `prefix_iou/CLASS`; classes that were not there are left out."""
        scores = self.scores
        overall = {f"{prefix}/miou": scores.miou, f"{prefix}/pixel_accuracy": scores.pixel_accuracy}
        of_class = {f"{prefix}_iou/{name}": float(iou) for name, iou in zip(self.classes, scores.iou, strict=True)}
        return {key: value for key, value in (overall | of_class).items() if not np.isnan(value)}

    def table(self) -> str:
        """IoU and share of the pixels per class, and the mean."""
        scores, counts = self.scores, self.confusion.counts
        shares = counts.sum(dim=1) / counts.sum().clamp(min=1)
        width = max(len("class"), *(len(name) for name in self.classes))
        lines = [f"{'class':<{width}}    IoU   pixels", f"{'-' * width}  -----  -------"]
        for name, iou, share in zip(self.classes, scores.iou, shares.tolist(), strict=True):
            shown = "    -" if np.isnan(iou) else f"{iou:5.3f}"
            lines.append(f"{name:<{width}}  {shown}  {share:6.2%}")
        lines += [
            lines[1],
            f"{'mean':<{width}}  {scores.miou:5.3f}",
            f"pixel accuracy {scores.pixel_accuracy:.3f}; predicting the most frequent class everywhere "
            f"has mIoU {self.constant_miou:.3f}",
        ]
        return "\n".join(lines)


def evaluate(
    model: nn.Module,
    batches: Iterable[SegBatch],
    classes: tuple[str, ...],
    device: torch.device,
    precision: str = "float32",
) -> EvalReport:
    """Counts the model's predictions over whole images.

    Args:
        model: on `device`; put into evaluation mode, and back into the mode it was in.
        batches: of the samples to count, each once; a worker's share where several count together.
        classes: names in the order of the train ids.
        device: where to compute.
        precision: "bf16" for autocast, as in training.
    """
    confusion = ConfusionMatrix(len(classes))
    was_training = model.training
    model.eval()
    with torch.inference_mode(), autocast(device, precision):
        for batch in batches:
            on_device = batch.to(device)
            logits = model(on_device.image, on_device.gradient).seg_logits
            confusion.update(logits.argmax(dim=1), on_device.label)
    model.train(was_training)
    return EvalReport(classes, confusion)


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """bf16 autocast where `precision` asks for it."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")
