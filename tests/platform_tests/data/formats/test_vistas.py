import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gscnn.constants import IGNORE_INDEX
from gscnn_platform.data.formats import DatasetError, remap
from gscnn_platform.data.formats.vistas import Vistas
from tests.layouts import VISTAS_LABELS, write_vistas

EVALUATED = ["Bird", "Curb", "Road", "Car"]


@pytest.mark.parametrize(("version", "old"), [("1.2", False), ("1.2", True), ("2.0", False)])
def test_classes_are_those_that_the_config_evaluates(tmp_path: Path, version: str, old: bool) -> None:
    root = write_vistas(tmp_path, version, old)
    format_ = Vistas.model_validate({"version": version})
    description = format_.describe(root)
    assert list(description.classes) == EVALUATED
    assert description.colours[3] == (0, 0, 142)
    assert description.splits == ("train", "val")
    for sample in format_.samples(root, "val"):
        file = next(root.glob(f"validation/**/labels/{sample.name}.png"))
        names = [label[1] for label in VISTAS_LABELS]
        expected = [
            [EVALUATED.index(names[raw]) if names[raw] in EVALUATED else IGNORE_INDEX for raw in row]
            for row in np.array(Image.open(file))
        ]
        np.testing.assert_array_equal(remap(sample.read()[1], description.label_table), expected)


def test_versions_in_one_root_have_their_own_labels_and_classes(tmp_path: Path) -> None:
    root = write_vistas(write_vistas(tmp_path), "2.0", seed=1)
    first, second = (format_.samples(root, "train")[0].read()[1] for format_ in (Vistas(), Vistas(version="2.0")))
    assert not np.array_equal(first, second)


def test_testing_is_left_out_with_a_notice(tmp_path: Path) -> None:
    root = write_vistas(tmp_path)
    missing = root / "testing/v1.2/labels"
    assert Vistas().describe(root).left_out == (
        f"split test is left out because {missing} is missing: its 1 images are not in the store",
    )


def test_classes_of_one_readable_name_keep_their_full_names(tmp_path: Path) -> None:
    root = write_vistas(tmp_path)
    file = root / "config_v1.2.json"
    file.write_text(file.read_text().replace('"Curb"', '"Road"'))
    classes = Vistas().describe(root).classes
    assert classes == ("Bird", "construction--barrier--curb", "construction--flat--road", "Car")


def test_a_config_that_is_missing_or_another_is_rejected(tmp_path: Path) -> None:
    root = write_vistas(tmp_path)
    with pytest.raises(DatasetError, match=r"training/v2\.0/labels: the folder is missing"):
        Vistas(version="2.0").describe(root)
    for wrong in ("[1]", json.dumps({"labels": [{"name": "road"}]}), "{", '{"labels": 3}'):
        (root / "config_v1.2.json").write_text(wrong)
        with pytest.raises(DatasetError, match=r"config_v1\.2\.json: not the config of Mapillary Vistas"):
            Vistas().describe(root)
    (root / "config_v1.2.json").unlink()
    with pytest.raises(DatasetError, match=r"config_v1\.2\.json: the file is missing, it lists the classes"):
        Vistas().describe(root)


def test_a_root_without_training_is_rejected(tmp_path: Path) -> None:
    root = write_vistas(tmp_path)
    with pytest.raises(DatasetError, match=r"training/images: the folder is missing; root must be the folder that"):
        Vistas().describe(root / "training")
