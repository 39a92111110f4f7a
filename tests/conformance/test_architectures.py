"""What every entry of ARCHITECTURES must do, however it is made."""

import copy
import inspect
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from gscnn.architectures import ARCHITECTURES
from gscnn.backbones import BACKBONES
from gscnn.backbones.taps import Backbone
from gscnn.batch import SegBatch
from gscnn.config import LossConfig, ModelConfig
from gscnn.losses import JointLoss
from gscnn.model import SegmentationModel, build_model
from gscnn_platform.config import with_overrides
from gscnn_platform.recipes import STREETS

META = torch.device("meta")
"""Shapes without values: the large backbones cost nothing there."""

SMALL: dict[str, Any] = {
    "backbone": "resnet18",
    "num_classes": 4,
    "output_stride": 16,
    "aspp_channels": 8,
    "low_level_channels": 6,
    "shape_widths": (8, 6, 4, 4),
}

CHANGED: dict[str, Any] = {
    "backbone": "resnet50",
    "num_classes": 7,
    "output_stride": 16,
    "weights": None,
    "init": "kaiming",
    "aspp_rates": (2, 3, 5),
    "aspp_channels": 16,
    "low_level_channels": 5,
    "shape_widths": (4, 3, 2, 1),
    "shape_stride": 2,
    "frozen_stages": 2,
    "freeze_batch_norm": True,
    "activation_checkpointing": True,
}
"""Of every field of ModelConfig but the architecture; other values than the defaults, but for the weights."""

every_architecture = pytest.mark.parametrize("name", ARCHITECTURES)


def small(name: str) -> SegmentationModel:
    """A small model with the same weights at every call."""
    torch.manual_seed(0)
    return build_model(ModelConfig(architecture=name, **SMALL))


def inputs(images: int, size: tuple[int, int] = (33, 47)) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(images, 3, *size, generator=generator), torch.rand(images, 1, *size, generator=generator)


@every_architecture
def test_the_constructor_lists_its_arguments_with_the_defaults_of_the_config(name: str) -> None:
    arguments, fields = inspect.signature(ARCHITECTURES[name].network()).parameters, ModelConfig.model_fields
    assert not [each for each in arguments.values() if each.kind in (each.VAR_KEYWORD, each.VAR_POSITIONAL)]
    assert set(arguments) <= set(fields) - {"architecture"}
    defaults = {argument: fields[argument].default for argument in arguments}
    assert {argument: each.default for argument, each in arguments.items()} == defaults


@every_architecture
def test_the_config_builds_what_the_constructor_builds(name: str) -> None:
    assert set(CHANGED) == set(ModelConfig.model_fields) - {"architecture"}
    network = ARCHITECTURES[name].network()
    arguments = {argument: CHANGED[argument] for argument in inspect.signature(network).parameters}
    with META:
        built, called = build_model(ModelConfig(architecture=name, **CHANGED)), network(**arguments)
    assert type(built) is type(called) is network
    assert str(built) == str(called)
    assert [module.training for module in built.modules()] == [module.training for module in called.modules()]
    assert [each.requires_grad for each in built.parameters()] == [each.requires_grad for each in called.parameters()]
    assert {key: value.shape for key, value in built.state_dict().items()} == {
        key: value.shape for key, value in called.state_dict().items()
    }


@every_architecture
def test_it_has_one_backbone_which_can_have_a_learning_rate_of_its_own(name: str) -> None:
    assert [type(module).__name__ for module in small(name).modules() if isinstance(module, Backbone)] == [
        "ResNetBackbone"
    ]


@pytest.mark.parametrize(
    ("backbone", "output_stride"),
    [(backbone, stride) for backbone, network in BACKBONES.items() for stride in network.output_strides],
)
@every_architecture
def test_logits_have_the_images_size_on_every_backbone(name: str, backbone: str, output_stride: int) -> None:
    settings = {"architecture": name, "backbone": backbone, "output_stride": output_stride, "num_classes": 7}
    with META, torch.no_grad():
        model = build_model(ModelConfig.model_validate(settings))
        for size in ((33, 47), (64, 96)):
            output = model(torch.empty(2, 3, *size), torch.empty(2, 1, *size))
            assert output.seg_logits.shape == (2, 7, *size)
            assert (output.edge_logits is not None) == ARCHITECTURES[name].has_edge_logits
            if output.edge_logits is not None:
                assert output.edge_logits.shape == (2, 1, *size)


@every_architecture
def test_the_least_images_are_trained_on_and_fewer_are_a_clear_error(name: str) -> None:
    model, least = small(name), ARCHITECTURES[name].least_images
    assert model(*inputs(least)).seg_logits.isfinite().all()
    if least > 1:
        with pytest.raises(ValueError, match=rf"one image in training mode: .*at least {least} images"):
            model(*inputs(least - 1))
    assert model.eval()(*inputs(1)).seg_logits.isfinite().all()


@every_architecture
def test_an_image_alone_has_the_logits_that_it_has_in_a_batch(name: str) -> None:
    model, (image, gradient) = small(name).eval(), inputs(3)
    randomise_statistics(model)
    with torch.no_grad():
        together = model(image, gradient)
        for place in range(3):
            alone = model(image[place : place + 1], gradient[place : place + 1])
            torch.testing.assert_close(alone.seg_logits[0], together.seg_logits[place], rtol=1e-4, atol=1e-4)
            if together.edge_logits is not None:
                torch.testing.assert_close(alone.edge_logits[0], together.edge_logits[place], rtol=1e-4, atol=1e-4)
    assert together.seg_logits.std() > 1e-2


def randomise_statistics(module: nn.Module) -> None:
    """So that batch norm in evaluation mode is no identity."""
    generator = torch.Generator().manual_seed(2)
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            assert norm.running_mean is not None and norm.running_var is not None
            norm.running_mean.copy_(torch.randn(norm.num_features, generator=generator) / 2)
            norm.running_var.copy_(0.5 + torch.rand(norm.num_features, generator=generator))


@every_architecture
def test_the_seed_decides_the_weights_and_a_copy_answers_alike(name: str) -> None:
    """A run is repeated from its seed; the average of the weights starts as a copy."""
    model, again = small(name).eval(), small(name).eval()
    copied = copy.deepcopy(model)
    with torch.no_grad():
        logits = [each(*inputs(2)).seg_logits for each in (model, again, copied)]
    assert torch.equal(logits[0], logits[1])
    assert torch.equal(logits[0], logits[2])


@every_architecture
def test_every_parameter_has_a_finite_gradient(name: str) -> None:
    """DistributedDataParallel waits for a gradient of each."""
    model, (image, gradient) = small(name), inputs(2)
    generator = torch.Generator().manual_seed(3)
    label = torch.randint(0, 4, (2, 33, 47), generator=generator)
    boundary = torch.randint(0, 2, (2, 1, 33, 47), generator=generator, dtype=torch.uint8)
    has_edges = float(ARCHITECTURES[name].has_edge_logits)
    loss = JointLoss(LossConfig(edge=20 * has_edges, attention=has_edges, dual=1))
    loss(model(image, gradient), SegBatch(image, label, gradient, boundary))["total"].backward()
    for parameter, value in model.named_parameters():
        assert value.grad is not None, parameter
        assert value.grad.isfinite().all(), parameter


@every_architecture
def test_a_run_is_refused_that_the_network_cannot_serve(name: str) -> None:
    needs = ARCHITECTURES[name]
    plain = {"model.architecture": name, "loss.edge": 0.0, "loss.attention": 0.0}
    for loss in ("loss.edge", "loss.attention"):
        if needs.has_edge_logits:
            assert with_overrides(STREETS, {**plain, loss: 1.0}).model.architecture == name
        else:
            with pytest.raises(ValidationError, match=f"{name} has no edge logits: set both to 0"):
                with_overrides(STREETS, {**plain, loss: 1.0})
    least = needs.least_images
    smallest = {**plain, "training.batch_size": 2 * least, "num_workers": 2}
    assert with_overrides(STREETS, smallest).images_per_batch == least
    if least > 1:
        with pytest.raises(ValidationError, match=rf"must be {2 * least} or more.*batch norm in {name} needs {least}"):
            with_overrides(STREETS, {**smallest, "training.batch_size": 2 * least - 1})
