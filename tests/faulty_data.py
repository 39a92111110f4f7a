"""Writes street scenes as a user's folder with five planted faults, each of which jobs.inspect must name."""

from pathlib import Path
from typing import Any, Final

import numpy as np
import yaml
from PIL import Image

from gscnn.constants import IGNORE_INDEX
from gscnn_platform.data.formats.streets import CLASSES, Streets
from gscnn_platform.label_pictures import colourise

SCENES: Final = Streets(height=128, width=192, train=12, val=6)
SHIFTED: Final = ("train", "00003")
SHIFT: Final = (9, -7)
"""Pixels down and right."""
LEAKED: Final = ("val", "00004")
"""Is this training image, saved as JPEG."""
LEAKED_FROM: Final = ("train", "00007")
LACKING: Final = "person"
"""Class without any pixel in val."""
WRONG: Final = ("train", "00009")
WRONG_VALUE: Final = 77
WRONG_COLOUR: Final = (10, 200, 30)
TURNED: Final = ("val", "00001")
"""A JPEG that EXIF rotates, with a label of the stored image."""
ORIENTATION: Final = 0x112


def write_faulty(root: Path, faults: bool = True, in_colours: bool = False) -> Path:
    """Writes classes.yaml, images/ and labels/, and returns `root`.

    Args:
        root: a folder that does not exist.
        faults: whether to plant them; otherwise the scenes are written as they are drawn.
        in_colours: whether labels are colour-coded, or class numbers.
    """
    content: dict[str, Any] = {
        "classes": [{"name": name, "colour": list(colour)} for name, colour in CLASSES.items()],
        **({"labels": {"#000000": "void"}} if in_colours else {}),
    }
    root.mkdir(parents=True)
    (root / "classes.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    for split in ("train", "val"):
        for sample in SCENES.samples(None, split):
            image, label = sample.read()
            _write(root, (split, sample.name), image, label, faults, in_colours)
    return root


def _write(
    root: Path, place: tuple[str, str], image: np.ndarray, label: np.ndarray, faults: bool, in_colours: bool
) -> None:
    split, name = place
    ending = ".png"
    options: dict[str, Any] = {}
    if faults:
        if split == "val":
            label = np.where(label == list(CLASSES).index(LACKING), np.uint8(IGNORE_INDEX), label)
        if place == SHIFTED:
            label = np.roll(label, SHIFT, (0, 1))
        if place == WRONG:
            label = label.copy()
            label[5:10, 20:30] = WRONG_VALUE
        if place == LEAKED:
            [leaked] = [each for each in SCENES.samples(None, LEAKED_FROM[0]) if each.name == LEAKED_FROM[1]]
            image, ending = leaked.read()[0], ".jpg"
            options["quality"] = 80
        if place == TURNED:
            ending, options["exif"] = ".jpg", Image.Exif()
            options["exif"][ORIENTATION] = 6
    for folder in ("images", "labels"):
        (root / folder / split).mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(root / "images" / split / f"{name}{ending}", **options)
    if in_colours:
        wrong = label == WRONG_VALUE
        label = colourise(label, tuple(CLASSES.values()))
        label[wrong] = WRONG_COLOUR
    Image.fromarray(label).save(root / "labels" / split / f"{name}.png")
