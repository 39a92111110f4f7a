"""The same eight images as one batch and shared by real processes over gloo: values and gradients are the same."""

from pathlib import Path
from typing import cast

import pytest
import torch
import torch.distributed
from torch import Tensor
from torch.distributed import ProcessGroup

from gscnn.batch import SegBatch, SegmentationOutput
from gscnn.config import LossConfig
from gscnn.constants import IGNORE_INDEX
from gscnn.losses import JointLoss
from tests.processes import run_together

IMAGES, K, H, W = 8, 4, 24, 32

TERMS = {
    "seg": LossConfig(seg=1, edge=0, attention=0),
    "edge": LossConfig(seg=0, edge=1, attention=0),
    "attention": LossConfig(seg=0, edge=0, attention=1, attention_threshold=0.6),
    "dual": LossConfig(seg=0, edge=0, attention=0, dual=1),
    "class weights": LossConfig(edge=0, attention_threshold=0.6, class_weights=(0.3, 1, 2.5, 5), label_smoothing=0.1),
    "class weights on seg": LossConfig(edge=0, attention=0, class_weights=(0.3, 1, 2.5, 5)),
    "hard pixels": LossConfig(edge=0, attention=0, ohem_threshold=0.3),
    "least share": LossConfig(edge=0, attention=0, ohem_threshold=1e-6, ohem_share=0.2),
    "overlap": LossConfig(seg=0, edge=0, attention=0, lovasz=1, dice=2),
    "total": LossConfig(seg=0.7, edge=20, attention=1.5, attention_threshold=0.6, dual=1, class_weights="image"),
}

SHARES: dict[str, list[list[list[int]]]] = {
    "two of four": [[[0, 1, 2, 3]], [[4, 5, 6, 7]]],
    "four of two": [[[0, 1]], [[2, 3]], [[4, 5]], [[6, 7]]],
    "unequal": [[[0, 1, 2, 3, 4]], [[5, 6]], [[7]]],
    "accumulated": [[[0, 1, 2], [3]], [[4], [5, 6, 7]]],
}
"""Images by worker and accumulated batch. Image 0 has no boundary, 5 to 7 no predicted one; 6 and 7 are all void."""

Gradients = tuple[Tensor, Tensor]


def step() -> tuple[SegmentationOutput, SegBatch]:
    generator = torch.Generator().manual_seed(0)
    patches = torch.randint(0, K, (IMAGES, 3, 4), generator=generator)
    label = patches.repeat_interleave(8, 1).repeat_interleave(8, 2).clone()
    label[torch.rand(label.shape, generator=generator) < 1 / 10] = IGNORE_INDEX
    label[0] = 1
    label[6:] = IGNORE_INDEX
    boundary = (
        torch.rand(IMAGES, 1, H, W, generator=generator) < torch.linspace(0, 0.5, IMAGES).view(-1, 1, 1, 1)
    ).byte()
    seg_logits = 3 * torch.randn(IMAGES, K, H, W, generator=generator)
    edge_logits = 2 * torch.randn(IMAGES, 1, H, W, generator=generator)
    edge_logits[5:] -= 100
    empty = torch.zeros(IMAGES, 1, H, W)
    return SegmentationOutput(seg_logits, edge_logits), SegBatch(empty.expand(-1, 3, -1, -1), label, empty, boundary)


def evaluate(config: LossConfig, batches: list[list[int]], group: ProcessGroup | None) -> dict[str, Tensor]:
    """Terms of the images in `batches`, added up, and gradients, [8, ...]: 0 where the image is not among them."""
    output, batch = step()
    assert output.edge_logits is not None
    leaves = output.seg_logits.requires_grad_(), output.edge_logits.requires_grad_()
    loss = JointLoss(config, group=group)
    parts = [
        SegBatch(batch.image[part], batch.label[part], batch.gradient[part], batch.boundary[part]) for part in batches
    ]
    counts = loss.count(parts) if len(parts) > 1 else [None]
    values: dict[str, Tensor] = {}
    for part, images, of_step in zip(parts, batches, counts, strict=True):
        seeds = [100 + image for image in images]
        terms = loss(SegmentationOutput(leaves[0][images], leaves[1][images]), part, of_step, seeds)
        terms["total"].backward()
        for name, value in terms.items():
            values[name] = values.get(name, torch.zeros(())) + value.detach()
    gradients = [torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for leaf in leaves]
    return {**values, "seg_gradient": gradients[0], "edge_gradient": gradients[1]}


def of_rank(rank: int, number: int) -> dict[str, dict[str, dict[str, Tensor]]]:
    results: dict[str, dict[str, dict[str, Tensor]]] = {}
    for name, shares in SHARES.items():
        group = cast(ProcessGroup, torch.distributed.new_group(list(range(len(shares)))))
        if rank < len(shares):
            results[name] = {term: evaluate(config, shares[rank], group) for term, config in TERMS.items()}
    return results


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, dict[str, Tensor]]]:
    """By shares and configuration: means over the workers of terms and gradients, as DistributedDataParallel takes."""
    folder: Path = tmp_path_factory.mktemp("workers")
    ranks = run_together(of_rank, 4, folder)
    return {
        name: {
            term: {
                key: torch.stack([ranks[rank][name][term][key] for rank in range(len(shares))]).mean(0)
                for key in ranks[0][name][term]
            }
            for term in TERMS
        }
        for name, shares in SHARES.items()
    }


@pytest.mark.parametrize("term", TERMS)
@pytest.mark.parametrize("shares", ["two of four", "four of two", "unequal"])
def test_the_workers_mean_is_the_whole_batchs_term_and_gradient(
    shared: dict[str, dict[str, dict[str, Tensor]]], shares: str, term: str
) -> None:
    whole = evaluate(TERMS[term], [list(range(IMAGES))], None)
    assert whole["total"] > 0.05
    assert max(whole["seg_gradient"].abs().max(), whole["edge_gradient"].abs().max()) > 1e-4
    for key, expected in whole.items():
        unit = expected.abs().max().clamp(min=1e-3)
        torch.testing.assert_close(shared[shares][term][key] / unit, expected / unit, rtol=0, atol=1e-6, msg=key)


@pytest.mark.parametrize("term", ["seg", "edge", "class weights on seg", "overlap"])
def test_accumulated_batches_share_the_counts_that_labels_decide(
    shared: dict[str, dict[str, dict[str, Tensor]]], term: str
) -> None:
    whole = evaluate(TERMS[term], [list(range(IMAGES))], None)
    for key, expected in whole.items():
        unit = expected.abs().max().clamp(min=1e-3)
        torch.testing.assert_close(shared["accumulated"][term][key] / unit, expected / unit, rtol=0, atol=1e-6, msg=key)


@pytest.mark.parametrize("term", ["attention", "dual", "hard pixels", "least share"])
def test_what_predictions_decide_is_averaged_over_accumulated_batches_by_images(
    shared: dict[str, dict[str, dict[str, Tensor]]], term: str
) -> None:
    """Two workers' first batches have images 0, 1, 2 and 4, their second ones 3, 5, 6 and 7: four images each."""
    halves = [evaluate(TERMS[term], [images], None) for images in ([0, 1, 2, 4], [3, 5, 6, 7])]
    for key, value in shared["accumulated"][term].items():
        torch.testing.assert_close(value, (halves[0][key] + halves[1][key]) / 2, rtol=1e-5, atol=1e-7, msg=key)


def test_a_share_that_is_all_void_or_without_predicted_boundary_has_no_gradient_and_no_nan(
    shared: dict[str, dict[str, dict[str, Tensor]]],
) -> None:
    for of_shares in shared.values():
        for values in of_shares.values():
            assert all(value.isfinite().all() for value in values.values())
            assert not values["seg_gradient"][6:].any()
            assert not values["edge_gradient"][6:].any()
        assert not of_shares["attention"]["seg_gradient"][5].any()
        assert of_shares["seg"]["seg_gradient"][5].any()
