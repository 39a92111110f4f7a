"""Files of weights as others save them, with values drawn from a seed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.released_network import ReleasedNetwork


def released_weights(seed: int = 0) -> dict[str, Tensor]:
    """State dict of the released network, of 1 MB on disk: the element of a convolution at (o, i, y, x) is the one at
    o + i + y + x of a row of random numbers, which is stored once. Batch norms are close to the identity.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.device("meta"):
        shapes = {name: value.shape for name, value in ReleasedNetwork().state_dict().items()}
    weights = {}
    for name, shape in shapes.items():
        row = torch.randn(sum(shape) + 1, generator=generator)
        if name.endswith("num_batches_tracked"):
            weights[name] = torch.tensor(1000)
        elif len(shape) == 1:
            centre = float(name.endswith(("running_var", ".weight")))
            weights[name] = (centre + 0.1 * row)[: shape[0]].clone()
        else:
            weights[name] = (0.5 * row / max(1, shape[1:].numel()) ** 0.5).as_strided(shape, (1,) * len(shape))
    return weights


def saved(file: Path, content: Any) -> Path:
    torch.save(content, file)
    return file


def prefixed(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Under the names of DataParallel."""
    return {f"module.{name}": value for name, value in weights.items()}


def released_network(seed: int = 0) -> ReleasedNetwork:
    """The released network with these weights, in evaluation mode."""
    with torch.device("meta"):
        network = ReleasedNetwork()
    network.load_state_dict(released_weights(seed), assign=True)
    return network.eval()
