import pytest

from gscnn_platform.reporting.start import compare_runs


@pytest.mark.parametrize(
    ("metric", "meant"), [("miou", "val/miou"), ("val_miou", "val/miou"), ("boundary_f_3px", "3px")]
)
def test_a_metric_that_is_not_a_validation_score_is_rejected_before_runs_are_read(metric: str, meant: str) -> None:
    with pytest.raises(
        ValueError, match=rf"--metric {metric} is not a validation score; did you mean .*{meant}"
    ) as told:
        compare_runs(["no-run"], "http://127.0.0.1:9", metric, "page.html")
    assert "val/pixel_accuracy" in str(told.value)


def test_options_without_a_run_are_rejected_before_anything_is_read() -> None:
    with pytest.raises(ValueError, match="name the runs or sweeps to compare"):
        compare_runs([], "http://127.0.0.1:9", "val/miou", "page.html")
