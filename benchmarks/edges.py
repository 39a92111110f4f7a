"""Edge prior of a 2048x1024 frame on one core, and the cost of the edge label per training sample.

    python -m benchmarks.edges

Compares the prior with OpenCV's Canny on the colour image, which it matches bit for bit, and with scipy's Sobel. The
label of a training crop is derived after the random resize, which keeps it exact at any scale; its time is shown as a
share of the rest of the augmentation. Figures are medians over rounds in which all methods take turns, so that ratios
hold on a noisy machine. `make bench-metrics` compares the label with the released code's method.
"""

from collections.abc import Callable

import cv2
import numpy as np
from scipy import ndimage

from benchmarks.environment import describe, markdown_table, milliseconds
from gscnn.edges import CANNY_THRESHOLDS, MAX_SOBEL, boundary_map, image_gradient
from gscnn_platform.config import EdgeConfig
from gscnn_platform.data.formats.streets import Streets
from gscnn_platform.data.images import edge_prior
from gscnn_platform.data.store import SampleArrays
from gscnn_platform.data.transforms import TrainTransform
from gscnn_platform.recipes import RECIPES

ROUNDS = 5
CALLS = 7
NOISE = 4
"""Standard deviation of the noise, in levels, that gives a drawn frame as many Canny edges as a photograph has."""


def scipy_sobel(image: np.ndarray) -> np.ndarray:
    """Magnitude of scipy's Sobel gradient, its maximum over the channels, in [0, 1]."""
    channels = np.moveaxis(image.astype(np.float32), 2, 0)
    magnitudes = [np.hypot(*(ndimage.sobel(channel, axis, mode="mirror") for axis in (0, 1))) for channel in channels]
    return np.max(magnitudes, axis=0) / np.float32(MAX_SOBEL)


def main() -> None:
    cv2.setNumThreads(1)
    image, label = Streets(height=1024, width=2048).samples(None, "val")[0].read()
    noise = np.random.default_rng(0).normal(0, NOISE, image.shape)
    image = np.clip(image + noise, 0, 255).astype(np.uint8)
    edges = EdgeConfig()
    assert np.array_equal(cv2.Canny(image, *CANNY_THRESHOLDS) > 0, image_gradient(image, "canny") > 0)
    assert np.allclose(scipy_sobel(image), image_gradient(image, "sobel"), atol=1e-6)
    augmentation = RECIPES["cityscapes"].augmentation
    transform, sample = TrainTransform(augmentation, edges), SampleArrays(image, label, edge_prior(image, edges))
    side = augmentation.crop[0] + 2 * edges.radius
    crop = np.ascontiguousarray(label[:side, :side])
    height, width = augmentation.crop
    crop_image = np.ascontiguousarray(image[:height, :width])

    slow_canny, slow_sobel = "OpenCV's Canny on three channels", "scipy's Sobel"
    whole = f"augmentation of a sample, crop of {augmentation.crop[1]}x{augmentation.crop[0]}"
    ways: dict[str, tuple[Callable[[], object], int, str | None]] = {
        slow_canny: (lambda: cv2.Canny(image, *CANNY_THRESHOLDS), CALLS, None),
        "image_gradient, canny": (lambda: image_gradient(image, "canny"), CALLS, slow_canny),
        slow_sobel: (lambda: scipy_sobel(image), 1, None),
        "image_gradient, sobel": (lambda: image_gradient(image, "sobel"), CALLS, slow_sobel),
        whole: (lambda: transform(sample, (0, 0, 0)), CALLS, None),
        "of it, the edge label": (lambda: boundary_map(crop, edges.radius), CALLS, whole),
        "on top, where `augmentation.gradient` is derived": (lambda: edge_prior(crop_image, edges), CALLS, whole),
    }
    rounds = [{name: milliseconds(way, calls) for name, (way, calls, _) in ways.items()} for _ in range(ROUNDS)]
    rows = []
    for name, (_, _, slow) in ways.items():
        ratio = None if slow is None else float(np.median([times[slow] / times[name] for times in rounds]))
        median = float(np.median([times[name] for times in rounds]))
        rows.append([name, median, "-" if slow is None else f"{ratio:.1f} x {slow}"])
    print(describe(), end="\n\n")
    share = float((image_gradient(image) > 0).mean())
    print(f"one frame of 2048x1024 of streets with noise, {share:.0%} Canny edges, one thread, {ROUNDS} rounds\n")
    print(markdown_table(["way", "median ms", "as fast as"], rows))


if __name__ == "__main__":
    main()
