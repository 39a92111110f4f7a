"""Cityscapes fine annotations: 19 train ids out of 34 raw label ids, 2048x1024 frames.

    ROOT/leftImg8bit/SPLIT/CITY/NAME_leftImg8bit.png
    ROOT/gtFine/SPLIT/CITY/NAME_gtFine_labelIds.png

The splits are train and val: the labels of test are not public. Source of ids and colours: cityscapesScripts'
labels.py. Its id -1 (licence plate) cannot occur, because a uint8 file cannot store it.
"""

from typing import ClassVar

from gscnn.constants import IGNORE_INDEX
from gscnn_platform.data.formats.base import (
    DatasetDescription,
    DatasetError,
    DatasetFormat,
    Sample,
    require_root,
    require_split,
)
from gscnn_platform.data.formats.layout import existing, files_ending, labelled, pair, require_train
from gscnn_platform.data.image_files import is_clutter
from gscnn_platform.paths import AnyPath

SPLITS = ("train", "val")
RAW_IDS = 34
IMAGE_ENDING = "_leftImg8bit.png"
LABEL_ENDING = "_gtFine_labelIds.png"

# (name, raw label id, RGB), in the order of the train ids.
CLASSES: tuple[tuple[str, int, tuple[int, int, int]], ...] = (
    ("road", 7, (128, 64, 128)),
    ("sidewalk", 8, (244, 35, 232)),
    ("building", 11, (70, 70, 70)),
    ("wall", 12, (102, 102, 156)),
    ("fence", 13, (190, 153, 153)),
    ("pole", 17, (153, 153, 153)),
    ("traffic light", 19, (250, 170, 30)),
    ("traffic sign", 20, (220, 220, 0)),
    ("vegetation", 21, (107, 142, 35)),
    ("terrain", 22, (152, 251, 152)),
    ("sky", 23, (70, 130, 180)),
    ("person", 24, (220, 20, 60)),
    ("rider", 25, (255, 0, 0)),
    ("car", 26, (0, 0, 142)),
    ("truck", 27, (0, 0, 70)),
    ("bus", 28, (0, 60, 100)),
    ("train", 31, (0, 80, 100)),
    ("motorcycle", 32, (0, 0, 230)),
    ("bicycle", 33, (119, 11, 32)),
)


def label_table() -> dict[int, int]:
    """Raw label id -> train id; every id that is not evaluated is void."""
    table = dict.fromkeys((*range(RAW_IDS), IGNORE_INDEX), IGNORE_INDEX)
    return table | {raw: train_id for train_id, (_, raw, _) in enumerate(CLASSES)}


class Cityscapes(DatasetFormat):
    """Cityscapes as unpacked from its archives leftImg8bit_trainvaltest and gtFine_trainvaltest."""

    name: ClassVar[str] = "cityscapes"
    needs_root: ClassVar[bool] = True

    def describe(self, root: AnyPath | None) -> DatasetDescription:
        """The 19 evaluated classes; every other raw id is void.

        Raises DatasetError if train is missing or has no labels, or if a split has labels but no images.
        """
        root = require_root(root, self.name)
        splits, left_out = labelled(_present(root))
        return DatasetDescription(
            classes=tuple(name for name, _, _ in CLASSES),
            colours=tuple(colour for _, _, colour in CLASSES),
            label_table=label_table(),
            splits=splits,
            left_out=(*left_out, *_others(root)),
        )

    def samples(self, root: AnyPath | None, split: str) -> list[Sample]:
        """Samples named CITY/NAME. Raises DatasetError if a folder is missing or empty."""
        root = require_root(root, self.name)
        require_split(split, tuple(_present(root)), root)
        image_folder, label_folder = _folders(root, split)
        return pair(
            files_ending(image_folder, IMAGE_ENDING),
            files_ending(label_folder, LABEL_ENDING),
            image_at=lambda name: image_folder / f"{name}{IMAGE_ENDING}",
            label_at=lambda name: label_folder / f"{name}{LABEL_ENDING}",
        )


def _folders(root: AnyPath, split: str) -> tuple[AnyPath, AnyPath]:
    return root / "leftImg8bit" / split, root / "gtFine" / split


def _present(root: AnyPath) -> dict[str, tuple[AnyPath, AnyPath]]:
    """Split -> folders of its images and labels, one of which may be missing. Raises DatasetError without train."""
    present = existing({split: _folders(root, split) for split in SPLITS})
    require_train(present, _folders(root, "train")[0], "root must be the folder that holds leftImg8bit/ and gtFine/")
    if not (root / "gtFine").is_dir():
        raise DatasetError(f"{root / 'gtFine'}: the folder is missing; unpack both archives into one root")
    return present


def _others(root: AnyPath) -> list[str]:
    """A sentence for each folder of images that is not a split."""
    why = {"test": "its labels are not public, those in gtFine/test are dummies"}
    return [
        f"split {folder.name} is left out: {why.get(folder.name, 'it has no fine annotations')}"
        for folder in sorted((root / "leftImg8bit").iterdir())
        if folder.is_dir() and folder.name not in SPLITS and not is_clutter(folder.name)
    ]
