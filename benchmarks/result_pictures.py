"""Predictions of two models on the best, the median and the worst frame, as one picture: docs/results.md.

    python -m jobs.predict --checkpoint runs/CONTROL --input CamVid/val --out predictions/control
    python -m jobs.predict --checkpoint runs/GSCNN --input CamVid/val --out predictions/gscnn
    python -m benchmarks.result_pictures --evaluation val.json --control predictions/control \
      --gscnn predictions/gscnn --out docs/images/results.png

val.json is an artifact of the evaluated run: the mIoU of each frame, in the order of the names. The picture has only
what the models predict, no frame and no label of the dataset. A last row enlarges the part of the median frame with the
most boundary pixels.
"""

import argparse
import json
from pathlib import Path

import cv2
import matplotlib
import numpy as np
from jaxtyping import UInt8
from PIL import Image

matplotlib.use("Agg")
from matplotlib import pyplot as plt

COLUMNS = ("DeepLabV3+ control", "Gated-SCNN", "Gated-SCNN, predicted edge")
PART = (120, 160)
"""Height and width in pixels of the enlarged part."""


def picture(folder: Path, name: str, kind: str) -> UInt8[np.ndarray, "H W 3"]:
    """A prediction of one frame."""
    return np.asarray(Image.open(folder / kind / f"{name}.png").convert("RGB"))


def busiest_part(colours: UInt8[np.ndarray, "H W 3"]) -> tuple[slice, slice]:
    """Rows and columns of the part of PART's size with the most pixels that differ from a neighbour."""
    changes = (colours[:-1, :-1] != colours[1:, :-1]).any(2) | (colours[:-1, :-1] != colours[:-1, 1:]).any(2)
    counts = cv2.boxFilter(changes.astype(np.float32), -1, PART[::-1], anchor=(0, 0), normalize=False)
    counts = counts[: changes.shape[0] - PART[0] + 1, : changes.shape[1] - PART[1] + 1]
    top, left = np.unravel_index(int(counts.argmax()), counts.shape)
    return slice(int(top), int(top) + PART[0]), slice(int(left), int(left) + PART[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--evaluation", type=Path, required=True, help="JSON of Gated-SCNN's evaluation")
    parser.add_argument("--control", type=Path, required=True, help="the control's predictions")
    parser.add_argument("--gscnn", type=Path, required=True, help="Gated-SCNN's predictions")
    parser.add_argument("--out", type=Path, required=True, help="PNG to write")
    given = parser.parse_args()
    scores = np.array(json.loads(given.evaluation.read_text())["frames"], dtype=float)
    names = sorted(path.stem for path in (given.gscnn / "colour").glob("*.png"))
    if len(names) != len(scores):
        raise ValueError(f"{len(scores)} frames were evaluated, and {given.gscnn} has predictions of {len(names)}")
    order = np.argsort(-scores)
    chosen = {"best": order[0], "median": order[len(order) // 2], "worst": order[-1]}
    figure, axes = plt.subplots(len(chosen) + 1, len(COLUMNS), figsize=(12, 12.4), layout="constrained")
    parts: list[np.ndarray] = []
    for row, (kind, number) in zip(axes, chosen.items(), strict=False):
        shown = [
            picture(given.control, names[number], "colour"),
            picture(given.gscnn, names[number], "colour"),
            picture(given.gscnn, names[number], "edge"),
        ]
        row[0].set_ylabel(f"{kind}: mIoU {scores[number]:.2f}", fontsize=12)
        if kind == "median":
            parts = [image[busiest_part(shown[1])] for image in shown]
        for axis, image in zip(row, shown, strict=True):
            axis.imshow(image)
    axes[-1][0].set_ylabel("part of the median frame", fontsize=12)
    for axis, image in zip(axes[-1], parts, strict=True):
        axis.imshow(image, interpolation="nearest")
    for axis, title in zip(axes[0], COLUMNS, strict=True):
        axis.set_title(title, fontsize=13)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
    given.out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(given.out, dpi=75)
    print(f"{given.out}: {', '.join(f'{kind} {names[number]}' for kind, number in chosen.items())}")


if __name__ == "__main__":
    main()
