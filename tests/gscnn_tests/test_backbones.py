import math
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.resnet import ResNet

from gscnn.backbones import BACKBONES
from gscnn.backbones.resnet import ResNetBackbone, WeightsUnavailableError
from gscnn.backbones.taps import Backbone
from gscnn.model import GatedSCNN

META = torch.device("meta")
"""Shapes without values: the large backbones cost nothing there."""

BOTTLENECK_CHANNELS = (64, 256, 512, 1024, 2048)

TAP_CHANNELS = {
    "resnet18": (64, 64, 128, 256, 512),
    "resnet50": BOTTLENECK_CHANNELS,
    "resnet101": BOTTLENECK_CHANNELS,
    "wide_resnet50_2": BOTTLENECK_CHANNELS,
    "wide_resnet101_2": BOTTLENECK_CHANNELS,
}


def random_image(size: tuple[int, int]) -> Tensor:
    return torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("output_stride", [8, 16])
@pytest.mark.parametrize("backbone", TAP_CHANNELS)
def test_taps_have_the_shapes_of_the_docstring(backbone: str, output_stride: int) -> None:
    with META:
        network = BACKBONES[backbone](output_stride, None)
    channels, strides = TAP_CHANNELS[backbone], (2, 4, 8, output_stride, output_stride)
    assert tuple(network.channels) == channels
    for height, width in ((64, 96), (33, 47)):
        with torch.no_grad():
            taps = network(torch.empty(2, 3, height, width, device=META))
        expected = [(2, c, math.ceil(height / s), math.ceil(width / s)) for c, s in zip(channels, strides, strict=True)]
        assert [tuple(tap.shape) for tap in taps] == expected


def torchvisions(name: str, weights: dict[str, Tensor], dilated: list[bool] | None = None) -> ResNet:
    network = torchvision.models.get_model(name, weights=None, replace_stride_with_dilation=dilated)
    assert isinstance(network, ResNet)
    network.load_state_dict({**network.state_dict(), **weights})
    return network.eval()


def with_torchvisions_names(backbone: nn.Module) -> dict[str, Tensor]:
    renamed = {"stem.0.": "conv1.", "stem.1.": "bn1."}
    weights = {}
    for name, value in backbone.state_dict().items():
        prefix = next((prefix for prefix in renamed if name.startswith(prefix)), "")
        weights[renamed.get(prefix, "") + name.removeprefix(prefix)] = value
    return weights


def layer4_of(network: ResNet, image: Tensor) -> Tensor:
    x = network.maxpool(network.relu(network.bn1(network.conv1(image))))
    return network.layer4(network.layer3(network.layer2(network.layer1(x))))


@pytest.mark.parametrize(("output_stride", "dilated"), [(8, [False, True, True]), (16, [False, False, True])])
def test_dilated_resnet50_equals_torchvisions(output_stride: int, dilated: list[bool]) -> None:
    torch.manual_seed(0)
    backbone = ResNetBackbone("resnet50", output_stride, None).eval()
    network = torchvisions("resnet50", with_torchvisions_names(backbone), dilated)
    image = random_image((41, 57))
    with torch.no_grad():
        torch.testing.assert_close(backbone(image).top, layer4_of(network, image))


@pytest.mark.parametrize("output_stride", [8, 16])
@pytest.mark.parametrize("size", [(64, 96), (75, 53)])
def test_every_nth_pixel_of_the_dilated_resnet18_is_the_strided_one(output_stride: int, size: tuple[int, int]) -> None:
    """Torchvision offers no dilated resnet18. Trading stride for dilation only computes pixels in between."""
    torch.manual_seed(0)
    backbone = ResNetBackbone("resnet18", output_stride, None).eval()
    network = torchvisions("resnet18", with_torchvisions_names(backbone))
    image = random_image(size)
    step = 32 // output_stride
    with torch.no_grad():
        top = backbone(image).top
        torch.testing.assert_close(top[..., ::step, ::step], layer4_of(network, image))


@pytest.mark.parametrize("output_stride", [4, 32])
def test_a_backbone_refuses_another_output_stride(output_stride: int) -> None:
    with pytest.raises(ValueError, match=rf"output_stride is {output_stride}; a backbone offers 8 and 16"):
        ResNetBackbone("resnet18", output_stride, None)


def test_a_backbone_refuses_other_weights() -> None:
    with pytest.raises(ValueError, match=r"weights is 'coco'; .*imagenet"):
        ResNetBackbone("resnet18", 8, "coco")


@pytest.fixture
def torch_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of torch, and no network; returns the folder of the weight files."""

    def refuse(url: str, *_: object, **__: object) -> None:
        raise URLError(f"no route to {url}")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    return tmp_path / "hub" / "checkpoints"


@pytest.mark.parametrize("backbone", ["resnet18", "resnet50"])
@pytest.mark.usefixtures("torch_home")
def test_imagenet_weights_without_a_network_are_an_error_that_names_url_and_way_out(backbone: str) -> None:
    url = torchvision.models.get_model_weights(backbone)["DEFAULT"].value.url
    with pytest.raises(WeightsUnavailableError) as caught:
        GatedSCNN(backbone, weights="imagenet")
    for part in (url, "no route to", "TORCH_HOME", "hub/checkpoints", "--model.weights None"):
        assert part in str(caught.value)


def test_imagenet_weights_in_torchs_cache_start_the_backbone(torch_home: Path) -> None:
    torch.manual_seed(5)
    network = torchvision.models.resnet18(weights=None)
    url = torchvision.models.get_model_weights("resnet18")["DEFAULT"].value.url
    torch_home.mkdir(parents=True)
    torch.save(network.state_dict(), torch_home / Path(url).name)
    backbone = ResNetBackbone("resnet18", 16, "imagenet").eval()
    image = random_image((33, 47))
    with torch.no_grad():
        expected = layer4_of(network.eval(), image)
        torch.testing.assert_close(backbone(image).top[..., ::2, ::2], expected)


@pytest.mark.parametrize("backbone", ["resnet18", "resnet50", "resnet101", "wide_resnet50_2", "wide_resnet101_2"])
def test_a_resnet_offers_the_imagenet_weights_that_torchvision_has_for_it(backbone: str) -> None:
    published = [name for name in torchvision.models.get_model_weights(backbone).__members__ if name != "DEFAULT"]
    assert BACKBONES[backbone].weights == ("imagenet", *published)


@pytest.mark.parametrize("version", ["IMAGENET1K_V1", "IMAGENET1K_V2"])
@pytest.mark.usefixtures("torch_home")
def test_each_version_of_the_imagenet_weights_has_its_own_file(version: str) -> None:
    url = torchvision.models.get_model_weights("resnet50")[version].value.url
    with pytest.raises(WeightsUnavailableError, match=url.rpartition("/")[2]):
        ResNetBackbone("resnet50", 8, version)


def test_a_backbone_without_a_forward_pass_is_refused_when_it_is_made() -> None:
    class Unfinished(Backbone):
        pass

    with pytest.raises(TypeError, match=r"abstract.*forward"):
        Unfinished()  # pyright: ignore[reportAbstractUsage]
