"""What holds for every loss term: its number type, what void may hold, and the image weights of the cross-entropy."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from gscnn.batch import SegBatch, SegmentationOutput
from gscnn.config import LossConfig
from gscnn.constants import IGNORE_INDEX
from gscnn.losses import (
    BoundaryBCELoss,
    DualTaskLoss,
    DualTaskRegularizer,
    JointLoss,
    image_class_weights,
    pixel_cross_entropy,
)

B, K, H, W = 2, 3, 9, 11
TERMS = ("seg", "edge", "attention", "dual")
ALL = LossConfig(seg=0.7, edge=20, attention=1.5, attention_threshold=0.6, dual=2)


def random_case(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, SegBatch]:
    generator = torch.Generator().manual_seed(0)
    label = torch.randint(0, K, (B, 3, 3), generator=generator).repeat_interleave(4, 1).repeat_interleave(4, 2)
    label = label[:, :H, :W].clone()
    label[torch.rand(B, H, W, generator=generator) < 1 / 5] = IGNORE_INDEX
    boundary = (torch.rand(B, 1, H, W, generator=generator) < 1 / 3).byte()
    seg = 2 * torch.randn(B, K, H, W, generator=generator, dtype=torch.float64)
    edge = 2 * torch.randn(B, 1, H, W, generator=generator, dtype=torch.float64)
    empty = torch.zeros(B, 1, H, W)
    return seg.to(dtype), edge.to(dtype), SegBatch(empty.expand(-1, 3, -1, -1), label, empty, boundary)


def terms_of(seg: Tensor, edge: Tensor, batch: SegBatch, config: LossConfig = ALL) -> dict[str, Tensor]:
    return JointLoss(config)(SegmentationOutput(seg, edge), batch, noise_seeds=range(len(batch)))


@pytest.mark.parametrize("filling", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", [*TERMS, "total"])
def test_what_is_not_finite_on_void_changes_no_value_and_no_gradient(name: str, filling: float) -> None:
    seg, edge, batch = random_case()
    void = (batch.label == IGNORE_INDEX).unsqueeze(1)
    results = []
    for value in (0.0, filling):
        leaves = [logits.masked_fill(void, value).requires_grad_() for logits in (seg, edge)]
        term = terms_of(leaves[0], leaves[1], batch)[name]
        gradients = torch.autograd.grad(term, leaves, allow_unused=True)
        results.append([term.detach(), *(gradient for gradient in gradients if gradient is not None)])
    for plain, filled in zip(*results, strict=True):
        assert filled.isfinite().all()
        assert torch.equal(plain, filled)


def test_float64_logits_give_float64_losses() -> None:
    seg, edge, batch = random_case(torch.float64)
    assert {value.dtype for value in terms_of(seg, edge, batch).values()} == {torch.float64}
    assert BoundaryBCELoss()(edge, batch.label, batch.boundary).dtype == torch.float64
    assert DualTaskLoss()(seg, edge, batch.label).dtype == torch.float64
    assert DualTaskRegularizer()(seg, batch.label).dtype == torch.float64
    assert pixel_cross_entropy(seg, batch.label).dtype == torch.float64


@pytest.mark.parametrize("class_weights", [None, "image"])
def test_gradcheck_passes_on_seg_edge_and_attention(class_weights: str | None) -> None:
    """The dual term is checked in test_dual_task: its unit is a constant to the gradient, which gradcheck knows not."""
    seg, edge, batch = random_case(torch.float64)
    config = LossConfig.model_validate({**ALL.model_dump(), "dual": 0, "class_weights": class_weights})

    def total(seg: Tensor, edge: Tensor) -> Tensor:
        return terms_of(seg, edge, batch, config)["total"]

    assert torch.autograd.gradcheck(total, (seg.requires_grad_(), edge.requires_grad_()), fast_mode=True)


def weighted_loops(seg: Tensor, edge: Tensor, batch: SegBatch) -> dict[str, float]:
    """Seg and attention under image weights by loops over images and pixels, in float64."""
    means: dict[str, list[float]] = {"seg": [], "attention": []}
    for logits, edges, label in zip(seg.double().numpy(), edge.double().numpy(), batch.label.numpy(), strict=True):
        valid = [place for place in np.ndindex(*label.shape) if label[place] != IGNORE_INDEX]
        share = {c: sum(label[place] == c for place in valid) / len(valid) for c in range(K)} if valid else {}
        weight = {c: 1 + (1 - f) if f > 0 else 1 for c, f in share.items()}
        on_edge = [place for place in valid if 1 / (1 + math.exp(-edges[0][place])) > ALL.attention_threshold]
        for name, places in (("seg", valid), ("attention", on_edge)):
            losses = [
                math.log(sum(math.exp(v) for v in logits[(slice(None), *place)])) - logits[(label[place], *place)]
                for place in places
            ]
            weights = [weight[label[place]] for place in places]
            if places:
                means[name].append(float(np.average(losses, weights=weights)))
    return {name: sum(values) / max(len(values), 1) for name, values in means.items()}


IMAGE = LossConfig.model_validate({**ALL.model_dump(), "class_weights": "image"})


def test_image_weights_are_those_of_a_pixel_loop_on_seg_and_attention() -> None:
    seg, edge, batch = random_case()
    batch.label[1, :, 4:] = IGNORE_INDEX
    terms, plain = terms_of(seg, edge, batch, IMAGE), terms_of(seg, edge, batch)
    for name, expected in weighted_loops(seg, edge, batch).items():
        assert terms[name].item() == pytest.approx(expected, rel=1e-5)
        assert abs(terms[name] - plain[name]) > 1e-3
    assert terms["edge"] == plain["edge"]


def test_image_weights_are_one_to_two_and_void_has_none() -> None:
    """Of eight non-void pixels six are of class 0 and two of class 2."""
    label = torch.tensor([[[0, 0, 0, 0, 0], [0, 2, 2, IGNORE_INDEX, IGNORE_INDEX]]])
    weights = image_class_weights(label, 3)
    expected = torch.tensor([[[1.25] * 5, [1.25, 1.75, 1.75, 0, 0]]])
    torch.testing.assert_close(weights, expected)
    assert torch.equal(image_class_weights(label.to(torch.uint8), 3), weights)


def test_an_image_that_is_all_void_counts_neither_way_under_image_weights() -> None:
    seg, edge, batch = random_case()
    first = SegBatch(batch.image[:1], batch.label[:1], batch.gradient[:1], batch.boundary[:1])
    expected = terms_of(seg[:1], edge[:1], first, IMAGE)
    batch.label[1] = IGNORE_INDEX
    terms = terms_of(seg, edge, batch, IMAGE)
    for name in ("seg", "attention"):
        assert terms[name] == pytest.approx(expected[name].item(), rel=1e-6)
    batch.label[0] = IGNORE_INDEX
    assert all(value == 0 for value in terms_of(seg, edge, batch, IMAGE).values())
