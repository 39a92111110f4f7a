"""Files of weights as others save them, with values drawn from a seed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.released_network import ReleasedNetwork


def released_weights(seed: int = 0) -> dict[str, Tensor]:
    """State dict of the released network: small random numbers, one row a tensor, stored once: a file of 3 MB.

    Batch norms are the identity, so that the logits stay finite.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.device("meta"):
        shapes = {name: value.shape for name, value in ReleasedNetwork().state_dict().items()}
    weights = {}
    for name, shape in shapes.items():
        if name.endswith("num_batches_tracked"):
            weights[name] = torch.tensor(1000)
        elif name.endswith(("running_mean", "running_var")):
            weights[name] = torch.full((1,), float(name.endswith("var"))).expand(shape)
        else:
            fan_in = max(1, shape[1:].numel())
            row = torch.randn(shape[-1] if len(shape) == 1 else shape[0], generator=generator) / fan_in**0.5
            weights[name] = (
                (row.abs() + 0.5 if len(shape) == 1 and name.endswith("weight") else row)
                .view(-1, *(1,) * (len(shape) - 1))
                .expand(shape)
            )
    return weights


def saved(file: Path, content: Any) -> Path:
    torch.save(content, file)
    return file


def prefixed(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Under the names of DataParallel."""
    return {f"module.{name}": value for name, value in weights.items()}
