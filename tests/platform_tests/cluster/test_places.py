from pathlib import Path

import pytest

from gscnn_platform import cluster, machine


def test_paths_become_absolute_and_uris_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert cluster.resolve("runs", "--storage") == str(tmp_path / "runs")
    assert cluster.resolve(f"file://{tmp_path}/runs", "--storage") == str(tmp_path / "runs")
    assert cluster.resolve("s3://bucket/runs/", "--storage") == "s3://bucket/runs"
    assert cluster.resolve_local("page.html", "--report") == tmp_path / "page.html"
    with pytest.raises(ValueError, match=r"--report is 's3://bucket/page\.html': must be on this machine"):
        cluster.resolve_local("s3://bucket/page.html", "--report")
    with pytest.raises(ValueError, match=r"s3://\.\.\.@bucket"):
        cluster.resolve("s3://key:secret@bucket/runs", "--storage")


@pytest.mark.parametrize("empty", ["", " "])
def test_an_empty_path_is_not_the_current_folder(empty: str) -> None:
    with pytest.raises(ValueError, match=r"--out is empty, as with a shell variable that is not set"):
        cluster.resolve(empty, "--out")


def test_a_line_end_of_windows_becomes_no_name_of_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"--out '.*pred\\r' ends with a carriage return"):
        cluster.resolve(f"{tmp_path}/pred\r", "--out")


def test_a_folder_that_cannot_be_written_is_refused_by_its_option(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    for place in ("file", "file/runs"):
        with pytest.raises(ValueError, match=rf"--storage .*/{place}: {tmp_path}/file is a file; name a folder"):
            cluster.check_can_write(str(tmp_path / place), "--storage")
    monkeypatch.setattr(machine, "can_write", lambda folder: False)
    with pytest.raises(ValueError, match=rf"{tmp_path} cannot be written by .*: choose another with --storage FOLDER"):
        cluster.check_can_write(str(tmp_path), "--storage")
    monkeypatch.undo()
    cluster.check_can_write(str(tmp_path / "not" / "yet"), "--storage")
    cluster.check_can_write("s3://bucket/runs", "--storage")


def test_an_empty_path_as_of_a_variable_that_is_not_set_is_refused_by_its_option() -> None:
    with pytest.raises(ValueError, match="--store is empty"):
        cluster.resolve("", "--store")


def test_a_page_is_written_to_a_file_or_what_a_link_names_and_to_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "page.html").touch()
    (tmp_path / "link.html").symlink_to("folder/page.html")
    assert cluster.resolve_local(f"{tmp_path}/page.html", "--report") == tmp_path / "page.html"
    assert cluster.resolve_local(f"{tmp_path}/link.html", "--report") == tmp_path / "link.html"
    with pytest.raises(ValueError, match=r"--report is .*folder., which is a folder: name a file"):
        cluster.resolve_local(f"{tmp_path}/folder", "--report")
    with pytest.raises(ValueError, match="--out is '/dev/null', which is not a file that can be replaced"):
        cluster.resolve_local("/dev/null", "--out")
