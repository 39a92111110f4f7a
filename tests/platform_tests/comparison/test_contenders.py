import json
import math
from dataclasses import replace

import pytest

from gscnn_platform.comparison import Contender, TrackedSweep, best_epoch, compare, contenders_of, score, table
from gscnn_platform.config import EXECUTION
from gscnn_platform.tracking import TrackedRun
from tests.tracked import sweep_of, tracked, trial

MIOU = "val/miou"


def searched(edge: float, miou: float, seed: int = 0, **others) -> TrackedRun:
    tags = {"gscnn.overrides": json.dumps({"loss.edge": edge, "seed": seed})}
    return tracked(f"trial-{edge}-{seed}", miou, seed, params={"loss.edge": edge}, tags=tags, **others)


def names(*named: TrackedRun | TrackedSweep) -> list[str]:
    return [contender.name for contender in contenders_of(named, MIOU, EXECUTION)[0]]


def test_a_run_of_another_program_with_non_numeric_params_is_compared() -> None:
    foreign = tracked("baseline", 0.4, params={"seed": "None", "training.epochs": "2.5"})
    ours = tracked("ours", 0.5)
    assert names(foreign, ours) == ["baseline", "ours"]
    assert "baseline" in str(compare([foreign, ours], EXECUTION, MIOU, different_data=True))


def test_scores_are_those_of_the_epoch_of_the_best_miou_after_training_began() -> None:
    curves = {"val/boundary_f_3px": {0: 0.9, 1: 0.3, 2: 0.4, 3: 0.5}}
    run = tracked("run", {0: 0.9, 1: 0.2, 2: 0.6, 3: 0.4}, curves=curves)
    assert best_epoch(run) == 2
    assert (score(run, MIOU), score(run, "val/boundary_f_3px")) == (0.6, 0.4)
    assert best_epoch(tracked("untrained", {0: 0.9, 1: math.nan})) is None


def test_scores_are_those_of_the_epoch_whose_checkpoint_the_run_kept() -> None:
    """By default that of the highest mIoU; else that of what the run's `training.best_metric` names."""
    miou, curves = {0: 0.9, 1: 0.2, 2: 0.6, 3: 0.4}, {"val/boundary_f_3px": {0: 0.9, 1: 0.5, 2: 0.4, 3: 0.5}}
    by = {
        metric: tracked(f"by {metric}", miou, curves=curves, params={"training.best_metric": metric})
        for metric in ("miou", "boundary_f_3px", "boundary_f_9px")
    }
    assert [best_epoch(run) for run in by.values()] == [2, 1, None], "of equal ones the first, as training keeps it"
    assert [score(run, MIOU) for run in by.values()] == [0.6, 0.2, None]
    assert "best epoch by mIoU;" in str(compare([by["miou"]], EXECUTION))
    both = str(compare([by["miou"], by["boundary_f_3px"]], EXECUTION))
    assert "best epoch by mIoU or boundary F 3 px;" in both
    assert "training.best_metric" in both, "a setting that differs"


def test_runs_that_differ_only_in_their_seed_are_one_contender() -> None:
    same = [
        tracked(f"base-s{seed}", 0.5, seed, params={"run_name": f"r{seed}", "num_workers": seed}) for seed in range(2)
    ]
    other = tracked("other", 0.6, params={"loss.edge": 5})
    assert names(*same, other) == ["base", "other"]
    assert names(*same) == ["base-s0", "base-s1"], "nothing else to compare with"
    changed = replace(same[1], tags={"code.sha256": "other"})
    assert names(same[0], changed, other) == ["base-s0", "base-s1", "other"]
    elsewhere = replace(same[1], fingerprint="beef")
    assert names(same[0], elsewhere, other) == ["base-s0", "base-s1", "other"]


def test_a_seeds_sweep_is_one_contender_with_mean_and_deviation_of_n_minus_1() -> None:
    values = [0.50, 0.53, 0.49]
    runs = [
        tracked(f"t{seed}", value, seed, tags={"gscnn.overrides": json.dumps({"seed": seed})})
        for seed, value in enumerate(values)
    ]
    [contender], _ = contenders_of([sweep_of(*runs)], MIOU, EXECUTION)
    found = contender.spread(MIOU)
    assert found is not None
    mean = sum(values) / 3
    assert (contender.name, found.n) == ("the sweep", 3)
    assert found.mean == pytest.approx(mean)
    assert found.deviation == pytest.approx(math.sqrt(sum((value - mean) ** 2 for value in values) / 2))


def test_the_best_eight_settings_of_a_search_are_taken_and_the_others_counted() -> None:
    trials = [searched(edge, 0.4 + edge / 100) for edge in range(1, 11)]
    failed = searched(99, 0.0, status="FAILED")
    failed = replace(failed, curves={MIOU: {0: 0.01}})
    contenders, [note] = contenders_of([sweep_of(*trials, failed)], MIOU, EXECUTION)
    assert [contender.name for contender in contenders] == [f"loss.edge {edge}" for edge in range(10, 2, -1)]
    assert "the best 8 of 11 settings" in note
    assert "3 left out, of which without a score: 1 failed at epoch 0 of 2" in note


def test_seeds_of_one_searched_setting_are_ranked_by_their_mean() -> None:
    trials = [searched(1, 0.9), searched(1, 0.1, seed=1), searched(2, 0.6), searched(2, 0.6, seed=1)]
    assert names(sweep_of(*trials)) == ["loss.edge 2", "loss.edge 1"]


def test_a_searched_path_is_named_by_its_last_part_and_other_values_as_they_are() -> None:
    values = ["/runs/streets-1", "s3://bucket/runs/two/", "models:/net@best", "resnet18", "timm/convnext_atto", 0.12345]
    trials = [
        tracked(f"t{n}", 0.9 - n / 10, params={"x": n}, tags={"gscnn.overrides": json.dumps({"x": value})})
        for n, value in enumerate(values)
    ]
    expected = ["streets-1", "two", "net@best", "resnet18", "timm/convnext_atto", "0.123"]
    assert names(sweep_of(*trials)) == [f"x {text}" for text in expected]


def test_variants_keep_the_search_spaces_order_whatever_their_start_order() -> None:
    trials = [trial(name, 0.5, seed) for seed in range(2) for name in ("b", "control", "a")]
    assert names(sweep_of(*trials)) == ["b", "control", "a"]
    assert names(sweep_of(*trials, **{"gscnn.variants": '["control", "a", "b"]'})) == ["control", "a", "b"]


def test_contenders_with_the_same_name_are_distinguished_by_a_run_id() -> None:
    sweeps = [sweep_of(replace(trial("control", 0.5, 0), run_id=letter * 32), trial(letter, 0.5, 0)) for letter in "ab"]
    assert names(*sweeps) == ["control aaaaaa", "a", "control bbbbbb", "b"]


def test_a_run_named_before_its_sweep_puts_its_setting_first() -> None:
    trials = [searched(edge, edge / 10, seed) for edge in (1, 2, 3) for seed in (0, 1)]
    contenders, _ = contenders_of([trials[0], sweep_of(*trials)], MIOU, EXECUTION)
    assert [contender.name for contender in contenders] == ["loss.edge 1", "loss.edge 3", "loss.edge 2"]
    assert [len(contender.runs) for contender in contenders] == [2, 2, 2]


def test_failed_and_running_runs_are_listed_and_do_not_change_the_mean() -> None:
    finished = [tracked("r0", 0.5, 0), tracked("r1", 0.6, 1)]
    failed = tracked("r2", {0: 0.01, 1: 0.05}, 2, status="FAILED")
    running = tracked("r3", {0: 0.01}, 3, status="RUNNING")
    early = tracked("r4", {0: 0.01, 1: 0.3}, 4)
    contender = Contender("A", (*finished, failed, running, early))
    found = contender.spread(MIOU)
    assert found is not None
    assert (found.n, found.mean) == (2, pytest.approx(0.55))
    assert contender.shortfall() == (
        "A: 2 of 5 runs; not counted: "
        "1 failed at epoch 1 of 2, 1 running at epoch 0 of 2, 1 ended early at epoch 1 of 2"
    )
    assert table([contender]).rows[0][-1] == "2 of 5"
    alone = Contender("B", (failed,))
    assert alone.by_seed(MIOU) == {2: 0.05}
    assert alone.shortfall() == "B: failed at epoch 1 of 2, counted as far as it got"


def test_the_last_of_two_runs_with_the_same_seed_counts() -> None:
    contender = Contender(
        "A", (tracked("first", 0.3, 0), tracked("again", 0.5, 0, started=9), tracked("other", 0.6, 1))
    )
    assert contender.by_seed(MIOU) == {0: 0.5, 1: 0.6}
    assert contender.shortfall() == "A: 2 of 3 runs; not counted: 1 earlier run of a seed that counts"
