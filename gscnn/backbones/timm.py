"""Models of timm (https://github.com/huggingface/pytorch-image-models) as the regular stream: `timm/NAME`.

Taps of a model whose feature maps have the strides 2, 4, 8, 16 and 32; the channels are those of timm's `feature_info`:

    stem       the finest             H/2 (4 in ConvNeXt and Swin, whose low_level is the same map)
    low_level  the fourth from last   H/4
    gate1      the third              H/8
    gate2      the second             H/16; H/8 at output stride 8
    top        the last               H/32; H/16 at output stride 16, H/8 at 8

Maps coarser than 32 are not used. A model whose maps all have the same stride, a plain vision transformer, gives those
after each quarter of its blocks, as in Ranftl et al., arXiv:2103.13413.
"""

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, Final, cast
from urllib.request import Request, urlopen

import timm
import torch
from huggingface_hub import hf_hub_download, hf_hub_url
from huggingface_hub.errors import LocalEntryNotFoundError
from jaxtyping import Float
from timm.layers.norm_act import convert_sync_batchnorm
from torch import Tensor, nn
from torch.nn.functional import pad

from gscnn.backbones.resnet import WeightsUnavailableError
from gscnn.backbones.taps import Backbone, Taps
from gscnn.backbones.timm_padding import make_padding_exportable
from gscnn.constants import IMAGE_MEAN, IMAGE_STD

OUTPUT_STRIDES: Final = (8, 16, 32)

EXTRACTORS: Final[tuple[dict[str, Any], ...]] = (
    {"features_only": True, "feature_cls": "getter"},
    # MobileNetV3 dilates, and HardCoRe-NAS has maps, only in a class of its own.
    {"features_only": True},
)

SIZES: Final[tuple[dict[str, Any], ...]] = ({}, {"strict_img_size": False}, {"dynamic_img_size": True})
"""Options with which models accept images of other sizes than the pretraining's: most, Swin, vision transformers."""

PROBE: Final = (75, 101)
"""Height and width of an image that a model has to accept, padded if need be: multiples of no stride."""

REFUSALS: Final = (TypeError, ValueError, AssertionError, RuntimeError, AttributeError, LookupError)
"""What timm's models raise for options or images that they do not accept."""


class TimmBackbone(Backbone):
    """A model of timm without its classifier and the layers that no tap needs.

    If the model's maps do not round their sides up, as those of ConvNeXt and transformers, an image is padded at the
    bottom and right, with ImageNet's mean, to multiples of the output stride, and the taps are cropped again. Images
    arrive normalized by ImageNet's mean and standard deviation; if the model was pretrained with others (0.5 for
    TensorFlow's models), they are converted first.

    Args:
        name: one of timm.list_models().
        output_stride: 8, 16 or 32: the model's own, or one that timm offers by dilation.
        weights: None for random weights, "imagenet" for timm's default weights of this model.

    Raises:
        ValueError: the model does not offer the output stride or takes images of one size only; or other weights.
        WeightsUnavailableError: the weights are not in a cache and cannot be downloaded, or there are none.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, name: str, output_stride: int, weights: str | None) -> None:
        super().__init__()
        if weights not in (None, "imagenet"):
            raise ValueError(f'weights is {weights!r}; a model of timm offers None and "imagenet"')
        options, self.pads = _options(name, output_stride)
        self.network = timm.create_model(name, **options) if weights is None else _pretrained(name, options)
        make_padding_exportable(self.network)
        self.output_stride = output_stride
        maps = _maps(self.network)
        indices = tap_indices([each["reduction"] for each in maps])
        self.channels = Taps(*(maps[index]["num_chs"] for index in indices))
        self.indices: list[int] = options["out_indices"]
        self.places = [self.indices.index(index) for index in indices]
        """Of each tap among the network's outputs."""
        self.strides = [maps[index]["reduction"] for index in self.indices]
        # In units of the image, whose mean is ImageNet's and whose standard deviation is 1.
        settings = cast(dict[str, Any], self.network.pretrained_cfg)
        mean, std = (torch.tensor(settings[key]).view(3, 1, 1) for key in ("mean", "std"))
        image_mean, image_std = (torch.tensor(values).view(3, 1, 1) for values in (IMAGE_MEAN, IMAGE_STD))
        self.register_buffer("mean", (mean - image_mean) / image_std, persistent=False)
        self.register_buffer("std", std / image_std, persistent=False)

    def forward(self, image: Float[Tensor, "B 3 H W"]) -> Taps[Tensor]:
        sides = image.shape[-2:]
        if self.pads:
            height, width = sides
            image = pad(image, (0, -width % self.output_stride, 0, -height % self.output_stride))
        maps = self.network((image - self.mean) / self.std)
        if self.pads:
            maps = [_cropped(each, sides, stride) for each, stride in zip(maps, self.strides, strict=True)]
        return Taps(*(maps[place] for place in self.places))

    def stage(self, name: str) -> nn.Module:
        """Returns the modules behind the previous tap, up to that of the tap `name`; none if both are the same map.

        The order is that in which the model lists its modules. Weights outside of any, such as position embeddings, are
        in the stem.
        """
        base = dict(self.network.named_children()).get("model", self.network)
        ends = [_maps(self.network)[index]["module"] for index in self.indices]
        found, place = nn.ModuleList(), 0
        for path, unit in _units(base, ends):
            if Taps._fields[self.places.index(min(place, len(ends) - 1))] == name:
                found.append(unit)
            place += path == ends[min(place, len(ends) - 1)]
        return found

    def foreign_names(self) -> dict[str, str]:
        """Names in timm's state dicts of the whole model; its classifier, and layers that no tap needs, have none."""
        return {name.removeprefix("network.").removeprefix("model."): name for name in self.state_dict()}

    def convert_sync_batchnorm(self, model: nn.Module) -> nn.Module:
        """timm's conversion: torch's drops the activation of timm's BatchNormAct2d."""
        return convert_sync_batchnorm(model)


def _units(module: nn.Module, ends: Sequence[str], path: str = "") -> Iterator[tuple[str, nn.Module]]:
    """The largest submodules, with their paths, none of which goes beyond the end of a stage."""
    if weights := list(module.parameters(recurse=False)):
        yield path, nn.ParameterList(weights)
    for name, child in module.named_children():
        if any(end.startswith(f"{path}{name}.") for end in ends):
            yield from _units(child, ends, f"{path}{name}.")
        else:
            yield f"{path}{name}", child


def tap_indices(strides: Sequence[int]) -> Taps[int]:
    """The feature map of each tap, from the strides of all of a model's maps.

    Raises:
        ValueError: all are coarser than 32.
    """
    count = sum(stride <= max(OUTPUT_STRIDES) for stride in strides)
    if count == 0:
        raise ValueError(f"its finest feature map has stride {strides[0]}: need {max(OUTPUT_STRIDES)} or less")
    if strides[0] == strides[count - 1]:
        first, second, third, last = (max(count * quarter // 4 - 1, 0) for quarter in (1, 2, 3, 4))
        return Taps(first, first, second, third, last)
    low_level, gate1, gate2, top = (max(count - back, 0) for back in (4, 3, 2, 1))
    return Taps(0, low_level, gate1, gate2, top)


@cache
def _options(name: str, output_stride: int) -> tuple[dict[str, Any], bool]:
    """Options of create_model for the output stride and images of any size, and whether these are to be padded."""
    found = next(_with_stride(name, output_stride), None)
    if found is None:
        offered = [stride for stride in OUTPUT_STRIDES if next(_with_stride(name, stride), None)]
        if not offered:
            raise ValueError(f"timm/{name} offers no output stride of 8, 16 or 32: choose another backbone")
        raise ValueError(
            f"`model.output_stride` is {output_stride}: timm/{name} offers {' or '.join(map(str, offered))}"
        )
    top = [-(-side // output_stride) for side in PROBE]
    padded = [side * output_stride for side in top]
    refusals: list[str] = []
    for size in SIZES:
        options = {**found, **size}
        for sides in (PROBE, padded):
            try:
                with torch.no_grad():
                    maps = _on_meta(name, options)(torch.empty(2, 3, *sides, device="meta"))
            except REFUSALS as error:
                refusals.append((str(error) or type(error).__name__).splitlines()[0])
            else:
                if sides is padded or list(maps[-1].shape[-2:]) == top:
                    return options, sides is padded
    raise ValueError(f"timm/{name} does not accept images of any size: choose another backbone\n(timm: {refusals[0]})")


def _cropped(x: Float[Tensor, "B C h w"], sides: torch.Size, stride: int) -> Float[Tensor, "B C a b"]:
    """The cells of a padded image's map that cover any of the image, whose height and width are `sides`."""
    height, width = (torch.arange(-(-side // stride), device=x.device) for side in sides)
    # A slice would make torch.export prove that the rows exist, which it cannot for sizes that it does not know.
    return x.index_select(-2, height).index_select(-1, width)


def _with_stride(name: str, output_stride: int) -> Iterator[dict[str, Any]]:
    """Options with which the top has the output stride, first those without dilation."""
    for dilation in ({}, {"output_stride": output_stride}):
        for extractor in EXTRACTORS:
            options = {**extractor, **dilation}
            try:
                strides = [each["reduction"] for each in _maps(_on_meta(name, options))]
                indices = tap_indices(strides)
            except REFUSALS:
                continue
            if strides[indices.top] == output_stride:
                yield {**options, "out_indices": sorted(set(indices))}


def _on_meta(name: str, options: dict[str, Any]) -> nn.Module:
    with torch.device("meta"):
        return timm.create_model(name, **options)


def _maps(network: nn.Module) -> list[dict[str, Any]]:
    """What timm says of the model's feature maps, from the finest to the coarsest."""
    return cast(Any, network).feature_info.info


def _pretrained(name: str, options: dict[str, Any]) -> nn.Module:
    """The model with timm's default weights, from the cache of huggingface_hub or torch, or downloaded."""
    settings, file, source = timm.get_pretrained_cfg(name), {}, "timm"
    try:
        if settings is not None and settings.hf_hub_id and not settings.custom_load:
            source = f"{settings.hf_hub_id}/{settings.hf_hub_filename or 'model.safetensors'}"
            file = {"file": _weights_file(*source.rsplit("/", 1))}
        return timm.create_model(name, pretrained=True, pretrained_cfg_overlay=file, **options)
    except (OSError, RuntimeError) as error:
        raise WeightsUnavailableError(
            f"no ImageNet weights for timm/{name} from {source}: {error}. Without a network, run once with one and "
            "copy its cache, $HF_HOME (~/.cache/huggingface by default), or use random weights: `--model.weights None`"
        ) from error


def _weights_file(repository: str, file: str) -> str:
    try:
        return hf_hub_download(repository, file, local_files_only=True)
    except LocalEntryNotFoundError:
        # Without a network, hf_hub_download retries for 23 s and timm calls it three times.
        with urlopen(Request(hf_hub_url(repository, file), method="HEAD"), timeout=10):
            return hf_hub_download(repository, file)
