"""How much a trained Gated-SCNN relies on its shape stream: the scores without what the stream contributes.

    python -m benchmarks.shape_stream_use --checkpoint runs/NAME/best-NNNNNNNN --store DIR

Evaluates a checkpoint on a split, whole frames: as it is; with the edge feature that enters the fusion replaced by its
mean over each frame, so that it says nothing of where edges are; with the feature at random places, by shuffling the
frame's values; and with an edge prior of 0. A model whose scores stay the same does not use the stream at inference.
"""

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Final

import torch
from torch import Tensor

from benchmarks.environment import describe, markdown_table
from gscnn.model import GatedSCNN
from gscnn_platform.data.loader import whole_images
from gscnn_platform.data.store import open_store
from gscnn_platform.evaluation import evaluate
from gscnn_platform.runs.loading import load_model

SCORES: Final = ("miou", "boundary_f_3px", "boundary_iou")


def mean_of_frame(feature: Tensor) -> Tensor:
    return feature.mean((-2, -1), keepdim=True).expand_as(feature)


def shuffled(feature: Tensor) -> Tensor:
    order = torch.randperm(feature.shape[-2] * feature.shape[-1], generator=torch.Generator().manual_seed(0))
    return feature.flatten(-2)[..., order].view_as(feature)


def unchanged(feature: Tensor) -> Tensor:
    return feature


@contextmanager
def edge_feature(model: GatedSCNN, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Changes the edge feature that the fusion sees; the predicted edges stay."""
    branch = model.fusion.edge_branch
    assert branch is not None
    handle = branch.register_forward_pre_hook(lambda _, arguments: (change(arguments[0]),))
    try:
        yield
    finally:
        handle.remove()


CHANGES: Final[tuple[tuple[str, Callable[[Tensor], Tensor], float], ...]] = (
    ("as it is", unchanged, 1),
    ("edge feature: its mean over the frame", mean_of_frame, 1),
    ("edge feature: shuffled over the frame", shuffled, 1),
    ("edge prior: 0", unchanged, 0),
)
"""Name, change of the edge feature, factor of the edge prior."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", required=True, help="a checkpoint's folder")
    parser.add_argument("--store", required=True)
    parser.add_argument("--split", default="val")
    given = parser.parse_args()
    model = load_model(given.checkpoint).model
    if not isinstance(model, GatedSCNN):
        raise TypeError(f"{given.checkpoint} is no Gated-SCNN")
    store = open_store(given.store)
    split, classes = store.split(given.split), store.manifest.identity.classes
    rows = []
    for name, change, factor in CHANGES:
        batches = (replace(batch, gradient=factor * batch.gradient) for batch in whole_images(split, 1))
        with edge_feature(model, change):
            metrics = evaluate(model, batches, classes, torch.device("cpu"), distance_factors=()).metrics("val")
        rows.append([name, *(f"{100 * metrics[f'val/{key}']:.1f}" for key in SCORES)])
        print(" · ".join(rows[-1]), flush=True)
    print(describe(), markdown_table(["", "mIoU", "F 3 px", "boundary IoU"], rows), sep="\n\n")


if __name__ == "__main__":
    main()
