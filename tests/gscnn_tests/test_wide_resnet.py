import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import batch_norm, conv2d

from gscnn.backbones import BACKBONES
from gscnn.backbones.wide_resnet import PreActivationBlock, WideResNet38
from gscnn.model import DeepLabV3Plus, GatedSCNN

META = torch.device("meta")
"""Shapes without values: 137 million parameters cost nothing there."""

BLOCKS = {
    2: [(64, 128, 128), (128, 128, 128), (128, 128, 128)],
    3: [(128, 256, 256), (256, 256, 256), (256, 256, 256)],
    4: [(256, 512, 512), *[(512, 512, 512)] * 5],
    5: [(512, 512, 1024), (1024, 512, 1024), (1024, 512, 1024)],
    6: [(1024, 512, 1024, 2048)],
    7: [(2048, 1024, 2048, 4096)],
}
"""Channels along each block of modules 2 to 7, from its input to its output (arXiv:1611.10080, figure 2)."""


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def parameters_of(channels: tuple[int, ...]) -> int:
    pairs = list(pairwise(channels))
    kernels = (9, 9) if len(pairs) == 2 else (1, 9, 1)
    convolutions = sum(ins * outs * kernel for (ins, outs), kernel in zip(pairs, kernels, strict=True))
    shortcut = channels[0] * channels[-1] if channels[0] != channels[-1] else 0
    return convolutions + 2 * sum(channels[:-1]) + shortcut


def test_taps_have_the_shapes_of_the_docstring() -> None:
    with META:
        network = BACKBONES["wide_resnet38"](8, None)
    channels, strides = (64, 128, 256, 512, 4096), (1, 2, 4, 8, 8)
    assert tuple(network.channels) == channels
    for height, width in ((64, 96), (33, 47)):
        with torch.no_grad():
            taps = network(torch.empty(2, 3, height, width, device=META))
        expected = [(2, c, math.ceil(height / s), math.ceil(width / s)) for c, s in zip(channels, strides, strict=True)]
        assert [tuple(tap.shape) for tap in taps] == expected


def test_parameters_are_as_many_as_the_table_of_blocks_gives() -> None:
    with META:
        network = WideResNet38(8, None)
    expected = {number: sum(map(parameters_of, blocks)) for number, blocks in BLOCKS.items()}
    assert {number: count(network.get_submodule(f"module{number}")) for number in BLOCKS} == expected
    assert count(network) == 9 * 3 * 64 + sum(expected.values())


@pytest.mark.parametrize(("model", "parameters"), [(GatedSCNN, 137_278_125), (DeepLabV3Plus, 137_103_936)])
def test_the_papers_own_model_has_137_million_parameters(
    model: type[GatedSCNN | DeepLabV3Plus], parameters: int
) -> None:
    with META:
        assert count(model("wide_resnet38", num_classes=19)) == parameters


def test_modules_5_to_7_are_dilated_and_only_module_4_starts_with_a_stride() -> None:
    with META:
        network = WideResNet38(8, None)
    for number, blocks in BLOCKS.items():
        convolutions = [c for c in network.get_submodule(f"module{number}").modules() if isinstance(c, nn.Conv2d)]
        dilation = {5: 2, 6: 4, 7: 4}.get(number, 1)
        wide = [convolution for convolution in convolutions if convolution.kernel_size == (3, 3)]
        assert len(wide) == sum(2 if len(channels) == 3 else 1 for channels in blocks)
        assert {convolution.dilation for convolution in wide} == {(dilation, dilation)}
        strides = [convolution.stride[0] for convolution in convolutions]
        # Module 4: the first convolution of its first block, and that block's shortcut.
        assert sorted(strides, reverse=True)[:3] == ([2, 2, 1] if number == 4 else [1, 1, 1])


def random_block(in_channels: int, widths: tuple[int, ...], **fields: float) -> PreActivationBlock:
    torch.manual_seed(0)
    block = PreActivationBlock(in_channels, widths, **fields).double()  # pyright: ignore[reportArgumentType]
    for norm in block.modules():
        if isinstance(norm, nn.BatchNorm2d):
            for value in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
                assert value is not None
                nn.init.uniform_(value, 0.3, 1.5)
    return block


def activated(x: Tensor, weights: dict[str, Tensor], norm: int) -> Tensor:
    mean, variance, scale, shift = (
        weights[f"norms.{norm}.{name}"] for name in ("running_mean", "running_var", "weight", "bias")
    )
    return batch_norm(x, mean, variance, scale, shift).clamp(min=0)


@pytest.mark.parametrize("in_channels", [5, 7])
@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (2, 1), (1, 2), (1, 4)])
def test_a_block_of_two_widths_is_the_written_formula(in_channels: int, stride: int, dilation: int) -> None:
    block = random_block(in_channels, (3, 7), stride=stride, dilation=dilation).eval()
    weights, x = block.state_dict(), torch.randn(2, in_channels, 11, 13).double()
    entered = activated(x, weights, 0)
    inner = conv2d(entered, weights["convs.0.weight"], stride=stride, padding=dilation, dilation=dilation)
    inner = conv2d(activated(inner, weights, 1), weights["convs.1.weight"], padding=dilation, dilation=dilation)
    changes = in_channels != 7 or stride == 2
    assert changes == ("shortcut.weight" in weights)
    shortcut = conv2d(entered, weights["shortcut.weight"], stride=stride) if changes else x
    torch.testing.assert_close(block(x), shortcut + inner, rtol=1e-12, atol=1e-12)


def test_a_block_of_three_widths_is_the_written_formula() -> None:
    block = random_block(5, (3, 4, 7), dilation=4, dropout=0.5).eval()
    weights, x = block.state_dict(), torch.randn(2, 5, 11, 13).double()
    entered = activated(x, weights, 0)
    inner = activated(conv2d(entered, weights["convs.0.weight"]), weights, 1)
    inner = activated(conv2d(inner, weights["convs.1.weight"], padding=4, dilation=4), weights, 2)
    expected = conv2d(entered, weights["shortcut.weight"]) + conv2d(inner, weights["convs.2.weight"])
    torch.testing.assert_close(block(x), expected, rtol=1e-12, atol=1e-12)


def test_only_modules_6_and_7_drop_channels() -> None:
    with META:
        network = WideResNet38(8, None)
    dropouts = {name: m.p for name, m in network.named_modules() if isinstance(m, nn.Dropout2d)}
    assert dropouts == {"module6.0.dropout": 0.3, "module7.0.dropout": 0.5}


def test_dropout_takes_whole_channels_before_the_last_convolution() -> None:
    torch.manual_seed(0)
    block = PreActivationBlock(8, (6, 400, 4), dropout=0.3)
    seen: dict[str, Tensor] = {}
    block.norms[2].register_forward_hook(lambda module, args, output: seen.update(before=output.detach().clone()))
    block.convs[2].register_forward_hook(lambda module, args, output: seen.update(after=args[0].detach()))
    block(torch.randn(8, 8, 5, 5))
    dropped = (seen["after"] == 0).all(dim=(2, 3))
    # Of 3200 channels 30%: five standard deviations are 4%.
    assert dropped.float().mean().item() == pytest.approx(0.3, abs=0.04)
    kept = seen["before"].clamp(min=0) / 0.7
    torch.testing.assert_close(seen["after"][~dropped], kept[~dropped])


@pytest.mark.parametrize("output_stride", [4, 16, 32])
def test_another_output_stride_is_an_error_that_names_8(output_stride: int) -> None:
    with pytest.raises(ValueError, match=rf"output_stride is {output_stride}; wide_resnet38 offers 8"):
        WideResNet38(output_stride, None)


def test_imagenet_weights_are_an_error_that_names_both_ways_out() -> None:
    with pytest.raises(ValueError, match=r"`weights` is imagenet: wide_resnet38 offers None"):
        GatedSCNN("wide_resnet38", weights="imagenet")
    with pytest.raises(ValueError, match=r"weights is 'imagenet'") as caught:
        WideResNet38(8, "imagenet")
    for part in ("--model.weights None", "--init.weights FILE"):
        assert part in str(caught.value)


def test_a_random_start_keeps_the_signal_between_vanishing_and_exploding() -> None:
    """Each residual adds variance 1 to its module's start, as batch norm and He's rule set it: at most 1 + 6."""
    torch.manual_seed(0)
    network = WideResNet38(8, None)
    with torch.no_grad():
        taps = network(torch.randn(2, 3, 48, 64))
    for tap in taps:
        assert 0.5 < tap.std() < 3
