import torch

from gscnn_platform.config import ExperimentConfig, with_overrides
from gscnn_platform.data.store import Store
from gscnn_platform.training.control import Control
from gscnn_platform.training.worker import TrainingWorker

FROZEN = {
    "model.frozen_stages": 2,
    "model.freeze_batch_norm": True,
    "optimizer.name": "adamw",
    "training.ema_decay": 0.9,
}


def test_frozen_weights_and_statistics_stay_bit_equal_in_the_model_and_in_its_average(
    tiny_run: ExperimentConfig, streets_store: Store
) -> None:
    worker = TrainingWorker(with_overrides(tiny_run, FROZEN), streets_store, 0, 1, torch.device("cpu"))
    before = {key: value.clone() for key, value in worker.model.state_dict().items()}
    worker.train(lambda _: None, Control(worker.config.training))
    assert worker.average is not None
    for state in (worker.model.state_dict(), worker.average.module.state_dict()):
        still = {key for key, value in state.items() if torch.equal(value, before[key])}
        # Of the backbone, only the last three stages are trained, three convolutions each.
        changed = {key for key in before if key.startswith("regular_stream.")} - still
        assert len(changed) == 9
        assert not [key for key in changed if key.startswith(("regular_stream.stem.", "regular_stream.layer1."))]
        assert not [key for key in changed if before[key].ndim < 4]
        assert not [key for key in still if key.startswith("head.classifier.")]
