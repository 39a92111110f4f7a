from dataclasses import replace

import pytest

from gscnn_platform.comparison import Contender, DifferentDataError, compare, per_class
from gscnn_platform.config import EXECUTION
from tests.tracked import sweep_of, tracked


def test_runs_on_different_data_are_rejected_by_name_unless_allowed() -> None:
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
