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
from gscnn.metrics import (
    DISTANCE_FACTORS,
    BoundaryF,
    BoundaryIoU,
    ConfusionMatrix,
    SegmentationScores,
    distance_crop,
)
from gscnn_platform.scores import (
    BOUNDARY_F,
    BOUNDARY_F_PRESENT,
    BY_CLASS,
    MIOU,
    RADII,
    RING_DISTANCES,
    SCORES,
    TRACKED_BY_CLASS,
    Measured,
)


@dataclass
class Counts:
    """Counts over whole frames, or over the same crop of each frame."""

    confusion: ConfusionMatrix
    boundary: BoundaryF
    boundary_iou: BoundaryIoU

    @classmethod
    def empty(cls, num_classes: int) -> "Counts":
        return cls(
            ConfusionMatrix(num_classes), BoundaryF(num_classes, RADII), BoundaryIoU(num_classes, RING_DISTANCES)
        )

    def update(self, prediction: Tensor, truth: Tensor) -> float:
        """Counts a frame [H, W] or a batch of frames [B, H, W]; returns the mIoU of these alone, NaN if all is void."""
        alone = ConfusionMatrix(self.confusion.num_classes)
        alone.update(prediction, truth)
        self.confusion.merge(alone)
        self.boundary.update(prediction, truth)
        self.boundary_iou.update(prediction, truth)
        return alone.compute().miou

    def add_over(self, add: Callable[[Tensor], Tensor]) -> None:
        """Replaces every sum by the result of `add`, which sums it over the workers."""
        self.confusion.counts = add(self.confusion.counts)
        self.boundary.f_sums = add(self.boundary.f_sums)
        self.boundary.present = add(self.boundary.present)
        self.boundary.images = add(self.boundary.images)
        self.boundary_iou.intersections = add(self.boundary_iou.intersections)
        self.boundary_iou.unions = add(self.boundary_iou.unions)

    def measured(self) -> Measured:
        """The results of everything counted."""
        return Measured(self.confusion.compute(), self.boundary.compute(), self.boundary_iou.compute())


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
        """Metrics named `prefix/KEY` for each key of `summary`, and `prefix_KEY/CLASS` for each of TRACKED_BY_CLASS.

        NaN is left out.
        """
        overall = {f"{prefix}/{key}": value for key, value in summary(self.whole).items()}
        measured = self.whole.measured()
        by_class = {
            f"{prefix}_{of_classes.key}/{name}": value
            for of_classes in TRACKED_BY_CLASS
            for name, value in zip(self.classes, of_classes.values(measured), strict=True)
        }
        return {key: value for key, value in (overall | by_class).items() if not math.isnan(value)}

    def per_class(self) -> list[dict[str, Any]]:
        """For each class its name, share of the pixels and each score of BY_CLASS, by key.

        Scores are None for a class of which nothing was counted.
        """
        counts, measured = self.whole.confusion.counts, self.whole.measured()
        shares = (counts.sum(dim=1) / counts.sum().clamp(min=1)).tolist()
        columns = {of_classes.key: of_classes.values(measured) for of_classes in BY_CLASS}
        return [
            {"class": name, "share": shares[index]} | {key: _or_none(values[index]) for key, values in columns.items()}
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
        """A table of the share of the pixels and each score of BY_CLASS for each class, and the means."""
        overall = {key: _cell(value) for key, value in summary(self.whole).items()}
        name_width = max(len("official F"), *(len(name) for name in self.classes))
        widths = [max(5, len(of_classes.column)) for of_classes in BY_CLASS]

        def line(name: str, share: str, cells: Iterable[str]) -> str:
            columns = "".join(f"  {cell:>{width}}" for cell, width in zip(cells, widths, strict=True))
            return f"{name:<{name_width}}  {share:>7}{columns}".rstrip()

        means = [score for score in SCORES if score.by_class is not None]
        official = {BOUNDARY_F_PRESENT[radius]: BOUNDARY_F[radius] for radius in RADII}
        below = [official.get(score) for score in means]
        others = ", ".join(f"{score.title} {overall[score.key]}" for score in SCORES if score not in (*means, *below))
        rule = line("-" * name_width, "-" * 7, ("-" * width for width in widths))
        lines = [
            line("class", "pixels", (of_classes.column for of_classes in BY_CLASS)),
            rule,
            *(
                line(row["class"], f"{row['share']:.2%}", (_cell(row[of_classes.key]) for of_classes in BY_CLASS))
                for row in self.per_class()
            ),
            rule,
            line("mean", "", (overall[score.key] for score in means)),
            line("official F", "", ("" if score is None else overall[score.key] for score in below)),
            f"{others}; predicting the most frequent class everywhere has {MIOU.title} {_cell(self.constant_miou)}",
            "F: boundary F over the frames that have the class; official: a class that a frame lacks scores 1 there",
            "BIoU: boundary IoU, at 2% of the frame's diagonal and at 3 px",
        ]
        if self.by_distance:
            curve = ", ".join(
                f"{factor}: {_cell(scores[MIOU.key])}" for factor, scores in self.distance_curve().items()
            )
            lines.append(f"{MIOU.title} by crop factor, a stand-in for distance: {curve}")
        return "\n".join(lines)


def summary(counts: Counts) -> dict[str, float]:
    """Key of each score in gscnn_platform.scores.SCORES -> its value; NaN if nothing was counted."""
    measured = counts.measured()
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
                frames.append(whole.update(prediction, truth))
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


def _cell(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.3f}"
