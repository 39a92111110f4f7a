"""The options of the cross-entropy, Lovász-softmax and Dice, in the joint loss: all against one pixel loop."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from gscnn.batch import SegBatch, SegmentationOutput
from gscnn.config import LossConfig
from gscnn.constants import IGNORE_INDEX
from gscnn.losses import JointLoss

B, K, H, W = 2, 3, 7, 8
WEIGHTS = (0.3, 1.0, 2.5)
ATTENTION = 0.6

OPTIONS: dict[str, dict[str, Any]] = {
    "class weights": {"class_weights": WEIGHTS},
    "label smoothing": {"label_smoothing": 0.2},
    "class weights, label smoothing": {"class_weights": WEIGHTS, "label_smoothing": 0.1},
    "image weights, label smoothing": {"class_weights": "image", "label_smoothing": 0.3},
    "OHEM, threshold": {"ohem_threshold": 0.7},
    "OHEM, share": {"ohem_threshold": 1e-6, "ohem_share": 0.3},
    "OHEM, class weights, label smoothing": {"ohem_threshold": 0.4, "class_weights": WEIGHTS, "label_smoothing": 0.1},
    "OHEM, image weights": {"ohem_threshold": 0.4, "class_weights": "image"},
}

TERMS = {"lovasz": {"lovasz": 2.0}, "dice": {"dice": 3.0}}
ALL = OPTIONS | TERMS


def config_of(name: str) -> LossConfig:
    return LossConfig.model_validate({"edge": 0, "attention_threshold": ATTENTION, **ALL[name]})


def random_case(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, SegBatch]:
    """Logits, edge logits and labels; a fifth is void, and the images have different shares of the classes."""
    generator = torch.Generator().manual_seed(0)
    label = torch.randint(0, K, (B, H, W), generator=generator)
    label[0, :3] = 1
    label[torch.rand(B, H, W, generator=generator) < 1 / 5] = IGNORE_INDEX
    seg = 2 * torch.randn(B, K, H, W, generator=generator, dtype=torch.float64)
    edge = 2 * torch.randn(B, 1, H, W, generator=generator, dtype=torch.float64)
    empty = torch.zeros(B, 1, H, W)
    return seg.to(dtype), edge.to(dtype), SegBatch(empty.expand(-1, 3, -1, -1), label, empty, empty.byte())


def terms_of(name: str, seg: Tensor, edge: Tensor, batch: SegBatch) -> dict[str, Tensor]:
    return JointLoss(config_of(name))(SegmentationOutput(seg, edge), batch)


def loop(config: LossConfig, seg: Tensor, edge: Tensor, batch: SegBatch) -> dict[str, float]:
    """Seg and attention by a loop over the pixels, in float64."""
    logits, edges, label = seg.double().numpy(), edge.double().numpy(), batch.label.numpy()
    places = [place for place in np.ndindex(*label.shape) if label[place] != IGNORE_INDEX]
    by_class = config.class_weights if isinstance(config.class_weights, tuple) else (1.0,) * K
    losses, weights, plain = {}, {}, {}
    for b, y, x in places:
        log_probability = logits[b, :, y, x] - math.log(sum(math.exp(v) for v in logits[b, :, y, x]))
        true, s = label[b, y, x], config.label_smoothing
        shares = [s / K + (1 - s) * (c == true) for c in range(K)]
        losses[b, y, x] = -sum(shares[c] * by_class[c] * log_probability[c] for c in range(K))
        weights[b, y, x] = by_class[true]
        plain[b, y, x] = -log_probability[true]
    if config.class_weights == "image":
        for b, y, x in places:
            of_image = [label[place] for place in places if place[0] == b]
            weights[b, y, x] = 2 - of_image.count(label[b, y, x]) / len(of_image)
            losses[b, y, x] *= weights[b, y, x]
    counted = places
    if config.ohem_threshold is not None:
        counted = [place for place in places if math.exp(-plain[place]) < config.ohem_threshold]
        least = math.ceil(config.ohem_share * len(places))
        if len(counted) < least:
            counted = sorted(places, key=plain.__getitem__, reverse=True)[:least]
    on_edge = [(b, y, x) for b, y, x in places if 1 / (1 + math.exp(-edges[b, 0, y, x])) > ATTENTION]
    means = {}
    for name, chosen in (("seg", counted), ("attention", on_edge)):
        parts = [[place for place in chosen if place[0] == b] for b in range(B)]
        groups = [part for part in parts if part] if config.class_weights == "image" else [chosen]
        of_groups = [sum(losses[p] for p in group) / sum(weights[p] for p in group) for group in groups]
        means[name] = float(np.mean(of_groups))
    return means


@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_equals_a_pixel_loop_on_seg_and_attention(name: str) -> None:
    seg, edge, batch = random_case(torch.float64)
    terms = terms_of(name, seg, edge, batch)
    plain = JointLoss(LossConfig(edge=0, attention_threshold=ATTENTION))(SegmentationOutput(seg, edge), batch)
    for term, expected in loop(config_of(name), seg, edge, batch).items():
        # Image weights are in float32.
        assert terms[term].item() == pytest.approx(expected, rel=1e-7 if "image" in name else 1e-12), term
        changes = term == "seg" or "weights" in name or "smoothing" in name
        assert (abs(terms[term] - plain[term]) > 1e-3) == changes, term


@pytest.mark.parametrize("name", ["class weights", "label smoothing", "class weights, label smoothing"])
def test_weights_and_smoothing_are_pytorchs_on_the_pixels_that_are_not_void(name: str) -> None:
    seg, edge, batch = random_case(torch.float64)
    config, valid = config_of(name), batch.label != IGNORE_INDEX
    weights = torch.tensor(WEIGHTS, dtype=torch.float64) if config.class_weights else None
    expected = cross_entropy(
        seg.movedim(1, -1)[valid], batch.label[valid], weights, label_smoothing=config.label_smoothing
    )
    torch.testing.assert_close(terms_of(name, seg, edge, batch)["seg"], expected, rtol=1e-14, atol=0)


@pytest.mark.parametrize("name", ALL)
def test_gradients_are_those_of_finite_differences(name: str) -> None:
    seg, edge, batch = random_case(torch.float64)

    def total(leaf: Tensor) -> Tensor:
        return terms_of(name, leaf, edge, batch)["total"]

    assert torch.autograd.gradcheck(total, (seg.requires_grad_(),), fast_mode=True)


@pytest.mark.parametrize("filling", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", ALL)
def test_what_is_not_finite_on_void_changes_no_value_and_no_gradient(name: str, filling: float) -> None:
    seg, edge, batch = random_case()
    void = (batch.label == IGNORE_INDEX).unsqueeze(1)
    results = []
    for value in (0.0, filling):
        leaf = seg.masked_fill(void, value).requires_grad_()
        total = terms_of(name, leaf, edge.masked_fill(void, value), batch)["total"]
        results.append((total.detach(), *torch.autograd.grad(total, leaf)))
    for plain, filled in zip(*results, strict=True):
        assert filled.isfinite().all()
        assert torch.equal(plain, filled)
    assert not results[0][1].masked_select(void).any()
    assert results[0][1].masked_select(~void).any()


@pytest.mark.parametrize("name", ALL)
def test_a_step_that_is_all_void_costs_nothing_and_has_no_gradient(name: str) -> None:
    seg, edge, batch = random_case()
    batch = replace(batch, label=torch.full_like(batch.label, IGNORE_INDEX))
    terms = terms_of(name, seg.requires_grad_(), edge, batch)
    assert all(value == 0 for value in terms.values())
    terms["total"].backward()
    assert seg.grad is not None and torch.equal(seg.grad, torch.zeros_like(seg))


@pytest.mark.parametrize("name", ALL)
def test_bf16_logits_under_autocast_give_the_terms_of_the_same_logits_in_float64(name: str) -> None:
    seg, edge, batch = random_case(torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        terms = terms_of(name, seg.requires_grad_(), edge, batch)
    for term, expected in terms_of(name, seg.detach().double(), edge.double(), batch).items():
        assert terms[term].dtype == torch.float32
        assert terms[term].item() == pytest.approx(expected.item(), rel=1e-5), term
    terms["total"].backward()
    assert seg.grad is not None and seg.grad.isfinite().all() and seg.grad.any()


@pytest.mark.parametrize("name", ALL)
def test_no_value_is_read_back_to_the_host(name: str) -> None:
    """On the meta device there is none to be read."""
    seg, edge, batch = random_case()
    meta = torch.device("meta")
    output = SegmentationOutput(seg.to(meta).requires_grad_(), edge.to(meta))
    terms = JointLoss(config_of(name)).to(meta)(output, batch.to(meta))
    terms["total"].backward()
    assert {value.device for value in terms.values()} == {meta}


@pytest.mark.parametrize("name", TERMS)
def test_an_overlap_term_is_added_with_its_weight(name: str) -> None:
    seg, edge, batch = random_case()
    terms = terms_of(name, seg, edge, batch)
    assert list(terms) == ["total", "seg", "attention", name]
    expected = terms["seg"] + terms["attention"] + TERMS[name][name] * terms[name]
    torch.testing.assert_close(terms["total"], expected)
    assert LossConfig.model_validate({"seg": 0, "edge": 0, "attention": 0, **TERMS[name]})


def test_the_scale_of_class_weights_changes_nothing() -> None:
    seg, edge, batch = random_case()
    config = config_of("class weights, label smoothing")
    larger = config.model_copy(update={"class_weights": tuple(1000 * weight for weight in WEIGHTS)})
    for name, value in JointLoss(larger)(SegmentationOutput(seg, edge), batch).items():
        expected = terms_of("class weights, label smoothing", seg, edge, batch)[name]
        torch.testing.assert_close(value, expected)


def test_weights_named_by_the_config_are_those_that_are_passed() -> None:
    seg, edge, batch = random_case()
    named = LossConfig(edge=0, attention_threshold=ATTENTION, class_weights="inverse_log")
    terms = JointLoss(named, class_weights=torch.tensor(WEIGHTS))(SegmentationOutput(seg, edge), batch)
    assert terms["total"] == pytest.approx(terms_of("class weights", seg, edge, batch)["total"].item(), rel=1e-6)
    with pytest.raises(ValueError, match=r"loss\.class_weights is inverse_log: .* pass those of gscnn\.class_weights"):
        JointLoss(named)
    for unweighted in (None, "image"):
        with pytest.raises(ValueError, match=f"class_weights is {unweighted}: .* pass none"):
            JointLoss(LossConfig(class_weights=unweighted), class_weights=torch.tensor(WEIGHTS))
