"""The config of a sweep, and the base config of its trials."""

import json
import sys
from pathlib import Path

import pytest

from gscnn_platform.cluster import Node
from gscnn_platform.command_line import choose
from gscnn_platform.command_line.options import Options
from gscnn_platform.config import ExperimentConfig, with_overrides
from gscnn_platform.runs.folder import RunFolder
from gscnn_platform.runs.resume import choose_run
from gscnn_platform.sweeps import SweepConfig
from gscnn_platform.sweeps.driver import with_resources
from gscnn_platform.sweeps.record import SweepRecord, wanted_sweep
from gscnn_platform.sweeps.search_spaces import SEARCH_SPACES
from jobs import sweep
from tests.nodes import there

SPACE = SEARCH_SPACES["loss-small"]


def sweep_of(run: ExperimentConfig, **changes: object) -> SweepConfig:
    config = with_overrides(SweepConfig.of(run), changes)
    return config


def test_a_second_metric_is_rejected_with_the_option_to_use(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["sweep.py", "streets", "--training.best-metric", "boundary_f_3px"])
    with pytest.raises(SystemExit):
        sweep.main()
    assert capsys.readouterr().err.startswith(
        "--training.best-metric is boundary_f_3px: a sweep selects checkpoints by --metric, which is miou: "
        "pass --metric boundary_f_3px instead"
    )


def test_trials_select_checkpoints_by_the_sweeps_metric(tiny_run: ExperimentConfig) -> None:
    assert SweepConfig.of(tiny_run).trial_config.training.best_metric == "miou"
    assert sweep_of(tiny_run, metric="boundary_f_5px").trial_config.training.best_metric == "boundary_f_5px"
    both = {"metric": "boundary_f_5px", "training.best_metric": "boundary_f_5px"}
    assert sweep_of(tiny_run, **both).trial_config.training.best_metric == "boundary_f_5px"
    of_recipe = SweepConfig.of(with_overrides(tiny_run, {"training.best_metric": "pixel_accuracy"}))
    assert of_recipe.metric == "pixel_accuracy"
    changed = with_overrides(of_recipe, {"metric": "miou"})
    assert changed.trial_config.training.best_metric == "miou"


def test_trials_validate_untrained_models_on_request(tiny_run: ExperimentConfig) -> None:
    assert tiny_run.training.validate_at_start
    assert not SweepConfig.of(tiny_run).trial_config.training.validate_at_start
    assert sweep_of(tiny_run, **{"training.validate_at_start": True}).trial_config.training.validate_at_start


def test_trials_keep_the_other_settings_of_the_recipe(tiny_run: ExperimentConfig) -> None:
    assert with_overrides(SweepConfig.of(tiny_run).recipe, {"training.validate_at_start": True}) == tiny_run


def test_a_record_has_the_recipes_fields_next_to_the_sweeps_own(tiny_run: ExperimentConfig) -> None:
    config = sweep_of(tiny_run, num_trials=3, **{"loss.edge": 7.0})
    written = json.loads(config.model_dump_json())
    assert set(written) == {*ExperimentConfig.model_fields, *SweepConfig.model_fields} - {"recipe"}
    assert (written["num_trials"], written["loss"]["edge"]) == (3, 7.0)
    assert SweepConfig.model_validate(written) == config
    with pytest.raises(ValueError, match="num_trial\n"):
        SweepConfig.model_validate({**written, "num_trial": 3})


def test_every_option_of_a_recipe_is_an_option_of_a_sweep_with_the_same_name(
    tiny_run: ExperimentConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert set(Options.of(tiny_run).flags()) < set(Options.of(SweepConfig.of(tiny_run)).flags())
    typed = [
        "--training.epochs",
        "3",
        "--num-trials",
        "5",
        "--seed",
        "1",
        "--set",
        "a=b",
        "--set",
        "c=d",
        "--no-resume",
    ]
    monkeypatch.setattr(sys, "argv", ["sweep.py", "tiny", *typed])
    found = choose({"tiny": ("", SweepConfig.of(tiny_run))}, "python -m jobs.sweep tiny: x", "recipe", repeated=True)
    expected = {"training.epochs": 3, "num_trials": 5, "seed": 1, "set": ("a=b", "c=d"), "resume": False}
    assert found == with_overrides(SweepConfig.of(tiny_run), expected)


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["--training.epochs", "0"], "--training.epochs is 0: must be 1 or more"),
        (["--min-workers", "4"], "--min-workers is 4: must be at most --num-workers, 1"),
        (["--num-trials", "0"], "--num-trials is 0: must be 1 or more"),
    ],
)
def test_an_invalid_value_is_reported_with_its_option(
    typed: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["sweep.py", "streets", *typed])
    with pytest.raises(SystemExit):
        sweep.main()
    assert capsys.readouterr().err.strip() == said


def test_a_sweep_with_another_metric_is_found_to_resume(
    tmp_path: Path, tiny_run: ExperimentConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    there(monkeypatch, [Node(2)])
    config = sweep_of(tiny_run, metric="boundary_f_3px")
    record = SweepRecord(
        name="sweep-streets-1",
        config=with_resources(config, 4)[0],
        space=SPACE,
        fingerprint="data",
        tracking_uri="sqlite:///mlflow.db",
        run_id="0" * 32,
        began=0.0,
        state="stopped",
    )
    folder = RunFolder.of(str(tmp_path), "sweep-streets-1")
    folder.write(record)
    assert choose_run(wanted_sweep(config, SPACE, "data"), str(tmp_path)) == (folder, record)


@pytest.mark.parametrize(
    ("nodes", "changes", "side_by_side", "asked_for"),
    [
        ([Node(4)], {}, 4, 4),
        ([Node(4)], {"max_concurrent": 2}, 2, 2),
        ([Node(4)], {"max_concurrent": 9}, 4, 4),
        ([Node(4)], {"num_workers": 2, "training.batch_size": 4}, 2, 4),
        ([], {"wait_for_nodes": True}, 1, 1),
        ([], {"wait_for_nodes": True, "max_concurrent": 3}, 3, 3),
        ([], {"wait_for_nodes": True, "max_concurrent": 9}, 9, 5),
        ([Node(2)], {"wait_for_nodes": True, "max_concurrent": 3}, 3, 3),
        ([], {"wait_for_nodes": True, "max_concurrent": 3, "num_workers": 2, "training.batch_size": 4}, 3, 6),
    ],
)
def test_trials_run_in_parallel_as_far_as_they_fit_or_nodes_are_requested(
    nodes: list[Node],
    changes: dict[str, object],
    side_by_side: int,
    asked_for: int,
    tiny_run: ExperimentConfig,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    there(monkeypatch, nodes, head=True)
    config, workers, found = with_resources(sweep_of(tiny_run, use_gpu=False, **changes), count=5)
    assert (found, workers.number) == (side_by_side, asked_for)
    assert (config.recipe.use_gpu, config.recipe.cpus_per_worker) == (False, 1)
