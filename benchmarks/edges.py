"""Edge label and edge prior of a 2048x1024 frame on one core, against the plain ways to compute them.

    python -m benchmarks.edges

The authors' released code derives the edge label by two Euclidean distance transforms per class; `boundary_map` by two
morphological filters. With `void_edges=True` both give the same bits, which is checked here. Medians over rounds in
which every way takes its turn, so that ratios hold on a noisy machine.
"""

import time
from collections.abc import Callable

import cv2
import numpy as np
from scipy import ndimage

from benchmarks.environment import describe, markdown_table
from gscnn.batch import IGNORE_INDEX
from gscnn.edges import MAX_SOBEL, boundary_map, image_gradient
from gscnn_platform.data.formats.streets import Streets

ROUNDS = 3
CALLS = 7
"""Calls of a fast way per round; a slow one, of a second and more, is called once."""
RADIUS = 2


def distance_transforms(label: np.ndarray) -> np.ndarray:
    """The released code's edge label, over the classes that are there, on a frame of one zero pixel."""
    edges = np.zeros(label.shape, bool)
    for value in np.unique(label[label != IGNORE_INDEX]):
        mask = np.pad((label == value).astype(np.uint8), 1)
        for side in (mask, 1 - mask):
            distance = np.asarray(ndimage.distance_transform_edt(side))[1:-1, 1:-1]
            edges |= (distance > 0) & (distance <= RADIUS)
    return edges.astype(np.uint8)


def scipy_sobel(image: np.ndarray) -> np.ndarray:
    """Magnitude of scipy's Sobel gradient, its maximum over the channels, in [0, 1]."""
    channels = np.moveaxis(image.astype(np.float32), 2, 0)
    magnitudes = [np.hypot(*(ndimage.sobel(channel, axis, mode="mirror") for axis in (0, 1))) for channel in channels]
    return np.max(magnitudes, axis=0) / np.float32(MAX_SOBEL)


def milliseconds(way: Callable[[], np.ndarray], calls: int) -> float:
    """Median of one round."""
    times = []
    for _ in range(calls):
        began = time.perf_counter()
        way()
        times.append(time.perf_counter() - began)
    return float(np.median(times)) * 1e3


def main() -> None:
    cv2.setNumThreads(1)
    image, label = Streets(height=1024, width=2048).samples(None, "val")[0].read()
    classes = np.unique(label[label != IGNORE_INDEX]).size
    assert np.array_equal(distance_transforms(label), boundary_map(label, RADIUS, void_edges=True))
    assert np.allclose(scipy_sobel(image), image_gradient(image, "sobel"), atol=1e-6)

    slow_label, slow_prior = f"distance transforms, {classes} classes", "scipy's Sobel"
    ways: dict[str, tuple[Callable[[], np.ndarray], int, str | None]] = {
        slow_label: (lambda: distance_transforms(label), 1, None),
        "boundary_map, void_edges=True": (lambda: boundary_map(label, RADIUS, void_edges=True), CALLS, slow_label),
        "boundary_map": (lambda: boundary_map(label, RADIUS), CALLS, slow_label),
        slow_prior: (lambda: scipy_sobel(image), 1, None),
        "image_gradient, sobel": (lambda: image_gradient(image, "sobel"), CALLS, slow_prior),
        "image_gradient, canny": (lambda: image_gradient(image, "canny"), CALLS, None),
    }
    rounds = [{name: milliseconds(way, calls) for name, (way, calls, _) in ways.items()} for _ in range(ROUNDS)]
    rows = []
    for name, (_, _, slow) in ways.items():
        ratio = None if slow is None else float(np.median([times[slow] / times[name] for times in rounds]))
        median = float(np.median([times[name] for times in rounds]))
        rows.append([name, median, "-" if slow is None else f"{ratio:.0f} x {slow}"])
    print(describe(), end="\n\n")
    print(f"one frame of 2048x1024 of streets, one thread, {ROUNDS} rounds\n")
    print(markdown_table(["way", "median ms", "as fast as"], rows))


if __name__ == "__main__":
    main()
