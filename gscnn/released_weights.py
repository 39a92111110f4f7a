"""Reads the authors' released Gated-SCNN (WideResNet-38-A2, Cityscapes, 19 classes) into this project's model.

gscnn_platform.released_checkpoint opens the file itself; this module only needs its content.

    model = load_released_checkpoint("checkpoint.pth")
    output = model(image, released_edge_prior(image))
"""

from collections.abc import Iterable, Mapping
from typing import Final

import cv2
import numpy as np
import torch
from jaxtyping import Float, Integer, UInt8
from torch import Tensor

from gscnn.backbones.taps import Backbone
from gscnn.constants import IGNORE_INDEX
from gscnn.edges import CANNY_THRESHOLDS, boundary_map
from gscnn.model import GatedSCNN
from gscnn.state_dicts import listed, renamed, unwrapped

UNUSED: Final = {"dsn1.weight", "dsn1.bias"}
"""In the file, but not used in any forward pass."""

FUSION_ORDER: Final = (2, 3, 4, 5, 0, 1)
"""Positions of our branches (1x1, three rates, pooled, edge) among theirs (pooled, edge, 1x1, three rates)."""


def convert_released_state_dict(state_dict: Mapping[str, object]) -> dict[str, Tensor]:
    """Weights for `GatedSCNN("wide_resnet38", num_classes=19).load_state_dict(..., strict=True)`.

    Args:
        state_dict: the released file's content: the weights, or a dict that holds them as "state_dict"; all names may
            start with "module.", the prefix of DataParallel. Batch counters, which old versions of torch do not write,
            start at 0. Tensors are shared, not copied, except the permuted projection of the fusion.

    Raises:
        ValueError: a key is missing or unknown, has another shape, or is not a tensor.
    """
    released = {name: value for name, value in unwrapped(state_dict).items() if name not in UNUSED}
    with torch.device("meta"):
        model = GatedSCNN("wide_resnet38", num_classes=19)
    shapes = {name: value.shape for name, value in model.state_dict().items()}
    names = released_names(shapes, model.regular_stream)
    expected = {names[name]: shape for name, shape in shapes.items()}
    for name in expected:
        if name.endswith("num_batches_tracked"):
            released.setdefault(name, torch.zeros((), dtype=torch.long))
    tensors = {name: value for name, value in released.items() if isinstance(value, Tensor)}
    misfits = {
        "missing": [name for name in expected if name not in released],
        "unknown": [name for name in released if name not in expected],
        "of the wrong shape": [
            f"{name} {list(tensors[name].shape)} instead of {list(shape)}"
            for name, shape in expected.items()
            if name in tensors and tensors[name].shape != shape
        ],
        "not a tensor": [name for name in released if name in expected and name not in tensors],
    }
    if any(misfits.values()):
        kinds = "; ".join(f"{len(names)} {kind}: {listed(names)}" for kind, names in misfits.items() if names)
        raise ValueError(f"these are not the released weights of Gated-SCNN with WideResNet-38 and 19 classes: {kinds}")
    return in_our_order({name: tensors[names[name]] for name in shapes})


def released_edge_prior(normalized_image: Float[Tensor, "*B 3 H W"]) -> Float[Tensor, "*B 1 H W"]:
    """The prior that the released weights were trained with, to pass as `gradient`: 255 on an edge, else 0.

    It is Canny's detector on the normalized image cast to 8 bits: a defect that those weights rely on. Only five levels
    remain: 254, 255, 0, 1 and 2 for -2 to 2. Only a crossing of -1, from 0 to 255, is steep enough to start an edge.

    Args:
        normalized_image: output of gscnn.batch.normalize, [3, H, W] or [B, 3, H, W]; the prior is on the same device.
    """
    # In C, float -> unsigned is undefined below 0: x86 wraps -1.5 to 255, ARM gives 0. Via int32 it wraps everywhere.
    levels = normalized_image.detach().to(torch.int32).to(torch.uint8).cpu()
    height, width = levels.shape[-2:]
    images = levels.reshape(-1, 3, height, width).permute(0, 2, 3, 1).numpy()
    edges = np.stack([cv2.Canny(np.ascontiguousarray(image), *CANNY_THRESHOLDS) for image in images])
    prior = torch.from_numpy(edges).to(normalized_image.device, torch.float32)
    return prior.reshape(*levels.shape[:-3], 1, height, width)


def released_boundary_map(
    label: Integer[np.ndarray, "H W"], radius: int = 2, ignore_index: int = IGNORE_INDEX
) -> UInt8[np.ndarray, "H W"]:
    """The edge label that the released weights were trained with: boundary_map with `void_edges`, except for class 0.

    The released code has a channel for each id 1, 2, ..., but none for 0, which is road on Cityscapes, or for void. So
    class 0, void and everything outside the frame are one class: there is no edge between road and void, or between
    road and the frame.

    Args:
        label: train id of each pixel, 0 to 255, of any integer type.
        radius: in pixels, 1 or more; 2 in the released code.
        ignore_index: the value of void.

    Raises:
        ValueError: as boundary_map.
    """
    merged = np.where(label == 0, np.int64(ignore_index), label)
    return boundary_map(merged, radius, ignore_index, void_edges=True)


def in_our_order(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Released weights under our names, with the fusion's projection, if there is one, in our order of branches."""
    name, ordered = "fusion.project.weight", dict(weights)
    if name in ordered and ordered[name].ndim == 4:
        branches = ordered[name].tensor_split(len(FUSION_ORDER), dim=1)
        ordered[name] = torch.cat([branches[place] for place in FUSION_ORDER], dim=1)
    return ordered


def with_unit_prior(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Released weights under our names, for a prior of 1 on an edge, as image_gradient(image, "released") has it.

    The released network reads 255 there, so the weight of the prior in the shape stream's last convolution is 255
    times as large.
    """
    name, scaled = "shape_stream.to_feature.weight", dict(weights)
    if name in scaled and scaled[name].shape == (1, 2, 1, 1):
        scaled[name] = scaled[name] * torch.tensor([1.0, 255.0]).view(1, 2, 1, 1)
    return scaled


def released_names(ours: Iterable[str], backbone: Backbone) -> dict[str, str]:
    """Our name -> the one in the files that others publish: of the backbone by itself, else the released network's."""
    starts = {
        "shape_stream.to_gate1.": "dsn3.",
        "shape_stream.to_gate2.": "dsn4.",
        "shape_stream.to_gate3.": "dsn7.",
        "shape_stream.to_edge.": "fuse.",
        "shape_stream.to_feature.": "cw.",
        "fusion.aspp.4.1.": "aspp.img_conv.0.",
        "fusion.aspp.4.2.": "aspp.img_conv.1.",
        "fusion.aspp.": "aspp.features.",
        "fusion.edge_branch.": "aspp.edge_conv.",
        "fusion.project.": "bot_aspp.",
        "head.low_level.": "bot_fine.",
        "head.classifier.": "final_seg.",
    }
    for number in (1, 2, 3):
        starts[f"shape_stream.block{number}."] = f"res{number}."
        starts[f"shape_stream.reduce{number}."] = f"d{number}."
        starts[f"shape_stream.gated_conv{number}.conv."] = f"gate{number}."
        starts[f"shape_stream.gated_conv{number}.attention."] = f"gate{number}._gate_conv."
    of_backbone = {f"regular_stream.{name}": theirs for theirs, name in backbone.foreign_names().items()}
    # `starts` has aspp.4, the pooled branch, before aspp.
    return {name: of_backbone.get(name) or renamed(name, starts) for name in ours}
