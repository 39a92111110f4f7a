"""The datasets that docs/datasets.md draws are read as it says."""

import re
from pathlib import Path

import numpy as np
import pytest

from gscnn_platform.data.formats.folder import Folder

PAGE = Path(__file__).resolve().parents[2] / "docs/datasets.md"


@pytest.fixture
def script() -> str:
    return re.findall(r"`draw_shapes\.py`.*?```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)[0]


def test_the_script_of_shapes_draws_the_same_labels_in_three_forms_but_for_outlines_and_what_is_in_front(
    script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    exec(script, {})
    read = {}
    for kind in ("labelme", "coco", "colours"):
        root = tmp_path / "data" / kind
        described = Folder().describe(root)
        assert (described.classes, described.splits) == (("ground", "disc", "box"), ("train", "val"))
        assert described.left_out == ()
        samples = {split: Folder().samples(root, split) for split in described.splits}
        assert {split: len(of_split) for split, of_split in samples.items()} == {"train": 40, "val": 12}
        read[kind] = [sample.read()[1] for sample in samples["val"]]
    for shapes, colours in zip(read["labelme"], read["colours"], strict=True):
        assert (shapes != colours).mean() < 0.05  # Pillow draws the outline as well.
    for by_order, by_size in zip(read["labelme"], read["coco"], strict=True):
        np.testing.assert_array_equal(by_order == 0, by_size == 0)
    assert any((by_order != by_size).any() for by_order, by_size in zip(read["labelme"], read["coco"], strict=True))
