from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from gscnn.constants import IGNORE_INDEX
from gscnn_platform.data.formats import BadSampleError, DatasetError, remap
from gscnn_platform.data.formats.base import UPRIGHT
from gscnn_platform.data.formats.camvid import CLASSES as CAMVID
from gscnn_platform.data.formats.cityscapes import CLASSES as CITYSCAPES
from gscnn_platform.data.formats.union import MappedSample, Union
from tests.layouts import UNION, write_camvid_original, write_union

CITY = {"format": "cityscapes", "root": "cityscapes"}
CATEGORIES = {
    "flat": ("road", "sidewalk"),
    "construction": ("building", "wall", "fence"),
    "object": ("pole", "traffic light", "traffic sign"),
    "nature": ("vegetation", "terrain"),
    "sky": ("sky",),
    "human": ("person", "rider"),
    "vehicle": ("car", "truck", "bus", "train", "motorcycle", "bicycle"),
}


def write(root: Path, *datasets: dict[str, Any], **content: Any) -> Path:
    return write_union(root, {"datasets": list(datasets), **content})


def expected_ids(raw: np.ndarray, raw_names: dict[int, str], mapping: dict[str, str], classes: list[str]) -> np.ndarray:
    """Train ids of the union, pixel by pixel."""
    out = np.full(raw.shape, IGNORE_INDEX, np.uint8)
    for row in range(raw.shape[0]):
        for column in range(raw.shape[1]):
            name = raw_names.get(int(raw[row, column]), "void")
            target = mapping.get(name, name)
            if target != "void":
                out[row, column] = classes.index(target)
    return out


def test_every_label_equals_its_own_datasets_classes_by_name(tmp_path: Path) -> None:
    root = write_union(tmp_path)
    described = Union().describe(root)
    assert described.classes == tuple(UNION["classes"])
    raw_names = {"camvid": dict(enumerate(CAMVID)), "cityscapes": {raw: name for name, raw, _ in CITYSCAPES}}
    seen: set[int] = set()
    for split in ("train", "val"):
        samples = Union().samples(root, split)
        assert [sample.name.split("/")[0] for sample in samples] == ["camvid"] * 3 + ["cityscapes"] * 4
        for sample in samples:
            dataset, _, name = sample.name.partition("/")
            entry = UNION["datasets"][0 if dataset == "camvid" else 1]
            file = (
                root / f"CamVid/{split}annot/{name}.png"
                if dataset == "camvid"
                else root / f"cityscapes/gtFine/{split}/{name}_gtFine_labelIds.png"
            )
            ids = remap(sample.read()[1], described.label_table)
            raw = np.array(Image.open(file))
            np.testing.assert_array_equal(ids, expected_ids(raw, raw_names[dataset], entry["map"], UNION["classes"]))
            seen |= set(np.unique(ids).tolist())
    assert len(seen) > 8


def test_one_dataset_is_merged_into_its_seven_categories(tmp_path: Path) -> None:
    mapping = {name: category for category, names in CATEGORIES.items() for name in names}
    root = write(tmp_path, {**CITY, "map": mapping}, classes=list(CATEGORIES))
    described = Union().describe(root)
    assert described.classes == tuple(CATEGORIES)
    raw = np.array(Image.open(root / "cityscapes/gtFine/val/aachen/aachen_000000_000019_gtFine_labelIds.png"))
    ours = Union().samples(root, "val")[0].read()[1]
    names = {raw: name for name, raw, _ in CITYSCAPES}
    np.testing.assert_array_equal(ours, expected_ids(raw, names, mapping, list(CATEGORIES)))


def test_without_classes_they_are_those_of_the_first_dataset_that_its_map_leaves_alone(tmp_path: Path) -> None:
    root = write(tmp_path, {**CITY, "map": {"truck": "car", "bus": "car", "terrain": "void"}})
    described = Union().describe(root)
    kept = [name for name, _, _ in CITYSCAPES if name not in ("truck", "bus", "terrain")]
    assert list(described.classes) == kept
    assert described.colours[kept.index("car")] == (0, 0, 142)


def test_colours_are_those_of_the_first_dataset_unless_they_are_given_or_taken(tmp_path: Path) -> None:
    classes = ["road", {"name": "car", "colour": [128, 64, 128]}, "rest"]
    mapping = {name: "rest" for name in CAMVID if name not in ("road", "car")}
    root = write(tmp_path, {"format": "camvid", "root": "CamVid", "map": mapping}, classes=classes)
    described = Union().describe(root)
    assert described.colours[1] == (128, 64, 128)
    assert described.colours[2] == CAMVID["sky"]
    assert len(set(described.colours)) == 3


def test_settings_are_those_of_the_format_and_a_dataset_can_be_in_it_twice(tmp_path: Path) -> None:
    aachen = {**CITY, "name": "a", "settings": {"only": ["aachen/*"]}}
    bremen = {**CITY, "name": "b", "settings": {"only": ["bremen/*"], "share": 0.5}}
    root = write(tmp_path, aachen, bremen)
    assert [sample.name.rpartition("/")[0] for sample in Union().samples(root, "train")] == [
        "a/aachen", "a/aachen", "b/bremen"
    ]  # fmt: skip
    assert "b: split train is a subset, 1 of its 4 samples" in Union().describe(root).left_out


def test_generated_scenes_can_be_part_of_it(tmp_path: Path) -> None:
    streets = {"format": "streets", "settings": {"train": 2, "val": 1, "test": 1, "height": 64, "width": 64}}
    root = write(tmp_path, streets)
    assert Union().describe(root).splits == ("train", "val", "test")
    assert [sample.name for sample in Union().samples(root, "train")] == ["streets/00000", "streets/00001"]


def test_colour_coded_labels_are_joined_with_numbered_ones(tmp_path: Path) -> None:
    merged = {"camvid": {"pavement": "road"}, "original": {"pavement": "road"}}
    original = {"format": "camvid-original", "root": "original", "name": "original", "map": merged["original"]}
    root = write(tmp_path, {"format": "camvid", "root": "CamVid", "map": merged["camvid"]}, original)
    write_camvid_original(root / "original")
    described = Union().describe(root)
    assert (len(described.classes), described.splits) == (10, ("train", "val", "test"))
    sample = next(each for each in Union().samples(root, "test") if each.name.startswith("original/"))
    colours = np.array(Image.open(root / f"original/LabeledApproved_full/{sample.name.partition('/')[2]}_L.png"))
    ids = sample.read()[1]
    for colour in ((128, 64, 128), (128, 0, 192), (0, 0, 192)):  # Road, LaneMkgsDriv and Sidewalk.
        assert set(ids[(colours == colour).all(axis=2)].tolist()) == {described.classes.index("road")}
    assert set(ids[(colours == (128, 128, 128)).all(axis=2)].tolist()) == {described.classes.index("sky")}


def test_a_root_may_be_absolute(tmp_path: Path) -> None:
    root = write(tmp_path / "here", {**CITY, "root": str(tmp_path / "here/cityscapes")})
    assert len(Union().samples(root, "train")) == 4


def test_digests_cover_the_map_and_keep_the_mark_of_rotated_images(tmp_path: Path) -> None:
    sample = Union().samples(write_union(tmp_path), "train")[0]
    assert isinstance(sample, MappedSample)
    assert sample.digest() != sample.sample.digest()
    assert MappedSample(sample.name, sample.sample, sample.table | {11: 0}).digest() != sample.digest()

    class Rotated:
        name = "a"

        def read(self) -> tuple[np.ndarray, np.ndarray]:
            raise AssertionError("a digest reads no pixels")

        def digest(self) -> str:
            return "0" * 64 + UPRIGHT

    assert MappedSample("a", Rotated(), {}).digest().endswith(UPRIGHT)


def test_an_unknown_label_value_names_the_file_of_its_dataset(tmp_path: Path) -> None:
    root = write_union(tmp_path)
    label = root / "CamVid/trainannot/0001TP_train000.png"
    Image.fromarray(np.full((40, 60), 77, np.uint8)).save(label)
    with pytest.raises(BadSampleError, match=rf"{label}: label values outside the label table: 77 \(2400 px\).*0-11"):
        Union().samples(root, "train")[0].read()


@pytest.mark.parametrize(
    ("datasets", "classes", "message"),
    [
        ([{**CITY, "format": "citiscapes"}], None, r"datasets\.0\.format: 'citiscapes' is not one of .*mean city"),
        ([{**CITY, "format": "union"}], None, r"datasets\.0\.format: 'union' is not one of"),
        ([{"format": "cityscapes"}], None, r"datasets\.0\.root: is missing: name the folder"),
        ([{"format": "streets", "root": "x"}], None, r"datasets\.0\.root: remove it, it is generated"),
        ([{**CITY, "maps": {}}], None, r"datasets\.0\.maps is not a field here"),
        ([{"root": "x"}], None, r"datasets\.0\.format is missing"),
        (["cityscapes"], None, r"datasets\.0: is 'cityscapes'; it must be a mapping"),
        ([CITY, CITY], None, r"datasets: 'cityscapes' is there 2 times; give one of them another `name`"),
        ([{**CITY, "name": "a/b"}], None, r"datasets\.0\.name is a/b: must be of the form"),
        ([{**CITY, "settings": {"share": 0}}], None, r"datasets\.0\.settings\.share: is 0: must be more than 0"),
        ([{**CITY, "settings": {"shares": 1}}], None, r"datasets\.0\.settings\.shares: is not a field here"),
        ([{**CITY, "map": {"raod": "void"}}], None, r"datasets\.0\.map: 'raod' is not a class of city.*mean road"),
        ([{**CITY, "map": {"bus": "cra"}}], None, r"datasets\.0\.map: bus maps to 'cra', .* not a class; .*mean car"),
        ([CITY], ["road", "Car"], r"datasets\.0: the union has no class sidewalk, .* of cityscapes; (?s:.)*wall: void"),
        ([CITY, {"format": "camvid", "root": "CamVid"}], None, r"datasets\.1: the union has no class pavement, tree, "
         r"sign, pedestrian, bicyclist of camvid; name a class or void for each.*\nmap: {pavement: void, tree: void"),
        ([CITY], [*(name for name, _, _ in CITYSCAPES), "lake"], r"classes: no dataset has class 'lake'"),
        ([CITY], ["road", "road"], r"classes: 'road' is there 2 times"),
        ([CITY], ["road", "void"], r"classes: 'void' is not a class"),
        ([CITY], "road", r"classes: is 'road'; it must be a list"),
        ([CITY], [{"name": "road", "colour": [1, 2]}], r"classes\.0\.colour is 1 2: needs more values"),
        ([CITY], [{"name": "road", "colour": [1, 2, 256]}], r"classes\.0\.colour is 256: must be 255 or less"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_datasets_yaml_is_named_with_its_field(
    tmp_path: Path, datasets: list[Any], classes: Any, message: str
) -> None:
    root = write(tmp_path, *datasets, **({} if classes is None else {"classes": classes}))
    with pytest.raises(DatasetError, match=rf"^{root / 'datasets.yaml'}: {message}"):
        Union().describe(root)


def test_the_map_that_an_error_proposes_is_accepted(tmp_path: Path) -> None:
    camvid = {"format": "camvid", "root": "CamVid"}
    root = write(tmp_path, CITY, camvid)
    with pytest.raises(DatasetError) as error:
        Union().describe(root)
    proposed = yaml.safe_load(str(error.value).splitlines()[-1])
    assert Union().describe(write(tmp_path, CITY, camvid | proposed)).classes == tuple(
        name for name, _, _ in CITYSCAPES
    )


def test_a_proposed_map_finds_names_that_differ_in_capitals(tmp_path: Path) -> None:
    root = write(tmp_path, CITY, classes=["Road", "Car"])
    with pytest.raises(DatasetError, match=r"\nmap: {road: Road, sidewalk: void, .*car: Car"):
        Union().describe(root)


@pytest.mark.parametrize("content", ["[]", "datasets: {}", "datasets: []", "classes: [a]"])
def test_a_file_without_datasets_is_rejected_with_an_example(tmp_path: Path, content: str) -> None:
    (tmp_path / "datasets.yaml").write_text(content)
    with pytest.raises(DatasetError, match=r"datasets\.yaml: it needs a list of datasets, such as datasets: \["):
        Union().describe(tmp_path)


def test_a_missing_file_and_an_unknown_field_are_rejected(tmp_path: Path) -> None:
    (tmp_path / "dataset.yaml").touch()
    with pytest.raises(DatasetError, match=r"datasets\.yaml: the file is missing; .*there is dataset\.yaml"):
        Union().describe(tmp_path)
    root = write(tmp_path, CITY, clases=["road"])
    with pytest.raises(DatasetError, match=r"clases: there is no such field; .*did you mean classes"):
        Union().describe(root)
