from dataclasses import replace

from gscnn_platform.comparison import Contender, contenders_of, differences, table
from gscnn_platform.config import EXECUTION
from tests.tracked import sweep_of, tracked, trial

MIOU = "val/miou"


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
