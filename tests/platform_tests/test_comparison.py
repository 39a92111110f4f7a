import json
import math
from dataclasses import replace

import numpy as np
import pytest

from gscnn_platform.comparison import (
    Contender,
    DifferentDataError,
    Sweep,
    best_epoch,
    compare,
    contenders_of,
    differences,
    holm,
    paired,
    per_class,
    score,
    table,
    verdicts,
)
from gscnn_platform.config import EXECUTION
from gscnn_platform.tracking import TrackedRun
from tests.tracked import tracked, trial

MIOU = "val/miou"


def group(name: str, scores: list[float], first_seed: int = 0) -> Contender:
    return Contender(
        name, tuple(tracked(f"{name}-{seed}", value, seed + first_seed) for seed, value in enumerate(scores))
    )


def sweep_of(*trials: TrackedRun, **tags: str) -> Sweep:
    return Sweep(tracked("the sweep", {}, tags={"gscnn.sweep": "space", **tags}), trials)


def searched(edge: float, miou: float, seed: int = 0, **others) -> TrackedRun:
    tags = {"gscnn.overrides": json.dumps({"loss.edge": edge, "seed": seed})}
    return tracked(f"trial-{edge}-{seed}", miou, seed, params={"loss.edge": edge}, tags=tags, **others)


def names(*named: TrackedRun | Sweep) -> list[str]:
    return [contender.name for contender in contenders_of(named, MIOU, EXECUTION)[0]]


def test_the_paired_test_is_students_on_the_differences_seed_by_seed() -> None:
    first = {0: 0.510, 1: 0.523, 2: 0.498, 3: 0.531, 4: 0.517, 9: 0.9}
    other = {0: 0.522, 1: 0.531, 2: 0.514, 3: 0.540, 4: 0.526, 7: 0.1}
    found = paired(first, other)
    assert found is not None
    shared = np.array([other[seed] - first[seed] for seed in range(5)], np.float64)
    mean = shared.sum() / 5
    deviation = math.sqrt(((shared - mean) ** 2).sum() / 4)
    t = mean / (deviation / math.sqrt(5))
    # Student's distribution with 4 degrees of freedom in closed form, and its 97.5% quantile from the tables.
    x = t / math.sqrt(4 + t * t)
    p = 1 - x * (1.5 - 0.5 * x * x)
    half = 2.7764451052 * deviation / math.sqrt(5)
    assert (found.spread.n, found.spread.mean, found.spread.deviation) == (
        5,
        pytest.approx(mean),
        pytest.approx(deviation),
    )
    assert found.p == pytest.approx(p, rel=1e-9)
    assert (found.low, found.high) == (pytest.approx(mean - half, rel=1e-8), pytest.approx(mean + half, rel=1e-8))
    assert found.clear


def test_a_run_of_another_program_whose_params_are_no_numbers_is_compared_all_the_same() -> None:
    foreign = tracked("baseline", 0.4, params={"seed": "None", "training.epochs": "2.5"})
    ours = tracked("ours", 0.5)
    assert names(foreign, ours) == ["baseline", "ours"]
    assert "baseline" in str(compare([foreign, ours], EXECUTION, MIOU, different_data=True))


def test_no_test_without_two_shared_seeds_and_no_p_value_from_rounding() -> None:
    assert paired({0: 0.5, 1: 0.5}, {1: 0.6, 2: 0.6}) is None
    same = paired({0: 0.5, 1: 0.6, 2: 0.7}, {0: 0.5, 1: 0.6, 2: 0.7})
    shifted = paired({0: 0.1, 1: 0.2, 2: 0.3}, {0: 0.2, 1: 0.3, 2: 0.4})
    assert same is not None
    assert shifted is not None
    assert (same.p, same.clear) == (1.0, False)
    assert (shifted.p, shifted.clear) == (0.0, True)


@pytest.mark.parametrize(
    ("p_values", "corrected"),
    [
        ([0.04], [0.04]),
        ([0.01, 0.04, 0.03], [0.03, 0.06, 0.06]),
        ([0.005, 0.011, 0.02, 0.04], [0.02, 0.033, 0.04, 0.04]),
        ([0.6, 0.5], [1.0, 1.0]),
        ([], []),
    ],
)
def test_holms_correction_by_hand(p_values: list[float], corrected: list[float]) -> None:
    assert holm(p_values) == pytest.approx(corrected)


def test_a_difference_beyond_noise_is_said_with_its_size_interval_and_p_value() -> None:
    a = group("A", [0.510, 0.523, 0.498, 0.531, 0.517])
    b = group("B", [0.522, 0.531, 0.514, 0.540, 0.526])
    [sentence] = verdicts([a, b], MIOU)
    assert sentence == (
        "B is above A by 1.1 ± 0.3 points of mIoU over 5 seeds (95% interval 0.7 to 1.5; paired t-test, p = 0.0018): "
        "more than noise"
    )


def test_a_difference_within_noise_is_said_to_be_that_and_several_are_corrected() -> None:
    a, b = group("A", [0.51, 0.52, 0.50]), group("B", [0.53, 0.51, 0.50])
    c = group("C", [0.41, 0.421, 0.40])
    of_b, of_c = verdicts([a, b, c], MIOU)
    assert of_b.startswith("B is above A by 0.3")
    assert of_b.endswith("after Holm's correction for 2 comparisons): the difference cannot be told from noise")
    assert of_c.startswith("C is below A by 10.0")
    assert of_c.endswith("more than noise")
    alone = paired(a.by_seed(MIOU), b.by_seed(MIOU))
    assert alone is not None
    assert f"p = {alone.p:.2f} after" in of_b, "the larger of two p values is multiplied by 1"


def test_a_difference_that_would_do_alone_may_not_do_among_several() -> None:
    base = [0.51, 0.52, 0.50]
    a = group("A", base)
    b = group("B", [value + gain for value, gain in zip(base, (0.010, 0.0136, 0.0064), strict=True)])
    c = replace(b, name="C")
    assert verdicts([a, b], MIOU)[0].endswith("p = 0.041): more than noise")
    assert [sentence.endswith("told from noise") for sentence in verdicts([a, b, c], MIOU)] == [True, True]


@pytest.mark.parametrize(
    ("first", "other", "said"),
    [
        (group("A", [0.5]), group("B", [0.6]), "one seed each: the difference cannot be told from noise"),
        (group("A", [0.5, 0.51]), group("B", [0.6, 0.62]), "2 seeds are too few for a verdict, train with 3 or more"),
        (
            group("A", [0.5, 0.51]),
            group("B", [0.6, 0.62], 5),
            "they share none; a paired test needs 2): the difference",
        ),
        (group("A", [0.5, 0.6, 0.7]), group("B", [0.5, 0.6, 0.7]), "B and A have the same mIoU in 3 seeds"),
        (group("A", [0.5]), Contender("B", (tracked("b", {0: 0.1}),)), "B has no mIoU"),
    ],
)
def test_too_few_seeds_give_no_verdict(first: Contender, other: Contender, said: str) -> None:
    [sentence] = verdicts([first, other], MIOU)
    assert said in sentence


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


def test_runs_that_differ_in_their_seed_alone_are_one_contender() -> None:
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


def test_of_a_search_the_best_eight_settings_are_taken_and_the_others_counted() -> None:
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


def test_variants_stand_in_the_spaces_order_however_they_were_started() -> None:
    trials = [trial(name, 0.5, seed) for seed in range(2) for name in ("b", "control", "a")]
    assert names(sweep_of(*trials)) == ["b", "control", "a"]
    assert names(sweep_of(*trials, **{"gscnn.variants": '["control", "a", "b"]'})) == ["control", "a", "b"]


def test_contenders_of_one_name_are_told_apart_by_a_runs_id() -> None:
    sweeps = [sweep_of(replace(trial("control", 0.5, 0), run_id=letter * 32), trial(letter, 0.5, 0)) for letter in "ab"]
    assert names(*sweeps) == ["control aaaaaa", "a", "control bbbbbb", "b"]


def test_a_run_named_before_its_sweep_puts_its_setting_first() -> None:
    trials = [searched(edge, edge / 10, seed) for edge in (1, 2, 3) for seed in (0, 1)]
    contenders, _ = contenders_of([trials[0], sweep_of(*trials)], MIOU, EXECUTION)
    assert [contender.name for contender in contenders] == ["loss.edge 1", "loss.edge 3", "loss.edge 2"]
    assert [len(contender.runs) for contender in contenders] == [2, 2, 2]


def test_runs_that_failed_or_still_go_on_are_counted_and_named_and_change_no_mean() -> None:
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


def test_of_two_runs_of_one_seed_the_last_counts() -> None:
    contender = Contender(
        "A", (tracked("first", 0.3, 0), tracked("again", 0.5, 0, started=9), tracked("other", 0.6, 1))
    )
    assert contender.by_seed(MIOU) == {0: 0.5, 1: 0.6}
    assert contender.shortfall() == "A: 2 of 3 runs; not counted: 1 earlier run of a seed that counts"


def test_only_settings_that_differ_are_listed() -> None:
    shared = {"optimizer.lr": 0.01, "run_name": "x", "num_workers": 2}
    a = tracked("a", 0.5, 1, params={**shared, "loss.edge": 5.0})
    b = tracked("b", 0.6, 2, params={**shared, "loss.edge": 38.142756763310054, "run_name": "y", "num_workers": 4})
    found = differences([Contender("a", (a,)), Contender("b", (b,))], EXECUTION)
    assert {found.header, *found.rows} == {("setting", "a", "b"), ("seed", "1", "2"), ("loss.edge", "5", "38.14")}
    several = Contender("a", (a, replace(a, params={**a.params, "seed": "7"}, run_id="7")))
    found = differences([several, Contender("b", (b,))], EXECUTION)
    assert (found.header, found.rows) == (("contender", "loss.edge"), (("a", "5"), ("b", "38.14")))


def test_the_ablation_table_has_changes_against_the_row_before_and_the_control() -> None:
    scores = {"control": (0.50, 0.52), "+ shape": (0.53, 0.53), "+ edge": (0.52, 0.54)}
    trials = [
        trial(name, value, seed, curves={"val/boundary_f_3px": {2: value / 2}, "val/boundary_f_12px": {2: value}})
        for name, values in scores.items()
        for seed, value in enumerate(values)
    ]
    found = table(contenders_of([sweep_of(*trials)], MIOU, EXECUTION)[0])
    assert found.header == ("variant", "mIoU", "vs row above", "vs control", "F 3 px", "F 12 px", "seeds")
    assert found.rows == (
        ("control", "51.0 ± 1.4", "-", "-", "25.5", "51.0", "2"),
        ("+ shape", "53.0 ± 0.0", "+2.0", "+2.0", "26.5", "53.0", "2"),
        ("+ edge", "53.0 ± 1.4", "0.0", "+2.0", "26.5", "53.0", "2"),
    )
    lines = str(found).splitlines()
    assert [len(line) for line in lines] == [len(lines[0])] * 5
    assert lines[2].startswith("control  51.0 ± 1.4")


def test_runs_on_different_data_are_refused_by_name_and_compared_when_told_to() -> None:
    runs = [tracked("here", 0.5), tracked("there", 0.6, fingerprint="beef")]
    with pytest.raises(DifferentDataError) as refused:
        compare(runs, EXECUTION)
    for run, fingerprint in zip(runs, ("f00d", "beef"), strict=True):
        assert f"streets, fingerprint {fingerprint}: {run.name} ({run.run_id})" in str(refused.value)
    assert "--different-data" in str(refused.value)
    allowed = compare(runs, EXECUTION, different_data=True)
    assert len(allowed.different_data) == 2
    assert str(allowed).startswith("Trained on different data")
    assert compare([runs[0]], EXECUTION).different_data == ()


def test_classes_that_not_all_data_has_are_left_out_and_named() -> None:
    here = tracked("here", 0.5, curves={f"val_iou/{name}": {2: 0.5} for name in ("road", "car")})
    other = replace(
        here, profile={"samples": {"val": 9}, "pixels": {"val": {"road": 1, "tree": 1, "void": 1}}}, run_id="9"
    )
    rows, left_out = per_class([Contender("a", (here,)), Contender("b", (other,))])
    assert [row.title for row in rows] == ["road"]
    assert left_out == ["car", "pole", "tree"]
    compared = compare([here, replace(other, name="there")], EXECUTION)
    assert (
        "validated on different samples: 3 samples of split val: here; 9 samples of split val: there" in compared.notes
    )
    rows, left_out = per_class([Contender("a", (here,))])
    assert [(row.title, row.cells[0].score is None) for row in rows] == [
        ("road", False),
        ("car", False),
        ("pole", True),
    ]


def test_a_metric_that_no_run_has_is_an_error_that_names_those_they_have() -> None:
    with pytest.raises(ValueError, match=r"--metric val/f: no run has it.*\nThey have val/miou"):
        compare([tracked("a", 0.5), tracked("b", 0.5)], EXECUTION, "val/f")
    with pytest.raises(
        ValueError, match=r"none of 1 run has been validated after an epoch yet: a .* running at epoch 0"
    ):
        compare([tracked("a", {0: 0.1}, status="RUNNING")], EXECUTION)
    with pytest.raises(ValueError, match="has no trials yet"):
        compare([sweep_of()], EXECUTION)
