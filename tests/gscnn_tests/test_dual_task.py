from itertools import pairwise

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.ndimage import correlate1d
from scipy.stats import kstest
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from gscnn import DualTaskRegularizer, JointLoss, LossConfig, SegBatch, SegmentationOutput
from gscnn.constants import IGNORE_INDEX
from gscnn.losses.dual import FLAT, dual_task_regularizer, edge_strength, gradient_magnitude, gumbel_noise

B, K, H, W = 2, 3, 13, 17

Array = NDArray[np.float64]
Case = tuple[Tensor, Tensor, Tensor]

TRIANGLE = np.array([1, 2, 3, 4, 5, 4, 3, 2, 1]) / 25
SLOPE = np.array([1, 2, 2, 2, 2, 0, -2, -2, -2, -2, -1]) / 50
"""The triangle filter's central differences, as one filter."""


def random_case(seed: int = 0, dtype: torch.dtype = torch.float32) -> Case:
    """Logits, truth in patches with a void corner and void specks, and noise."""
    generator = torch.Generator().manual_seed(seed)
    patches = torch.randint(0, K, (B, 3, 3), generator=generator)
    label = patches.repeat_interleave(6, 1).repeat_interleave(6, 2)[:, :H, :W].clone()
    label[:, :4, :5] = IGNORE_INDEX
    label[torch.rand(B, H, W, generator=generator) < 1 / 20] = IGNORE_INDEX
    logits = 2 * one_hot(label) + torch.randn(B, K, H, W, generator=generator)
    noise = -torch.log(-torch.log(torch.rand(B, K, H, W, generator=generator)))
    return logits.to(dtype), label, noise.to(dtype)


def one_hot(label: Tensor, classes: int = K) -> Tensor:
    return torch.stack([(label == c).float() for c in range(classes)], dim=1)


def steepness(maps: Array, valid: NDArray[np.bool_]) -> Array:
    """Central differences under the filter, in a picture whose void has the mean of what is valid; 0 on void itself."""

    def filtered(planes: Array, along: Array, across: Array) -> Array:
        return correlate1d(correlate1d(planes, along, axis=3, mode="nearest"), across, axis=2, mode="nearest")

    mass, total = (filtered(planes, TRIANGLE, TRIANGLE) for planes in (valid.astype(float), maps * valid))
    mean = total / np.where(mass > 1e-9, mass, 1)
    squares = 0.0
    for turned in (False, True):
        planes = [np.broadcast_to(valid, maps.shape).astype(float), maps * valid]
        planes = [plane.swapaxes(2, 3) for plane in planes] if turned else planes
        d_valid, d_maps = (filtered(plane, SLOPE, TRIANGLE) for plane in planes)
        d_filled = d_maps - (mean.swapaxes(2, 3) if turned else mean) * d_valid
        squares = squares + (d_filled.swapaxes(2, 3) if turned else d_filled) ** 2
    return np.where(valid, np.sqrt(squares + 1e-6) - 1e-3, 0)


def in_numpy(
    case: Case, temperature: float = 1.0, threshold: float = 0.2, void: int = IGNORE_INDEX, unit: float | None = None
) -> tuple[float, float]:
    """The regularizer in float64 by scipy's filters, and the largest predicted steepness, which `unit` replaces."""
    logits, noise = (tensor.detach().double().numpy() for tensor in (case[0], case[2]))
    label = case[1].numpy()[:, None]
    sample = np.exp((logits + noise) / temperature)
    prediction = sample / sample.sum(axis=1, keepdims=True)
    truth = label == np.arange(logits.shape[1])[:, None, None]
    predicted, true = steepness(prediction, label != void), steepness(truth.astype(float), label != void)
    largest = predicted.max() if unit is None else unit
    predicted, true = predicted / max(largest, 1e-3), true / max(true.max(), 1e-3)
    halves = []
    for outline in (predicted, true):
        boundary = (outline > threshold) & (label != void)
        halves.append(np.abs(predicted - true)[boundary].mean() if boundary.any() else 0.0)
    return sum(halves) / 2, largest


def value_of(case: Case, temperature: float = 1.0, threshold: float = 0.2) -> float:
    logits, label, noise = case
    return dual_task_regularizer(logits, label, temperature, threshold, noise=noise).item()


def value_and_gradient(logits: Tensor, label: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    leaf = logits.clone().requires_grad_()
    value = dual_task_regularizer(leaf, label, noise=noise)
    (gradient,) = torch.autograd.grad(value, leaf)
    return value, gradient


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("temperature", "threshold"), [(1.0, 0.2), (0.5, 0.2), (2.0, 0.5), (1.0, 0.05)])
def test_it_equals_scipys_filters_in_float64(seed: int, temperature: float, threshold: float) -> None:
    case = random_case(seed)
    expected, _ = in_numpy(case, temperature, threshold)
    assert expected > 0.05
    assert value_of(case, temperature, threshold) == pytest.approx(expected, rel=1e-4)


def test_its_gradient_equals_finite_differences_at_a_constant_unit() -> None:
    """The largest steepness, by which all are divided, is not differentiated."""
    logits, label, noise = random_case(dtype=torch.float64)
    _, gradient = value_and_gradient(logits, label, noise)
    _, unit = in_numpy((logits, label, noise))
    some = np.random.default_rng(0).permutation(list(np.ndindex(*logits.shape)))[:150]
    for index in map(tuple, some):
        values = []
        for step in (1e-6, -2e-6, 1e-6):
            logits[index] += step
            values.append(in_numpy((logits, label, noise), unit=unit)[0])
        assert gradient[index].item() == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-5, abs=1e-8)
    assert gradient.abs().max() > 1e-3


def test_the_gradient_magnitude_passes_gradcheck_at_borders_and_on_flat_ground() -> None:
    maps = torch.randn(1, 2, 7, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    maps[:, 1] = 0.5
    assert torch.autograd.gradcheck(gradient_magnitude, (maps.requires_grad_(),))


@pytest.mark.parametrize("level", [0.0, 1 / 3, 1.0])
def test_flat_maps_have_no_edge_at_all(level: float) -> None:
    """Divided by its own largest, a magnitude of 1e-3 everywhere would be a boundary everywhere."""
    maps = torch.full((1, 2, 20, 20), level)
    assert gradient_magnitude(maps).allclose(torch.tensor(FLAT))
    assert edge_strength(maps).abs().max() < 1e-6


def test_beside_an_edge_flat_ground_is_zero_and_the_default_boundary_four_pixels_on_either_side() -> None:
    maps = torch.zeros(1, 2, 12, 24)
    maps[:, 0, :, 12:] = 1
    for turned in (maps, maps.mT):
        strength = edge_strength(turned)
        boundary = strength > LossConfig().dual_threshold
        across = boundary[0, 0].all(dim=0 if turned is maps else 1)
        assert across.nonzero().flatten().tolist() == list(range(8, 16))
        assert boundary.sum() == 8 * 12
        assert strength.max() == 1
        assert strength[:, 1].abs().max() < 1e-6


@pytest.mark.parametrize("filling", [float("nan"), float("inf"), -1e30])
def test_nothing_under_void_is_read_and_no_gradient_flows_there(filling: float) -> None:
    logits, label, noise = random_case()
    void = (label == IGNORE_INDEX).unsqueeze(1)
    expected = value_and_gradient(logits, label, noise)
    value, gradient = value_and_gradient(logits.masked_fill(void, filling), label, noise)
    assert value == expected[0]
    assert torch.equal(gradient, expected[1])
    assert torch.all(gradient.masked_select(void) == 0)
    assert torch.any(gradient.masked_select(~void) != 0)


def test_a_right_prediction_beside_void_costs_nothing() -> None:
    """The rim of a void square was an outline of 336 cells, at a cost of 0.0741."""
    label = torch.zeros(1, 40, 40, dtype=torch.int64)
    label[:, 10:30, 10:30] = IGNORE_INDEX
    noise = gumbel_noise(torch.zeros(1, 2, 40, 40))
    right = 60 * one_hot(torch.zeros_like(label), 2)
    valid = (label != IGNORE_INDEX).unsqueeze(1)
    assert value_of((right, label, noise)) == 0
    assert not (edge_strength(one_hot(torch.zeros_like(label), 2), valid) > LossConfig().dual_threshold).any()
    label[:, :, 35:] = 1
    right = 60 * one_hot(label.where(label != IGNORE_INDEX, 0), 2)
    assert value_of((right, label, noise)) < 1e-6
    assert value_of((right.roll(4, dims=3), label, noise)) > 0.1


def test_an_outline_is_seen_across_a_strip_of_void() -> None:
    """Two classes with two columns of void between them: the outline lies there, and both of its sides are steep."""
    maps = torch.zeros(1, 1, 12, 30)
    maps[..., 15:] = 1
    valid = torch.ones_like(maps, dtype=torch.bool)
    valid[..., 14:16] = False
    boundary = (edge_strength(maps, valid) > LossConfig().dual_threshold)[0, 0].all(dim=0)
    assert boundary.nonzero().flatten().tolist() == [12, 13, 16, 17]


def test_the_ground_truths_outline_does_not_read_what_lies_under_void() -> None:
    maps = torch.rand(B, K, H, W, generator=torch.Generator().manual_seed(0))
    valid = torch.ones(B, 1, H, W, dtype=torch.bool)
    valid[:, :, 3:9, 4:11] = False
    others = maps.where(valid, float("nan"))
    assert torch.equal(edge_strength(others, valid), edge_strength(maps, valid))


def test_seeds_settle_each_images_noise_wherever_it_lies_in_a_batch() -> None:
    like = torch.empty(3, K, H, W)
    noise = gumbel_noise(like, seeds=[5, 6, 7])
    assert torch.equal(gumbel_noise(like[:2], seeds=[7, 6]), noise[[2, 1]])
    assert not torch.equal(noise[0], noise[1])
    assert kstest(gumbel_noise(torch.empty(2, 50_000), seeds=[0, 1]).numpy().ravel(), "gumbel_r").pvalue > 0.01


@pytest.mark.parametrize("filling", [0.0, 1e30, float("nan")])
def test_a_fully_void_crop_gives_zero_and_no_gradient(filling: float) -> None:
    logits, label, noise = random_case()
    value, gradient = value_and_gradient(torch.full_like(logits, filling), label.fill_(IGNORE_INDEX), noise)
    assert value == 0
    assert torch.all(gradient == 0)


def test_a_fully_void_crop_in_a_batch_counts_neither_way() -> None:
    logits, label, noise = random_case()
    longer = [torch.cat((tensor, tensor)) for tensor in (logits, label, noise)]
    longer[1][B:] = IGNORE_INDEX
    assert value_of((longer[0], longer[1], longer[2])) == pytest.approx(value_of((logits, label, noise)), rel=1e-6)


def test_one_class_predicted_with_confidence_costs_nothing() -> None:
    logits, label, noise = random_case()
    label = torch.zeros_like(label)
    value, gradient = value_and_gradient(60 * one_hot(label), label, noise)
    assert abs(value.item()) < 1e-6
    assert gradient.abs().max() < 1e-6
    unsure, gradient = value_and_gradient(logits, label, noise)
    assert unsure.item() == pytest.approx(in_numpy((logits, label, noise))[0], rel=1e-4)
    assert unsure > 0.1
    assert gradient.isfinite().all()


def test_a_model_of_one_class_has_nothing_to_learn() -> None:
    logits, label, noise = random_case()
    label = torch.where(label == IGNORE_INDEX, label, 0)
    value, gradient = value_and_gradient(logits[:, :1], label, noise[:, :1])
    assert value == 0
    assert torch.all(gradient == 0)


@pytest.mark.parametrize("scale", [1e4, 1e30])
def test_huge_logits_give_finite_values_and_gradients(scale: float) -> None:
    logits, label, noise = random_case()
    value, gradient = value_and_gradient(scale * logits, label, noise)
    assert 0 < value < 1
    assert gradient.isfinite().all()


def test_bf16_logits_are_computed_in_float32_under_autocast_as_without() -> None:
    logits, label, noise = random_case(dtype=torch.bfloat16)
    expected, expected_gradient = value_and_gradient(logits.float(), label, noise.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value, gradient = value_and_gradient(logits, label, noise.float())
    assert value.dtype == torch.float32
    assert value == expected
    assert gradient.dtype == torch.bfloat16
    torch.testing.assert_close(gradient.float(), expected_gradient, rtol=2**-7, atol=1e-8)


def test_a_right_and_confident_prediction_costs_nothing_and_each_pixel_of_shift_more() -> None:
    label = torch.zeros(1, 40, 40, dtype=torch.int64)
    label[:, 12:28, 12:28] = 1
    noise = gumbel_noise(torch.zeros(1, 2, 40, 40))
    shifted = [60 * one_hot(label.roll(shift, dims=2), 2) for shift in (0, 1, 2, 4, 8)]
    values = [value_of((logits, label, noise)) for logits in shifted]
    assert values[0] < 1e-6
    assert all(more > less + 0.05 for less, more in pairwise(values))


def test_renaming_the_classes_changes_nothing() -> None:
    logits, label, noise = random_case()
    order = torch.tensor([2, 0, 1])
    renamed = torch.where(label == IGNORE_INDEX, label, order.argsort()[label.clamp(max=K - 1)])
    changed = value_of((logits[:, order], renamed, noise[:, order]))
    assert changed == pytest.approx(value_of((logits, label, noise)), rel=1e-6)
    assert changed != pytest.approx(value_of((logits[:, order], label, noise[:, order])), rel=0.01)


def test_void_may_have_another_value_and_labels_another_type() -> None:
    logits, label, noise = random_case()
    expected = dual_task_regularizer(logits, label, noise=noise)
    relabelled = torch.where(label == IGNORE_INDEX, -7, label)
    assert dual_task_regularizer(logits, relabelled, ignore_index=-7, noise=noise) == expected
    assert dual_task_regularizer(logits, label.to(torch.uint8), noise=noise) == expected
    first = torch.where(label == IGNORE_INDEX, 0, label)
    in_float64, _ = in_numpy((logits, first, noise), void=0)
    assert dual_task_regularizer(logits, first, ignore_index=0, noise=noise).item() == pytest.approx(
        in_float64, rel=1e-4
    )


def test_torchs_seed_settles_the_value_bit_by_bit_in_any_memory_format() -> None:
    logits, label, _ = random_case()
    values = []
    for seed, layout in ((3, torch.contiguous_format), (3, torch.channels_last), (4, torch.contiguous_format)):
        torch.manual_seed(seed)
        values.append(DualTaskRegularizer()(logits.contiguous(memory_format=layout), label).item())
    assert values[0] == values[1] != values[2]
    torch.manual_seed(3)
    assert value_of((logits, label, gumbel_noise(logits))) == values[0]


def test_the_noise_is_gumbels(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    assert kstest(gumbel_noise(torch.empty(100_000)).numpy(), "gumbel_r").pvalue > 0.01
    monkeypatch.setattr(torch, "rand_like", torch.zeros_like)
    assert gumbel_noise(torch.empty(3)).isfinite().all()


def batch_of(label: Tensor) -> SegBatch:
    size = (B, 1, H, W)
    return SegBatch(torch.zeros(B, 3, H, W), label, torch.zeros(size), torch.zeros(size, dtype=torch.uint8))


def test_the_joint_loss_has_it_under_its_name_weight_and_settings() -> None:
    logits, label, _ = random_case()
    output = SegmentationOutput(logits, None)
    settings = {"edge": 0, "attention": 0, "dual": 3, "dual_temperature": 0.7, "dual_threshold": 0.3}
    torch.manual_seed(1)
    terms = JointLoss(LossConfig.model_validate(settings))(output, batch_of(label))
    torch.manual_seed(1)
    alone = DualTaskRegularizer(temperature=0.7, threshold=0.3)(logits, label)
    torch.manual_seed(1)
    noise = gumbel_noise(logits)
    assert set(terms) == {"total", "seg", "dual"}
    assert terms["dual"] == alone == dual_task_regularizer(logits, label, 0.7, 0.3, noise=noise)
    assert alone.item() == pytest.approx(in_numpy((logits, label, noise), 0.7, 0.3)[0], rel=1e-4)
    assert terms["total"].item() == pytest.approx(terms["seg"].item() + 3 * alone.item(), rel=1e-6)


def test_with_weight_zero_it_is_absent_and_draws_no_noise() -> None:
    logits, label, _ = random_case()
    state = torch.get_rng_state()
    terms = JointLoss(LossConfig(edge=0, attention=0))(SegmentationOutput(logits, None), batch_of(label))
    assert set(terms) == {"total", "seg"}
    assert torch.equal(torch.get_rng_state(), state)


def test_it_may_be_the_only_term_but_one_there_must_be() -> None:
    assert LossConfig(seg=0, edge=0, attention=0, dual=1).dual == 1
    with pytest.raises(ValueError, match="`dual`, `lovasz` and `dice` are all 0"):
        LossConfig(seg=0, edge=0, attention=0, dual=0)


@pytest.mark.parametrize("fields", [{"dual": -1}, {"dual_temperature": 0}, {"dual_threshold": 1.1}])
def test_a_wrong_setting_is_an_error_that_names_it(fields: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(fields))):
        LossConfig.model_validate(fields)


def test_no_value_is_read_back_to_the_host() -> None:
    """A fake tensor has none to be read, and raises."""
    logits, label, _ = random_case()
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        fake = mode.from_tensor(logits).requires_grad_()
        value = DualTaskRegularizer()(fake, mode.from_tensor(label))
        value.backward()
        with pytest.raises(DataDependentOutputException):
            value.item()
    assert fake.grad is not None
    assert fake.grad.shape == logits.shape
