"""How much a step's gradient depends on how its 16 images are split: as one batch, and as 8 batches of 2.

    python -m benchmarks.step_shares --store DIR [--recipe camvid-tiny] [--steps 4]

Gradients are with respect to the logits, which are the same in all cases: a blurred and noisy version of the truth. "By
itself" divides each batch by its own counts and averages the batches, without the others' counts; "accumulated" is what
`training.accumulate 8` does. Splitting over workers makes no difference: tests/gscnn_tests/test_step_over_workers.py
compares real processes with one to 1e-6. A distance is |g - g'| / |g|, over all logits.
"""

import argparse
from itertools import islice

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from benchmarks.environment import describe, markdown_table
from gscnn.batch import SegBatch, SegmentationOutput
from gscnn.config import LossConfig
from gscnn.losses import JointLoss
from gscnn_platform.config import with_overrides
from gscnn_platform.data.loader import batches
from gscnn_platform.data.store import open_store
from gscnn_platform.recipes import RECIPES

IMAGES, PARTS = 16, 8

TERMS = {
    "seg": LossConfig(seg=1, edge=0, attention=0),
    "seg, image weights": LossConfig(seg=1, edge=0, attention=0, class_weights="image"),
    "edge": LossConfig(seg=0, edge=1, attention=0),
    "attention": LossConfig(seg=0, edge=0, attention=1),
    "dual": LossConfig(seg=0, edge=0, attention=0, dual=1),
}


def stand_in(batch: SegBatch, num_classes: int, seed: int) -> SegmentationOutput:
    """Logits of a network that is mostly right, and unsure at outlines."""
    generator = torch.Generator().manual_seed(seed)
    classes = torch.arange(num_classes).view(1, -1, 1, 1)
    truth = avg_pool2d((batch.label.unsqueeze(1) == classes).float(), 9, 1, 4)
    edges = avg_pool2d(batch.boundary.float(), 3, 1, 1)
    noise = [torch.randn(like.shape, generator=generator) for like in (truth, edges)]
    return SegmentationOutput(6 * truth + noise[0], 6 * edges - 3 + noise[1])


def gradient(config: LossConfig, output: SegmentationOutput, batch: SegBatch, parts: int, counted: bool) -> Tensor:
    """Gradient of all logits, flattened: the batch in `parts` parts, which share label counts if `counted`."""
    assert output.edge_logits is not None
    leaves = [logits.clone().requires_grad_() for logits in (output.seg_logits, output.edge_logits)]
    loss = JointLoss(config)
    shares = np.array_split(np.arange(len(batch)), parts)
    pieces = [
        SegBatch(batch.image[share], batch.label[share], batch.gradient[share], batch.boundary[share])
        for share in shares
    ]
    counts = loss.count(pieces) if counted else [None] * parts
    for piece, share, of_step in zip(pieces, shares, counts, strict=True):
        seeds = [int(image) for image in share]
        terms = loss(SegmentationOutput(leaves[0][share], leaves[1][share]), piece, of_step, seeds)
        (terms["total"] if counted else terms["total"] * len(piece) / len(batch)).backward()
    return torch.cat([torch.zeros(leaf.numel()) if leaf.grad is None else leaf.grad.flatten() for leaf in leaves])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", required=True, help="folder that jobs.precompute wrote")
    parser.add_argument("--recipe", default="camvid-tiny", choices=list(RECIPES))
    parser.add_argument("--steps", type=int, default=4)
    arguments = parser.parse_args()
    recipe = with_overrides(RECIPES[arguments.recipe], {"training.batch_size": IMAGES, "data.loader_processes": 0})
    store = open_store(arguments.store, recipe.data, recipe.model.num_classes)
    distances: dict[tuple[str, bool], list[float]] = {}
    for number, batch in enumerate(islice(batches(store.split("train"), recipe), arguments.steps)):
        output = stand_in(batch, recipe.model.num_classes, number)
        for name, config in TERMS.items():
            whole = gradient(config, output, batch, 1, False)
            for counted in (False, True):
                other = gradient(config, output, batch, PARTS, counted)
                distances.setdefault((name, counted), []).append(float((other - whole).norm() / whole.norm()))
    rows = [[name, *(float(np.mean(distances[name, counted])) for counted in (False, True))] for name in TERMS]
    print(f"{describe()}\n\n{arguments.steps} steps of {IMAGES} crops of {arguments.recipe}, in {PARTS} batches of 2\n")
    print(markdown_table(["term", "each batch by itself", "accumulated"], rows))


if __name__ == "__main__":
    main()
