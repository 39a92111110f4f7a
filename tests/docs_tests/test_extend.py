"""What docs/extend.md says of the places where things are added is true of the code."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOTS = (ROOT, ROOT / "platform/gscnn_platform")
ROWS = re.findall(
    r"^\| (an? [^|]+) \| ([^|]+) \| ([^|]+) \| (\d) \| ([^|]+) \|$",
    (ROOT / "docs/extend.md").read_text(encoding="utf-8"),
    re.M,
)


def named(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


def found(path: str) -> Path | None:
    """A path of the page: from the root of the repository, or of the platform's package."""
    return next((root / path for root in ROOTS if (root / path).exists()), None)


def test_the_table_has_all_that_people_add() -> None:
    assert len(ROWS) == 12
    added = " ".join(row[0] for row in ROWS)
    for thing in ("recipe", "search space", "score", "backbone", "architecture", "format", "optimizer", "loss term"):
        assert thing in added


@pytest.mark.parametrize(("thing", "new", "lines", "files", "tests"), ROWS, ids=[row[0] for row in ROWS])
def test_every_place_of_the_table_is_there(thing: str, new: str, lines: str, files: str, tests: str) -> None:
    edited = [path for path in named(lines) if "." in path]
    assert int(files) == len(named(new)) + len(edited)
    for path in named(new):
        folder = found(path.rpartition("/")[0])
        assert folder is not None and folder.is_dir(), path
    for path in (*edited, *named(tests)):
        assert found(path) is not None, path
    for names, path in re.findall(r"((?:`\w+`(?: and )?)+) in `([^`]+)`", lines):
        file = found(path)
        assert file is not None
        for name in named(names):
            assert re.search(rf"\b{name}\b", file.read_text(encoding="utf-8")), f"{name} in {path}"
