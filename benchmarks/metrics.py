"""Boundary F and boundary IoU of a 2048x1024 frame on one core, compared with plain methods to compute their counts.

    python -m benchmarks.metrics

The official code dilates each class's boundary map with a disk for each radius: here with scipy and with OpenCV. A
third method is OpenCV's distance transform, which serves all radii at once. All of them return the same counts, which
is checked, and all skip the classes that one of the maps lacks. Boundary IoU's API erodes each class's mask: here with
OpenCV, and by distance transforms. The prediction is the ground truth bent by a few
pixels, with 40 blobs of any class. The last rows compare the edge label with the released code's distance transforms.
Figures are medians over rounds in which all methods take turns; scipy takes one.
"""

from collections.abc import Callable, Iterator
from functools import partial

import cv2
import numpy as np
from scipy import ndimage

from benchmarks.environment import describe, markdown_table, milliseconds
from gscnn.constants import IGNORE_INDEX
from gscnn.edges import boundary_map
from gscnn.metrics import BoundaryF, BoundaryIoU, boundary_counts
from gscnn_platform.data.formats.streets import Streets
from gscnn_platform.scores import RADII, RING_DISTANCES

RADIUS = 2
"""Radius of the edge label."""
ROUNDS = 3
CALLS = 7
"""Calls of a fast method per round; a slow one is called once."""
HEIGHT, WIDTH = 1024, 2048
DISKS = {r: (np.mgrid[-r : r + 1, -r : r + 1] ** 2).sum(axis=0) <= r**2 for r in RADII}

RINGS = (46, 3)
"""RING_DISTANCES in pixels: 46 is 2% of the frame's diagonal."""

Within = Callable[[np.ndarray], Iterator[np.ndarray]]
"""A boundary map -> for each radius, the pixels within that distance of a boundary pixel. Or a mask -> its ring at each
distance."""


def bent(label: np.ndarray, pixels: float, cell: int, rng: np.random.Generator) -> np.ndarray:
    """The label, displaced by a smooth random field with a standard deviation of `pixels`; `cell` sets its
    smoothness."""
    y, x = np.mgrid[: label.shape[0], : label.shape[1]].astype(np.float32)
    for axis in (y, x):
        noise = rng.standard_normal((HEIGHT // cell, WIDTH // cell), np.float32)
        axis += np.float32(pixels) * cv2.resize(noise, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    return cv2.remap(label, x, y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)


def blobs(label: np.ndarray, number: int, num_classes: int, rng: np.random.Generator) -> np.ndarray:
    """Draws ellipses of any class, 10 to 120 pixels wide, over the label."""
    drawn = label.copy()
    for _ in range(number):
        centre, axes = rng.integers((WIDTH, HEIGHT)).tolist(), rng.integers(5, 60, 2).tolist()
        cv2.ellipse(drawn, centre, axes, float(rng.uniform(0, 180)), 0, 360, int(rng.integers(num_classes)), -1)
    return drawn


def synthetic(num_classes: int, rng: np.random.Generator) -> np.ndarray:
    """Bands with 150 ellipses and 70 posts on them, and 2% void in squares."""
    bands = np.repeat(np.arange(4, dtype=np.uint8), HEIGHT // 4)[:, None].repeat(WIDTH, axis=1)
    label = blobs(bent(bands, 30, 128, rng), 150, num_classes, rng)
    for left, top in rng.integers((WIDTH, HEIGHT // 2), size=(70, 2)):
        label[top : top + 250, left : left + 8] = rng.integers(num_classes)
    void = (rng.random((HEIGHT // 16, WIDTH // 16)) < 0.02).repeat(16, axis=0).repeat(16, axis=1)
    return np.where(void, np.uint8(IGNORE_INDEX), label)


def plain_boundary(mask: np.ndarray) -> np.ndarray:
    """Pixels that differ from their east, south or south-east neighbour; beyond the frame, its border continues."""
    padded = np.pad(mask, ((0, 1), (0, 1)), mode="edge")
    return (mask != padded[:-1, 1:]) | (mask != padded[1:, :-1]) | (mask != padded[1:, 1:])


def by_scipy(boundary: np.ndarray) -> Iterator[np.ndarray]:
    return (np.asarray(ndimage.binary_dilation(boundary, DISKS[radius])) for radius in RADII)


def by_opencv(boundary: np.ndarray) -> Iterator[np.ndarray]:
    return (cv2.dilate(boundary.view(np.uint8), DISKS[radius].astype(np.uint8)).view(bool) for radius in RADII)


def by_distance(boundary: np.ndarray) -> Iterator[np.ndarray]:
    distance = cv2.distanceTransform((~boundary).view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return (distance <= radius for radius in RADII)


def plain_counts(prediction: np.ndarray, truth: np.ndarray, num_classes: int, within: Within) -> np.ndarray:
    """[2, 1 + R, K]: for the prediction and for the truth, boundary pixels and those matched at each radius."""
    counts = np.zeros((2, 1 + len(RADII), num_classes), np.int64)
    known = truth != IGNORE_INDEX
    for k in range(num_classes):
        maps = [plain_boundary((label == k) & known) for label in (prediction, truth)]
        counts[:, 0, k] = [boundary.sum() for boundary in maps]
        if counts[:, 0, k].all():
            for side, (own, other) in enumerate((maps, maps[::-1])):
                counts[side, 1:, k] = [(own & near).sum() for near in within(other)]
    return counts


def distance_transforms(label: np.ndarray) -> np.ndarray:
    """The released code's edge label, over the classes present, with zero padding of one pixel."""
    edges = np.zeros(label.shape, bool)
    for value in np.unique(label[label != IGNORE_INDEX]):
        mask = np.pad((label == value).astype(np.uint8), 1)
        for side in (mask, 1 - mask):
            distance = np.asarray(ndimage.distance_transform_edt(side))[1:-1, 1:-1]
            edges |= (distance > 0) & (distance <= RADIUS)
    return edges.astype(np.uint8)


def fast_counts(prediction: np.ndarray, truth: np.ndarray, num_classes: int) -> np.ndarray:
    counts = boundary_counts(prediction, truth, num_classes, RADII)
    sides = ((counts.predicted, counts.matched_predicted), (counts.truth, counts.matched_truth))
    return np.stack([np.vstack(side) for side in sides])


def scored(prediction: np.ndarray, truth: np.ndarray, num_classes: int) -> np.ndarray:
    """F of each radius and class, as evaluation computes it."""
    metric = BoundaryF(num_classes, RADII)
    metric.update(prediction, truth)
    return metric.f_sums.numpy()


def frames() -> Iterator[tuple[str, np.ndarray, np.ndarray, int]]:
    """Name, prediction, truth and number of classes."""
    rng = np.random.default_rng(0)
    streets = Streets(height=HEIGHT, width=WIDTH)
    drawn = streets.samples(None, "val")[0].read()[1]
    for name, truth, num_classes in (
        ("streets", drawn, len(streets.describe().classes)),
        ("synthetic", synthetic(19, rng), 19),
    ):
        filled = np.where(truth == IGNORE_INDEX, np.uint8(0), truth)
        yield name, blobs(bent(filled, 3, 64, rng), 40, num_classes, rng), truth, num_classes


def times(ways: dict[str, tuple[Callable[[], np.ndarray], int, int]]) -> list[list[object]]:
    """Median ms of each method, and its ratio to the last one's. A method is a function, calls per round, rounds."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(ROUNDS):
        for name, (way, calls, rounds) in ways.items():
            if number < rounds:
                taken[name].append(milliseconds(way, calls))
    fast = taken[list(ways)[-1]]
    ratios = {
        name: float(np.median([t / f for t, f in zip(of_way, fast, strict=False)])) for name, of_way in taken.items()
    }
    return [[name, float(np.median(of_way)), ratios[name]] for name, of_way in taken.items()]


def boundary_f_rows(prediction: np.ndarray, truth: np.ndarray, num_classes: int) -> list[list[object]]:
    expected = fast_counts(prediction, truth, num_classes)

    def checked(within: Within) -> np.ndarray:
        counts = plain_counts(prediction, truth, num_classes, within)
        assert np.array_equal(counts, expected)
        return counts

    return times(
        {
            "scipy, a disk dilation per class and radius": (partial(checked, by_scipy), 1, 1),
            "OpenCV, a disk dilation per class and radius": (partial(checked, by_opencv), 1, ROUNDS),
            "OpenCV, a distance transform per class": (partial(checked, by_distance), 1, ROUNDS),
            "BoundaryF": (partial(scored, prediction, truth, num_classes), CALLS, ROUNDS),
        }
    )


def rings_by_opencv(mask: np.ndarray) -> Iterator[np.ndarray]:
    framed = np.pad(mask.view(np.uint8), 1)
    square = np.ones((3, 3), np.uint8)
    return (mask & (cv2.erode(framed, square, iterations=d)[1:-1, 1:-1] == 0) for d in RINGS)


def rings_by_distance(mask: np.ndarray) -> Iterator[np.ndarray]:
    """Chebyshev's distance, which OpenCV has as DIST_C."""
    distance = cv2.distanceTransform(np.pad(mask.view(np.uint8), 1), cv2.DIST_C, 3)[1:-1, 1:-1]
    return (mask & (distance <= d) for d in RINGS)


def plain_iou(prediction: np.ndarray, truth: np.ndarray, num_classes: int, rings: Within) -> np.ndarray:
    """Intersections and unions, [2, D, K]."""
    counts = np.zeros((2, len(RINGS), num_classes), np.int64)
    known = truth != IGNORE_INDEX
    for k in range(num_classes):
        ours, theirs = (rings((label == k) & known) for label in (prediction, truth))
        counts[:, :, k] = np.transpose([((a & b).sum(), (a | b).sum()) for a, b in zip(ours, theirs, strict=True)])
    return counts


def boundary_iou(prediction: np.ndarray, truth: np.ndarray, num_classes: int) -> np.ndarray:
    metric = BoundaryIoU(num_classes, RING_DISTANCES)
    metric.update(prediction, truth)
    return np.stack([metric.intersections.numpy(), metric.unions.numpy()])


def boundary_iou_rows(prediction: np.ndarray, truth: np.ndarray, num_classes: int) -> list[list[object]]:
    expected = boundary_iou(prediction, truth, num_classes)

    def checked(rings: Within) -> np.ndarray:
        counts = plain_iou(prediction, truth, num_classes, rings)
        assert np.array_equal(counts, expected)
        return counts

    return times(
        {
            "boundary IoU: OpenCV, an erosion per class and distance": (partial(checked, rings_by_opencv), 1, ROUNDS),
            "boundary IoU: OpenCV, a distance transform per class": (partial(checked, rings_by_distance), 1, ROUNDS),
            "boundary IoU: BoundaryIoU": (partial(boundary_iou, prediction, truth, num_classes), CALLS, ROUNDS),
        }
    )


def edge_label_rows(label: np.ndarray) -> list[list[object]]:
    assert np.array_equal(distance_transforms(label), boundary_map(label, RADIUS, void_edges=True))
    return times(
        {
            "edge label: scipy, distance transforms per class": (partial(distance_transforms, label), 1, 1),
            "edge label: boundary_map": (partial(boundary_map, label, RADIUS), CALLS, ROUNDS),
            "edge label: boundary_map, void_edges=True": (
                partial(boundary_map, label, RADIUS, void_edges=True),
                CALLS,
                ROUNDS,
            ),
        }
    )


def main() -> None:
    cv2.setNumThreads(1)
    rows: list[list[object]] = []
    for name, prediction, truth, num_classes in frames():
        pixels = int(fast_counts(prediction, truth, num_classes)[:, 0].sum())
        described = f"{name}, {num_classes} classes, {pixels} boundary pixels"
        rows += [[described, *row] for row in boundary_f_rows(prediction, truth, num_classes)]
        rows += [[described, *row] for row in boundary_iou_rows(prediction, truth, num_classes)]
        rows += [[described, *row] for row in edge_label_rows(truth)]
    print(describe(), end="\n\n")
    print(
        f"one frame of {WIDTH}x{HEIGHT}, one thread, {ROUNDS} rounds; radii {', '.join(map(str, RADII))}; "
        f"rings of {' and '.join(map(str, RINGS))} pixels; "
        "boundary pixels summed over both maps and all classes\n"
    )
    print(markdown_table(["frame", "way", "median ms", "times as long"], rows))


if __name__ == "__main__":
    main()
