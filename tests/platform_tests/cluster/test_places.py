from pathlib import Path

import pytest

from gscnn_platform import cluster


def test_paths_become_absolute_and_uris_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert cluster.resolve("runs", "--storage") == str(tmp_path / "runs")
    assert cluster.resolve(f"file://{tmp_path}/runs", "--storage") == str(tmp_path / "runs")
    assert cluster.resolve("s3://bucket/runs/", "--storage") == "s3://bucket/runs"
    assert cluster.resolve_local("page.html", "--report") == tmp_path / "page.html"
    with pytest.raises(ValueError, match=r"--report is 's3://bucket/page\.html': this is written to a folder of this"):
        cluster.resolve_local("s3://bucket/page.html", "--report")
    with pytest.raises(ValueError, match=r"s3://\.\.\.@bucket"):
        cluster.resolve("s3://key:secret@bucket/runs", "--storage")


def test_a_folder_that_cannot_be_written_is_refused_by_its_option(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"file/runs cannot be written by .*: name another by --storage FOLDER"):
        cluster.check_can_write(str(tmp_path / "file" / "runs"), "--storage")
    cluster.check_can_write(str(tmp_path / "not" / "yet"), "--storage")
    cluster.check_can_write("s3://bucket/runs", "--storage")
