"""What a command says before its first tensor needs no torch, no Ray and no MLflow: seen in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gscnn_platform.config import ExperimentConfig
from gscnn_platform.data.store import Store
from gscnn_platform.runs.folder import RunFolder
from gscnn_platform.runs.record import RunRecord
from tests.imports import PACKAGES, ROOT
from tests.test_light_imports import HEAVY

JOBS = sorted(path.stem for path in PACKAGES["jobs"].glob("[!_]*.py"))
NAMED_FIRST = {"train": "streets", "sweep": "streets", "precompute": "streets"}
"""Jobs whose options follow a name."""

SCRIPT = """
import contextlib, io, json, runpy, sys
commands, heavy = json.loads(sys.argv[1]), json.loads(sys.argv[2])
for job, *words in commands:
    sys.argv, said, status = [job, *words], io.StringIO(), None
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            runpy.run_module(f"jobs.{job}", run_name="__main__")
        except SystemExit as end:
            status = end.code
    loaded = [name for name in heavy if name in sys.modules]
    print(json.dumps({"command": [job, *words], "status": status, "said": said.getvalue(), "loaded": loaded}))
"""

Command = tuple[str, ...]


def outcomes(commands: list[Command], folder: Path) -> list[dict[str, object]]:
    """Of commands that run one after the other in one process: status, what it said, and what of HEAVY is loaded."""
    arguments = [json.dumps(commands), json.dumps(sorted(HEAVY))]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'platform'}"}
    environment.pop("MLFLOW_TRACKING_URI", None)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def light(commands: list[Command], folder: Path, status: int) -> list[str]:
    """What commands say that end with `status` and load nothing of HEAVY."""
    found = outcomes(commands, folder)
    assert [each["command"] for each in found] == [list(command) for command in commands]
    assert [each for each in found if each["status"] != status or each["loaded"]] == []
    return [str(each["said"]) for each in found]


def test_help_of_every_job_needs_no_torch(tmp_path: Path) -> None:
    named = [(job, name, "--help") for job, name in NAMED_FIRST.items()]
    said = light([*((job, "--help") for job in JOBS), *named, ("train", "streets", "--help-all")], tmp_path, status=0)
    assert all(said)
    assert "--optimizer.momentum" in said[-1]


def test_a_misspelt_option_of_every_job_needs_no_torch(tmp_path: Path) -> None:
    commands = [(job, *filter(None, [NAMED_FIRST.get(job)]), "--strore", "x") for job in JOBS]
    assert all("--strore" in said for said in light(commands, tmp_path, status=2))


def test_options_without_the_dataset_of_jobs_inspect_name_what_is_missing(tmp_path: Path) -> None:
    [said] = light([("inspect", "--strict")], tmp_path, status=2)
    assert said.startswith("DATA is missing\nexample: python -m jobs.inspect ")


@pytest.mark.parametrize(
    ("command", "named"),
    [
        (("train", "stretes"), "streets"),
        (("train", "streets", "--training.epochs", "0"), "epochs"),
        (("train", "streets", "--loss.edge", "much"), "much"),
        (("sweep", "streets", "--scheduler", "ashe"), "ashe"),
    ],
)
def test_a_wrong_name_or_value_needs_no_torch(command: Command, named: str, tmp_path: Path) -> None:
    assert named in light([command], tmp_path, status=2)[0]


def test_what_is_wrong_with_a_run_is_said_without_torch(
    streets_store: Store, tiny_run: ExperimentConfig, tmp_path: Path
) -> None:
    store = str(streets_store.path)
    used = RunRecord(
        name="used",
        config=tiny_run,
        fingerprint=streets_store.manifest.fingerprint,
        tracking_uri="sqlite:///mlflow.db",
        run_id="0" * 32,
        state="finished",
    )
    RunFolder(str(tmp_path / "runs" / "used")).write(used)
    expected: dict[Command, str] = {
        ("train", "streets", "--store", "nowhere"): "nowhere is not a store",
        ("train", "streets", "--store", store, "--model.num-classes", "5"): "9 classes",
        ("train", "streets", "--store", store, "--data.edges.radius", "3"): "edges.radius",
        ("train", "streets", "--store", store, "--run-name", "used"): "used",
        ("train", "streets", "--store", store, "--tracking.uri", "http://127.0.0.1:1"): "http://127.0.0.1:1",
        ("sweep", "streets", "--space", "loss-small", "--store", "nowhere"): "nowhere is not a store",
        ("sweep", "streets", "--space", "lose", "--store", store): "loss-small",
        ("sweep", "streets", "--space", "ablation", "--store", store, "--set", "loss.egde=uniform(1, 2)"): "loss.edge",
        ("evaluate", "--checkpoint", "runs/used", "--store", "nowhere"): "nowhere is not a store",
        ("verify", "--store", "nowhere"): "nowhere is not a store",
        ("precompute", "camvid", "--root", "nowhere"): "nowhere",
    }
    said = light(list(expected), tmp_path, status=1)
    assert [text for text, named in zip(said, expected.values(), strict=True) if named not in text] == []
