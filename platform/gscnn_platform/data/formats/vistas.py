"""Mapillary Vistas 1.2 and 2.0: palette labels, with the classes that the dataset's own config lists.

    ROOT/config_v1.2.json               config.json in downloads before 2021
    ROOT/training/images/NAME.jpg       ROOT/training/v1.2/labels/NAME.png, training/labels/NAME.png before 2021
    ROOT/validation/images/NAME.jpg     ROOT/validation/v1.2/labels/NAME.png

The splits are named train and val; testing is left out, because it has no labels. Source of layout and config: the
dataset's README, Neuhold et al., ICCV 2017.
"""

import json
from typing import Any, ClassVar, Final, Literal

from gscnn.constants import IGNORE_INDEX
from gscnn_platform.data.formats.base import (
    DatasetDescription,
    DatasetError,
    DatasetFormat,
    Sample,
    require_root,
    require_split,
)
from gscnn_platform.data.formats.colour_labels import Colour
from gscnn_platform.data.formats.layout import existing, labelled, pair_folders, require_train
from gscnn_platform.data.image_files import followed
from gscnn_platform.paths import AnyPath
from gscnn_platform.text_files import read_text

FOLDERS: Final = {"train": "training", "val": "validation", "test": "testing"}


class Vistas(DatasetFormat):
    """Mapillary Vistas, with the classes that its config marks as evaluated."""

    name: ClassVar[str] = "vistas"

    version: Literal["1.2", "2.0"] = "1.2"
    """Version of the labels: 66 classes in 1.2, 124 in 2.0, some of them not evaluated."""

    def describe(self, root: AnyPath | None) -> DatasetDescription:
        """The evaluated classes; every other raw id is void.

        Raises DatasetError if the config or train is missing, or if a split has labels but no images.
        """
        root = require_root(root, self.name)
        splits, left_out = labelled(self._present(root))
        labels = _labels(self._config(root))
        evaluated = [raw for raw, (_, _, is_evaluated) in enumerate(labels) if is_evaluated]
        return DatasetDescription(
            classes=tuple(labels[raw][0] for raw in evaluated),
            colours=tuple(labels[raw][1] for raw in evaluated),
            label_table=dict.fromkeys(range(len(labels)), IGNORE_INDEX)
            | {raw: train_id for train_id, raw in enumerate(evaluated)},
            splits=splits,
            left_out=left_out,
        )

    def samples(self, root: AnyPath | None, split: str) -> list[Sample]:
        """Samples named after their file, without extension. Raises DatasetError if a folder is missing or empty."""
        root = require_root(root, self.name)
        present = self._present(root)
        require_split(split, tuple(present), root)
        return pair_folders(*present[split], image_ending=".jpg")

    def _present(self, root: AnyPath) -> dict[str, tuple[AnyPath, AnyPath]]:
        """Split -> folders of its images and labels, one of which may be missing. Raises DatasetError without train."""
        present = existing(
            {split: (root / folder / "images", self._label_folder(root / folder)) for split, folder in FOLDERS.items()}
        )
        require_train(present, root / "training/images", "root must be the folder that holds training/ and validation/")
        return present

    def _label_folder(self, split: AnyPath) -> AnyPath:
        older, newer = split / "labels", split / f"v{self.version}/labels"
        return older if self.version == "1.2" and followed(older).is_dir() else newer

    def _config(self, root: AnyPath) -> AnyPath:
        older, newer = root / "config.json", root / f"config_v{self.version}.json"
        return older if self.version == "1.2" and not newer.is_file() and older.is_file() else newer


def _labels(file: AnyPath) -> list[tuple[str, Colour, bool]]:
    """Name, colour and whether it is evaluated of each raw id, from the dataset's config. Raises DatasetError."""
    if not file.is_file():
        raise DatasetError(f"{file}: the file is missing, it lists the classes; copy it from the dataset's archive")
    try:
        labels: list[dict[str, Any]] = json.loads(read_text(file))["labels"]
        readable = [label["readable"] for label in labels]
        return [
            # Two classes may have one readable name; `name`, such as object--vehicle--car, is unique.
            (text if readable.count(text) == 1 else label["name"], tuple(label["color"]), label["evaluate"])
            for text, label in zip(readable, labels, strict=True)
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise DatasetError(
            f"{file}: not the config of Mapillary Vistas ({error!r}); expected `labels`, each with readable, name, "
            "color and evaluate: restore the original file"
        ) from error
