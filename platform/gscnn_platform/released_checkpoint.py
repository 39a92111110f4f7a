"""Loads the authors' released checkpoint file into our model, without unpickling code."""

from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Final

import numpy as np
import torch
from numpy._core.multiarray import scalar

from gscnn import GatedSCNN
from gscnn.released_weights import convert_released_state_dict
from gscnn_platform import machine

NUMPY_SCALARS: Final[tuple[Any, ...]] = (
    scalar,
    # The authors' file was written by numpy 1, which had this function under another name.
    (scalar, "numpy.core.multiarray.scalar"),
    np.dtype,
    *(type(np.dtype(kind)) for kind in ("f2", "f4", "f8", "i4", "i8", "u1", "bool")),
)
"""Allowed types besides tensors: the mean IoU is a numpy number. Loading them runs no code from the file."""


class ReleasedCheckpointError(ValueError):
    """The file is missing, is damaged, or is not the authors' checkpoint."""


def load_released_checkpoint(file: str | Path) -> GatedSCNN:
    """The authors' Gated-SCNN (WideResNet-38, 19 classes), in evaluation mode on the CPU.

    It expects the edge prior that its weights were trained with: gscnn.released_weights.released_edge_prior.

    Args:
        file: the authors' `checkpoint.pth`, as downloaded.

    Raises:
        ReleasedCheckpointError: the file cannot be used; the message names the file and the reason.
    """
    try:
        with torch.serialization.safe_globals(list(NUMPY_SCALARS)):
            content = torch.load(machine.expanded(str(file)), map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise ReleasedCheckpointError(f"{file}: there is no such file") from error
    except (UnpicklingError, RuntimeError, EOFError) as error:
        raise ReleasedCheckpointError(
            f"{file} is not a checkpoint, is damaged, or holds objects other than tensors and numbers, which are not "
            "loaded because they could run code: download it again from the authors' page"
        ) from error
    if not isinstance(content, dict):
        raise ReleasedCheckpointError(f"{file} holds {type(content).__name__}, not a dictionary of weights")
    with torch.device("meta"):  # Initializing 137 million weights that are replaced anyway takes seconds.
        model = GatedSCNN("wide_resnet38", num_classes=19)
    try:
        model.load_state_dict(convert_released_state_dict(content), assign=True)
    except ValueError as error:
        raise ReleasedCheckpointError(f"{file}: {error}") from error
    return model.eval()
