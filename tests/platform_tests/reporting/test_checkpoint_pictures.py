import io

import numpy as np
import pytest
from PIL import Image

from gscnn.constants import IGNORE_INDEX
from gscnn_platform.figures import Panels
from gscnn_platform.reporting.checkpoint_pictures import (
    BOTH_COLOUR,
    PREDICTED_COLOUR,
    TRUTH_COLOUR,
    Window,
    frame_picture,
    outlined,
    worst_windows,
)


def panels(truth: np.ndarray, prediction: np.ndarray) -> Panels:
    grey = np.full((*truth.shape, 3), 60, np.uint8)
    return Panels(grey, truth, prediction, np.zeros(truth.shape, np.float32), np.zeros(truth.shape, np.float32))


def test_crops_are_taken_where_the_errors_are_and_do_not_overlap() -> None:
    truth = np.zeros((80, 120), np.uint8)
    truth[:, 60:] = 1
    prediction = truth.copy()
    prediction[10:20, 56:60] = 1
    prediction[60:64, 60:62] = 0
    first, *others = worst_windows(truth, [prediction])
    assert (first.height, first.width) == (20, 30)
    errors = (prediction != truth)[first.slices].sum()
    assert errors == 40, "all of the larger patch of errors"
    assert (prediction != truth)[others[0].slices].sum() == 8
    covered = np.zeros(truth.shape, int)
    for window in (first, *others):
        covered[window.slices] += 1
    assert covered.max() == 1


def test_a_frame_without_errors_shows_where_it_is_right() -> None:
    truth = np.zeros((80, 120), np.uint8)
    truth[40:] = 1
    assert worst_windows(truth, [truth])
    assert worst_windows(np.zeros((80, 120), np.uint8), [truth * 0]) == []


def test_outlines_show_truth_prediction_and_where_they_agree() -> None:
    truth, prediction = np.zeros((40, 60), np.uint8), np.zeros((40, 60), np.uint8)
    truth[:, 20:] = 1
    prediction[:20, 20:] = 1
    prediction[20:, 40:] = 1
    picture = outlined(panels(truth, prediction), Window(0, 0, 40, 60))
    assert picture.shape == (480, 720, 3)
    assert tuple(picture[100, 240]) == BOTH_COLOUR
    assert tuple(picture[400, 240]) == TRUTH_COLOUR
    assert tuple(picture[400, 480]) == PREDICTED_COLOUR
    assert tuple(picture[400, 120]) == (60, 60, 60)


def test_outlines_against_void_are_not_drawn() -> None:
    truth, prediction = np.zeros((40, 60), np.uint8), np.ones((40, 60), np.uint8)
    truth[:, 30:] = IGNORE_INDEX
    prediction[:, 45:] = 0
    picture = outlined(panels(truth, prediction), Window(0, 0, 40, 60))
    assert (picture == 60).all()


@pytest.mark.parametrize("models", [("",), ("one", "two")])
def test_a_frames_picture_is_a_png_of_readable_size(models: tuple[str, ...]) -> None:
    truth = np.zeros((48, 64), np.uint8)
    truth[20:] = 1
    views = {name: panels(truth, np.roll(truth, 3, axis=0)) for name in models}
    picture = frame_picture(views, "frame", ((255, 0, 0), (0, 255, 0)), worst_windows(truth, [np.roll(truth, 3, 0)]))
    assert Image.open(io.BytesIO(picture)).size[0] == 1320
