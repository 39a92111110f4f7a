import io

import pytest
import torch

from gscnn_platform.config import ExperimentConfig, with_overrides
from gscnn_platform.data.store import Store
from gscnn_platform.evaluation import EvalReport
from gscnn_platform.training.worker import NonFiniteLossError, TrainingWorker, fixed_samples

CPU = torch.device("cpu")


def worker_of(config: ExperimentConfig, store: Store, resumed: dict[str, object] | None = None) -> TrainingWorker:
    return TrainingWorker(config, store, rank=0, world_size=1, device=CPU, resumed=resumed)


def train(worker: TrainingWorker) -> dict[int, float]:
    """mIoU by epoch."""
    scores: dict[int, float] = {}

    def report(epoch: int, scored: EvalReport) -> None:
        scores[epoch] = scored.scores.miou

    worker.train(report)
    return scores


def weights(worker: TrainingWorker) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in worker.model.state_dict().items()}


def test_a_run_repeated_from_its_seed_ends_with_the_same_weights(
    tiny_run: ExperimentConfig, streets_store: Store
) -> None:
    first, second = worker_of(tiny_run, streets_store), worker_of(tiny_run, streets_store)
    other = worker_of(with_overrides(tiny_run, {"seed": 1}), streets_store)
    scores = train(first)
    assert scores == train(second)
    assert list(scores) == [1, 2]
    train(other)
    for key, value in weights(first).items():
        torch.testing.assert_close(weights(second)[key], value, rtol=0, atol=0)
    assert any(not torch.equal(weights(other)[key], value) for key, value in weights(first).items())


def test_a_run_resumed_after_an_epoch_ends_with_the_weights_of_an_undisturbed_one(
    tiny_run: ExperimentConfig, streets_store: Store
) -> None:
    undisturbed = worker_of(tiny_run, streets_store)
    saved = io.BytesIO()

    def save_after_the_first(epoch: int, _: EvalReport) -> None:
        if epoch == 1:
            torch.save(undisturbed.state(epoch), saved)

    undisturbed.train(save_after_the_first)
    saved.seek(0)
    resumed = worker_of(tiny_run, streets_store, torch.load(saved, weights_only=True))
    assert list(train(resumed)) == [2]
    assert resumed.average is not None and undisturbed.average is not None
    for ours, theirs in ((resumed.model, undisturbed.model), (resumed.average, undisturbed.average)):
        for (key, value), other in zip(ours.state_dict().items(), theirs.state_dict().values(), strict=True):
            torch.testing.assert_close(value, other, rtol=0, atol=0, msg=key)


def test_the_averaged_weights_are_what_is_validated_and_saved(tiny_run: ExperimentConfig, streets_store: Store) -> None:
    averaging = worker_of(with_overrides(tiny_run, {"training.ema_decay": 0.5}), streets_store)
    plain = worker_of(with_overrides(tiny_run, {"training.ema_decay": None}), streets_store)
    train(averaging)
    assert plain.evaluated is plain.model
    assert averaging.average is not None
    assert averaging.evaluated is averaging.average.module
    key = "head.classifier.6.weight"
    assert not torch.equal(averaging.evaluated.state_dict()[key], averaging.model.state_dict()[key])


def test_training_on_few_scenes_lowers_the_loss(
    tiny_run: ExperimentConfig, streets_store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = {"training.epochs": 8, "training.validate_every": 8, "training.log_every": 3, "optimizer.lr": 0.01}
    longer = with_overrides(tiny_run, changes)
    scores = train(worker_of(longer, streets_store))
    lines = [line for line in capsys.readouterr().out.splitlines() if "loss" in line]
    seg = [float(line.split("(seg ")[1].split(",")[0]) for line in lines]
    assert len(seg) == 8
    assert seg[-1] < 0.85 * seg[0]
    assert list(scores) == [8]


def test_the_learning_rate_falls_polynomially_to_zero(tiny_run: ExperimentConfig, streets_store: Store) -> None:
    worker = worker_of(tiny_run, streets_store)
    assert worker.steps == 3
    initial = worker.scheduler.get_last_lr()[0]
    train(worker)
    assert initial == tiny_run.optimizer.lr
    assert worker.scheduler.last_epoch == 6
    assert worker.scheduler.get_last_lr()[0] == pytest.approx(0, abs=1e-9)


def test_accumulated_batches_make_one_step(tiny_run: ExperimentConfig, streets_store: Store) -> None:
    config = with_overrides(tiny_run, {"training.accumulate": 2, "training.batch_size": 4, "training.epochs": 1})
    worker = worker_of(config, streets_store)
    train(worker)
    assert worker.scheduler.last_epoch == worker.steps == 2


def test_the_control_trains_by_the_same_path(tiny_run: ExperimentConfig, streets_store: Store) -> None:
    control = {"model.architecture": "deeplabv3plus", "loss.edge": 0, "loss.attention": 0, "training.epochs": 1}
    assert list(train(worker_of(with_overrides(tiny_run, control), streets_store))) == [1]


def test_bf16_autocast_trains(tiny_run: ExperimentConfig, streets_store: Store) -> None:
    config = with_overrides(tiny_run, {"training.precision": "bf16", "training.epochs": 1})
    worker = worker_of(config, streets_store)
    train(worker)
    assert all(parameter.dtype == torch.float32 for parameter in worker.model.parameters())
    assert all(parameter.isfinite().all() for parameter in worker.model.parameters())


def test_a_loss_that_is_not_finite_stops_the_run_and_names_step_and_terms(
    tiny_run: ExperimentConfig, streets_store: Store
) -> None:
    worker = worker_of(with_overrides(tiny_run, {"optimizer.lr": 1e30, "training.log_every": 1}), streets_store)
    with pytest.raises(NonFiniteLossError, match=r"step [2-6]: loss terms are .*'seg': (nan|inf).*optimizer\.lr"):
        train(worker)


def test_pictures_show_the_same_spread_of_samples_every_time(tiny_run: ExperimentConfig, streets_store: Store) -> None:
    assert fixed_samples(101, 4) == [12, 37, 63, 88]
    assert fixed_samples(2, 4) == [0, 1]
    assert fixed_samples(5, 0) == []
    worker = worker_of(tiny_run, streets_store)
    assert worker.picture("title").ndim == 3
