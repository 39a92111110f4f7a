import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gscnn.constants import IGNORE_INDEX
from gscnn_platform.data.formats import BadSampleError, DatasetError
from gscnn_platform.data.formats.camvid import CLASSES, CamVid
from gscnn_platform.data.formats.camvid_original import CamVidOriginal
from tests.layouts import CAMVID_COLOURS, CAMVID_FRAMES, write_camvid, write_camvid_original, write_image

COLOURS = {
    line.split()[3]: (int(line.split()[0]), int(line.split()[1]), int(line.split()[2]))
    for line in CAMVID_COLOURS.strip().split("\n")
}

MERGED = {
    "sky": "Sky",
    "building": "Bridge Building Wall Tunnel Archway",
    "pole": "Column_Pole TrafficCone",
    "road": "Road LaneMkgsDriv LaneMkgsNonDriv",
    "pavement": "Sidewalk ParkingBlock RoadShoulder",
    "tree": "Tree VegetationMisc",
    "sign": "SignSymbol Misc_Text TrafficLight",
    "fence": "Fence",
    "car": "Car SUVPickupTruck Truck_Bus Train OtherMoving",
    "pedestrian": "Pedestrian Child CartLuggagePram Animal",
    "bicyclist": "Bicyclist MotorcycleScooter",
}
"""The 11 classes and what they are made of, by class instead of by colour."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_camvid_original(tmp_path / "camvid")


def names(root: Path, split: str) -> list[str]:
    return [sample.name for sample in CamVidOriginal().samples(root, split)]


def test_the_32_colours_become_the_11_classes_of_segnet_and_void(root: Path) -> None:
    described = CamVidOriginal().describe(root)
    assert described.classes == tuple(CLASSES) and described.colours == tuple(CLASSES.values())
    expected = {COLOURS[part]: index for index, parts in enumerate(MERGED.values()) for part in parts.split()}
    assert list(MERGED) == list(CLASSES)
    assert described.label_colours == expected | {COLOURS["Void"]: IGNORE_INDEX}
    assert len(described.label_colours) == 32


def test_all_classes_are_kept_on_demand(root: Path) -> None:
    described = CamVidOriginal(classes=32).describe(root)
    assert dict(zip(described.classes, described.colours, strict=True)) == {
        name: colour for name, colour in COLOURS.items() if name != "Void"
    }
    sample = CamVidOriginal(classes=32).samples(root, "val")[0]
    with Image.open(root / "LabeledApproved_full/0016E5_07959_L.png") as file:
        pixels = np.asarray(file)
    label = sample.read()[1]
    for row, column in [*((0, column) for column in range(32)), (20, 30), (39, 59)]:
        colour = tuple(pixels[row, column].tolist())
        is_void = colour == COLOURS["Void"]
        assert label[row, column] == (IGNORE_INDEX if is_void else described.colours.index(colour))


def test_without_lists_the_splits_are_those_of_segnet(root: Path) -> None:
    assert CamVidOriginal().describe(root).splits == ("train", "val", "test")
    for split, frames in CAMVID_FRAMES.items():
        assert names(root, split) == sorted(frames)


def test_the_rule_divides_the_701_frames_like_the_published_lists(tmp_path: Path) -> None:
    # The frames that CamVid labelled: every 30th of three sequences and of Seq05VD, and 101 at 15 Hz.
    frames = [f"0001TP_{number:06d}" for number in range(6690, 10381, 30)]
    frames += [f"0006R0_f{number:05d}" for number in range(930, 3931, 30)]
    frames += [f"0016E5_{number:05d}" for number in (*range(390, 2401, 30), *range(4350, 7921, 30))]
    frames += [f"0016E5_{number:05d}" for number in (*range(7959, 8160, 2), *range(8190, 8641, 30))]
    frames += [f"Seq05VD_f{number:05d}" for number in range(0, 5101, 30)]
    assert len(frames) == 701
    for name in frames:
        for path in (f"701_StillsRaw_full/{name}.png", f"LabeledApproved_full/{name}_L.png"):
            (tmp_path / path).parent.mkdir(exist_ok=True)
            (tmp_path / path).touch()
    assert [len(names(tmp_path, split)) for split in ("train", "val", "test")] == [367, 101, 233]


def test_lists_are_followed_by_name_or_path_and_the_rest_is_named(root: Path) -> None:
    (root / "train.txt").write_text("0001TP_006690\n\nSeq05VD_f00000.png\n")
    (root / "val.txt").write_text("701_StillsRaw_full/0016E5_07959.png LabeledApproved_full/0016E5_07959_L.png\r\n")
    assert names(root, "train") == ["0001TP_006690", "Seq05VD_f00000"]
    assert names(root, "val") == ["0016E5_07959"]
    described = CamVidOriginal().describe(root)
    assert described.splits == ("train", "val")
    assert described.left_out == (
        "6 images are left out, they are in no list: 0001TP_008520, 0001TP_008550, 0006R0_f00930, ...",
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "0001TP_006690\n0001TP_006691\n",
            r"train\.txt: line 2: '0001TP_006691' is not a frame in .*; did you mean 0001",
        ),
        ("0001TP_006690\n0001TP_006690.png\n", r"train\.txt: line 2: '0001TP_006690' is listed twice; remove"),
        ("\n", "no frame is in train; write train.txt with one frame name per line"),
    ],
)
def test_a_wrong_list_is_named(root: Path, text: str, message: str) -> None:
    (root / "train.txt").write_text(text)
    with pytest.raises(DatasetError, match=message):
        CamVidOriginal().describe(root)


def test_a_frame_of_no_sequence_needs_lists(root: Path) -> None:
    shutil.copy(root / "701_StillsRaw_full/0001TP_006690.png", root / "701_StillsRaw_full/mine.png")
    with pytest.raises(
        DatasetError, match=r"full/mine\.png: this is not the name of a CamVid frame, .*; remove it, or"
    ):
        CamVidOriginal().describe(root)


@pytest.mark.parametrize("folder", ["701_StillsRaw_full", "LabeledApproved_full"])
def test_a_missing_folder_is_named(root: Path, folder: str) -> None:
    (root / folder).rename(root / folder.lower())
    with pytest.raises(
        DatasetError, match=rf"{folder}: the folder is missing; root must hold .*; there is .*: rename it"
    ):
        CamVidOriginal().describe(root)


def test_another_colour_is_named_in_the_list_of_colours_and_in_a_label(root: Path) -> None:
    path = root / "LabeledApproved_full/0016E5_07959_L.png"
    write_image(path, np.full((40, 60, 3), (128, 64, 120), np.uint8))
    with pytest.raises(BadSampleError, match=r"_L\.png: 1 colour is not in the table of CamVid.* 2400 px, .*\(road\)"):
        CamVidOriginal().samples(root, "val")[0].read()
    (root / "label_colors.txt").write_text("128 64 128 Road\n10 20 30 Puddle\n")
    with pytest.raises(DatasetError, match=r"colors\.txt: line 2: Puddle has the colour #0A141E \(10, 20, 30\), which"):
        CamVidOriginal().describe(root)
    (root / "label_colors.txt").write_text("Road 128 64 128\n")
    with pytest.raises(DatasetError, match=r"colors\.txt: line 1: 'Road 128 64 128' is not a colour and a name"):
        CamVidOriginal().describe(root)


def test_its_eleven_classes_can_be_evaluated_with_a_model_of_camvid(root: Path, tmp_path: Path) -> None:
    small = CamVid().describe(write_camvid(tmp_path / "small"))
    large = CamVidOriginal().describe(root)
    assert (large.classes, large.colours) == (small.classes, small.colours)
