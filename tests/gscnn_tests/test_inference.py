import math
import weakref
from collections import Counter
from collections.abc import Callable
from itertools import pairwise, product
from typing import Any, Literal

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from gscnn.config import InferenceConfig, ModelConfig
from gscnn.inference import Prediction, blending_weights, infer, window_starts
from gscnn.model import SegmentationOutput, build_model

Architecture = Literal["gscnn", "deeplabv3plus"]
Size = tuple[int, int]


class Fake(nn.Module):
    """A model in evaluation mode that does as it is told, and remembers the sizes of the images it saw."""

    def __init__(self, predict: Callable[[Tensor, Tensor], SegmentationOutput]) -> None:
        super().__init__()
        self.predict = predict
        self.seen: list[Size] = []
        self.eval()

    def forward(self, image: Tensor, gradient: Tensor) -> SegmentationOutput:
        assert gradient.shape == (len(image), 1, *image.shape[-2:])
        self.seen.append((image.shape[-2], image.shape[-1]))
        return self.predict(image, gradient)


def convolution(kernel: int = 1, classes: int = 5) -> Fake:
    """Classes and edge from one convolution of image and gradient: with a kernel of 1, of each pixel alone."""
    weight = torch.randn(classes + 1, 4, kernel, kernel, generator=torch.Generator().manual_seed(0))

    def predict(image: Tensor, gradient: Tensor) -> SegmentationOutput:
        logits = nn.functional.conv2d(torch.cat((image, gradient), dim=1), weight, padding=kernel // 2)
        return SegmentationOutput(logits[:, :-1], logits[:, -1:])

    return Fake(predict)


class Memory(TorchDispatchMode):
    """Bytes of the tensors that are made while it is on: the most that are held at once, and all together."""

    def __init__(self) -> None:
        super().__init__()
        self.held, self.peak, self.made = dict[int, int](), 0, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        given = {storage.data_ptr() for storage in storages(args)}
        for storage in storages(result):
            if storage.data_ptr() not in given:
                self.made += storage.nbytes()
                self.held[id(storage)] = storage.nbytes()
                weakref.finalize(storage, self.held.pop, id(storage), None)
        self.peak = max(self.peak, sum(self.held.values()))
        return result


def storages(values: Any) -> list[torch.UntypedStorage]:
    return [x.untyped_storage() for x in tree_leaves(values) if isinstance(x, Tensor)]


def tiny(architecture: Architecture = "gscnn") -> nn.Module:
    torch.manual_seed(0)
    small = ModelConfig(backbone="resnet18", num_classes=4, aspp_channels=8, shape_widths=(8, 6, 4, 4))
    return build_model(small.model_copy(update={"architecture": architecture})).eval()


def inputs(size: Size, images: int = 2) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(images, 3, *size, generator=generator), torch.rand(images, 1, *size, generator=generator)


def config(**fields: object) -> InferenceConfig:
    return InferenceConfig.model_validate(fields)


def plainly(model: nn.Module, image: Tensor, gradient: Tensor) -> Prediction:
    with torch.no_grad():
        output: SegmentationOutput = model(image, gradient)
    edge = output.edge_logits
    return Prediction(output.seg_logits.softmax(dim=1), None if edge is None else edge.sigmoid())


def cv2_resize(maps: Tensor, size: Size) -> Tensor:
    """[B, C, H, W] by OpenCV, as training resizes."""
    resized = [[cv2.resize(c.numpy(), size[::-1], interpolation=cv2.INTER_LINEAR) for c in image] for image in maps]
    return torch.from_numpy(np.array(resized))


def assert_close(actual: Prediction, expected: Prediction, atol: float = 1e-6) -> None:
    torch.testing.assert_close(actual.probabilities, expected.probabilities, rtol=0, atol=atol)
    assert (actual.edge is None) == (expected.edge is None)
    if actual.edge is not None:
        torch.testing.assert_close(actual.edge, expected.edge, rtol=0, atol=atol)


@pytest.mark.parametrize("architecture", ["gscnn", "deeplabv3plus"])
@pytest.mark.parametrize("window", [None, (33, 47), (64, 47), (1000, 1000)])
def test_one_pass_over_the_whole_image_is_the_models_own_answer_bit_for_bit(
    architecture: Architecture, window: Size | None
) -> None:
    model, (image, gradient) = tiny(architecture), inputs((33, 47))
    found, expected = infer(model, image, gradient, config(window=window)), plainly(model, image, gradient)
    assert torch.equal(found.probabilities, expected.probabilities)
    assert (found.edge is None) == (architecture == "deeplabv3plus")
    if found.edge is not None and expected.edge is not None:
        assert torch.equal(found.edge, expected.edge)
    assert torch.equal(found.label, expected.probabilities.argmax(dim=1).to(torch.uint8))


@pytest.mark.parametrize("window", [(8, 8), (7, 12), (1, 5), (2, 3), (25, 31), (26, 20)])
@pytest.mark.parametrize("size", [(26, 32), (25, 31), (9, 8), (8, 9), (1, 1), (3, 40), (17, 24)])
def test_windows_change_nothing_for_a_model_that_sees_each_pixel_alone(size: Size, window: Size) -> None:
    model, (image, gradient) = convolution(), inputs(size)
    expected = plainly(model, image, gradient)
    for overlap in (0.0, 0.1, 1 / 3, 0.5, 0.8, 0.95):
        # Up to 90 windows overlap in one pixel, and as many float32 roundings add up.
        assert_close(infer(model, image, gradient, config(window=window, overlap=overlap)), expected, atol=1e-5)


def test_no_call_sees_more_than_the_window_and_there_are_as_many_calls_as_windows() -> None:
    model, (image, gradient) = convolution(), inputs((26, 70))
    infer(model, image, gradient, config(window=(32, 24), overlap=0.25, scales=(0.5, 1.0, 2.0), flip=True))
    # Steps are 24 rows and 18 columns at most: 2, 4 and 8 windows lie in 35, 70 and 140 columns, 2 in 52 rows.
    assert Counter(model.seen) == {(13, 24): 2 * 2, (26, 24): 2 * 4, (32, 24): 2 * 2 * 8}


def test_every_pixel_is_seen() -> None:
    times = torch.zeros(31, 45, dtype=torch.int64)

    def count(image: Tensor, gradient: Tensor) -> SegmentationOutput:
        times[image[0, 0].long(), image[0, 1].long()] += 1
        return SegmentationOutput(image, None)

    model = Fake(count)
    rows, columns = torch.meshgrid(torch.arange(31.0), torch.arange(45.0), indexing="ij")
    infer(model, torch.stack((rows, columns, rows))[None], torch.zeros(1, 1, 31, 45), config(window=(16, 16)))
    assert times.min() == 1
    assert times.sum() == len(model.seen) * 16 * 16


def test_window_starts_are_the_fewest_evenly_spaced_ones_that_cover_and_overlap() -> None:
    for side, overlap in product(range(1, 36), (0.0, 0.07, 0.25, 1 / 3, 0.56, 0.9)):
        for window in range(1, side + 1):
            starts = window_starts(side, window, overlap)
            assert starts[0] == 0
            assert starts[-1] == side - window
            gaps = [after - before for before, after in pairwise(starts)]
            # The longest step that leaves the overlap, found by trying; no overlap leaves less than one pixel.
            longest = max((s for s in range(1, window + 1) if window - s >= window * overlap - 1e-9), default=1)
            assert max(gaps, default=0) <= longest
            assert max(gaps, default=0) - min(gaps, default=0) <= 1
            assert len(starts) == next(n for n in range(1, side + 1) if window + (n - 1) * longest >= side)


@pytest.mark.parametrize("overlap", [0.0, 1 / 3, 0.5, 0.7, 0.9])
@pytest.mark.parametrize(("side", "window"), [(50, 20), (50, 49), (50, 50), (50, 1), (7, 3), (100, 30)])
def test_shares_of_the_windows_sum_to_one_and_are_positive_inside_alone(side: int, window: int, overlap: float) -> None:
    starts = window_starts(side, window, overlap)
    weights = blending_weights(side, window, starts)
    torch.testing.assert_close(weights.sum(dim=0), torch.ones(side, dtype=torch.float64))
    for start, weight in zip(starts, weights.numpy(), strict=True):
        inside = (np.arange(side) >= start) & (np.arange(side) < start + window)
        assert (weight[inside] > 0).all()
        assert (weight[~inside] == 0).all()


def test_two_windows_cross_fade_linearly_and_stay_whole_towards_the_border() -> None:
    first, second = blending_weights(12, 8, [0, 4]).tolist()
    fade = [7 / 8, 5 / 8, 3 / 8, 1 / 8]
    assert first == pytest.approx([1] * 4 + fade + [0] * 4)
    assert second == pytest.approx([0] * 4 + fade[::-1] + [1] * 4)


@pytest.mark.parametrize("overlap", [0.2, 1 / 3, 0.5, 0.75])
@pytest.mark.parametrize("size", [(30, 100), (31, 30), (75, 83)])
def test_windows_that_contradict_each_other_leave_no_seam(size: Size, overlap: float) -> None:
    """Neighbours are sure of different classes: side by side they would make a jump of 1."""
    window, columns = 30, len(window_starts(size[1], 30, overlap))

    def sure(image: Tensor, gradient: Tensor) -> SegmentationOutput:
        row, column = divmod(len(model.seen) - 1, columns)
        logits = torch.full((1, 2, *image.shape[-2:]), -50.0)
        logits[:, (row + column) % 2] = 50.0
        return SegmentationOutput(logits, None)

    model, (image, gradient) = Fake(sure), inputs(size, images=1)
    found = infer(model, image, gradient, config(window=(window, window), overlap=overlap)).probabilities
    jumps = max(float(found.diff(dim=axis).abs().max()) for axis in (2, 3) if found.shape[axis] > 1)
    assert 0 < jumps <= 1 / (window * min(overlap, 0.5)) + 1e-6
    torch.testing.assert_close(found.sum(dim=1), torch.ones_like(found[:, 0]))


def test_a_symmetric_image_gets_a_symmetric_answer_by_flipping() -> None:
    model = convolution(kernel=3)
    image, gradient = (torch.cat((half, half.flip(-1)), dim=-1) for half in inputs((9, 8)))
    once = infer(model, image, gradient, config()).probabilities
    assert (once - once.flip(-1)).abs().max() > 0.1
    both = infer(model, image, gradient, config(flip=True))
    assert_close(both, Prediction(*(x.flip(-1) for x in both if x is not None)))


@pytest.mark.parametrize("size", [(26, 40), (25, 37), (8, 9)])
@pytest.mark.parametrize("scales", [(0.5,), (2.0,), (0.5, 1.0, 2.0), (0.3, 1.37)])
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("window", [None, (8, 12), (9, 1000)])
def test_scales_and_flips_are_the_mean_of_what_opencv_resizes(
    size: Size, scales: tuple[float, ...], flip: bool, window: Size | None
) -> None:
    """Against whole maps, resized there and back; the windows of a pointwise model add up to the whole."""
    model, (image, gradient) = convolution(), inputs(size)
    expected = []
    for scale, mirror in product(scales, (False, True)[: 1 + flip]):
        scaled = (max(1, round(size[0] * scale)), max(1, round(size[1] * scale)))
        turn = (lambda x: x.flip(-1)) if mirror else (lambda x: x)
        maps = plainly(model, turn(cv2_resize(image, scaled)), turn(cv2_resize(gradient, scaled)))
        assert maps.edge is not None
        expected.append([cv2_resize(turn(x), size) for x in (maps.probabilities, maps.edge)])
    means = Prediction(*(torch.stack(maps).mean(dim=0) for maps in zip(*expected, strict=True)))
    assert_close(infer(model, image, gradient, config(window=window, scales=scales, flip=flip)), means, atol=2e-5)


def test_windows_of_a_model_with_a_wide_view_are_blended_by_their_shares() -> None:
    """Against a loop with weights written pixel by pixel, for a model that sees far, and mirrored windows."""
    model, size, window = tiny(), (70, 90), (48, 64)
    image, gradient = inputs(size)
    total, shares = torch.zeros(2, 4, *size), torch.zeros(size)
    for corner in product((0, 22), (0, 26)):
        axes = list(zip(corner, window, strict=True))
        rows, columns = (slice(start, start + side) for start, side in axes)
        ramps = [torch.tensor([(i if start else side - 1 - i) + 0.5 for i in range(side)]) for start, side in axes]
        weight = ramps[0][:, None] * ramps[1]
        x, g = image[..., rows, columns], gradient[..., rows, columns]
        mean = (plainly(model, x, g)[0] + plainly(model, x.flip(-1), g.flip(-1))[0].flip(-1)) / 2
        total[..., rows, columns] += weight * mean
        shares[rows, columns] += weight
    found = infer(model, image, gradient, config(window=window, flip=True))
    torch.testing.assert_close(found.probabilities, total / shares, rtol=0, atol=1e-5)


@pytest.mark.parametrize("architecture", ["gscnn", "deeplabv3plus"])
def test_all_at_once_on_odd_sizes_gives_probabilities(architecture: Architecture) -> None:
    image, gradient = inputs((49, 65))
    found = infer(tiny(architecture), image, gradient, config(window=(48, 64), scales=(0.5, 1.0, 1.75), flip=True))
    torch.testing.assert_close(found.probabilities.sum(dim=1), torch.ones(2, 49, 65))
    assert found.probabilities.min() >= 0
    assert found.edge is None or (found.edge.shape == (2, 1, 49, 65) and 0 <= found.edge.min() <= found.edge.max() <= 1)


def test_memory_is_the_output_and_one_windows_pass_at_any_scale() -> None:
    size, window, classes = (160, 240), (32, 32), 19
    image, gradient = inputs(size, images=1)
    output, of_window = ((classes + 1) * 4 * math.prod(sides) for sides in (size, window))
    for scale in (0.5, 1.0, 2.0):
        resized = 0 if scale == 1 else int(4 * 4 * math.prod(size) * scale**2)
        with Memory() as memory:
            infer(convolution(classes=classes), image, gradient, config(window=window, scales=(scale,), flip=True))
        # A window's logits, probabilities and their resize; at scale 0.5 the resize has four times the pixels.
        assert output + resized < memory.peak < output + resized + of_window * (4 if scale >= 1 else 12), scale


def test_one_pass_over_the_whole_image_makes_no_copy() -> None:
    model, (image, gradient) = convolution(classes=19), inputs((160, 240), images=1)
    with Memory() as plain:
        plainly(model, image, gradient)
    with Memory() as ours:
        infer(model, image, gradient, config())
    # What is computed along the axes is less than one map, and the output has 20.
    one_map = 4 * 160 * 240
    assert ours.peak < plain.peak + one_map
    assert ours.made < plain.made + one_map


@pytest.mark.parametrize("fields", [{}, {"window": (48, 48), "scales": (0.75, 1.0), "flip": True}])
def test_bf16_autocast_gives_float32_probabilities_near_those_of_float32(fields: dict[str, object]) -> None:
    model, (image, gradient) = tiny(), inputs((64, 80))
    with torch.autocast("cpu", torch.bfloat16):
        found = infer(model, image, gradient, config(**fields))
        with torch.no_grad():
            logits = model(image, gradient)
    assert found.edge is not None
    assert found.probabilities.dtype == found.edge.dtype == torch.float32
    assert logits.seg_logits.dtype == logits.edge_logits.dtype == torch.bfloat16
    if not fields:
        assert torch.equal(found.probabilities, logits.seg_logits.float().softmax(dim=1))
        assert torch.equal(found.edge, logits.edge_logits.float().sigmoid())
    # In bf16 itself, classes would sum to 1 within 4e-3.
    torch.testing.assert_close(found.probabilities.sum(dim=1), torch.ones(2, 64, 80), rtol=0, atol=1e-5)
    assert_close(found, infer(model, image, gradient, config(**fields)), atol=0.05)


def test_everything_happens_on_the_images_device() -> None:
    with torch.device("meta"):
        model = tiny()
    image, gradient = (x.to("meta") for x in inputs((49, 65)))
    found = infer(model, image, gradient, config(window=(48, 48), scales=(0.5, 1.0), flip=True))
    assert found.edge is not None
    assert {x.device.type for x in (found.probabilities, found.edge, found.label)} == {"meta"}


def test_a_model_in_training_mode_is_refused_and_no_mode_is_changed() -> None:
    model, (image, gradient) = tiny(), inputs((33, 47))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert infer(model, image, gradient, config()).probabilities.is_inference()
    assert not any(module.training for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    next(module for module in model.modules() if isinstance(module, nn.BatchNorm2d)).train()
    for _ in range(2):
        with pytest.raises(ValueError, match=r"training mode: batch norm .* call model\.eval\(\)"):
            infer(model, image, gradient, config())
        model.train()


@pytest.mark.usefixtures("unchecked")
def test_a_gradient_of_another_size_is_an_error_before_windows_could_cut_it_to_fit() -> None:
    image, gradient = inputs((33, 47))
    with pytest.raises(ValueError, match=r"gradient is \(2, 1, 33, 46\), image is \(2, 3, 33, 47\)"):
        infer(convolution(), image, gradient[..., :-1], config(window=(16, 16)))


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"window": (0, 720)}, ["window", "(0, 720)", "1 pixel"]),
        ({"window": (720,)}, ["window", "720"]),
        ({"overlap": 1.0}, ["overlap", "1.0", "less than 1"]),
        ({"overlap": -0.1}, ["overlap", "-0.1", "greater than or equal to 0"]),
        ({"scales": ()}, ["scales", "at least 1"]),
        ({"scales": (1.0, 0.0)}, ["scales", "(1.0, 0.0)", "above 0"]),
        ({"scales": (1.0, math.nan)}, ["scales", "nan", "finite"]),
        ({"scales": (math.inf,)}, ["scales", "inf", "finite"]),
        ({"scales": (1.0, 0.5, 1)}, ["scales", "(1.0, 0.5, 1)", "twice"]),
        ({"mirror": True}, ["mirror"]),
    ],
)
def test_a_wrong_field_is_an_error_that_names_it_and_its_value(fields: dict[str, object], named: list[str]) -> None:
    with pytest.raises(ValueError) as caught:
        config(**fields)
    assert [name for name in named if name not in str(caught.value)] == []
