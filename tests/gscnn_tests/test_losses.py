import math
from collections.abc import Callable
from dataclasses import replace

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
    JointLoss,
    attention_loss,
    boundary_bce_loss,
)

B, K, H, W = 2, 3, 5, 6
THRESHOLD = 0.6
CONFIG = LossConfig(seg=0.7, edge=20, attention=1.5, attention_threshold=THRESHOLD)
TERMS = ("seg", "edge", "attention")

Case = tuple[SegmentationOutput, SegBatch]


def random_case(seed: int = 0, dtype: torch.dtype = torch.float32) -> Case:
    """Logits and truth with a quarter void; about half the edge probabilities exceed THRESHOLD."""
    generator = torch.Generator().manual_seed(seed)
    label = torch.randint(0, K, (B, H, W), generator=generator)
    label[torch.rand(B, H, W, generator=generator) < 1 / 4] = IGNORE_INDEX
    boundary = (torch.rand(B, 1, H, W, generator=generator) < 1 / 3).byte()
    seg_logits = 3 * torch.randn(B, K, H, W, generator=generator)
    edge_logits = 2 * torch.randn(B, 1, H, W, generator=generator)
    batch = SegBatch(torch.zeros(B, 3, H, W), label, torch.zeros(B, 1, H, W), boundary)
    return SegmentationOutput(seg_logits.to(dtype), edge_logits.to(dtype)), batch


def edges_of(output: SegmentationOutput) -> Tensor:
    assert output.edge_logits is not None
    return output.edge_logits


def with_gradients(output: SegmentationOutput) -> SegmentationOutput:
    return SegmentationOutput(
        output.seg_logits.detach().clone().requires_grad_(), edges_of(output).detach().clone().requires_grad_()
    )


def gradient_of(tensor: Tensor) -> Tensor:
    return torch.zeros_like(tensor) if tensor.grad is None else tensor.grad


def term(name: str, output: SegmentationOutput, batch: SegBatch) -> Tensor:
    return JointLoss(CONFIG)(output, batch)[name]


def loops(seg_logits: Tensor, edge_logits: Tensor, batch: SegBatch) -> dict[str, float]:
    """Every term by a loop over the pixels, in float64."""
    seg, edge = seg_logits.detach().double().numpy(), edge_logits.detach().double().numpy()
    seg_sum = attention_sum = positive_sum = negative_sum = 0.0
    valid = on_edge = positives = 0
    for b, y, x in np.ndindex(*batch.label.shape):
        true = int(batch.label[b, y, x])
        if true == IGNORE_INDEX:
            continue
        valid += 1
        cross_entropy = math.log(sum(math.exp(v) for v in seg[b, :, y, x])) - seg[b, true, y, x]
        seg_sum += cross_entropy
        probability = 1 / (1 + math.exp(-edge[b, 0, y, x]))
        if probability > THRESHOLD:
            on_edge += 1
            attention_sum += cross_entropy
        if batch.boundary[b, 0, y, x]:
            positives += 1
            positive_sum -= math.log(probability)
        else:
            negative_sum -= math.log(1 - probability)
    count = max(valid, 1)
    edge_sum = (valid - positives) / count * positive_sum + positives / count * negative_sum
    return {"seg": seg_sum / count, "edge": edge_sum / count, "attention": attention_sum / max(on_edge, 1)}


@pytest.mark.parametrize("name", TERMS)
@pytest.mark.parametrize("seed", range(3))
def test_each_term_equals_a_pixel_loop(name: str, seed: int) -> None:
    output, batch = random_case(seed)
    expected = loops(output.seg_logits, edges_of(output), batch)[name]
    assert expected > 0.1
    assert term(name, output, batch).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", TERMS)
def test_each_gradient_equals_the_pixel_loops_finite_differences(name: str) -> None:
    output, batch = random_case()
    leaves = with_gradients(output)
    term(name, leaves, batch).backward()
    seg_logits, edge_logits = output.seg_logits.double(), edges_of(output).double()
    for shifted, leaf in ((seg_logits, leaves.seg_logits), (edge_logits, edges_of(leaves))):
        expected = torch.zeros_like(shifted)
        for index in np.ndindex(*leaf.shape):
            values = []
            for step in (1e-5, -2e-5, 1e-5):
                shifted[index] += step
                values.append(loops(seg_logits, edge_logits, batch)[name])
            expected[index] = (values[0] - values[1]) / 2e-5
        torch.testing.assert_close(gradient_of(leaf).double(), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", TERMS)
def test_appended_void_rows_leave_the_number_unchanged(name: str) -> None:
    output, batch = random_case()
    rows = 4
    generator = torch.Generator().manual_seed(9)
    longer = SegmentationOutput(
        torch.cat((output.seg_logits, 5 * torch.randn(B, K, rows, W, generator=generator)), dim=2),
        torch.cat((edges_of(output), 5 * torch.randn(B, 1, rows, W, generator=generator)), dim=2),
    )
    longer_batch = SegBatch(
        torch.zeros(B, 3, H + rows, W),
        torch.cat((batch.label, torch.full((B, rows, W), IGNORE_INDEX)), dim=1),
        torch.zeros(B, 1, H + rows, W),
        torch.cat((batch.boundary, torch.ones(B, 1, rows, W, dtype=torch.uint8)), dim=2),
    )
    torch.testing.assert_close(term(name, longer, longer_batch), term(name, output, batch), rtol=1e-6, atol=0)


@pytest.mark.parametrize("name", TERMS)
def test_void_pixels_get_exactly_zero_gradient(name: str) -> None:
    output, batch = random_case()
    leaves = with_gradients(output)
    term(name, leaves, batch).backward()
    void = (batch.label == IGNORE_INDEX).unsqueeze(1)
    assert void.any()
    for leaf in (leaves.seg_logits, edges_of(leaves)):
        gradient = gradient_of(leaf)
        assert torch.all(gradient.masked_select(void) == 0)
    read = edges_of(leaves) if name == "edge" else leaves.seg_logits
    assert torch.any(gradient_of(read).masked_select(~void) != 0)


@pytest.mark.parametrize("name", TERMS)
def test_nothing_at_a_void_pixel_is_read(name: str) -> None:
    output, batch = random_case()
    void = (batch.label == IGNORE_INDEX).unsqueeze(1)
    elsewhere = SegmentationOutput(output.seg_logits.masked_fill(void, 1e4), edges_of(output).masked_fill(void, -1e4))
    other_batch = replace(batch, boundary=torch.where(void, 1 - batch.boundary, batch.boundary))
    assert term(name, elsewhere, other_batch) == term(name, output, batch)


def void_everywhere(batch: SegBatch) -> SegBatch:
    return replace(batch, label=torch.full_like(batch.label, IGNORE_INDEX))


def no_edge(batch: SegBatch) -> SegBatch:
    return replace(batch, boundary=torch.zeros_like(batch.boundary))


def all_edge(batch: SegBatch) -> SegBatch:
    return replace(batch, boundary=torch.ones_like(batch.boundary))


def one_class(batch: SegBatch) -> SegBatch:
    return no_edge(replace(batch, label=torch.zeros_like(batch.label)))


@pytest.mark.parametrize("logit", [0.0, 80.0, -80.0])
@pytest.mark.parametrize(
    ("change", "zero_terms"),
    [
        (void_everywhere, {"seg", "edge", "attention", "total"}),
        (no_edge, {"edge"}),
        (all_edge, {"edge"}),
        (one_class, {"edge"}),
    ],
)
def test_degenerate_crops_are_finite_and_zero_where_nothing_is_to_learn(
    change: Callable[[SegBatch], SegBatch], zero_terms: set[str], logit: float
) -> None:
    output, batch = random_case()
    batch = change(batch)
    predicted_edges = edges_of(output) + logit
    if logit < 0:
        zero_terms = zero_terms | {"attention"}
    for name in ("total", *TERMS):
        leaves = with_gradients(SegmentationOutput(output.seg_logits, predicted_edges))
        value = term(name, leaves, batch)
        value.backward()
        gradients = torch.cat([gradient_of(leaf).flatten() for leaf in (leaves.seg_logits, edges_of(leaves))])
        assert torch.isfinite(value), name
        assert torch.isfinite(gradients).all(), name
        assert bool(value == 0) == (name in zero_terms), name
        assert bool((gradients == 0).all()) == (name in zero_terms), name


@pytest.mark.parametrize("autocast", [True, False])
def test_with_bf16_logits_every_term_is_finite_and_close(autocast: bool) -> None:
    output, batch = random_case(dtype=torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        terms = JointLoss(CONFIG)(output, batch)
    expected = loops(output.seg_logits, edges_of(output), batch)
    for name in TERMS:
        assert terms[name].dtype == torch.float32
        # The logits themselves are rounded to bf16 on both sides, so all that may differ is the sum in float32.
        assert terms[name].item() == pytest.approx(expected[name], rel=1e-5), name


def test_half_precision_logits_get_finite_gradients() -> None:
    output, batch = random_case(dtype=torch.bfloat16)
    leaves = with_gradients(output)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        total = JointLoss(CONFIG)(leaves, batch)["total"]
    total.backward()
    for leaf in (leaves.seg_logits, edges_of(leaves)):
        assert torch.isfinite(gradient_of(leaf)).all()
        assert gradient_of(leaf).abs().sum() > 0


def test_boundary_weights_swap_when_the_classes_swap() -> None:
    output, batch = random_case()
    swapped = boundary_bce_loss(-edges_of(output), batch.label, 1 - batch.boundary)
    torch.testing.assert_close(swapped, boundary_bce_loss(edges_of(output), batch.label, batch.boundary))


def test_boundary_and_background_weigh_the_same_in_sum() -> None:
    """3 boundary pixels of 12 weigh 9/12 each, 9 background pixels 3/12 each; one void pixel weighs nothing."""
    label = torch.zeros(1, 1, 13, dtype=torch.int64)
    label[..., -1] = IGNORE_INDEX
    boundary = torch.zeros(1, 1, 1, 13)
    boundary[..., :3] = 1
    logits = torch.zeros(1, 1, 1, 13, requires_grad=True)
    loss = boundary_bce_loss(logits, label, boundary)
    loss.backward()
    assert loss.item() == pytest.approx(math.log(2) * 2 * 3 * 9 / 12**2)
    expected = [-9 / 12 / 12 / 2] * 3 + [3 / 12 / 12 / 2] * 9 + [0]
    torch.testing.assert_close(gradient_of(logits).flatten(), torch.tensor(expected))


def test_a_right_boundary_costs_nothing_and_a_wrong_one_much() -> None:
    """The released code's double sigmoid could not fall below 70% of its start."""
    _, batch = random_case()
    right = 60.0 * batch.boundary.float() - 30
    assert boundary_bce_loss(right, batch.label, batch.boundary) < 1e-9
    assert boundary_bce_loss(-right, batch.label, batch.boundary) > 1


@pytest.mark.parametrize("dtype", [torch.uint8, torch.bool, torch.int64, torch.float32])
@pytest.mark.parametrize("channel", [False, True])
def test_a_boundary_may_be_of_any_type_with_or_without_a_channel(dtype: torch.dtype, channel: bool) -> None:
    output, batch = random_case()
    boundary = (batch.boundary if channel else batch.boundary.squeeze(1)).to(dtype)
    loss = BoundaryBCELoss()(edges_of(output), batch.label, boundary)
    assert loss.item() == pytest.approx(loops(output.seg_logits, edges_of(output), batch)["edge"], rel=1e-5)


def test_only_probabilities_strictly_above_the_threshold_count() -> None:
    """sigmoid(0) is exactly 0.5."""
    pixel_loss = torch.tensor([[[1.0, 10.0, 100.0]]])
    edge_logits = torch.tensor([[[[-1e-3, 0.0, 1e-3]]]])
    label = torch.zeros(1, 1, 3, dtype=torch.int64)
    assert attention_loss(pixel_loss, edge_logits, label, threshold=0.5) == 100
    assert attention_loss(pixel_loss, edge_logits, label, threshold=0.49) == 37
    assert attention_loss(pixel_loss, edge_logits, label, threshold=1.0) == 0


def test_the_attention_term_gives_the_edge_logits_no_gradient() -> None:
    output, batch = random_case()
    leaves = with_gradients(output)
    JointLoss(LossConfig(seg=0, edge=0, attention_threshold=THRESHOLD))(leaves, batch)["total"].backward()
    assert edges_of(leaves).grad is None
    assert gradient_of(leaves.seg_logits).abs().sum() > 0


def test_dual_task_loss_is_the_attention_term() -> None:
    output, batch = random_case()
    loss = DualTaskLoss(THRESHOLD)(output.seg_logits, edges_of(output), batch.label)
    assert loss == term("attention", output, batch)


def test_void_may_have_another_value() -> None:
    output, batch = random_case()
    relabelled = replace(batch, label=torch.where(batch.label == IGNORE_INDEX, -7, batch.label))
    expected = JointLoss(CONFIG)(output, batch)
    for name, value in JointLoss(CONFIG, ignore_index=-7)(output, relabelled).items():
        assert value == expected[name], name


def test_the_total_is_the_weighted_sum_of_the_terms() -> None:
    output, batch = random_case()
    terms = JointLoss(CONFIG)(output, batch)
    assert set(terms) == {"total", *TERMS}
    expected = 0.7 * terms["seg"].item() + 20 * terms["edge"].item() + 1.5 * terms["attention"].item()
    assert terms["total"].item() == pytest.approx(expected, rel=1e-6)


def test_before_its_start_the_attention_term_is_logged_and_not_in_the_total() -> None:
    output, batch = random_case()
    loss = JointLoss(CONFIG.model_copy(update={"attention_start": 0.25}))
    expected = loops(output.seg_logits, edges_of(output), batch)
    early, late = loss(output, batch, progress=0.249), loss(output, batch, progress=0.25)
    for terms in (early, late):
        assert {name: terms[name].item() for name in TERMS} == pytest.approx(expected, rel=1e-5)
    without = 0.7 * expected["seg"] + 20 * expected["edge"]
    assert early["total"].item() == pytest.approx(without, rel=1e-5)
    assert late["total"].item() == pytest.approx(without + 1.5 * expected["attention"], rel=1e-5)


def test_an_attention_term_that_starts_later_cannot_be_the_only_one() -> None:
    with pytest.raises(ValueError, match=r"`attention_start` is 0\.5, and `attention` is the only term"):
        LossConfig(seg=0, edge=0, attention_start=0.5)


@pytest.mark.parametrize("name", TERMS)
def test_a_term_of_weight_zero_is_absent_and_adds_nothing(name: str) -> None:
    output, batch = random_case()
    weights = {"seg": 0.7, "edge": 20.0, "attention": 1.5, name: 0.0}
    terms = JointLoss(LossConfig.model_validate({**weights, "attention_threshold": THRESHOLD}))(output, batch)
    reference = loops(output.seg_logits, edges_of(output), batch)
    assert terms["total"].item() == pytest.approx(sum(weights[key] * reference[key] for key in TERMS), rel=1e-5)
    assert set(terms) == {"total", *TERMS} - {name}


def test_the_presets_are_the_papers_weights_with_and_without_the_dual_term() -> None:
    paper = {"seg": 1, "edge": 20, "attention": 1, "attention_threshold": 0.8, "dual": 1, "dual_temperature": 1}
    assert LossConfig.paper().model_dump(include=set(paper)) == paper
    assert LossConfig.seed().model_dump(include=set(paper)) == paper | {"dual": 0}
    assert LossConfig() == LossConfig.seed()


@pytest.mark.parametrize("weights", [{"edge": 1, "attention": 0}, {"edge": 0, "attention": 1}])
def test_edge_terms_on_a_model_without_edge_logits_are_an_error(weights: dict[str, float]) -> None:
    output, batch = random_case()
    with pytest.raises(ValueError, match=r"no edge logits: set loss\.edge and loss\.attention to 0"):
        JointLoss(LossConfig.model_validate(weights))(SegmentationOutput(output.seg_logits, None), batch)


def test_without_edge_terms_a_model_without_edge_logits_has_a_loss() -> None:
    output, batch = random_case()
    terms = JointLoss(LossConfig(seg=1, edge=0, attention=0))(SegmentationOutput(output.seg_logits, None), batch)
    expected = loops(output.seg_logits, edges_of(output), batch)["seg"]
    assert terms["total"].item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("fields", [{"edge": -1}, {"attention_threshold": 1.1}, {"egde": 1}])
def test_a_wrong_field_or_value_is_an_error_that_names_it(fields: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(fields))):
        LossConfig.model_validate(fields)


def test_no_value_is_read_back_to_the_host() -> None:
    """On the meta device there is none to be read: item, bool, cpu, tolist and every mask of unknown size raise."""
    with pytest.raises(RuntimeError):
        torch.zeros((), device="meta").item()
    with pytest.raises(NotImplementedError):
        torch.zeros(3, device="meta").cpu()
    output, batch = random_case()
    leaves = SegmentationOutput(
        output.seg_logits.to("meta").requires_grad_(), edges_of(output).to("meta").requires_grad_()
    )
    terms = JointLoss(CONFIG)(leaves, batch.to(torch.device("meta")))
    terms["total"].backward()
    assert {value.device.type for value in terms.values()} == {"meta"}
    assert gradient_of(edges_of(leaves)).shape == (B, 1, H, W)
