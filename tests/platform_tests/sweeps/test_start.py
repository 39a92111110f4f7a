"""What a sweep checks before Ray, torch and MLflow are imported."""

from pathlib import Path

import pytest

from gscnn_platform.config import ExperimentConfig, with_overrides
from gscnn_platform.sweeps.config import SweepConfig
from gscnn_platform.sweeps.space import with_sets
from gscnn_platform.sweeps.start import run_sweep
from gscnn_platform.training.initial_weights import InitialWeightsError


@pytest.mark.parametrize("quoted", ['none, "{}"', '"{}", none'])
def test_every_initial_weights_file_that_a_trial_may_have_is_checked(
    tiny_run: ExperimentConfig, tmp_path: Path, quoted: str
) -> None:
    recipe = with_overrides(tiny_run, {"storage": str(tmp_path), "run_name": "sweep"})
    space = with_sets(None, [f"init.weights=choice({quoted.format(tmp_path / 'missing.pth')})"])
    with pytest.raises(InitialWeightsError, match=r"--init\.weights .*missing\.pth: there is no such file or folder"):
        run_sweep(SweepConfig(recipe=recipe), space)
    assert list(tmp_path.iterdir()) == []
