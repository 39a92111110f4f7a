"""Exports a model as a program that runs without this project's code, for any batch and image of SMALLEST or more."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

EXAMPLE_SIZE = (96, 128)
"""Height and width of the example image for tracing; the program accepts other sizes."""

SMALLEST = 33
"""Minimum height and width of an image: below it a tap of stride 32 has one row or column, for which torch.export would
need a separate program."""


class NamedOutputs(nn.Module):
    """A segmentation model that returns a plain dictionary, which an exported program can represent."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Float[Tensor, "B 3 H W"], gradient: Float[Tensor, "B 1 H W"]) -> dict[str, Tensor]:
        return {key: value for key, value in self.model(image, gradient)._asdict().items() if value is not None}


def example_inputs() -> tuple[Float[Tensor, "2 3 H W"], Float[Tensor, "2 1 H W"]]:
    """An image and a gradient for tracing: a batch of 2, because torch.export makes a batch size of 1 constant."""
    return torch.zeros(2, 3, *EXAMPLE_SIZE), torch.zeros(2, 1, *EXAMPLE_SIZE)


def export_program(model: nn.Module) -> ExportedProgram:
    """Exports the model, which must be in evaluation mode and on the CPU, with torch.export.

    `program.module()(image, gradient)` returns a dictionary with seg_logits [B, K, H, W] and, for Gated-SCNN,
    edge_logits [B, 1, H, W].
    """
    assert not model.training
    sizes = {0: Dim("batch"), 2: Dim("height", min=SMALLEST), 3: Dim("width", min=SMALLEST)}
    shapes = {"image": sizes, "gradient": sizes}
    return torch.export.export(NamedOutputs(model).eval(), example_inputs(), dynamic_shapes=shapes, strict=False)
