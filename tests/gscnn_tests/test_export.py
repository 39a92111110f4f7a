import torch

from gscnn.export import NamedOutputs
from gscnn.model import DeepLabV3Plus, GatedSCNN


def test_outputs_are_named_and_a_model_without_shape_stream_has_no_edges() -> None:
    image, gradient = torch.randn(1, 3, 64, 64), torch.rand(1, 1, 64, 64)
    for architecture, names in ((GatedSCNN, ["seg_logits", "edge_logits"]), (DeepLabV3Plus, ["seg_logits"])):
        model = architecture("resnet18", num_classes=3, aspp_channels=8).eval()
        with torch.inference_mode():
            outputs, expected = NamedOutputs(model)(image, gradient), model(image, gradient)
        assert list(outputs) == names
        torch.testing.assert_close(outputs["seg_logits"], expected.seg_logits, rtol=0, atol=0)
