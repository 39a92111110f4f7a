from typing import Any, Literal

import pytest
import torch

from gscnn.export import NamedOutputs, export_program
from gscnn.model import DeepLabV3Plus, GatedSCNN


def test_outputs_are_named_and_a_model_without_shape_stream_has_no_edges() -> None:
    image, gradient = torch.randn(1, 3, 64, 64), torch.rand(1, 1, 64, 64)
    for architecture, names in ((GatedSCNN, ["seg_logits", "edge_logits"]), (DeepLabV3Plus, ["seg_logits"])):
        model = architecture("resnet18", num_classes=3, aspp_channels=8).eval()
        with torch.inference_mode():
            outputs, expected = NamedOutputs(model)(image, gradient), model(image, gradient)
        assert list(outputs) == names
        torch.testing.assert_close(outputs["seg_logits"], expected.seg_logits, rtol=0, atol=0)


@pytest.mark.parametrize("shape_stride", [1, 2])
def test_a_program_gives_the_models_logits_at_any_size(shape_stride: Literal[1, 2]) -> None:
    torch.manual_seed(0)
    settings: dict[str, Any] = {"num_classes": 3, "aspp_channels": 8, "shape_widths": (8, 6, 4, 4)}
    model = GatedSCNN("resnet10_small", shape_stride=shape_stride, **settings).eval()
    program = export_program(model).module()
    for images, height, width in ((1, 33, 47), (3, 64, 75)):
        image, gradient = torch.randn(images, 3, height, width), torch.rand(images, 1, height, width)
        with torch.no_grad():
            outputs, expected = program(image, gradient), model(image, gradient)
        torch.testing.assert_close(outputs["edge_logits"], expected.edge_logits, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(outputs["seg_logits"], expected.seg_logits, rtol=1e-5, atol=1e-5)
