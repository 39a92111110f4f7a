"""What classes.yaml may hold, and what is said of one that is wrong."""

from pathlib import Path

import numpy as np
import pytest

from gscnn.constants import IGNORE_INDEX
from gscnn_platform.data.formats import DatasetError, remap
from gscnn_platform.data.formats.folder import Folder
from tests.layouts import write_folder

TABLE = """
classes:
  - {name: road, colour: [128, 64, 128]}
  - {name: car}
labels: {7: road, 8: road, 26: car, 0: void}
"""


def test_without_a_table_raw_values_are_train_ids_and_255_is_void(tmp_path: Path) -> None:
    assert Folder().describe(write_folder(tmp_path)).label_table == {0: 0, 1: 1, 255: IGNORE_INDEX}


def test_a_table_joins_raw_values_into_classes_and_void(tmp_path: Path) -> None:
    (write_folder(tmp_path) / "classes.yaml").write_text(TABLE)
    table = Folder().describe(tmp_path).label_table
    raw = np.array([[7, 8, 26, 0, 255]], np.uint8)
    np.testing.assert_array_equal(remap(raw, table), [[0, 0, 1, IGNORE_INDEX, IGNORE_INDEX]])


def test_255_is_a_class_if_the_table_says_so(tmp_path: Path) -> None:
    (write_folder(tmp_path) / "classes.yaml").write_text(
        "classes: [floor, wall]\nlabels: {255: wall, 1: floor, 0: void}\n"
    )
    assert Folder().describe(tmp_path).label_table == {255: 1, 1: 0, 0: IGNORE_INDEX}


def test_default_colours_differ_from_each_other_and_from_chosen_ones(tmp_path: Path) -> None:
    first = Folder().describe(write_folder(tmp_path, classes={"classes": ["a", "b"]})).colours[0]
    entries = [{"name": "own", "colour": list(first)}] + [{"name": f"c{index}"} for index in range(254)]
    colours = Folder().describe(write_folder(tmp_path, classes={"classes": entries})).colours
    assert colours[0] == first and len(set(colours)) == 255


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "the file is missing; write one with classes:"),
        ("- road", r"holds \['road'\]; it needs a field `classes`"),
        (
            "class: [a, b]",
            "class: there is no such field; the fields are classes, labels and background; did you mean classes?",
        ),
        ("classes: []", r"classes: is \[\]; it must be a list"),
        ("classes: {a: 1}", r"classes: is \{'a': 1\}; it must be a list"),
        ("classes: [a, a]", "classes: 'a' is listed 2 times; give every class its own name"),
        ("classes: [a, void]", "'void' is not a class; remove it"),
        ("classes: [a, VOID]", "'VOID' is not a class; remove it"),
        ("classes: [cafe\u0301, caf\u00e9]", "'caf\u00e9' is listed 2 times"),
        ('classes: ["a\\nb", c]', r"classes\.0: 'a\\nb' has the character U\+000A; a name is printable text"),
        ('classes: [c, {name: "\\ud800"}]', r"classes\.1\.name: .*U\+D800"),
        (
            "classes: [a, b]\nlabels:\n  #FF0000: a",
            r"labels: is None; it must map .*; put colours in quotes, because #",
        ),
        (
            "classes: [a, b]\nlabels: {7: a, '#FF0000': b}",
            r"has both 7 and '#FF0000'; a dataset's labels are numbers, colours or names",
        ),
        (
            "classes: [a, b]\nlabels: {'#FF0000': a, 7: b}",
            r"has both '#FF0000' and 7; a dataset's labels are numbers, colours or names",
        ),
        ("classes: [a, b]\nlabels: {'#FF0000': a, '#ff0000': b}", "labels: the colour #ff0000 is listed twice; remove"),
        ("classes: [a, b]\nlabels: {'128, 64, 128': a}", "labels: '128, 64, 128' is a colour; write it as \"#804080\""),
        (
            "classes: [a, b]\nlabels: {'#F00': a}",
            r"labels: '#F00' is not a label value; .* or colours such as \"#804080\"",
        ),
        (
            "classes: [a, b]\nlabels: {'#FF0000': c}",
            "labels: #FF0000 maps to 'c', which is not a class; use one of a, b",
        ),
        (
            "classes: [a, {name: b, colour: [255, 0, 0]}]\nlabels: {'#FF0000': a}",
            r"classes\.1\.colour: #FF0000 would mean both b and a in the labels; give b another colour, or list its",
        ),
        (
            f"classes: {[f'c{i}' for i in range(300)]}",
            "classes: 300 classes; 2 to 255 are allowed: .* {300: c0, 301: void}",
        ),
        ("classes: [a, b]\nlabels: {}", r"labels: is \{\}; it must map raw values to classes: \{7: a"),
        ("classes: [a, b]\nlabels: {a: 0, b: 1}", r"labels: 'a' comes before its value; .*: \{0: a\}$"),
        ("classes: {0: a}", r"classes: is \{0: 'a'\}; it must be a list"),
        ("classes: [a, no]", r"classes\.1: YAML reads this name as False; put it in quotes"),
        ("classes: [a, {name: 7}]", r"classes\.1\.name: YAML reads this name as 7; put it in quotes"),
        ("classes: [a, {colour: [1, 2, 3]}]", r"classes\.1: .* has no name; write \{name: NAME\}"),
        ("classes: [a, ' ']", r"classes\.1: ' ' is not a class name"),
        ("classes: [{name: a, color: [1, 2, 3]}]", r"classes\.0\.color: there is no such field; .*mean colour\?"),
        ("classes: [{name: a, colour: [1, 2, 300]}]", r"classes\.0\.colour: \[1, 2, 300\] must be three whole numbers"),
        ("classes: [{name: a, colour: red}]", r"classes\.0\.colour: 'red' must be three whole numbers"),
        ("classes: [a, road]\nlabels: {7: raod}", "7 maps to 'raod', which is not a class; .*did you mean road?"),
        ("classes: [a, b]\nlabels: {-1: a}", "labels: -1 is not a label value; use whole numbers from 0 to 65535"),
        ("classes: [a, b]\nlabels: {'1': a}", "labels: '1' is a name, but no file holds shapes; .*without quotes"),
        ("classes: [a, b]\nlabels: [a, b]", r"labels: is \['a', 'b'\]; it must map raw values to classes: \{7: a"),
        ("classes: [road]", r"'road' is the only class.*\n.*classes: \[background, road\]\n.*255: road"),
    ],
)
def test_a_wrong_classes_file_is_named_with_field_and_value(tmp_path: Path, text: str | None, message: str) -> None:
    path = write_folder(tmp_path) / "classes.yaml"
    path.unlink()
    if text is not None:
        path.write_text(text)
    with pytest.raises(DatasetError, match=message) as caught:
        Folder().describe(tmp_path)
    assert str(path) in str(caught.value)


def test_names_in_labels_are_those_of_classes_however_accents_and_spaces_are_written(tmp_path: Path) -> None:
    text = "classes: [' café', wall]\nlabels: {3: 'cafe\u0301 ', 4: wall}\n"
    (write_folder(tmp_path) / "classes.yaml").write_text(text)
    described = Folder().describe(tmp_path)
    assert described.classes == ("café", "wall")
    assert described.label_table == {3: 0, 4: 1, 255: IGNORE_INDEX}


def test_a_long_wrong_value_of_the_classes_file_is_shortened(tmp_path: Path) -> None:
    classes: dict[str, object] = {"classes": {f"class {index}": index for index in range(200)}}
    with pytest.raises(DatasetError, match=r"classes: is \{'class 0': 0, .*\.\.\.\}; it must be a list") as caught:
        Folder().describe(write_folder(tmp_path, classes=classes))
    assert len(str(caught.value)) < 400


def test_the_advice_for_one_class_works_when_it_is_typed(tmp_path: Path) -> None:
    path = write_folder(tmp_path) / "classes.yaml"
    path.write_text("classes: [road]")
    with pytest.raises(DatasetError) as caught:
        Folder().describe(tmp_path)
    _, of_1, of_255 = (line.partition(":  ")[2].strip() for line in str(caught.value).splitlines())
    path.write_text(of_1)
    assert Folder().describe(tmp_path).label_table == {0: 0, 1: 1, 255: IGNORE_INDEX}
    path.write_text(f"{of_1}\n{of_255.removeprefix('the same, and').strip()}\n")
    assert Folder().describe(tmp_path).label_table == {0: 0, 255: 1}


def test_plain_names_and_mappings_may_be_mixed(tmp_path: Path) -> None:
    (write_folder(tmp_path) / "classes.yaml").write_text("classes:\n- road\n- {name: car, colour: [1, 2, 3]}\n")
    described = Folder().describe(tmp_path)
    assert described.classes == ("road", "car")
    assert described.colours[1] == (1, 2, 3)
