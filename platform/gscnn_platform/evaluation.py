"""Evaluates a model on a split of a store; the report as text, as metrics and as plain data."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gscnn.batch import SegBatch
from gscnn.config import InferenceConfig
from gscnn.inference import infer
from gscnn.metrics import DISTANCE_FACTORS, BoundaryF, ConfusionMatrix, SegmentationScores, distance_crop
from gscnn_platform.scores import BOUNDARY_F, BOUNDARY_F_PRESENT, MIOU, RADII, SCORES, Measured


@dataclass
class Counts:
    """Counts over whole frames, or over the same crop of each frame."""

    confusion: ConfusionMatrix
    boundary: BoundaryF

    @classmethod
    def empty(cls, num_classes: int) -> "Counts":
        return cls(ConfusionMatrix(num_classes), BoundaryF(num_classes, RADII))

    def update(self, prediction: Tensor, truth: Tensor) -> None:
        self.confusion.update(prediction, truth)
        self.boundary.update(prediction, truth)

    def add_over(self, add: Callable[[Tensor], Tensor]) -> None:
        """Replaces every sum by the result of `add`, which sums it over the workers."""
        self.confusion.counts = add(self.confusion.counts)
        self.boundary.f_sums = add(self.boundary.f_sums)
        self.boundary.present = add(self.boundary.present)
        self.boundary.images = add(self.boundary.images)


@dataclass(frozen=True)
class EvalReport:
    """Counts over a whole split, and their results."""

    classes: tuple[str, ...]
    whole: Counts
    by_distance: Mapping[int, Counts] = field(default_factory=dict)
    """Crop factor (gscnn.metrics.distance_crop) -> counts of the centred crops; empty in training."""
    frames: Sequence[float] = ()
    """mIoU of each frame by itself, in the order of the batches; NaN for a frame that is all void."""

    @property
    def scores(self) -> SegmentationScores:
        return self.whole.confusion.compute()

    @property
    def constant_miou(self) -> float:
        """mIoU of predicting the split's most frequent class everywhere: the baseline that a model must beat."""
        of_class = self.whole.confusion.counts.sum(dim=1)
        present = int((of_class > 0).sum())
        return float(of_class.max() / of_class.sum() / present) if present else float("nan")

    def distance_curve(self) -> dict[int, dict[str, float]]:
        """Crop factor (0 for the whole frame) -> summary of these crops."""
        return {factor: summary(counts) for factor, counts in {0: self.whole, **self.by_distance}.items()}

    def metrics(self, prefix: str) -> dict[str, float]:
        """Metrics named `prefix/KEY` for each key of `summary`, and `prefix_iou/CLASS`; NaN is left out."""
        overall = {f"{prefix}/{key}": value for key, value in summary(self.whole).items()}
        pairs = zip(self.classes, self.scores.iou, strict=True)
        return {key: value for key, value in overall.items() if not math.isnan(value)} | {
            f"{prefix}_iou/{name}": float(iou) for name, iou in pairs if not math.isnan(iou)
        }

    def per_class(self) -> list[dict[str, Any]]:
        """For each class its name, share of the pixels, IoU, and boundary F by radius over the frames that have it.

        Scores are None for a class in neither ground truth nor prediction.
        """
        counts, boundary = self.whole.confusion.counts, self.whole.boundary.compute()
        shares = (counts.sum(dim=1) / counts.sum().clamp(min=1)).tolist()
        return [
            {
                "class": name,
                "share": shares[index],
                "iou": _or_none(self.scores.iou[index]),
                "boundary_f": {
                    radius: _or_none(of_radius["present_only_per_class"][index])
                    for radius, of_radius in boundary.items()
                },
            }
            for index, name in enumerate(self.classes)
        ]

    def as_data(self) -> dict[str, Any]:
        """The whole report as plain data, for a JSON file."""
        return {
            "summary": {key: _or_none(value) for key, value in summary(self.whole).items()},
            "constant_miou": _or_none(self.constant_miou),
            "per_class": self.per_class(),
            "by_distance": {
                factor: {key: _or_none(value) for key, value in scores.items()}
                for factor, scores in self.distance_curve().items()
            },
            "confusion": self.whole.confusion.counts.tolist(),
            "frames": [_or_none(miou) for miou in self.frames],
        }

    def table(self) -> str:
        """A table of IoU, share of the pixels and boundary F for each class, and the means."""
        overall = summary(self.whole)
        width = max(len("official F"), *(len(name) for name in self.classes))
        header = f"{'class':<{width}}    IoU   pixels" + "".join(f"  {f'F {radius}px':>6}" for radius in RADII)
        rule = f"{'-' * width}  -----  -------" + "  ------" * len(RADII)
        lines = [header, rule]
        for row in self.per_class():
            f_cells = "".join(f"  {_cell(row['boundary_f'][radius], 6)}" for radius in RADII)
            lines.append(f"{row['class']:<{width}}  {_cell(row['iou'], 5)}  {row['share']:7.2%}{f_cells}")
        mean_f = "".join(f"  {_cell(overall[BOUNDARY_F_PRESENT[radius].key], 6)}" for radius in RADII)
        official = "".join(f"  {_cell(overall[BOUNDARY_F[radius].key], 6)}" for radius in RADII)
        in_columns = {MIOU, *BOUNDARY_F_PRESENT.values(), *BOUNDARY_F.values()}
        others = [f"{score.title} {_cell(overall[score.key], 1)}" for score in SCORES if score not in in_columns]
        lines += [
            rule,
            f"{'mean':<{width}}  {_cell(overall[MIOU.key], 5)}  {'':7}{mean_f}",
            f"{'official F':<{width}}  {'':5}  {'':7}{official}",
            f"{', '.join(others)}; predicting the most frequent class everywhere has {MIOU.title} "
            f"{_cell(self.constant_miou, 1)}",
            "F: boundary F over the frames that have the class; official: a class that a frame lacks scores 1 there",
        ]
        if self.by_distance:
            curve = ", ".join(
                f"{factor}: {_cell(scores[MIOU.key], 1)}" for factor, scores in self.distance_curve().items()
            )
            lines.append(f"{MIOU.title} by crop factor, a stand-in for distance: {curve}")
        return "\n".join(lines)


def summary(counts: Counts) -> dict[str, float]:
    """Key of each score in gscnn_platform.scores.SCORES -> its value; NaN if nothing was counted."""
    measured = Measured(counts.confusion.compute(), counts.boundary.compute())
    return {score.key: score.value(measured) for score in SCORES}


def evaluate(
    model: nn.Module,
    batches: Iterable[SegBatch],
    classes: tuple[str, ...],
    device: torch.device,
    precision: str = "float32",
    inference: InferenceConfig | None = None,
    distance_factors: Sequence[int] = DISTANCE_FACTORS,
) -> EvalReport:
    """Evaluates the model's predictions on whole images.

    Args:
        model: the model on `device`; evaluated in evaluation mode, then set back to its previous mode.
        batches: batches that hold each sample once; if several workers evaluate together, this worker's share.
        classes: names in the order of the train ids.
        device: device to compute on.
        precision: "bf16" for autocast, as in training.
        inference: windows, scales and flip; None: one plain forward pass.
        distance_factors: factors of the centred crops that are also evaluated; factors that leave nothing of a frame
            are skipped.
    """
    inference = inference or InferenceConfig()
    whole = Counts.empty(len(classes))
    by_distance: dict[int, Counts] = {}
    frames: list[float] = []
    was_training = model.training
    model.eval()
    with torch.inference_mode(), autocast(device, precision):
        for batch in batches:
            on_device = batch.to(device)
            predictions = infer(model, on_device.image, on_device.gradient, inference).label.cpu()
            for prediction, truth in zip(predictions, batch.label, strict=True):
                frame = ConfusionMatrix(len(classes))
                frame.update(prediction, truth)
                frames.append(frame.compute().miou)
                whole.confusion.merge(frame)
                whole.boundary.update(prediction, truth)
                for factor in distance_factors:
                    crop = distance_crop(truth.shape[0], truth.shape[1], factor)
                    if factor and crop is not None:
                        counts = by_distance.setdefault(factor, Counts.empty(len(classes)))
                        counts.update(prediction[crop], truth[crop])
    model.train(was_training)
    return EvalReport(classes, whole, by_distance, frames)


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """bf16 autocast if `precision` is "bf16"."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def _or_none(value: float | np.floating) -> float | None:
    """The value, or None for NaN, which JSON does not have."""
    return None if math.isnan(value) else float(value)


def _cell(value: float | None, width: int) -> str:
    return f"{'-':>{width}}" if value is None or math.isnan(value) else f"{value:{width}.3f}"
