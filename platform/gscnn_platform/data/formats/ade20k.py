"""ADE20K's scene parsing benchmark (ADEChallengeData2016): 150 classes, raw label 0 is everything else, and void.

    ROOT/images/training/NAME.jpg     ROOT/annotations/training/NAME.png
    ROOT/images/validation/NAME.jpg   ROOT/annotations/validation/NAME.png
    ROOT/objectInfo150.txt            the names of the classes

The splits are named train and val. Source of layout and ids: github.com/CSAILVision/sceneparsing, Zhou et al., CVPR
2017. The colours are ours.
"""

from typing import ClassVar, Final

from gscnn.constants import IGNORE_INDEX
from gscnn_platform.data.formats.base import (
    DatasetDescription,
    DatasetError,
    DatasetFormat,
    Sample,
    require_root,
    require_split,
)
from gscnn_platform.data.formats.layout import existing, labelled, pair_folders, require_train
from gscnn_platform.data.formats.palette import distinct_colours
from gscnn_platform.data.image_files import named_alike
from gscnn_platform.paths import AnyPath
from gscnn_platform.text_files import read_text

FOLDERS: Final = {"train": "training", "val": "validation"}
NAMES: Final = "objectInfo150.txt"
NUM_CLASSES: Final = 150


class ADE20K(DatasetFormat):
    """ADE20K with 150 classes, as unpacked from ADEChallengeData2016.zip."""

    name: ClassVar[str] = "ade20k"

    def describe(self, root: AnyPath | None) -> DatasetDescription:
        """The 150 classes, each under the first of its names in objectInfo150.txt.

        Raises DatasetError if that file or train is missing, or if a split has labels but no images.
        """
        root = require_root(root, self.name)
        splits, left_out = labelled(_present(root))
        classes = _class_names(root / NAMES)
        return DatasetDescription(
            classes=classes,
            colours=distinct_colours([None] * NUM_CLASSES),
            label_table={0: IGNORE_INDEX} | {raw: raw - 1 for raw in range(1, NUM_CLASSES + 1)},
            splits=splits,
            left_out=left_out,
        )

    def samples(self, root: AnyPath | None, split: str) -> list[Sample]:
        """Samples named after their file, without extension. Raises DatasetError if a folder is missing or empty."""
        root = require_root(root, self.name)
        present = _present(root)
        require_split(split, tuple(present), root)
        return pair_folders(*present[split], image_ending=".jpg")


def _present(root: AnyPath) -> dict[str, tuple[AnyPath, AnyPath]]:
    present = existing(
        {split: (root / "images" / folder, root / "annotations" / folder) for split, folder in FOLDERS.items()}
    )
    require_train(present, root / "images/training", "root must be ADEChallengeData2016, which holds images/")
    return present


def _class_names(file: AnyPath) -> tuple[str, ...]:
    """The first name of each class, or all of its names if two classes have the same first one.

    The file is a table of tabs; its column Idx counts from 1, its column Name lists synonyms. Raises DatasetError.
    """
    if not file.is_file():
        raise DatasetError(
            f"{file}: the file is missing, it names the {NUM_CLASSES} classes; it lies beside images/ and annotations/ "
            f"in ADEChallengeData2016.zip: copy it there{named_alike(file)}"
        )
    rows = [[cell.strip() for cell in line.split("\t")] for line in read_text(file).split("\n") if line.strip()]
    columns = rows[0] if rows else []
    if not {"Idx", "Name"} <= set(columns):
        raise DatasetError(f"{file}: its columns are {columns}; expected a table of tabs with Idx and Name")
    number, name = columns.index("Idx"), columns.index("Name")
    names = {row[number]: row[name] for row in rows[1:] if len(row) == len(columns)}
    synonyms = [names.get(str(raw), "") for raw in range(1, NUM_CLASSES + 1)]
    if not all(synonyms):
        raise DatasetError(f"{file}: there is no name for class {synonyms.index('') + 1}; restore the original file")
    first = [text.replace(";", ",").split(",")[0].strip() for text in synonyms]
    return tuple(short if first.count(short) == 1 else text for short, text in zip(first, synonyms, strict=True))
