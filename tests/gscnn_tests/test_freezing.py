"""Frozen stages and frozen batch norms of a backbone do not change in training."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from gscnn.config import ModelConfig
from gscnn.model import GatedSCNN, build_model

STAGES = ("stem", "layer1", "layer2", "layer3", "layer4")
BATCH_NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def small_model(frozen_stages: int, freeze_batch_norm: bool = False, checkpointing: bool = False) -> GatedSCNN:
    torch.manual_seed(0)
    model = build_model(
        ModelConfig(
            backbone="resnet10_small",
            num_classes=3,
            output_stride=16,
            aspp_channels=4,
            low_level_channels=4,
            shape_widths=(4, 4, 4, 4),
            frozen_stages=frozen_stages,
            freeze_batch_norm=freeze_batch_norm,
            activation_checkpointing=checkpointing,
        )
    )
    assert isinstance(model, GatedSCNN)
    return model


def trained(model: nn.Module, name: str = "sgd") -> dict[str, Tensor]:
    """The state after three steps with weight decay and momentum; the model has been in evaluation mode before."""
    model.eval()
    model.train()
    optimizer: torch.optim.Optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.1)
    if name == "sgd":
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=0.1)
    generator = torch.Generator().manual_seed(1)
    for _ in range(3):
        output = model(torch.randn(2, 3, 32, 48, generator=generator), torch.rand(2, 1, 32, 48, generator=generator))
        (output.seg_logits.square().mean() + output.edge_logits.square().mean()).backward()
        optimizer.step()
        optimizer.zero_grad()
    return {key: value.clone() for key, value in model.state_dict().items()}


def unchanged(model: nn.Module, name: str = "sgd") -> set[str]:
    """Keys of the state that training leaves as it is, to the bit."""
    before = {key: value.clone() for key, value in model.state_dict().items()}
    return {key for key, value in trained(model, name).items() if torch.equal(value, before[key])}


def batch_norms(model: nn.Module) -> set[str]:
    """Keys of the weights and buffers of the backbone's batch norms."""
    names = [key for key in model.state_dict() if key.startswith("regular_stream.") and key.endswith("running_mean")]
    return {f"{name.removesuffix('running_mean')}{leaf}" for name in names for leaf in BATCH_NORM}


def stages(model: nn.Module, count: int) -> set[str]:
    first = tuple(f"regular_stream.{stage}." for stage in STAGES[:count])
    return {key for key in model.state_dict() if key.startswith(first)}


@pytest.mark.parametrize("name", ["sgd", "adamw"])
@pytest.mark.parametrize("count", [0, 1, 3, 5])
def test_training_changes_all_but_the_frozen_stages(count: int, name: str) -> None:
    model = small_model(count)
    assert unchanged(model, name) == stages(model, count)


def test_training_changes_all_but_the_frozen_batch_norms() -> None:
    model = small_model(0, freeze_batch_norm=True)
    assert len(batch_norms(model)) == 5 * 12
    assert unchanged(model) == batch_norms(model)


def converted(model: nn.Module) -> nn.Module:
    return nn.SyncBatchNorm.convert_sync_batchnorm(model)


def compiled(model: nn.Module) -> nn.Module:
    model.compile(backend="eager")
    return model


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("changed", [copy.deepcopy, converted, compiled])
def test_copied_synchronized_and_compiled_models_stay_frozen(
    changed: Callable[[nn.Module], nn.Module],
) -> None:
    model = changed(small_model(2, freeze_batch_norm=True))
    assert unchanged(model) == stages(model, 2) | batch_norms(model)


def test_activation_checkpointing_of_a_frozen_model_changes_no_bit() -> None:
    plain, checkpointed = (trained(small_model(2, True, checkpointing)) for checkpointing in (False, True))
    assert plain.keys() == checkpointed.keys()
    assert all(torch.equal(plain[key], checkpointed[key]) for key in plain)


def test_a_frozen_batch_norm_normalizes_by_its_running_statistics() -> None:
    model = small_model(0, freeze_batch_norm=True)
    norm = next(module for module in model.regular_stream.modules() if isinstance(module, _BatchNorm))
    for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
        assert tensor is not None
        tensor.data.uniform_(0.5, 2)
    model.train()
    x = torch.randn(2, norm.num_features, 5, 4)
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()  # pyright: ignore[reportOptionalOperand]
    shift = norm.bias - norm.running_mean * scale  # pyright: ignore[reportOptionalOperand]
    torch.testing.assert_close(norm(x), x * scale[:, None, None] + shift[:, None, None])


def test_frozen_stages_are_outside_of_the_backward_pass() -> None:
    taps = small_model(3).regular_stream(torch.randn(2, 3, 32, 48))
    assert [tap.requires_grad for tap in taps] == [False, False, False, True, True]
