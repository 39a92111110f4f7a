import numpy as np
import pytest
import torch

from gscnn_platform.config import ExperimentConfig, with_overrides
from gscnn_platform.data.loader import batches
from gscnn_platform.data.store import Store
from gscnn_platform.training.control import Control
from gscnn_platform.training.crop_counts import CropCounts
from gscnn_platform.training.worker import TrainingWorker

CPU = torch.device("cpu")


class Recorder:
    """Stands where MLflow's writer does."""

    def __init__(self) -> None:
        self.steps: list[tuple[int, dict[str, float]]] = []

    def log_steps(self, steps: list[tuple[int, dict[str, float]]]) -> None:
        self.steps += steps

    @property
    def crops(self) -> list[tuple[int, dict[str, float]]]:
        return [(step, values) for step, values in self.steps if any(key.startswith("train_crops/") for key in values)]


def of_loop(store: Store, config: ExperimentConfig, epoch: int) -> dict[str, float]:
    """Share of an epoch's crops that contain each class, crop by crop."""
    crops = [label for batch in batches(store.split("train"), config) for label in batch.label.numpy()]
    size = len(crops) // config.training.epochs
    classes = store.manifest.identity.classes
    mine = crops[(epoch - 1) * size : epoch * size]
    return {
        f"train_crops/{name}": float(np.mean([train_id in np.unique(label) for label in mine]))
        for train_id, name in enumerate(classes)
    }


@pytest.mark.parametrize(("accumulate", "share"), [(1, 0.0), (2, 0.5)])
def test_each_epoch_has_by_class_the_share_of_the_crops_that_contain_it(
    tiny_run: ExperimentConfig, streets_store: Store, accumulate: int, share: float
) -> None:
    """Two steps of five crops; test_step_over_workers has several workers."""
    changes = {"training.batch_size": 5, "augmentation.crop": (32, 32), "data.class_uniform": share}
    config = with_overrides(tiny_run, {**changes, "data.val_split": None, "training.accumulate": accumulate})
    recorder = Recorder()
    worker = TrainingWorker(config, streets_store, 0, 1, CPU, writer=recorder)  # pyright: ignore[reportArgumentType]
    worker.train(lambda _: None, Control(config.training))
    assert [step for step, _ in recorder.crops] == [1, 2]
    for epoch, shares in recorder.crops:
        assert shares == pytest.approx(of_loop(streets_store, config, epoch))
        assert 0 < min(value for value in shares.values() if value) < max(shares.values()) <= 1


def test_the_rarest_classes_are_named_after_the_first_epoch(
    streets_store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    counts = CropCounts(streets_store, "train", CPU, 1, None, speak=True)
    classes = streets_store.manifest.identity.classes
    labels = torch.full((8, 4, 4), 255, dtype=torch.uint8)
    for train_id in range(len(classes)):
        labels[: 8 - train_id % 8, train_id // 4, train_id % 4] = train_id
    counts.add(labels)
    counts.tell(epoch=1)
    expected = f"{classes[7]} 12.5%, {classes[6]} 25.0%, {classes[5]} 37.5%"
    assert capsys.readouterr().out == f"classes in the fewest crops: {expected}\n"
    counts.add(labels)
    counts.tell(epoch=2)
    assert capsys.readouterr().out == ""
