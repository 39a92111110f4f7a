"""A run that starts from a file: from the path that was typed to the first step. Without Ray and MLflow."""

import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import save_file

from gscnn.model import build_model
from gscnn_platform.config import ExperimentConfig, InitConfig, with_overrides
from gscnn_platform.data.store import Store
from gscnn_platform.evaluation import EvalReport
from gscnn_platform.paths import as_path
from gscnn_platform.runs.checkpoint import INITIAL, CheckpointError, Content
from gscnn_platform.runs.folder import RunFolder
from gscnn_platform.runs.initial import init_report, read_initial, write_initial
from gscnn_platform.runs.resume import check_free
from gscnn_platform.training.control import Control
from gscnn_platform.training.initial_weights import (
    InitialWeightsError,
    check_initial_weights,
    read_initial_weights,
)
from gscnn_platform.training.worker import TrainingWorker
from tests.saved import save_checkpoint
from tests.weights import saved

NOWHERE = "sqlite:////nowhere/mlflow.db"


def starting_from(config: ExperimentConfig, weights: Path | str, parts: str = "all") -> ExperimentConfig:
    return with_overrides(config, {"init.weights": str(weights), "init.parts": parts})


def other_weights(config: ExperimentConfig, num_classes: int = 9) -> dict[str, torch.Tensor]:
    torch.manual_seed(77)
    return build_model(config.model.model_copy(update={"num_classes": num_classes})).state_dict()


def worker_of(config: ExperimentConfig, store: Store, **state: Any) -> TrainingWorker:
    return TrainingWorker(config, store, rank=0, world_size=1, device=torch.device("cpu"), **state)


def test_a_file_starts_the_model_and_its_average_and_a_run_resumes_without_it(
    tmp_path: Path, tiny_run: ExperimentConfig, streets_store: Store
) -> None:
    weights = other_weights(tiny_run, num_classes=5)
    file = tmp_path / "weights.safetensors"
    save_file(weights, file)
    config = starting_from(tiny_run, file)
    check_initial_weights(config.init)
    initial = read_initial_weights(config, NOWHERE)
    folder = RunFolder.of(str(tmp_path), "run")
    write_initial(folder, initial)
    file.unlink()

    tensors = read_initial(folder)
    worker = worker_of(config, streets_store, initial=tensors)
    random = worker_of(tiny_run, streets_store)
    assert worker.average is not None
    for name, value in worker.model.state_dict().items():
        expected = random.model.state_dict()[name] if name == "head.classifier.6.weight" else weights[name]
        assert torch.equal(value, expected), name
        assert torch.equal(worker.average.module.state_dict()[name], value), name

    def save(_: EvalReport | None) -> None:
        content = Content(
            weights=worker.evaluated.state_dict(),
            training_state=worker.state(),
            config=config,
            dataset=streets_store.manifest.identity,
            metrics={"step": worker.step},
            run_id="0" * 32,
        )
        folder.keep(worker.step, content, best=False)

    worker.train(save, Control(config.training))
    assert not (tmp_path / "run" / INITIAL).exists(), "the first checkpoint replaces it"
    state = io.BytesIO()
    torch.save(worker.state(), state)
    state.seek(0)
    resumed = worker_of(config, streets_store, resumed=torch.load(state, weights_only=True))
    assert resumed.step == worker.total_steps
    report = init_report(folder)
    assert report is not None
    assert report["loaded"]["head"] == [report["loaded"]["head"][1] - 1, report["loaded"]["head"][1]]


def test_a_checkpoint_of_ours_is_found_by_its_folder_and_reported_with_its_digest(
    tmp_path: Path, tiny_run: ExperimentConfig, streets_store: Store
) -> None:
    save_checkpoint(tmp_path / "run" / "best-00000003", tiny_run, streets_store)
    digest = json.loads((tmp_path / "run" / "best-00000003" / "checksums.json").read_text())["model.pt"]
    for place in (tmp_path / "run", tmp_path / "run" / "best-00000003", (tmp_path / "run").as_uri()):
        config = starting_from(tiny_run, place, parts="backbone")
        check_initial_weights(config.init)
        initial = read_initial_weights(config, NOWHERE)
        assert (initial.report["sha256"], initial.report["parts"]) == (digest, "backbone")
        assert {name.partition(".")[0] for name in initial.tensors} == {"regular_stream"}
        assert f"(sha256 {digest[:12]}): tensors loaded: backbone 60 of 60, " in initial.description
    assert json.loads(json.dumps(initial.report)) is not None


def test_training_from_a_file_is_the_same_wherever_the_file_lies(
    tmp_path: Path, tiny_run: ExperimentConfig, remote: str
) -> None:
    file = saved(tmp_path / "weights.pth", other_weights(tiny_run))
    as_path(f"{remote}/weights.pth").write_bytes(file.read_bytes())
    here, there = (starting_from(tiny_run, place) for place in (file, f"{remote}/weights.pth"))
    check_initial_weights(there.init)
    first, second = read_initial_weights(here, NOWHERE), read_initial_weights(there, NOWHERE)
    assert first.report["sha256"] == second.report["sha256"]
    folder = RunFolder.of(remote, "run")
    write_initial(folder, second)
    found = read_initial(folder)
    assert found.keys() == first.tensors.keys()
    assert all(torch.equal(value, first.tensors[name]) for name, value in found.items())
    as_path(f"{remote}/weights.pth").write_bytes(file.read_bytes()[:-9])
    with pytest.raises(InitialWeightsError, match=rf"--init\.weights {remote}/weights\.pth .* it is truncated"):
        check_initial_weights(there.init)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"<html>Sign in", r"weights\.pth is not a checkpoint: it is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
        (b"", "it is empty"),
        (None, "there is no such file or folder; pass a .pth, .pt or .safetensors file, "),
    ],
)
def test_what_is_no_file_of_weights_is_told_before_torch_reads_it(
    tmp_path: Path, content: bytes | None, told: str
) -> None:
    if content is not None:
        (tmp_path / "weights.pth").write_bytes(content)
    with pytest.raises(InitialWeightsError, match=rf"--init\.weights .*{told}"):
        check_initial_weights(InitConfig(weights=str(tmp_path / "weights.pth")))


def test_a_folder_without_a_checkpoint_is_told_with_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "frames").mkdir()
    (tmp_path / "frames" / "a.png").touch()
    with pytest.raises(InitialWeightsError, match=r"the folder holds no checkpoint, but a\.png; pass"):
        check_initial_weights(InitConfig(weights=str(tmp_path / "frames")))


def test_another_networks_file_is_refused_with_the_backbone_and_what_does_not_fit(
    tmp_path: Path, tiny_run: ExperimentConfig
) -> None:
    file = saved(tmp_path / "vgg.pth", {"features.0.weight": torch.zeros(3)})
    with pytest.raises(InitialWeightsError) as caught:
        read_initial_weights(starting_from(tiny_run, file), NOWHERE)
    told = f"--init.weights {file} with --model.backbone resnet10_small: 0 of the 60 tensors of the backbone fit"
    assert str(caught.value).startswith(told)
    assert "In the file and not in the model: features.0.weight" in str(caught.value)


def test_a_damaged_checkpoint_is_refused(tmp_path: Path, tiny_run: ExperimentConfig, streets_store: Store) -> None:
    save_checkpoint(tmp_path / "checkpoint", tiny_run, streets_store)
    (tmp_path / "checkpoint" / "metrics.json").write_text("{}")
    with pytest.raises(InitialWeightsError, match=r"checkpoint cannot be used: metrics\.json is damaged"):
        read_initial_weights(starting_from(tiny_run, tmp_path / "checkpoint"), NOWHERE)


def test_a_run_without_checkpoint_whose_weights_were_removed_says_so(
    tmp_path: Path, tiny_run: ExperimentConfig
) -> None:
    folder = RunFolder.of(str(tmp_path), "run")
    write_initial(
        folder, read_initial_weights(starting_from(tiny_run, saved(tmp_path / "w", other_weights(tiny_run))), NOWHERE)
    )
    check_free(folder)  # What a killed start leaves there is no obstacle.
    shutil.rmtree(tmp_path / "run")
    with pytest.raises(CheckpointError, match=r"no checkpoint and no initial\.pt"):
        read_initial(folder)


def test_a_path_is_kept_absolute_and_a_name_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/ada")
    assert InitConfig(weights="a/w.pth").weights == str(tmp_path / "a/w.pth")
    assert InitConfig(weights="~/w.pth").weights == "/home/ada/w.pth"
    for name in ("0123456789abcdef" * 2, "models:/net@best", "s3://bucket/w.pth", "/w.pth"):
        assert InitConfig(weights=name).weights == name


def test_two_sources_and_torchvisions_names_are_refused_with_what_to_type(tiny_run: ExperimentConfig) -> None:
    with pytest.raises(ValidationError, match=r"--model\.weights IMAGENET1K_V2"):
        InitConfig(weights="IMAGENET1K_V2")
    both = {"init.weights": "/w.pth", "model.backbone": "resnet18", "model.weights": "IMAGENET1K_V1"}
    with pytest.raises(ValidationError, match=r"`model.weights` is IMAGENET1K_V1.*add --model\.weights None"):
        with_overrides(tiny_run, both)
