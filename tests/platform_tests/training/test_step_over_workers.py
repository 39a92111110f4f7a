"""A whole training run with one worker, and with two real processes over gloo."""

import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from gscnn_platform.config import ExperimentConfig, with_overrides
from gscnn_platform.data.store import Store, open_store
from gscnn_platform.training.control import Control
from gscnn_platform.training.worker import TrainingWorker
from tests.processes import run_together

TERMS = ("seg", "edge", "attention", "dual", "total")
STEPS = 10


class Recorder:
    """Replaces MLflow's writer: metric -> its value at each step."""

    def __init__(self) -> None:
        self.curves: dict[str, list[float]] = {}

    def log_steps(self, steps: list[tuple[int, dict[str, float]]]) -> None:
        for _, values in steps:
            for name, value in values.items():
                self.curves.setdefault(name, []).append(value)

    def describe(self, *_: object) -> None: ...


def freeze_batch_norms(model: nn.Module) -> None:
    """Freezes batch norm, which sees only its own worker's images; everything else must be the same."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
            module.train = lambda mode=True, module=module: module


def trained(rank: int, number: int, settings: str) -> dict[str, dict[str, Tensor]]:
    """Returns the weights after ten steps, and each step's terms and the shares of crops as logged to MLflow."""
    config = ExperimentConfig.model_validate_json(settings)
    recorder = Recorder()
    store = open_store(config.store or "")
    with warnings.catch_warnings(record=True) as shown:
        worker = TrainingWorker(config, store, rank, number, torch.device("cpu"), writer=recorder)  # pyright: ignore[reportArgumentType]
        freeze_batch_norms(worker.model)
        worker.train(lambda _: None, Control(config.training, rank, number))
    assert not [str(warning.message) for warning in shown]
    assert worker.step == STEPS
    assert recorder.curves["train/lr_backbone"] == [rate / 2 for rate in recorder.curves["train/lr"]]
    weights = {name: value.detach().clone() for name, value in worker.model.named_parameters()}
    curves = {name: torch.tensor(curve) for name, curve in recorder.curves.items()}
    crops = {name: curve for name, curve in curves.items() if name.startswith("train_crops/")}
    return {"weights": weights, "terms": {name: curves[f"train/{name}"] for name in TERMS}, "crops": crops}


def test_two_workers_take_the_steps_of_one_worker_with_frozen_batch_norm(
    tiny_run: ExperimentConfig, streets_store: Store, tmp_path: Path
) -> None:
    """Six samples in steps of four, so that every second step repeats two of them; the dual-task term draws noise."""
    changes = {
        "training.batch_size": 4,
        "training.epochs": 5,
        "training.validate_every": 5,
        "training.validate_at_start": False,
        "training.log_every": 1,
        "training.pictures": 0,
        "loss.dual": 1.0,
        "data.class_uniform": 0.5,
        "loss.attention_threshold": 0.3,  # Below all edge probabilities: none is so close that rounding decides.
        "loss.class_weights": "image",
        "optimizer.lr": 0.005,
        "model.frozen_stages": 1,  # DistributedDataParallel must not wait for their gradients.
        "optimizer.backbone_lr_factor": 0.5,
    }
    settings = with_overrides(tiny_run, changes).model_dump_json()
    alone = trained(0, 1, settings)
    first, second = run_together(trained, 2, tmp_path, settings)
    for name, value in alone["weights"].items():
        torch.testing.assert_close(first["weights"][name], value, rtol=1e-5, atol=1e-5, msg=name)
        assert torch.equal(second["weights"][name], first["weights"][name])
    assert len(alone["crops"]) == 9
    for name, curve in alone["crops"].items():
        torch.testing.assert_close(first["crops"][name], curve, rtol=0, atol=0, msg=name)
    for name, curve in alone["terms"].items():
        assert curve.min() > 1e-3, name
        torch.testing.assert_close(first["terms"][name], curve, rtol=1e-5, atol=1e-6, msg=name)
