import os
from pathlib import Path

import pytest

from gscnn_platform.data.formats.base import DatasetError
from gscnn_platform.data.formats.camvid import CamVid
from gscnn_platform.data.formats.folder import Folder
from gscnn_platform.data.image_files import IMAGE_ENDINGS, InputError, files_below, matching, named_files
from gscnn_platform.paths import as_path, below
from tests.layouts import write_camvid, write_folder

CLUTTER = (
    ".ipynb_checkpoints/a-checkpoint.png",
    "._a.png",
    ".DS_Store",
    "Thumbs.db",
    "desktop.ini",
    "@eaDir/a.png",
    "__MACOSX/a.png",
    "lost+found/a.png",
    "#recycle/a.png",
    "@Recycle/a.png",
    "deep/.Trash-1000/a.png",
    "~$a.png",
    "a.png~",
)


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    return root


def listed(folder: Path) -> list[str]:
    return [str(below(file, folder)) for file in files_below(folder)]


def test_hidden_and_system_files_and_folders_are_ignored(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "deep/b.PNG", *CLUTTER)
    assert listed(tmp_path) == ["a.png", "deep/b.PNG"]


def test_clutter_is_ignored_on_an_object_store_too(remote: str) -> None:
    for name in ("a.png", "deep/b.png", *CLUTTER):
        (as_path(remote) / name).write_bytes(b"x")
    assert [str(below(file, as_path(remote))) for file in files_below(as_path(remote))] == ["a.png", "deep/b.png"]
    assert [file.name for file in files_below(as_path(remote), as_path(f"{remote}/deep"))] == ["a.png"]


def test_links_are_followed_and_loops_end(tmp_path: Path) -> None:
    touch(tmp_path, "data/day/a.png", "data/labels/a.png", "elsewhere/b.png", "c.png")
    (tmp_path / "data/day/night").symlink_to("../../elsewhere")
    (tmp_path / "data/day/c.png").symlink_to("../../c.png")
    (tmp_path / "data/day/self").symlink_to(".")
    (tmp_path / "data/day/up").symlink_to("..")
    (tmp_path / "elsewhere/back").symlink_to(tmp_path / "data/day")
    assert listed(tmp_path / "data/day") == ["a.png", "c.png", "night/b.png"]


def test_a_broken_link_is_an_error_or_is_listed_if_named_like_an_image(tmp_path: Path) -> None:
    touch(tmp_path, "a.png")
    (tmp_path / "b.png").symlink_to("gone.png")
    assert listed(tmp_path) == ["a.png", "b.png"]
    (tmp_path / "night").symlink_to("unmounted")
    with pytest.raises(InputError, match=r"night: a link to unmounted, which does not exist; restore or remove it"):
        files_below(tmp_path)
    (tmp_path / "night").unlink()
    (tmp_path / "ring").symlink_to("ring")
    with pytest.raises(InputError, match="ring: a link to ring, which does not exist"):
        files_below(tmp_path)


def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scandir = os.scandir
    touch(tmp_path, "deep/a.png")

    def refused(folder: Path) -> object:
        if Path(folder).name == "deep":
            raise PermissionError(13, "Permission denied")
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(InputError, match=r"deep: the folder cannot be read \(Permission denied\)"):
        files_below(tmp_path)


def test_an_unreadable_folder_in_a_pattern_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "day/a.png", "night/b.png", ".hidden/c.png", "d.png", "day/[1].png")
    found = [str(below(path, tmp_path)) for path in matching(tmp_path, "*/*.png")]
    assert found == ["day/[1].png", "day/a.png", "night/b.png"]
    assert [path.name for path in matching(tmp_path, "n*")] == ["night"]
    scandir = os.scandir

    def refused(folder: Path) -> object:
        if Path(folder).name == "night":
            raise PermissionError(13, "Permission denied")
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(InputError, match=r"night: the folder cannot be read \(Permission denied\)"):
        list(matching(tmp_path, "*/*.png"))


def test_an_excluded_folder_is_excluded_under_any_name(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "out/label/a.png")
    (tmp_path / "link").symlink_to("out")
    assert [file.name for file in files_below(tmp_path, tmp_path / "out")] == ["a.png"]
    assert [file.name for file in files_below(tmp_path, tmp_path / "link")] == ["a.png"]
    assert files_below(tmp_path, tmp_path) == []


def test_a_name_in_another_encoding_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode("道路_01".encode("gbk") + b".png")).write_bytes(b"x")
    with pytest.raises(InputError, match=r"\\xb5\\xc0.*_01\.png: this name is not UTF-8.*convmv -f GBK") as caught:
        files_below(tmp_path)
    str(caught.value).encode()


def test_an_unsupported_image_is_listed_unless_a_supported_one_has_its_name(tmp_path: Path) -> None:
    touch(tmp_path, "a.heic", "b.npy", "b.jpg", "c.GIF", "notes.txt", "a.json")
    found = named_files(tmp_path, IMAGE_ENDINGS, DatasetError)
    assert {name: file.name for name, file in found.items()} == {"a": "a.heic", "b": "b.jpg", "c": "c.GIF"}


@pytest.mark.parametrize("layout", ["folder", "lists", "camvid"])
def test_every_format_follows_links_and_leaves_clutter_out(tmp_path: Path, layout: str) -> None:
    if layout == "camvid":
        root, read = write_camvid(tmp_path / "raw"), CamVid().samples
        parts = [root / "train", root / "trainannot"]
    else:
        root, read = write_folder(tmp_path / "raw", frames=3, lists=layout == "lists"), Folder().samples
        parts = [root / part if layout == "lists" else root / part / "train" for part in ("images", "labels")]
    before = [sample.name for sample in read(root, "train")]
    for part in parts:
        for clutter in CLUTTER:
            touch(part, clutter)
    assert [sample.name for sample in read(root, "train")] == before
    moved = before[0]
    for number, part in enumerate(parts):
        elsewhere = tmp_path / f"elsewhere-{number}"
        elsewhere.mkdir()
        (part / f"{moved}.png").rename(elsewhere / f"{moved}.png")
        (part / "night").symlink_to(elsewhere)
    if layout == "lists":
        (root / "train.txt").write_text("\n".join([f"night/{moved}", *before[1:]]))
    samples = read(root, "train")
    assert [sample.name for sample in samples] == sorted([f"night/{moved}", *before[1:]])
    samples[0].read()
