"""jobs.inspect as a whole: its page, its words, its status and its MLflow run."""

import json
import re
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient

from gscnn_platform.config import InspectConfig, TrackingConfig
from gscnn_platform.inspection.start import inspect_dataset
from gscnn_platform.names import sqlite_uri
from jobs.inspect import main
from tests.faulty_data import LACKING, write_faulty
from tests.stores import build_store


def test_the_page_needs_nothing_else_and_names_what_was_found(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    data, out = write_faulty(tmp_path / "data<b>"), tmp_path / "page.html"
    result = inspect_dataset(InspectConfig(data=str(data), out=str(out), gallery=5))
    assert (result.errors, result.warnings, result.is_clean) == (3, 2, False)
    printed = capsys.readouterr().out
    assert f"{data} has the layout of folder" in printed
    assert f"warning: no label of split val has class {LACKING}" in printed
    assert "3 errors, 2 warnings, 0 notes in 16 samples" in printed
    page = out.read_text(encoding="utf-8")
    assert "http" not in re.sub(r'src="data:[^"]*"', "", page)
    assert len(re.findall(r'src="data:image/webp;base64,', page)) == 4 * 5
    assert "data<b>" not in page
    assert "11 others are not shown" in page
    for number in range(5):
        assert page.count(f'id="sample-{number}"') == 1
    assert re.search(r'<a href="#sample-\d">train/00003: 7 px left, 9 px down</a>', page)


def test_the_classes_table_has_the_stores_counts(tmp_path: Path) -> None:
    store = build_store(tmp_path / "store")
    result = inspect_dataset(InspectConfig(data=str(store.path), out=str(tmp_path / "page.html")))
    page = result.page.read_text(encoding="utf-8")
    pixels = store.manifest.splits["train"].pixels
    for name, count in zip(store.manifest.identity.classes, pixels, strict=True):
        share = f"{100 * count / sum(pixels):.2f}%"
        assert re.search(rf"</span>{name}</td>\s*<td[^>]*>{share}</td>", page), (name, share)


@pytest.mark.parametrize(
    ("faults", "options", "status"), [(True, ["--strict"], 1), (True, [], 0), (False, ["--strict"], 0)]
)
def test_strict_ends_with_status_1_if_something_is_wrong(
    faults: bool, options: list[str], status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [str(write_faulty(tmp_path / "data", faults)), "--out", str(tmp_path / "page.html"), *options]
    monkeypatch.setattr(sys, "argv", ["inspect.py", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == status


def test_a_tracked_inspection_is_one_run_with_page_pictures_and_numbers(tmp_path: Path) -> None:
    data, uri = write_faulty(tmp_path / "data"), sqlite_uri(tmp_path / "mlflow.db")
    inspect_dataset(
        InspectConfig(
            data=str(data),
            out=str(tmp_path / "page.html"),
            gallery=3,
            track=True,
            tracking=TrackingConfig(uri=uri, experiment="data"),
        )
    )
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("data")
    assert experiment is not None
    [run] = client.search_runs([experiment.experiment_id])
    assert (run.info.run_name, run.info.status) == ("inspect-data", "FINISHED")
    assert run.data.params == {"data": str(data), "dataset": "folder", "kind": "raw dataset"}
    assert run.data.metrics["samples/train"] == 11
    assert run.data.metrics[f"images/val/{LACKING}"] == 0
    assert sum(value for key, value in run.data.metrics.items() if key.startswith("pixels/train/")) == pytest.approx(1)
    assert f"no label of split val has class {LACKING}" in run.data.tags["mlflow.note.content"]
    files = [file.path for file in client.list_artifacts(run.info.run_id, "inspection/pictures")]
    assert len(files) == 3 and all(file.endswith(".jpg") for file in files)
    page = client.download_artifacts(run.info.run_id, "inspection/inspection.html", str(tmp_path))
    assert Path(page).read_bytes() == (tmp_path / "page.html").read_bytes()


def test_the_pages_script_is_valid(tmp_path: Path) -> None:
    """The only values that reach JavaScript are data- attributes of samples, which HTML escapes."""
    data, out = write_faulty(tmp_path / "data", faults=False), tmp_path / "page.html"
    inspect_dataset(InspectConfig(data=str(data), out=str(out), gallery=2))
    page = out.read_text(encoding="utf-8")
    [script] = re.findall(r"<script>(.*?)</script>", page, re.S)
    assert "{{" not in script and "{%" not in script
    assert json.loads(f"[{','.join(re.findall(r'data-rare=.([0-9.e-]+).', page))}]")
