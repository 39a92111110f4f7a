"""Cost of each option of the loss, forward and backward, on one core.

    python -m benchmarks.losses

A step of 4 images of 192x256, with 11 classes and a tenth void: logits of patches with noise, of which a network would
get about a third of the pixels wrong. The plain loss is cross-entropy, edge and attention terms; figures are medians
over rounds in which all options take turns.
"""

from typing import Any

import numpy as np
import torch

from benchmarks.environment import describe, markdown_table, milliseconds
from gscnn.batch import SegBatch, SegmentationOutput
from gscnn.config import LossConfig
from gscnn.constants import IGNORE_INDEX
from gscnn.losses import JointLoss

IMAGES, CLASSES, HEIGHT, WIDTH = 4, 11, 192, 256
ROUNDS, CALLS = 5, 5

OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "class weights by hand or by pixels": {"class_weights": tuple(range(1, CLASSES + 1))},
    "image weights": {"class_weights": "image"},
    "label smoothing": {"label_smoothing": 0.1},
    "hard pixels, threshold alone": {"ohem_threshold": 0.7, "ohem_share": 0.0},
    "hard pixels, threshold and least share": {"ohem_threshold": 0.7},
    "Dice": {"dice": 1.0},
    "Lovász-softmax": {"lovasz": 1.0},
    "dual-task regularizer": {"dual": 1.0},
}


def step() -> tuple[SegmentationOutput, SegBatch]:
    generator = torch.Generator().manual_seed(0)
    patches = torch.randint(0, CLASSES, (IMAGES, HEIGHT // 32, WIDTH // 32), generator=generator)
    label = patches.repeat_interleave(32, 1).repeat_interleave(32, 2)
    one_hot = (label.unsqueeze(1) == torch.arange(CLASSES).view(1, -1, 1, 1)).float()
    seg_logits = 3 * one_hot + 1.5 * torch.randn(one_hot.shape, generator=generator)
    label = label.masked_fill(torch.rand(label.shape, generator=generator) < 0.1, IGNORE_INDEX)
    edge_logits = 2 * torch.randn(IMAGES, 1, HEIGHT, WIDTH, generator=generator)
    empty = torch.zeros(IMAGES, 1, HEIGHT, WIDTH)
    boundary = (edge_logits > 3).byte()
    output = SegmentationOutput(seg_logits.requires_grad_(), edge_logits.requires_grad_())
    return output, SegBatch(empty.expand(-1, 3, -1, -1), label, empty, boundary)


def main() -> None:
    torch.set_num_threads(1)
    output, batch = step()
    losses = {name: JointLoss(LossConfig.model_validate(settings)) for name, settings in OPTIONS.items()}
    times: dict[str, list[float]] = {name: [] for name in losses}
    for _ in range(ROUNDS):
        for name, loss in losses.items():
            times[name].append(milliseconds(lambda loss=loss: loss(output, batch)["total"].backward(), CALLS))
    medians = {name: float(np.median(values)) for name, values in times.items()}
    rows = [[name, value, value - medians["plain"]] for name, value in medians.items()]
    print(f"{describe()} · 1 thread\n")
    print(markdown_table(["loss", "ms", "more than plain, ms"], rows))


if __name__ == "__main__":
    main()
