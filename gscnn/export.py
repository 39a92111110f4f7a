"""A model as a program that runs without this project's code, on any batch and any image of SMALLEST pixels or more."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

EXAMPLE_SIZE = (96, 128)
"""Height and width of the example that a program is traced with; it then takes others."""

SMALLEST = 32
"""Height and width of an image from which on a program takes it: below, the coarsest tap has one row or column, and
torch.export would need a program of its own for that."""


class NamedOutputs(nn.Module):
    """A segmentation model with a plain dictionary as output, which an exported program can keep."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Float[Tensor, "B 3 H W"], gradient: Float[Tensor, "B 1 H W"]) -> dict[str, Tensor]:
        return {key: value for key, value in self.model(image, gradient)._asdict().items() if value is not None}


def example_inputs() -> tuple[Float[Tensor, "2 3 H W"], Float[Tensor, "2 1 H W"]]:
    """An image and a gradient to trace with: a batch of 2, since torch.export makes a constant of a batch of 1."""
    return torch.zeros(2, 3, *EXAMPLE_SIZE), torch.zeros(2, 1, *EXAMPLE_SIZE)


def export_program(model: nn.Module) -> ExportedProgram:
    """The model, which must be in evaluation mode and on the CPU, as torch.export's program.

    Called as program.module()(image, gradient) it returns a dictionary with seg_logits [B, K, H, W] and, of a
    Gated-SCNN, edge_logits [B, 1, H, W].
    """
    assert not model.training
    sizes = {0: Dim("batch"), 2: Dim("height", min=SMALLEST), 3: Dim("width", min=SMALLEST)}
    shapes = {"image": sizes, "gradient": sizes}
    return torch.export.export(NamedOutputs(model).eval(), example_inputs(), dynamic_shapes=shapes, strict=False)
