"""Activation checkpointing changes what is kept for the backward pass, and nothing else."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from gscnn.backbones import BACKBONES
from gscnn.backbones.taps import Backbone, Taps
from gscnn.backbones.wide_resnet import PreActivationBlock
from gscnn.config import ModelConfig
from gscnn.model import DeepLabV3Plus, GatedSCNN, build_model

META = torch.device("meta")
"""Autograd saves the same tensors there, without values."""

GIB = 2**30


class SmallWideResNet(Backbone):
    """Blocks of wide_resnet38, thin, with its dropout, without a stride."""

    def __init__(self) -> None:
        super().__init__()
        self.channels = Taps(3, 3, 3, 3, 10)
        self.blocks = nn.Sequential(
            PreActivationBlock(3, (6, 6)),
            PreActivationBlock(6, (6, 6), dilation=2),
            PreActivationBlock(6, (4, 6, 10), dilation=4, dropout=0.5),
        )

    def forward(self, image: Tensor) -> Taps[Tensor]:
        return Taps(image, image, image, image, self.run(self.blocks, image))


def small_wide_resnet(checkpointing: bool) -> SmallWideResNet:
    torch.manual_seed(0)
    network = SmallWideResNet()
    network.activation_checkpointing = checkpointing
    return network


def small_model(checkpointing: bool, architecture: str = "gscnn") -> GatedSCNN | DeepLabV3Plus:
    torch.manual_seed(0)
    config = {
        "architecture": architecture,
        "backbone": "resnet18",
        "num_classes": 4,
        "aspp_channels": 8,
        "shape_widths": (8, 6, 4, 4),
        "activation_checkpointing": checkpointing,
    }
    model = build_model(ModelConfig.model_validate(config))
    assert isinstance(model, GatedSCNN | DeepLabV3Plus)
    return model


def small_image() -> Tensor:
    return torch.randn(2, 3, 33, 47, generator=torch.Generator().manual_seed(1))


def trained(network: nn.Module, *inputs: Tensor, steps: int = 2, bf16: bool = False) -> dict[str, Tensor]:
    """Losses, gradients of the last step, parameters, buffers and the state of the generator after `steps` steps."""
    torch.manual_seed(2)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    result: dict[str, Tensor] = {}
    for step in range(steps):
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            outputs = network(*inputs)
        loss = sum((output.float().square().mean() for output in outputs if output is not None), torch.zeros(()))
        loss.backward()
        result[f"loss {step}"] = loss.detach()
        optimizer.step()
    gradients = {f"gradient of {name}": p.grad for name, p in network.named_parameters() if p.grad is not None}
    return {**result, **gradients, **network.state_dict(), "generator": torch.get_rng_state()}


def assert_same_bits(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    assert list(first) == list(second)
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


@pytest.mark.parametrize("bf16", [False, True])
def test_losses_gradients_and_buffers_of_resnet18_stay_the_same_to_the_bit(bf16: bool) -> None:
    inputs = small_image(), torch.rand(2, 1, 33, 47)
    plain, checkpointed = (trained(small_model(on), *inputs, bf16=bf16) for on in (False, True))
    assert_same_bits(plain, checkpointed)
    assert checkpointed["regular_stream.layer1.0.bn1.num_batches_tracked"] == 2


@pytest.mark.parametrize("bf16", [False, True])
def test_losses_gradients_and_buffers_of_wide_blocks_with_dropout_stay_the_same_to_the_bit(bf16: bool) -> None:
    plain, checkpointed = (trained(small_wide_resnet(on), small_image(), bf16=bf16) for on in (False, True))
    assert_same_bits(plain, checkpointed)
    assert checkpointed["blocks.2.norms.2.num_batches_tracked"] == 2


def synchronized(network: nn.Module) -> nn.Module:
    """Of one process, which computes as the layer does alone."""
    return nn.SyncBatchNorm.convert_sync_batchnorm(network)


def cumulative(network: nn.Module) -> nn.Module:
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.momentum = None
    return network


def frozen(network: nn.Module) -> nn.Module:
    """In training mode, but for its batch norms."""
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.eval()
    return network


def untracked(network: nn.Module) -> nn.Module:
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.track_running_stats = False
            norm.running_mean = norm.running_var = norm.num_batches_tracked = None
    return network


@pytest.mark.parametrize("variant", [synchronized, cumulative, frozen, untracked])
def test_every_kind_of_batch_norm_stays_the_same_to_the_bit(variant: Any) -> None:
    plain, checkpointed = (trained(variant(small_wide_resnet(on)), small_image()) for on in (False, True))
    assert_same_bits(plain, checkpointed)


def test_batch_norms_are_as_before_after_the_backward_pass() -> None:
    network = small_wide_resnet(True)
    trained(network, small_image(), steps=1)
    norms = [norm for norm in network.modules() if isinstance(norm, nn.BatchNorm2d)]
    assert len(norms) == 7
    for norm in norms:
        assert norm.momentum == 0.1
        assert norm.num_batches_tracked == 1
        assert dict(norm.named_buffers()).keys() == {"running_mean", "running_var", "num_batches_tracked"}


def test_two_backward_passes_through_one_forward_pass_give_the_same_gradient() -> None:
    network = small_wide_resnet(True)
    loss = network(small_image()).top.square().mean()
    parameters = list(network.parameters())
    first = torch.autograd.grad(loss, parameters, retain_graph=True)
    second = torch.autograd.grad(loss, parameters)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert network.blocks.get_buffer("0.norms.0.num_batches_tracked") == 1


@pytest.mark.parametrize(
    ("checkpointing", "training", "times"), [(False, True, 1), (True, True, 2), (True, False, 1), (False, False, 1)]
)
def test_only_training_with_checkpointing_runs_a_block_twice(checkpointing: bool, training: bool, times: int) -> None:
    network = small_wide_resnet(checkpointing).train(training)
    runs = []
    network.blocks[0].register_forward_pre_hook(lambda module, args: runs.append(1))
    network(small_image()).top.sum().backward()
    assert len(runs) == times


@pytest.mark.parametrize("architecture", ["gscnn", "deeplabv3plus"])
def test_checkpointing_changes_no_name_and_no_start(architecture: str) -> None:
    plain, checkpointed = (small_model(on, architecture) for on in (False, True))
    assert plain.regular_stream.activation_checkpointing is False
    assert checkpointed.regular_stream.activation_checkpointing is True
    assert_same_bits(plain.state_dict(), checkpointed.state_dict())


@pytest.mark.usefixtures("unchecked")
def test_a_compiled_backbone_counts_a_batch_once_too() -> None:
    plain, compiled = (small_wide_resnet(on) for on in (False, True))
    for network in (plain, compiled):
        del network.blocks[1:]
    compiled.compile(backend="aot_eager")
    expected = trained(plain, small_image(), steps=1)
    torch.testing.assert_close(trained(compiled, small_image(), steps=1), expected, rtol=1e-4, atol=1e-6)
    assert expected["blocks.0.norms.0.num_batches_tracked"] == 1


def kept_gib(network: nn.Module, *inputs: Tensor) -> float:
    """GiB that autograd keeps from the forward to the backward pass, parameters and buffers aside."""
    own = {tensor.untyped_storage()._cdata for tensor in (*network.parameters(), *network.buffers())}
    storages: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        storages[storage._cdata] = storage
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        network(*inputs)
    return sum(storage.nbytes() for key, storage in storages.items() if key not in own) / GIB


@pytest.mark.parametrize(
    ("backbone", "of_model", "of_backbone"),
    [
        ("wide_resnet38", (5.1, 3.3), (2.5, 0.7)),
        ("resnet50", (3.8, 2.6), (1.8, 0.5)),
        ("resnet101", (5.4, 3.1), (3.4, 1.1)),
    ],
)
def test_checkpointing_saves_what_the_config_promises(
    backbone: str, of_model: tuple[float, float], of_backbone: tuple[float, float]
) -> None:
    """Per image of 720x720, from two: without and with checkpointing."""
    with META:
        image, gradient = torch.empty(2, 3, 720, 720), torch.empty(2, 1, 720, 720)
        for on in (False, True):
            model = GatedSCNN(backbone, num_classes=19, activation_checkpointing=on)
            assert kept_gib(model, image, gradient) / 2 == pytest.approx(of_model[on], abs=0.05)
            assert kept_gib(model.regular_stream, image) / 2 == pytest.approx(of_backbone[on], abs=0.05)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_checkpointing_repeats_a_block_at_a_time(backbone: str) -> None:
    """What comes back while one block is repeated is below 0.4 GiB an image of 720x720, as the config promises."""
    with META:
        network = BACKBONES[backbone](8, None)
    entered: list[tuple[nn.Module, Tensor]] = []
    blocks = [m for m in network.modules() if type(m).__name__ in ("PreActivationBlock", "Bottleneck", "BasicBlock")]
    for block in blocks:
        block.register_forward_hook(lambda module, args, output: entered.append((module, args[0].detach())))
    network(torch.empty(2, 3, 720, 720, device=META))
    assert len(entered) == len(blocks) >= 4
    assert max(kept_gib(block, x.requires_grad_()) for block, x in tuple(entered)) / 2 < 0.4
