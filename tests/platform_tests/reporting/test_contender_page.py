import io
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path

import mlflow
import numpy as np
import pytest
from PIL import Image

from gscnn_platform.comparison import TrackedSweep, compare
from gscnn_platform.config import EXECUTION, ExperimentConfig
from gscnn_platform.reporting.contender_curves import curves_picture
from gscnn_platform.reporting.contender_page import Scenes, render_comparison
from gscnn_platform.runs.folder import RunFolder
from gscnn_platform.runs.record import RunRecord
from gscnn_platform.tracking import TrackedRun
from jobs import compare as job
from tests.tracked import CLASSES, log, tracked, trial

SCORES = {"control": (0.50, 0.52, 0.51), "+ <edge>": (0.56, 0.57, 0.565)}


class Reader(HTMLParser):
    """Collects the rows of all tables, what the page loads and links to, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.loaded: list[str] = []
        self.links: list[str] = []
        self.tags: list[str] = []
        self.text = ""
        self.in_cell = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self.in_cell = True
        self.loaded += [value or "" for key, value in attrs if key == "src"]
        self.links += [value or "" for key, value in attrs if key == "href"]

    def handle_endtag(self, tag: str) -> None:
        self.in_cell = self.in_cell and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.in_cell:
            self.rows[-1][-1] += data.strip()


def png(colour: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((4, 6, 3), colour, np.uint8)).save(file, format="png")
    return file.getvalue()


def runs(name: str, scores: Sequence[float]) -> list[TrackedRun]:
    return [
        trial(
            name,
            value,
            seed,
            params={"loss.edge": len(name)},
            curves={
                **{f"val_iou/{label}": {2: value / (place + 1)} for place, label in enumerate(CLASSES)},
                "val/boundary_f_3px": {1: value / 3, 2: value / 2},
                "train/total": {step: 3 / step for step in range(1, 40)},
            },
        )
        for seed, value in enumerate(scores)
    ]


@pytest.fixture
def sweep() -> TrackedSweep:
    trials = [run for name, scores in SCORES.items() for run in runs(name, scores)]
    failed = tracked("broken", {0: 0.1, 1: 0.2}, 7, status="FAILED", tags={"gscnn.variant": "+ <edge>"})
    trials.append(replace(failed, tags={**failed.tags, "failure": "NonFiniteLossError: step 3"}))
    in_order = [replace(run, started=run.started + timedelta(seconds=place)) for place, run in enumerate(trials)]
    return TrackedSweep(tracked("the sweep", {}, tags={"gscnn.sweep": "ablation"}), in_order)


def test_the_page_shows_scores_differences_verdicts_and_every_run_and_loads_nothing(sweep: TrackedSweep) -> None:
    comparison = compare([sweep], EXECUTION)
    scenes = [Scenes(each.name, each.counted[0], 2, png(place)) for place, each in enumerate(comparison.contenders)]
    found = Reader(render_comparison(comparison, scenes))
    assert ["control", "51.0 ± 1.0", "-", "-", "25.5", "3"] in found.rows
    assert ["+ <edge>", "56.5 ± 0.5", "+5.5", "+5.5", "28.2", "3 of 4"] in found.rows
    assert ["mIoU", "51.0 ± 1.0", "56.5 ± 0.5", "+5.5"] in found.rows
    assert ["pole", "17.0 ± 0.3", "18.8 ± 0.2", "+1.8"] in found.rows
    assert ["+ <edge>", "8"] in found.rows
    [broken] = [row for row in found.rows if row[0] == "broken"]
    assert "failed at epoch 1 of 2, not counted" in broken[3]
    assert "NonFiniteLossError" in broken[3]
    assert "+ <edge> is above control by 5.5" in found.text
    assert found.links == [run.link for contender in comparison.contenders for run in contender.runs]
    assert len(found.loaded) == 3
    assert all(source.startswith("data:image/png;base64,") for source in found.loaded)
    assert not {"script", "link", "iframe"} & set(found.tags)


def test_the_page_says_at_the_top_that_data_differ_and_which_scenes_are_not_the_same() -> None:
    named = [tracked("here", 0.5), tracked("there", 0.6, fingerprint="beef")]
    comparison = compare(named, EXECUTION, different_data=True)
    page = render_comparison(comparison, [Scenes(run.name, run, 1, png(1)) for run in named])
    found = Reader(page)
    text = found.text.partition("here against there")[2]
    assert text.index("Trained on different data") < text.index("mIoU")
    assert "These are not the same scenes" in text
    assert "last picture, epoch 1" in text
    assert "±" not in text.partition("What differs")[2], "one seed each has no deviation"


def test_the_curves_are_drawn_of_one_run_of_many_and_of_none_that_counts(sweep: TrackedSweep) -> None:
    for named in ([sweep.trials[0]], [sweep], [*(tracked(f"run {place}", 0.5) for place in range(10))]):
        contenders = compare(named, EXECUTION, metric="val/miou").contenders
        assert Image.open(io.BytesIO(curves_picture(contenders, "val/miou"))).size[0] == 1320


def run_job(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["jobs.compare", *map(str, arguments)])
    job.main()


def test_the_job_takes_a_sweep_a_run_name_or_a_folder_and_prints_what_the_page_shows(
    sweep: TrackedSweep,
    tiny_run: ExperimentConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "runs").mkdir()
    uri = f"sqlite:///{tmp_path}/runs/mlflow.db"
    client = mlflow.MlflowClient(uri)
    experiment = client.create_experiment("gscnn", (tmp_path / "artifacts").as_uri())
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    (pictures / "epoch-002.png").write_bytes(png(9))
    parent = client.create_run(experiment, run_name="the sweep", tags={"gscnn.sweep": "ablation"}).info.run_id
    for run in sweep.trials:
        of_sweep = replace(run, tags={**run.tags, "mlflow.parentRunId": parent})
        log(client, of_sweep, experiment, {"validation": str(pictures)})
    alone = tracked("alone", 0.4, curves={"val/boundary_f_3px": {2: 0.3}})
    run_id = log(client, alone, experiment)
    record = RunRecord(
        name="alone", config=tiny_run, fingerprint="f00d", tracking_uri=uri, run_id=run_id, state="finished"
    )
    RunFolder(str(tmp_path / "runs" / "alone")).write(record)

    run_job(monkeypatch, parent)
    printed = capsys.readouterr().out
    assert "variant" in printed
    assert "+ <edge> is above control by 5.5 ± 0.5 points of mIoU over 3 seeds" in printed.replace(
        "the 3 seeds", "3 seeds"
    )
    assert "not counted: 1 failed at epoch 1 of 2" in printed
    assert f"report  {tmp_path}/comparison.html" in printed
    assert len(Reader((tmp_path / "comparison.html").read_text()).loaded) == 3

    run_job(monkeypatch, "runs/alone", "the sweep", "--metric", "val/boundary_f_3px", "--out", "new/page.html")
    printed = capsys.readouterr().out
    assert "vs alone" in printed
    assert "control is below alone by 4.5 points of boundary F 3 px on average" in printed
    assert (tmp_path / "new" / "page.html").is_file()

    other = log(client, replace(alone, name="elsewhere", fingerprint="beef"), experiment)
    for arguments, message in {
        ("alone", other): f"streets, fingerprint beef: elsewhere ({other})",
        ("nobody",): "no run at",
        ("pictures",): "pictures is not a folder of a run or a sweep",
        ("--metric", "val/miou"): "name the runs or sweeps to compare",
    }.items():
        with pytest.raises(SystemExit) as stopped:
            run_job(monkeypatch, *arguments)
        assert stopped.value.code == 1
        assert message in capsys.readouterr().err
    run_job(monkeypatch, "alone", other, "--different-data")
    assert capsys.readouterr().out.startswith("Trained on different data")
