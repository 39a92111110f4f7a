from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from torch import Tensor, nn

from gscnn.batch import normalize
from gscnn.constants import IGNORE_INDEX
from gscnn.edges import _released_levels, boundary_map, image_gradient
from gscnn.model import GatedSCNN
from gscnn.released_weights import convert_released_state_dict, released_boundary_map, released_edge_prior
from tests.released_network import ReleasedNetwork, random_network

META = torch.device("meta")
"""Names and shapes without values: a second copy of 137 million parameters costs nothing there."""

SIZE = (25, 301)
"""At stride 8, 4 x 38: wide enough that the dilation of 36 reaches pixels of the image."""


@pytest.fixture(scope="module")
def released() -> ReleasedNetwork:
    return random_network(seed=0)


@pytest.fixture(scope="module")
def converted(released: ReleasedNetwork) -> GatedSCNN:
    """Shares the released network's memory, but for the projection of the fusion."""
    with META:
        model = GatedSCNN("wide_resnet38", num_classes=19)
    model.load_state_dict(convert_released_state_dict(released.state_dict()), strict=True, assign=True)
    return model.eval()


@pytest.fixture(scope="module")
def inputs() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    image = torch.randn(1, 3, *SIZE, generator=generator)
    return image, 255 * torch.randint(0, 2, (1, 1, *SIZE), generator=generator).float()


@pytest.fixture(scope="module")
def expected(released: ReleasedNetwork, inputs: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        return released(*inputs)


def test_converted_weights_give_the_released_networks_logits(
    converted: GatedSCNN, inputs: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor]
) -> None:
    with torch.no_grad():
        output = converted(*inputs)
    for logits, of_released in zip(output, expected, strict=True):
        assert logits is not None
        assert of_released.std() > 0.1
        # Each of some 40 convolutions in a row adds a relative 1e-7 or so.
        torch.testing.assert_close(logits, of_released, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "order",
    [[0, 1, 2, 3, 4, 5], [2, 3, 4, 5, 1, 0], [2, 3, 5, 4, 0, 1]],
    ids=["unpermuted", "edge and pooled swapped", "two rates swapped"],
)
def test_weights_with_another_order_of_branches_give_other_logits(
    order: list[int],
    released: ReleasedNetwork,
    converted: GatedSCNN,
    inputs: tuple[Tensor, Tensor],
    expected: tuple[Tensor, Tensor],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    branches = released.bot_aspp.weight.chunk(6, dim=1)
    wrong = nn.Parameter(torch.cat([branches[place] for place in order], dim=1))
    monkeypatch.setitem(converted.fusion.project._parameters, "weight", wrong)
    with torch.no_grad():
        output = converted(*inputs)
    assert (output.seg_logits - expected[0]).abs().max() > 0.1


@pytest.fixture
def weights() -> dict[str, Any]:
    with META:
        return dict(ReleasedNetwork().state_dict())


def loads(weights: dict[str, Any]) -> dict[str, Tensor]:
    """The converted weights, once a model has taken them."""
    converted = convert_released_state_dict(weights)
    with META:
        model = GatedSCNN("wide_resnet38", num_classes=19)
    model.load_state_dict(converted, strict=True, assign=True)
    return converted


WRAPPERS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "DataParallel": lambda weights: {f"module.{name}": value for name, value in weights.items()},
    "checkpoint": lambda weights: {"state_dict": weights, "optimizer": {}, "epoch": 174, "mean_iu": 0.8},
    "both": lambda weights: {"state_dict": {f"module.{name}": value for name, value in weights.items()}},
    "without the unused layer": lambda weights: {n: v for n, v in weights.items() if not n.startswith("dsn1.")},
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_wrapped_weights_convert_as_bare_ones_do(weights: dict[str, Any], wrapper: str) -> None:
    bare, wrapped = loads(weights), loads(WRAPPERS[wrapper](weights))
    assert list(bare) == list(wrapped)
    permuted = "fusion.project.weight"
    assert all(wrapped[name] is bare[name] for name in bare if name != permuted)
    assert wrapped[permuted].shape == bare[permuted].shape


def test_missing_counters_of_old_checkpoints_start_at_zero(weights: dict[str, Any]) -> None:
    old = {name: value for name, value in weights.items() if not name.endswith("num_batches_tracked")}
    assert len(old) < len(weights)
    converted = loads(old)
    counters = [value for name, value in converted.items() if name.endswith("num_batches_tracked")]
    assert len(counters) == len(weights) - len(old)
    assert all(torch.equal(counter, torch.tensor(0)) for counter in counters)
    assert not [name for name in old if "num_batches_tracked" in name], "the caller's weights were changed"


def without(*names: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda weights: {name: value for name, value in weights.items() if name not in names}


def plus(**more: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda weights: {**weights, **{name.replace("__", "."): value for name, value in more.items()}}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (without("cw.weight", "d2.bias"), ["2 missing: d2.bias, cw.weight"]),
        (plus(classifier__fc__weight=torch.zeros(1)), ["1 unknown: classifier.fc.weight"]),
        (plus(dsn1__scale=torch.zeros(1)), ["1 unknown: dsn1.scale"]),
        (
            plus(final_seg__6__weight=torch.zeros(11, 256, 1, 1)),
            ["1 of the wrong shape: final_seg.6.weight [11, 256, 1, 1] instead of [19, 256, 1, 1]"],
        ),
        (plus(fuse__weight="lost"), ["1 not a tensor: fuse.weight"]),
        (lambda weights: {"state_dict": 3}, ['"state_dict" holds int']),
        (lambda weights: {}, ["missing: mod1.conv1.weight, ", " more"]),
        (
            lambda weights: {f"module.{name}" if name == "cw.weight" else name: v for name, v in weights.items()},
            ["1 missing: cw.weight", "1 unknown: module.cw.weight"],
        ),
    ],
    ids=["missing", "unknown", "unused layer's unknown", "shape", "no tensor", "no weights", "empty", "mixed prefix"],
)
def test_keys_that_do_not_fit_are_an_error_that_lists_them(
    weights: dict[str, Any], change: Callable[[dict[str, Any]], dict[str, Any]], named: list[str]
) -> None:
    with pytest.raises(ValueError) as caught:
        convert_released_state_dict(change(weights))
    assert [part for part in named if part not in str(caught.value)] == []


@pytest.mark.parametrize("backbone", ["resnet18", "wide_resnet38"])
def test_weights_of_this_projects_models_are_refused_in_a_short_message(backbone: str) -> None:
    with META:
        ours = GatedSCNN(backbone, num_classes=19).state_dict()
    with pytest.raises(ValueError, match=r"missing: .*, and \d+ more; \d+ unknown: .*, and \d+ more") as caught:
        convert_released_state_dict(ours)
    assert len(str(caught.value)) < 1000


def photograph(*shape: int) -> Tensor:
    """Normalised: smooth patches and noise of 8-bit values, so that levels on both sides of 0 meet."""
    generator = np.random.default_rng(0)
    coarse = generator.choice(np.array([0, 40, 80, 120, 180, 247], dtype=np.uint8), (*shape[:-2], 4, 5))
    rows, columns = (np.arange(size) * cells // size for size, cells in zip(shape[-2:], (4, 5), strict=True))
    noise = generator.integers(0, 9, shape, dtype=np.uint8)
    return normalize(torch.from_numpy(coarse[..., rows, :][..., columns] + noise))


@pytest.mark.parametrize("shape", [(3, 40, 57), (1, 3, 33, 47), (3, 3, 24, 31)])
def test_the_released_prior_is_canny_on_truncated_values_modulo_256(shape: tuple[int, ...]) -> None:
    image = photograph(*shape)
    prior = released_edge_prior(image)
    assert prior.dtype == torch.float32
    assert prior.shape == (*shape[:-3], 1, *shape[-2:])
    for picture, edges in zip(image.reshape(-1, *shape[-3:]), prior.reshape(-1, *shape[-2:]), strict=True):
        levels = [[[int(value) % 256 for value in pixel] for pixel in row] for row in picture.permute(1, 2, 0).tolist()]
        assert {0, 1, 254, 255} <= set(np.ravel(levels).tolist())
        expected = cv2.Canny(np.array(levels, dtype=np.uint8), 10, 100)
        assert set(np.unique(expected)) == {0, 255}
        assert np.array_equal(edges.numpy(), expected)


def test_the_released_method_gives_the_released_prior_of_every_8_bit_value_and_of_a_picture() -> None:
    steps = torch.arange(256, dtype=torch.uint8).view(1, 1, 256).expand(3, 32, 256).repeat_interleave(4, dim=2)
    noise = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 40, 57), dtype=np.uint8))
    for image in (steps, steps.flip(0), noise, noise.flip(0)):
        expected = released_edge_prior(normalize(image))[0].numpy() / 255
        assert 0 < expected.mean() < 1
        pixels = np.ascontiguousarray(image.permute(1, 2, 0).numpy())
        np.testing.assert_array_equal(image_gradient(pixels, "released"), expected)
    every_value = torch.arange(256, dtype=torch.uint8).expand(3, 1, 256)
    levels = normalize(every_value).to(torch.int32).to(torch.uint8)[:, 0].numpy()
    np.testing.assert_array_equal(_released_levels(), levels)


def test_only_a_crossing_of_minus_one_starts_an_edge_of_the_released_prior() -> None:
    generator = torch.Generator().manual_seed(0)
    above = torch.rand(3, 40, 40, generator=generator) * 3.63 - 0.99
    assert released_edge_prior(above).max() == 0
    assert released_edge_prior(-1 - torch.rand(3, 40, 40, generator=generator)).max() == 0
    step = torch.full((3, 40, 40), -0.99)
    step[..., 20:] = -1.01
    assert (released_edge_prior(step) == 255).any(dim=-1)[0].all()


def test_the_released_prior_leaves_the_image_and_its_gradient_alone() -> None:
    image = photograph(2, 3, 24, 31).requires_grad_()
    before = image.detach().clone()
    assert not released_edge_prior(image).requires_grad
    assert torch.equal(image.detach(), before)


def test_the_released_prior_is_a_gradient_that_the_model_takes() -> None:
    image = photograph(2, 3, 24, 31)
    model = GatedSCNN("resnet18", num_classes=2, aspp_channels=4, shape_widths=(4, 4, 4, 4)).eval()
    assert model(image, released_edge_prior(image)).seg_logits.shape == (2, 2, 24, 31)


def channels_apart(label: NDArray[np.integer], radius: int) -> NDArray[np.uint8]:
    """An edge map a channel, of `label == 1` to `label == 19`, each on a frame of zeros, and then their union.

    A channel without pixels is left out: its complement has no zero for a distance to be measured from.
    """
    edges = np.zeros(label.shape, bool)
    for channel in range(19):
        mask = np.pad(label == channel + 1, 1)
        if mask.any():
            for side in (mask, ~mask):
                distance = np.asarray(distance_transform_edt(side))[1:-1, 1:-1]
                edges |= (distance > 0) & (distance <= radius)
    return edges.astype(np.uint8)


@pytest.mark.parametrize("radius", [1, 2, 3])
@pytest.mark.parametrize("seed", range(4))
def test_the_released_boundary_map_has_a_channel_for_every_class_but_the_first(seed: int, radius: int) -> None:
    rng = np.random.default_rng(seed)
    values = np.array([0, 0, 1, 2, 18, IGNORE_INDEX], np.uint8)
    label = rng.choice(values, (5, 6)).repeat(9, 0).repeat(9, 1)
    label = np.where(rng.random(label.shape) < 1 / 100, rng.choice(values, label.shape), label)
    released = released_boundary_map(label, radius)
    np.testing.assert_array_equal(released, channels_apart(label, radius))
    assert (released <= boundary_map(label, radius, void_edges=True)).all()
    assert (released != boundary_map(label, radius, void_edges=True)).any()
    np.testing.assert_array_equal(released_boundary_map(label.astype(np.int64), radius), released)


def test_road_alone_has_no_edge_in_the_released_map_and_a_frame_of_edges_with_void_edges() -> None:
    road = np.zeros((6, 6), np.uint8)
    assert released_boundary_map(road).sum() == 0
    assert boundary_map(road, void_edges=True).sum() == 32
