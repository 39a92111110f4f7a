"""Pascal VOC's segmentation: 21 classes with the background, palette labels, raw label 255 is void.

    ROOT/JPEGImages/NAME.jpg   ROOT/SegmentationClass/NAME.png   ROOT/ImageSets/Segmentation/train.txt, val.txt

These folders may also lie in ROOT/VOC2012 or ROOT/VOCdevkit/VOC2012. The extra labels of SBD (10,582 images in all), as
PNG files in SegmentationClassAug, are read with `--format.labels SegmentationClassAug --format.train trainaug`. Source
of layout, classes and colours: Everingham et al., IJCV 2010, and the development kit of VOC2012.
"""

from typing import ClassVar, Final

from gscnn.constants import IGNORE_INDEX
from gscnn_platform.data.formats.base import (
    DatasetDescription,
    DatasetError,
    DatasetFormat,
    FileSample,
    Sample,
    require_root,
    require_split,
)
from gscnn_platform.data.formats.colour_labels import Colour
from gscnn_platform.data.image_files import named_alike
from gscnn_platform.paths import AnyPath
from gscnn_platform.text_files import read_text

CLASSES: Final = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
BELOW: Final = ("", "VOC2012", "VOCdevkit/VOC2012")
LISTS: Final = "ImageSets/Segmentation"


def voc_colour(index: int) -> Colour:
    """RGB of a class in the development kit's palette: bits 0, 3, 6 of the index are red's, from the highest bit down;
    bits 1, 4, 7 green's; bits 2, 5 blue's."""
    red, green, blue = (
        sum((index >> (3 * position + channel) & 1) << (7 - position) for position in range(3)) for channel in range(3)
    )
    return red, green, blue


class VOC(DatasetFormat):
    """Pascal VOC 2012 with 21 classes, and optionally the extra labels of SBD."""

    name: ClassVar[str] = "voc"

    train: str = "train"
    """List in ImageSets/Segmentation, without .txt, that is the split train, such as trainval, or trainaug of SBD."""
    labels: str = "SegmentationClass"
    """Folder of the labels; SegmentationClassAug has those of SBD."""

    def describe(self, root: AnyPath | None) -> DatasetDescription:
        """The 21 classes, and the splits that have a list; val only if it shares no image with train.

        Raises DatasetError if a folder or the list of train is missing.
        """
        root = self._root(root)
        train, val = self._names(root, "train"), self._names(root, "val")
        common = len(set(train) & set(val))
        shared = f"split val is left out: {common} of its {len(val)} images are in {self.train}.txt, the list of train"
        return DatasetDescription(
            classes=CLASSES,
            colours=tuple(voc_colour(index) for index in range(len(CLASSES))),
            label_table={raw: raw for raw in range(len(CLASSES))} | {IGNORE_INDEX: IGNORE_INDEX},
            splits=("train", "val") if val and not common else ("train",),
            left_out=(shared,) if common else (),
        )

    def samples(self, root: AnyPath | None, split: str) -> list[Sample]:
        """Samples named as in the split's list. Raises DatasetError if a folder or the list of train is missing."""
        require_split(split, self.describe(root).splits, root or self.name)
        root = self._root(root)
        return [
            FileSample(name, root / "JPEGImages" / f"{name}.jpg", root / self.labels / f"{name}.png")
            for name in sorted(self._names(root, split))
        ]

    def _root(self, root: AnyPath | None) -> AnyPath:
        """The folder that holds JPEGImages, which may lie below `root`."""
        root = require_root(root, self.name)
        found = next((at for at in (root / below for below in BELOW) if (at / "JPEGImages").is_dir()), None)
        if found is None:
            missing = root / "JPEGImages"
            raise DatasetError(
                f"{missing}: the folder is missing; root must be VOCdevkit/VOC2012, or a folder above it"
                f"{named_alike(missing)}"
            )
        if not (found / self.labels).is_dir():
            missing = found / self.labels
            raise DatasetError(f"{missing}: the folder of the labels is missing; unpack it there{named_alike(missing)}")
        return found

    def _names(self, root: AnyPath, split: str) -> list[str]:
        """The names in the split's list; empty if val has no list."""
        file = root / LISTS / f"{self.train if split == 'train' else split}.txt"
        if not file.is_file():
            if split == "val":
                return []
            raise DatasetError(
                f"{file}: the list is missing, it has one image name per line; lists are "
                f"{', '.join(sorted(each.stem for each in file.parent.glob('*.txt'))) or 'missing altogether'}: "
                "name one with --format.train"
            )
        names = [line.strip() for line in read_text(file).split("\n") if line.strip()]
        twice = next((name for name in names if names.count(name) > 1), None) if len(set(names)) < len(names) else None
        if twice is not None or (not names and split == "train"):
            fault = "no names in it" if twice is None else f"{twice!r} is listed twice; remove one of the lines"
            raise DatasetError(f"{file}: {fault}")
        return names
