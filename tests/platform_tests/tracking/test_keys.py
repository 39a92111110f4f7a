import pytest

from gscnn_platform.scores import SCORES, TRACKED_BY_CLASS
from gscnn_platform.tracking.keys import key_of, mlflow_key

LOSSES = ("total", "seg", "edge", "attention")
FIRST = {
    *(f"train/{name}" for name in (*LOSSES, "lr", "images_per_second")),
    *("val/miou", "val/pixel_accuracy", "val/boundary_f_3px", "val/boundary_iou"),
}
"""The charts that people look at first."""
TRACKED = sorted(
    FIRST
    | {score.tracked_as for score in SCORES}
    | {f"val/best_{name}" for name in ("epoch", *(score.key for score in SCORES))}
    | {f"{of_classes.tracked_as}road (paved)" for of_classes in TRACKED_BY_CLASS}
    | {"train_crops/road (paved)", "train/grad_norm", "train/skipped", "val_evaluated/miou", "system/cpu"}
)
"""Keys that a training of a Gated-SCNN and an evaluation track."""


def charts(keys: list[str]) -> list[str]:
    """Keys in the order of the charts in MLflow 3.17: sections by what is before the last slash, `system` last."""
    sections = {key.rpartition("/")[0] for key in keys}
    ordered = [*sorted(sections - {"system"}), "system"]
    return [key for section in ordered for key in sorted(keys) if key.rpartition("/")[0] == section]


def test_the_ten_charts_that_people_look_at_come_first_and_under_our_keys() -> None:
    assert len(FIRST) == 10
    assert set(charts([mlflow_key(key) for key in TRACKED])[:10]) == FIRST
    assert set(charts(TRACKED)[:10]) != FIRST, "under our own keys they would not"


def test_each_key_is_read_back_from_mlflows_and_from_that_of_earlier_versions() -> None:
    assert len({mlflow_key(key) for key in TRACKED}) == len(TRACKED)
    assert [key_of(mlflow_key(key)) for key in TRACKED] == TRACKED
    assert [key_of(key) for key in TRACKED] == TRACKED


@pytest.mark.parametrize(
    ("ours", "mlflows"),
    [
        ("val/best_miou", "val_best/miou"),
        ("val/boundary_f_3px", "val/boundary_f_3px"),
        ("val/boundary_f_3px_present", "val_more/boundary_f_3px_present"),
        ("train_crops/car/van", "visible_in_crops/car/van"),
        ("train_crops/(paved)", "visible_in_crops/:lpar:paved:rpar:"),
        ("train/skipped", "weights/skipped"),
        ("val_iou/best_miou", "val_iou/best_miou"),
    ],
)
def test_keys_in_mlflow(ours: str, mlflows: str) -> None:
    assert mlflow_key(ours) == mlflows
