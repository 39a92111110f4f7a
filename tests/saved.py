"""Saves checkpoints without training, for tests of their readers."""

from pathlib import Path

import torch

from gscnn.model import build_model
from gscnn_platform.config import ExperimentConfig
from gscnn_platform.data.store import Store
from gscnn_platform.runs.checkpoint import Content, save

RUN_ID = "0" * 32


def content_of(
    model: torch.nn.Module, config: ExperimentConfig, store: Store, miou: float = 0.25, run_id: str = RUN_ID
) -> Content:
    """Returns what a run of `config` would save after epoch 3."""
    return Content(
        weights=model.state_dict(),
        training_state={"epoch": 3},
        config=config,
        dataset=store.manifest.identity,
        metrics={"val/miou": miou, "epoch": 3},
        run_id=run_id,
    )


def save_checkpoint(
    folder: Path, config: ExperimentConfig, store: Store, miou: float = 0.25, run_id: str = RUN_ID
) -> torch.nn.Module:
    """Writes an untrained model as a checkpoint of epoch 3; returns it, in evaluation mode."""
    folder.mkdir(parents=True)
    model = build_model(config.model).eval()
    save(folder, content_of(model, config, store, miou, run_id))
    return model
