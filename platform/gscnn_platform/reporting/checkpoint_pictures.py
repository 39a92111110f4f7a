"""Draws the pictures of an evaluation page, each as the bytes of a PNG file."""

import io
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from gscnn.constants import IGNORE_INDEX
from gscnn.edges import boundary_map
from gscnn_platform.figures import Panels
from gscnn_platform.label_pictures import colourise
from gscnn_platform.names import picture_text
from gscnn_platform.scores import BOUNDARY_F_PRESENT, MIOU, RADII

TRUTH_COLOUR: Final = (0, 230, 60)
PREDICTED_COLOUR: Final = (255, 0, 200)
BOTH_COLOUR: Final = (255, 255, 255)

ZOOMS: Final = 3
"""Maximum number of enlarged crops per frame."""
ZOOM_PIXELS: Final = 480
"""Minimum height in pixels of an enlarged crop (rounded down to a whole scale), so that outlines look thin."""
NEAR_BOUNDARY: Final = 8
"""Maximum distance in pixels from a ground-truth boundary at which errors count when crops are chosen."""


class Window(NamedTuple):
    """A crop of a frame, in pixels."""

    top: int
    left: int
    height: int
    width: int

    @property
    def slices(self) -> tuple[slice, slice]:
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)


def confusion_picture(confusions: Mapping[str, np.ndarray], classes: Sequence[str]) -> bytes:
    """Row-normalized confusion matrices side by side: the shares of a class's pixels predicted as each class."""
    count = len(classes)
    side = max(4.0, 0.36 * count + 1.8)
    figure = Figure(figsize=(side * len(confusions), side), dpi=110, layout="constrained")
    for axes, (name, counts) in zip(np.ravel(figure.subplots(1, len(confusions))), confusions.items(), strict=True):
        rows = counts.sum(axis=1, keepdims=True)
        shares = np.divide(counts, rows, out=np.full(counts.shape, np.nan), where=rows > 0)
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        labels = [picture_text(label) for label in classes]
        axes.set_xticks(range(count), labels, rotation=90, fontsize=7)
        axes.set_yticks(range(count), labels, fontsize=7)
        axes.set_xlabel("predicted")
        axes.set_ylabel("ground truth")
        axes.set_title(picture_text(name), fontsize=9)
        for (row, column), share in np.ndenumerate(shares):
            if share >= 0.005:
                colour = "white" if share > 0.6 else "black"
                text = f"{100 * share:.0f}"
                axes.text(column, row, text, ha="center", va="center", fontsize=6, color=colour)
    return png_of(figure)


def distance_picture(curves: Mapping[str, Mapping[int, Mapping[str, float]]]) -> bytes:
    """mIoU and boundary F at the smallest radius by crop factor, one line per model."""
    figure = Figure(figsize=(9, 3.2), dpi=110, layout="constrained")
    drawn = (MIOU, BOUNDARY_F_PRESENT[min(RADII)])
    for axes, score in zip(np.ravel(figure.subplots(1, 2)), drawn, strict=True):
        for name, curve in curves.items():
            values = [of_crop[score.key] for of_crop in curve.values()]
            axes.plot(list(curve), values, marker="o", label=picture_text(name))
        axes.set_title(score.title, fontsize=9)
        axes.set_xlabel("crop factor  (larger: only what is far away)", fontsize=8)
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.3)
        axes.set_ylim(bottom=0)
        if len(curves) > 1:
            axes.legend(fontsize=8)
    return png_of(figure)


def frame_picture(
    views: Mapping[str, Panels], name: str, colours: Sequence[tuple[int, int, int]], windows: Sequence[Window]
) -> bytes:
    """One frame: image, ground truth and each model's prediction; below, enlarged crops with the outlines."""
    panels = next(iter(views.values()))
    height, width = panels.truth.shape
    columns = max(2 + len(views), ZOOMS)
    cell = 12 / columns
    heights = [cell * height / width, *([cell * height / width] * len(views))]
    figure = Figure(figsize=(12, sum(heights) + 0.25 * len(heights) + 0.5), dpi=110, layout="constrained")
    grid = figure.add_gridspec(len(heights), columns, height_ratios=heights)
    overview = {"image": panels.image, "ground truth": colourise(panels.truth, colours)} | {
        f"prediction {model}".strip(): colourise(_void_as_in(view.truth, view.prediction), colours)
        for model, view in views.items()
    }
    for column, (title, picture) in enumerate(overview.items()):
        axes = figure.add_subplot(grid[0, column])
        _show(axes, picture, title)
        for window in windows:
            box = (window.left, window.top), window.width, window.height
            axes.add_patch(Rectangle(*box, fill=False, edgecolor="white", linewidth=1))
    for row, (model, view) in enumerate(views.items(), start=1):
        for column, window in enumerate(windows):
            axes = figure.add_subplot(grid[row, column])
            _show(axes, outlined(view, window), f"crop {column + 1} {model}".strip())
    named = {"ground truth outline": TRUTH_COLOUR, "predicted outline": PREDICTED_COLOUR, "both": BOTH_COLOUR}
    handles = [Line2D([], [], color=np.divide(rgb, 255), linewidth=3, label=label) for label, rgb in named.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=8, facecolor="0.4", labelcolor="white")
    figure.suptitle(picture_text(name), fontsize=10)
    return png_of(figure)


def worst_windows(truth: UInt8[np.ndarray, "H W"], predictions: Sequence[UInt8[np.ndarray, "H W"]]) -> list[Window]:
    """Up to ZOOMS crops with the most errors near boundaries; they are a quarter as high and wide as the frame and do
    not overlap."""
    near = boundary_map(truth, NEAR_BOUNDARY)
    wrong = np.sum([(prediction != truth) & (near > 0) for prediction in predictions], axis=0, dtype=np.float32)
    # A weight of 0.001 for each pixel near a boundary: without errors, the crops show boundaries.
    weight = wrong + np.float32(1e-3) * near
    height, width = (max(1, side // 4) for side in truth.shape)
    sums = cv2.boxFilter(weight, cv2.CV_32F, (width, height), anchor=(0, 0), normalize=False)
    sums = sums[: truth.shape[0] - height + 1, : truth.shape[1] - width + 1].copy()
    windows: list[Window] = []
    while len(windows) < ZOOMS and sums.max() > 0:
        top, left = (int(place) for place in np.unravel_index(np.argmax(sums), sums.shape))
        windows.append(Window(top, left, height, width))
        sums[max(0, top - height + 1) : top + height, max(0, left - width + 1) : left + width] = 0
    return windows


def outlined(panels: Panels, window: Window) -> UInt8[np.ndarray, "h w 3"]:
    """The crop of the image, enlarged, under the outlines of ground truth and prediction."""
    scale = max(1, ZOOM_PIXELS // window.height)
    size = (window.width * scale, window.height * scale)
    picture = cv2.resize(panels.image[window.slices], size, interpolation=cv2.INTER_LINEAR)
    truth, prediction = panels.truth[window.slices], panels.prediction[window.slices]
    # Outlines next to void are left out, because void has no ground truth.
    near_void = _neighbours(_enlarged((truth == IGNORE_INDEX).astype(np.uint8), size)) > 0
    true, predicted = (_outline(label, size) & ~near_void for label in (truth, prediction))
    picture[true] = TRUTH_COLOUR
    picture[predicted] = PREDICTED_COLOUR
    picture[true & predicted] = BOTH_COLOUR
    return picture


def _outline(label: UInt8[np.ndarray, "H W"], size: tuple[int, int]) -> Bool[np.ndarray, "h w"]:
    """The outline of an enlarged label, two pixels wide."""
    large = _enlarged(label, size)
    return _neighbours(large) != cv2.erode(large, np.ones((3, 3), np.uint8))


def _enlarged(label: UInt8[np.ndarray, "H W"], size: tuple[int, int]) -> UInt8[np.ndarray, "h w"]:
    return np.asarray(cv2.resize(label, size, interpolation=cv2.INTER_NEAREST), np.uint8)


def _neighbours(label: UInt8[np.ndarray, "H W"]) -> UInt8[np.ndarray, "H W"]:
    """The largest value among each pixel and its eight neighbours."""
    return np.asarray(cv2.dilate(label, np.ones((3, 3), np.uint8)), np.uint8)


def _void_as_in(truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    return np.where(truth == IGNORE_INDEX, truth, prediction)


def _show(axes: Axes, picture: np.ndarray, title: str) -> None:
    axes.imshow(picture, interpolation="nearest")
    axes.set_title(picture_text(title), fontsize=8)
    axes.set_xticks([])
    axes.set_yticks([])


def png_of(figure: Figure) -> bytes:
    """The figure as the bytes of a PNG file."""
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()
