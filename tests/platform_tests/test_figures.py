import numpy as np
import pytest
import torch

from gscnn.batch import normalize
from gscnn.constants import IGNORE_INDEX
from gscnn.model import DeepLabV3Plus, GatedSCNN
from gscnn_platform.data.loader import to_batch
from gscnn_platform.data.store import Store
from gscnn_platform.figures import denormalize, draw_panels, predict_panels
from gscnn_platform.label_pictures import colourise

COLOURS = ((255, 0, 0), (0, 255, 0))


def test_labels_get_the_colours_of_their_classes_and_void_is_black() -> None:
    picture = colourise(np.array([[0, 1], [IGNORE_INDEX, 0]], np.uint8), COLOURS)
    assert picture.tolist() == [[[255, 0, 0], [0, 255, 0]], [[0, 0, 0], [255, 0, 0]]]


def test_a_normalized_image_is_restored() -> None:
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    np.testing.assert_array_equal(denormalize(normalize(torch.from_numpy(image).permute(2, 0, 1))), image)


@pytest.mark.parametrize(("architecture", "columns"), [(GatedSCNN, 5), (DeepLabV3Plus, 4)])
def test_panels_show_the_sample_and_the_prediction(
    streets_store: Store, architecture: type[GatedSCNN | DeepLabV3Plus], columns: int
) -> None:
    model = architecture(backbone="resnet18", num_classes=9, aspp_channels=8).eval()
    reader = streets_store.split("val")
    batch = to_batch([reader.read(0), reader.read(1)])
    panels = predict_panels(model, batch)
    with torch.inference_mode():
        output = model(batch.image, batch.gradient)
    np.testing.assert_array_equal(panels[1].prediction, output.seg_logits[1].argmax(0).numpy())
    np.testing.assert_array_equal(panels[1].image, reader.read(1).image)
    np.testing.assert_array_equal(panels[1].truth, reader.read(1).label)
    assert (panels[0].edge is None) == (output.edge_logits is None)
    identity = streets_store.manifest.identity
    picture = draw_panels(panels, ["a", "b"], identity.classes, identity.colours, "title")
    assert picture.dtype == np.uint8
    assert picture.shape[1] == pytest.approx(110 * (2.6 * columns + 0.3), abs=2)
    for colour in identity.colours:
        assert (picture == colour).all(axis=2).any(), "every class stands in the legend"
