"""Predictions of several models on the best, the median and the worst frame, as one picture: docs/results.md.

    python -m jobs.predict --checkpoint runs/NAME --input CamVid/val --out predictions/NAME
    python -m benchmarks.result_pictures --evaluation val.json --out docs/images/results.png \
      --colour "control=predictions/CONTROL" "Gated-SCNN=predictions/NAME" --edge "predicted edge=predictions/NAME"

val.json is an artifact of an evaluated run: the mIoU of each frame, in the order of the names. The picture has only
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
    parser.add_argument("--evaluation", type=Path, required=True, help="JSON of the evaluation that ranks the frames")
    parser.add_argument("--colour", nargs="+", required=True, help="TITLE=FOLDER of predictions: class colours")
    parser.add_argument("--edge", nargs="*", default=[], help="TITLE=FOLDER of predictions: predicted edges")
    parser.add_argument("--out", type=Path, required=True, help="PNG to write")
    given = parser.parse_args()
    scores = np.array(json.loads(given.evaluation.read_text(encoding="utf-8"))["frames"], dtype=float)
    columns = [(kind, *each.split("=", 1)) for kind in ("colour", "edge") for each in getattr(given, kind)]
    names = sorted(path.stem for path in Path(columns[0][2], "colour").glob("*.png"))
    if len(names) != len(scores):
        raise ValueError(f"{len(scores)} frames were evaluated, and {columns[0][2]} has predictions of {len(names)}")
    order = np.argsort(-scores)
    chosen = {"best": order[0], "median": order[len(order) // 2], "worst": order[-1]}
    figure, axes = plt.subplots(
        len(chosen) + 1, len(columns), figsize=(4 * len(columns), 12.4), layout="constrained", squeeze=False
    )
    for row, (which, number) in zip(axes, chosen.items(), strict=False):
        shown = [picture(Path(folder), names[number], kind) for kind, _, folder in columns]
        for axis, image in zip(row, shown, strict=True):
            axis.imshow(image)
        row[0].set_ylabel(f"{which}: mIoU {scores[number]:.2f}", fontsize=14)
        if which == "median":
            part = busiest_part(shown[len(given.colour) - 1])
            for axis, image in zip(axes[-1], shown, strict=True):
                axis.imshow(image[part], interpolation="nearest")
    axes[-1][0].set_ylabel("part of the median frame", fontsize=14)
    for axis, (_, title, _) in zip(axes[0], columns, strict=True):
        axis.set_title(title, fontsize=14)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
    given.out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(given.out, dpi=60)
    print(f"{given.out}: {', '.join(f'{which} {names[number]}' for which, number in chosen.items())}")


if __name__ == "__main__":
    main()
