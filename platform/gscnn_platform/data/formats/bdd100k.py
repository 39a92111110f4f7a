"""BDD100K's semantic segmentation: the 19 classes of Cityscapes by train id, 1280x720 frames, raw label 255 is void.

    ROOT/images/10k/SPLIT/NAME.jpg   ROOT/labels/sem_seg/masks/SPLIT/NAME.png        the downloads since 2020
    ROOT/seg/images/SPLIT/NAME.jpg   ROOT/seg/labels/SPLIT/NAME_train_id.png         before

The splits are train and val; test is left out, because its labels are not public. Source of layout and ids:
doc.bdd100k.com, Yu et al., arXiv:1805.04687; the classes are those of Cityscapes.
"""

from typing import ClassVar, Final

from gscnn.constants import IGNORE_INDEX
from gscnn_platform.data.formats.base import DatasetDescription, DatasetFormat, Sample, require_root, require_split
from gscnn_platform.data.formats.cityscapes import CLASSES
from gscnn_platform.data.formats.layout import (
    existing,
    files_ending,
    image_files,
    labelled,
    pair,
    require_train,
)
from gscnn_platform.paths import AnyPath

SPLITS: Final = ("train", "val", "test")
LAYOUTS: Final = (("images/10k", "labels/sem_seg/masks", ".png"), ("seg/images", "seg/labels", "_train_id.png"))
"""Folder of the images, folder of the labels and ending of a label, newest first."""


class BDD100K(DatasetFormat):
    """BDD100K with the 19 classes of Cityscapes, in its newer or its older folders."""

    name: ClassVar[str] = "bdd100k"

    def describe(self, root: AnyPath | None) -> DatasetDescription:
        """The 19 classes of Cityscapes, and those splits that exist below `root` with labels.

        Raises DatasetError if train is missing or has no labels, or if a split has labels but no images.
        """
        root = require_root(root, self.name)
        splits, left_out = labelled(_present(root)[0])
        return DatasetDescription(
            classes=tuple(name for name, _, _ in CLASSES),
            colours=tuple(colour for _, _, colour in CLASSES),
            label_table={raw: raw for raw in range(len(CLASSES))} | {IGNORE_INDEX: IGNORE_INDEX},
            splits=splits,
            left_out=left_out,
        )

    def samples(self, root: AnyPath | None, split: str) -> list[Sample]:
        """Samples named after their image, without extension. Raises DatasetError if a folder is missing or empty."""
        root = require_root(root, self.name)
        present, ending = _present(root)
        require_split(split, tuple(present), root)
        images, labels = present[split]
        return pair(
            image_files(images),
            files_ending(labels, ending),
            image_at=lambda name: images / f"{name}.jpg",
            label_at=lambda name: labels / f"{name}{ending}",
        )


def _present(root: AnyPath) -> tuple[dict[str, tuple[AnyPath, AnyPath]], str]:
    """Split -> folders of its images and labels, in the first of LAYOUTS that exists, and the ending of its labels."""
    folders = (
        (existing({split: (root / images / split, root / labels / split) for split in SPLITS}), ending)
        for images, labels, ending in LAYOUTS
    )
    present, ending = next((found for found in folders if found[0]), ({}, ""))
    require_train(
        present, root / LAYOUTS[0][0] / "train", "root must be the folder that holds images/10k/, or the older seg/"
    )
    return present, ending
