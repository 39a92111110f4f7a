"""Loads the authors' released checkpoint file into our model, without unpickling code."""

from pathlib import Path

import torch

from gscnn import GatedSCNN
from gscnn.released_weights import convert_released_state_dict
from gscnn_platform import machine
from gscnn_platform.weight_files import WeightFileError, check_weight_file, read_weights


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
    path = machine.expanded(str(file))
    try:
        with path.open("rb") as opened:
            check_weight_file(opened, str(file))
        content = read_weights(path, str(file))
    except FileNotFoundError as error:
        raise ReleasedCheckpointError(f"{file}: there is no such file") from error
    except WeightFileError as error:
        raise ReleasedCheckpointError(str(error)) from error
    with torch.device("meta"):  # Initializing 137 million weights that are replaced anyway takes seconds.
        model = GatedSCNN("wide_resnet38", num_classes=19)
    try:
        model.load_state_dict(convert_released_state_dict(content), assign=True)
    except ValueError as error:
        raise ReleasedCheckpointError(f"{file}: {error}") from error
    return model.eval()
