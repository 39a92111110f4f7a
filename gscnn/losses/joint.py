"""The weighted sum of all terms, of a batch or of a whole step over accumulated batches and workers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, Integer
from torch import Tensor, nn
from torch.distributed import ProcessGroup

from gscnn.batch import SegBatch, SegmentationOutput
from gscnn.config import LossConfig
from gscnn.constants import IGNORE_INDEX
from gscnn.losses.attention import predicted_boundary
from gscnn.losses.boundary import boundary_counts, boundary_term
from gscnn.losses.cross_entropy import (
    class_counts,
    class_mean_term,
    image_class_weights,
    mean_counts,
    mean_term,
    pixel_cross_entropy,
)
from gscnn.losses.dual import dual_term
from gscnn.losses.hard_pixels import hard_pixels
from gscnn.losses.overlap import dice_term, lovasz_term
from gscnn.losses.terms import Counts, Term, Workers, divided, sum_of


@dataclass(frozen=True)
class StepCounts:
    """Counts over the labels of a step's accumulated batches, for one of these batches."""

    labels: Mapping[str, Counts]
    """Term -> counts of the whole step, for the terms whose counts depend only on labels."""
    images: Int64[Tensor, ""]
    """Images of this batch, summed over the workers."""
    all_images: Int64[Tensor, ""]
    """Images of the step."""


class JointLoss(nn.Module):
    """The weighted sum of all terms; the per-pixel cross-entropy is computed once for two of them.

    With a process group, each term is computed for the step's whole batch over all workers, however its images and
    pixels are distributed. Each worker's value is its part times the number of workers, so the mean over the workers is
    the term, and DistributedDataParallel's mean of their gradients is the gradient of the whole batch. Counts are
    summed in one collective of a few integers; the dual term adds another, of two floats, for the steepest outlines,
    and `ohem_share` three, of up to 2048 integers, for the hardest pixels.

    With accumulated batches, call `count` on all of them before the first forward pass. The counts of seg, edge, lovasz
    and dice, which depend only on labels, then cover the whole step. Those of attention and dual, which depend on the
    prediction, and of seg with an `ohem_threshold`, are summed over the workers but not over the accumulated batches,
    whose values are averaged by images.

    Args:
        config: weights and settings of the terms.
        ignore_index: value of void in the labels.
        group: the workers that take a step together, such as torch.distributed.group.WORLD; None: this process alone.
            All of them must call `count` and `forward` equally often.
        class_weights: [K] above 0, required if `config.class_weights` names a weighting by the dataset's pixels:
            gscnn.class_weights.class_weights computes them.

    Raises:
        ValueError: `class_weights` are missing, or the config has no use for them.
    """

    class_weights: Tensor | None

    def __init__(
        self,
        config: LossConfig,
        ignore_index: int = IGNORE_INDEX,
        group: ProcessGroup | None = None,
        class_weights: np.ndarray | Float[Tensor, " K"] | None = None,
    ) -> None:
        super().__init__()
        given = config.class_weights
        if class_weights is None and isinstance(given, tuple):
            class_weights = np.array(given)
        if (class_weights is None) != (given is None or given == "image"):
            needed = "those of gscnn.class_weights.class_weights" if class_weights is None else "none"
            raise ValueError(f"loss.class_weights is {given}: as `class_weights` of JointLoss, pass {needed}")
        weights = None if class_weights is None else torch.as_tensor(class_weights, dtype=torch.float64)
        self.register_buffer("class_weights", weights, persistent=False)
        self.config = config
        self.weights = config.model_dump()
        self.ignore_index = ignore_index
        self.workers = Workers(group)

    def count(self, batches: Sequence[SegBatch]) -> list[StepCounts]:
        """The counts of the whole step that `forward` needs, for each of its accumulated batches: one collective."""
        of_labels = {
            name: sum_of([counts[name] for counts in map(self._label_counts, batches)])
            for name in self._label_counts(batches[0])
        }
        label = batches[0].label
        images = tuple(torch.full((), len(batch), dtype=torch.long, device=label.device) for batch in batches)
        summed = self.workers.add({**of_labels, "images": images})
        images = summed.pop("images")
        return [StepCounts(summed, of_batch, torch.stack(images).sum()) for of_batch in images]

    def forward(
        self,
        output: SegmentationOutput,
        batch: SegBatch,
        counts: StepCounts | None = None,
        noise_seeds: Sequence[int] | None = None,
        progress: float = 1.0,
    ) -> dict[str, Float[Tensor, ""]]:
        """The enabled terms, unweighted, by the name of their weight, and "total".

        Args:
            output: the model's output.
            batch: the batch that it was computed from.
            counts: this batch's counts from `count`; None: the step has only this batch and those of the other workers.
            noise_seeds: for the dual term, one per image, so that its noise does not depend on which worker has it;
                None: the device's global generator.
            progress: share of the training's steps already taken; below `attention_start` "total" is without the
                attention term.

        Raises:
            ValueError: an edge term is enabled, and the model has no edge logits.
        """
        terms = self._terms(output, batch, noise_seeds)
        known = {} if counts is None else counts.labels
        summed = self.workers.add({name: term.counts for name, term in terms.items() if name not in known})
        values: dict[str, Tensor] = {}
        for name, term in terms.items():
            value = term.value(known[name] if name in known else summed[name])
            if counts is not None and name not in known:
                value = value * divided(counts.images.to(value.dtype), counts.all_images)
            values[name] = value * self.workers.number
        counted = [name for name in values if name != "attention" or progress >= self.config.attention_start]
        total = torch.stack([self.weights[name] * values[name] for name in counted]).sum()
        return {"total": total, **values}

    def _label_counts(self, batch: SegBatch) -> dict[str, Counts]:
        config, valid = self.config, batch.label != self.ignore_index
        counts: dict[str, Counts] = {}
        if config.seg and config.ohem_threshold is None:
            counts["seg"] = (
                mean_counts(valid, config.class_weights == "image")
                if self.class_weights is None
                else class_counts(batch.label, valid, len(self.class_weights))
            )
        if config.edge:
            counts["edge"] = boundary_counts(batch.label, batch.boundary, self.ignore_index)
        counts |= {name: mean_counts(valid, by_image=True) for name in ("lovasz", "dice") if self.weights[name]}
        return counts

    def _terms(self, output: SegmentationOutput, batch: SegBatch, noise_seeds: Sequence[int] | None) -> dict[str, Term]:
        config, target = self.config, batch.label
        terms: dict[str, Term] = {}
        pixel_loss = pixel_cross_entropy(
            output.seg_logits, target, self.ignore_index, self.class_weights, config.label_smoothing
        )
        image_weights = None
        if config.class_weights == "image":
            image_weights = image_class_weights(target, output.seg_logits.shape[1], self.ignore_index)

        def mean_over(mask: Bool[Tensor, "B H W"]) -> Term:
            if self.class_weights is not None:
                return class_mean_term(pixel_loss, target, mask, self.class_weights)
            return mean_term(pixel_loss, mask, image_weights)

        if config.seg:
            terms["seg"] = mean_over(self._counted(output, target))
        if config.edge or config.attention:
            if output.edge_logits is None:
                raise ValueError("the model has no edge logits: set loss.edge and loss.attention to 0")
            if config.edge:
                terms["edge"] = boundary_term(output.edge_logits, target, batch.boundary, self.ignore_index)
            if config.attention:
                on_edge = predicted_boundary(output.edge_logits, target, config.attention_threshold, self.ignore_index)
                terms["attention"] = mean_over(on_edge)
        if config.dual:
            terms["dual"] = dual_term(
                output.seg_logits,
                target,
                config.dual_temperature,
                config.dual_threshold,
                self.ignore_index,
                noise_seeds=noise_seeds,
                largest=self.workers.largest,
            )
        if config.lovasz:
            terms["lovasz"] = lovasz_term(output.seg_logits, target, self.ignore_index)
        if config.dice:
            terms["dice"] = dice_term(output.seg_logits, target, self.ignore_index)
        return terms

    def _counted(self, output: SegmentationOutput, target: Integer[Tensor, "B H W"]) -> Bool[Tensor, "B H W"]:
        """The pixels of the seg term: all that are not void, or the hard ones."""
        config, valid = self.config, target != self.ignore_index
        if config.ohem_threshold is None:
            return valid
        plain = pixel_cross_entropy(output.seg_logits.detach(), target, self.ignore_index)
        return hard_pixels(plain, valid, config.ohem_threshold, config.ohem_share, self.workers.sum)
