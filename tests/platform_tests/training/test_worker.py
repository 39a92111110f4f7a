import copy
import io
import re
from dataclasses import replace
from itertools import islice

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from gscnn.batch import SegBatch, SegmentationOutput
from gscnn.constants import IGNORE_INDEX
from gscnn_platform.config import ExperimentConfig, with_overrides
from gscnn_platform.data.loader import batches, epoch_order, fixed_samples
from gscnn_platform.data.store import Store
from gscnn_platform.evaluation import EvalReport
from gscnn_platform.training.control import Control
from gscnn_platform.training.step_signal import Signal
from gscnn_platform.training.worker import NonFiniteLossError, TrainingWorker

CPU = torch.device("cpu")


def worker_of(config: ExperimentConfig, store: Store, resumed: dict[str, object] | None = None) -> TrainingWorker:
    return TrainingWorker(config, store, rank=0, world_size=1, device=CPU, resumed=resumed)


def train(worker: TrainingWorker, control: Control | None = None) -> dict[int, float]:
    """Returns mIoU by epoch."""
    scores: dict[int, float] = {}

    def save(report: EvalReport | None) -> None:
        if report is not None:
            scores[worker.step // worker.steps] = report.scores.miou

    worker.train(save, control or Control(worker.config.training))
    return scores


def weights(worker: TrainingWorker) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in worker.model.state_dict().items()}


def test_a_run_repeated_with_its_seed_ends_with_the_same_weights(
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


def test_attention_counts_from_the_step_of_its_start(tiny_run: ExperimentConfig, streets_store: Store) -> None:
    """Of six steps, the first three are those of a run without the term, and the fourth is not."""
    after: dict[str, list[torch.Tensor]] = {}
    runs = {"later": {"loss.attention_start": 0.5}, "never": {"loss.attention": 0}}
    for name, changes in runs.items():
        base = {"training.checkpoint_steps": 1, "loss.attention": 1.0, "loss.attention_threshold": 0.0}
        worker, steps = worker_of(with_overrides(tiny_run, {**base, **changes}), streets_store), []

        def save(_: EvalReport | None, worker: TrainingWorker = worker, steps: list[torch.Tensor] = steps) -> None:
            steps.append(torch.cat([value.flatten() for value in worker.model.parameters()]).detach().clone())

        assert worker.train(save, Control(worker.config.training))
        after[name] = steps
    assert [torch.equal(*pair) for pair in zip(after["later"], after["never"], strict=True)] == [True] * 3 + [False] * 3


WARMUP = {"optimizer.warmup_epochs": 1.5}
EVERY_SETTING = {
    "optimizer.name": "adamw",
    "optimizer.lr": 0.001,
    "optimizer.schedule": "one_cycle",
    "optimizer.decay_norms_and_biases": False,
    "optimizer.backbone_lr_factor": 0.5,
    "model.frozen_stages": 2,
    "model.freeze_batch_norm": True,
}


@pytest.mark.parametrize(("killed_after", "settings"), [(1, WARMUP), (3, WARMUP), (4, WARMUP), (4, EVERY_SETTING)])
def test_a_run_resumed_at_any_step_ends_with_the_weights_of_an_uninterrupted_one(
    tiny_run: ExperimentConfig, streets_store: Store, killed_after: int, settings: dict[str, object]
) -> None:
    """An epoch has three steps and warmup takes four and a half; the dual-task term draws noise in each step."""
    changes = {"training.checkpoint_steps": 1, "loss.dual": 1.0, **settings}
    config = with_overrides(tiny_run, changes)
    undisturbed = worker_of(config, streets_store)
    states: dict[int, bytes] = {}

    def save(_: EvalReport | None) -> None:
        file = io.BytesIO()
        torch.save(undisturbed.state(), file)
        states[undisturbed.step] = file.getvalue()

    assert undisturbed.train(save, Control(config.training))
    assert list(states) == [1, 2, 3, 4, 5, 6]
    resumed = worker_of(config, streets_store, torch.load(io.BytesIO(states[killed_after]), weights_only=True))
    assert list(train(resumed)) == ([1, 2] if killed_after < 3 else [2])
    assert resumed.average is not None and undisturbed.average is not None
    assert resumed.best == undisturbed.best
    for ours, theirs in ((resumed.model, undisturbed.model), (resumed.average, undisturbed.average)):
        for (key, value), other in zip(ours.state_dict().items(), theirs.state_dict().values(), strict=True):
            torch.testing.assert_close(value, other, rtol=0, atol=0, msg=key)


def test_a_state_resumes_under_the_optimizer_settings_of_the_config(
    tiny_run: ExperimentConfig, streets_store: Store
) -> None:
    before = worker_of(tiny_run, streets_store)
    changes = {"optimizer.momentum": 0.5, "optimizer.weight_decay": 0.25, "optimizer.nesterov": False}
    resumed = worker_of(with_overrides(tiny_run, changes), streets_store, before.state())
    [group] = resumed.optimizer.param_groups
    assert (group["momentum"], group["weight_decay"], group["nesterov"]) == (0.5, 0.25, False)


def test_a_stop_request_saves_and_ends_after_the_step(tiny_run: ExperimentConfig, streets_store: Store) -> None:
    worker = worker_of(tiny_run, streets_store)
    saved: list[int] = []
    asked = iter([Signal.GO_ON, Signal.STOP])
    done = worker.train(lambda _: saved.append(worker.step), Control(tiny_run.training, asked=lambda: next(asked)))
    assert not done
    assert (saved, worker.step) == ([2], 2)


def test_the_averaged_weights_are_validated_and_saved(tiny_run: ExperimentConfig, streets_store: Store) -> None:
    averaging = worker_of(with_overrides(tiny_run, {"training.ema_decay": 0.5}), streets_store)
    plain = worker_of(with_overrides(tiny_run, {"training.ema_decay": None}), streets_store)
    train(averaging)
    assert plain.evaluated is plain.model
    assert averaging.average is not None
    assert averaging.evaluated is averaging.average.module
    key = "head.classifier.6.weight"
    assert not torch.equal(averaging.evaluated.state_dict()[key], averaging.model.state_dict()[key])


def test_a_validation_reports_the_score_that_selects_the_best_checkpoint(
    tiny_run: ExperimentConfig, streets_store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    worker = worker_of(with_overrides(tiny_run, {"training.best_metric": "pixel_accuracy"}), streets_store)
    worker.step = worker.steps
    report = worker.validate()
    assert report is not None
    assert worker.best == {"score": report.scores.pixel_accuracy, "epoch": 1}
    assert f"epoch 1/2 · validation pixel accuracy {report.scores.pixel_accuracy:.4f}\n" in capsys.readouterr().out


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
    rates: list[float] = [worker.learning_rate]
    train(worker, Control(tiny_run.training, asked=lambda: (rates.append(worker.learning_rate), Signal.GO_ON)[1]))
    assert worker.steps == 3
    assert rates == pytest.approx([tiny_run.optimizer.lr * (1 - step / 6) ** 0.9 for step in range(7)])


def test_steps_are_taken_at_the_learning_rate_of_scaling_and_warm_up(
    tiny_run: ExperimentConfig, streets_store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two images per step with an `lr` for four: half of it, reached over the three steps of the first epoch."""
    changes = {"optimizer.lr_scaling": "linear", "optimizer.warmup_epochs": 1.0, "optimizer.poly_power": 0.0}
    worker = worker_of(with_overrides(tiny_run, changes), streets_store)
    taken: list[float] = []
    control = Control(
        tiny_run.training, asked=lambda: (taken.append(worker.optimizer.param_groups[0]["lr"]), Signal.GO_ON)[1]
    )
    train(worker, control)
    lr = tiny_run.optimizer.lr / 2
    assert taken == pytest.approx([lr / 3, 2 * lr / 3, lr, lr, lr, lr])
    printed = capsys.readouterr().out
    assert f"· learning rate {lr:g} ({2 * lr:g} for 4 images, linear), schedule poly, warm-up over epochs: 1" in printed


def test_synchronized_batch_norm_is_over_all_workers_and_in_every_layer(
    tiny_run: ExperimentConfig, streets_store: Store
) -> None:
    worker = worker_of(with_overrides(tiny_run, {"training.sync_bn": True}), streets_store)
    norms = [each for each in worker.model.modules() if isinstance(each, torch.nn.modules.batchnorm._BatchNorm)]
    assert len(norms) > 20
    for norm in norms:
        assert isinstance(norm, torch.nn.SyncBatchNorm)
        assert norm.process_group is None, "torch's default group, which is the whole world and no node's own"


def test_the_loss_has_the_class_weights_of_the_training_split(tiny_run: ExperimentConfig, streets_store: Store) -> None:
    config = with_overrides(tiny_run, {"loss.class_weights": "inverse_log"})
    expected = streets_store.class_weights(config.loss, "train")
    assert expected is not None and expected.tolist() != [1] * 9
    loss = worker_of(config, streets_store).loss
    assert loss.class_weights is not None and loss.class_weights.tolist() == expected.tolist()


def test_every_pixel_of_a_step_has_the_same_weight_in_unequal_batches(
    tiny_run: ExperimentConfig, streets_store: Store
) -> None:
    """Eight images as batches of 3, 3 and 2: seg and edge terms are divided by the counts of all eight."""
    plain = {"loss.attention": 0.0, "loss.class_weights": None}
    changes = {"training.accumulate": 3, "training.batch_size": 8, **plain}
    worker = worker_of(with_overrides(tiny_run, changes), streets_store)
    feed = list(islice(batches(worker.train_reader, worker.config), 3))
    assert [len(batch) for batch in feed] == [3, 3, 2]
    start = copy.deepcopy(worker.model)
    terms = worker._gradients(iter(feed))
    outputs = [start(batch.image, batch.gradient) for batch in feed]
    logits = torch.cat([output.seg_logits for output in outputs])
    edges = torch.cat([output.edge_logits for output in outputs])[:, 0]
    label = torch.cat([batch.label for batch in feed]).long()
    boundary = torch.cat([batch.boundary for batch in feed])[:, 0].float()
    seg = cross_entropy(logits, label, ignore_index=IGNORE_INDEX)
    valid = label != IGNORE_INDEX
    share = boundary[valid].mean()
    weights = torch.where(boundary > 0, 1 - share, share)
    edge = binary_cross_entropy_with_logits(edges[valid], boundary[valid], weights[valid])
    assert float(terms["seg"]) == pytest.approx(float(seg.detach()), rel=1e-5)
    assert float(terms["edge"]) == pytest.approx(float(edge.detach()), rel=1e-5)
    (seg + worker.config.loss.edge * edge).backward()
    for ours, (name, parameter) in zip(worker.model.parameters(), start.named_parameters(), strict=True):
        if parameter.grad is not None:
            torch.testing.assert_close(ours.grad, parameter.grad, rtol=1e-4, atol=1e-6, msg=name)


def test_accumulated_batches_make_one_step(tiny_run: ExperimentConfig, streets_store: Store) -> None:
    config = with_overrides(tiny_run, {"training.accumulate": 2, "training.batch_size": 4, "training.epochs": 1})
    worker = worker_of(config, streets_store)
    train(worker)
    assert worker.step == worker.steps == 2


def test_the_control_model_trains_by_the_same_path(tiny_run: ExperimentConfig, streets_store: Store) -> None:
    control = {"model.architecture": "deeplabv3plus", "loss.edge": 0, "loss.attention": 0, "training.epochs": 1}
    assert list(train(worker_of(with_overrides(tiny_run, control), streets_store))) == [1]


def test_bf16_autocast_trains(tiny_run: ExperimentConfig, streets_store: Store) -> None:
    config = with_overrides(tiny_run, {"training.precision": "bf16", "training.epochs": 1})
    worker = worker_of(config, streets_store)
    train(worker)
    assert all(parameter.dtype == torch.float32 for parameter in worker.model.parameters())
    assert all(parameter.isfinite().all() for parameter in worker.model.parameters())


def poisoned(worker: TrainingWorker, *steps: int) -> TrainingWorker:
    """Makes the loss NaN at the given steps; the first step is 1."""
    loss = worker.loss

    class Poisoned(torch.nn.Module):
        def forward(self, output: SegmentationOutput, batch: SegBatch, *rest: object) -> dict[str, torch.Tensor]:
            terms = loss(output, batch, *rest)
            if worker.step + 1 in steps:
                terms = {
                    name: value * float("nan") if name in ("total", "seg") else value for name, value in terms.items()
                }
            return terms

    worker.loss = Poisoned()  # pyright: ignore[reportAttributeAccessIssue]
    return worker


def test_a_nonfinite_loss_stops_the_run_at_that_step_with_terms_and_samples(
    tiny_run: ExperimentConfig, streets_store: Store
) -> None:
    worker = poisoned(worker_of(tiny_run, streets_store), 5)
    saved: list[int] = []
    samples = [worker.train_reader.names[index] for index in epoch_order(6, 2, tiny_run.seed, epoch=1)[1]]
    named = rf"step 5: .*seg nan, edge [\d.e-]+, .* on samples {samples[0]}, {samples[1]}\..*--optimizer\.clip-norm"
    with pytest.raises(NonFiniteLossError, match=named):
        worker.train(lambda _: saved.append(worker.step), Control(tiny_run.training))
    assert saved == [3], "the checkpoint before it stays the last"


def test_a_nonfinite_step_can_be_skipped_without_a_trace(
    tiny_run: ExperimentConfig, streets_store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    config = with_overrides(tiny_run, {"training.on_nonfinite": "skip"})
    worker = poisoned(worker_of(config, streets_store), 2)
    before: list[dict[str, torch.Tensor]] = []
    control = Control(config.training, asked=lambda: (before.append(weights(worker)), Signal.GO_ON)[1])
    train(worker, control)
    for key, value in before[0].items():
        torch.testing.assert_close(before[1][key], value, rtol=0, atol=0, msg=key)
    assert any(not torch.equal(before[2][key], value) for key, value in before[1].items())
    assert worker.skipped == 1
    assert all(value.isfinite().all() for value in weights(worker).values())
    assert re.search(r"step 2 skipped, 1 so far: worker 0: .*seg nan", capsys.readouterr().out)


def test_more_skipped_steps_than_allowed_end_the_run(tiny_run: ExperimentConfig, streets_store: Store) -> None:
    config = with_overrides(tiny_run, {"training.on_nonfinite": "skip", "training.max_skipped": 2})
    with pytest.raises(NonFiniteLossError, match=r"step 4: 3 steps were not finite, more than training\.max_skipped 2"):
        train(poisoned(worker_of(config, streets_store), 1, 2, 4))


def test_gradients_are_clipped_to_the_configured_norm(tiny_run: ExperimentConfig, streets_store: Store) -> None:
    """Without momentum and weight decay, the first step moves the weights by lr times the clipped norm."""
    plain = {"optimizer.momentum": 0.0, "optimizer.nesterov": False, "optimizer.weight_decay": 0.0}
    config = with_overrides(tiny_run, {**plain, "optimizer.clip_norm": 0.125, "optimizer.lr": 0.5})
    worker = worker_of(config, streets_store)
    before = [parameter.detach().clone() for parameter in worker.model.parameters()]
    worker.train(lambda _: None, Control(config.training, asked=lambda: Signal.STOP))
    pairs = zip(worker.model.parameters(), before, strict=True)
    moved = torch.stack([(after - then).square().sum() for after, then in pairs]).sum().sqrt()
    assert moved.item() == pytest.approx(0.5 * 0.125, rel=1e-4)


def test_pictures_show_the_same_spread_of_samples_every_time(tiny_run: ExperimentConfig, streets_store: Store) -> None:
    assert fixed_samples(101, 4) == [12, 37, 63, 88]
    assert fixed_samples(2, 4) == [0, 1]
    assert fixed_samples(5, 0) == []
    worker = worker_of(tiny_run, streets_store)
    assert worker.picture("title").ndim == 3


def test_weights_are_the_same_with_and_without_validation(tiny_run: ExperimentConfig, streets_store: Store) -> None:
    with_scores, without = (
        worker_of(with_overrides(tiny_run, {"data.val_split": split}), streets_store) for split in ("val", None)
    )
    saved: list[tuple[int, EvalReport | None]] = []
    without.train(lambda report: saved.append((without.step, report)), Control(tiny_run.training))
    train(with_scores)
    assert saved == [(3, None), (6, None)], "a checkpoint an epoch, and no score"
    assert without.best == {}
    for key, value in weights(with_scores).items():
        torch.testing.assert_close(weights(without)[key], value, rtol=0, atol=0)


def test_a_run_validates_on_the_held_out_samples(tiny_run: ExperimentConfig, streets_store: Store) -> None:
    worker = worker_of(with_overrides(tiny_run, {"data.val_share": 0.4}), streets_store)
    assert worker.val_reader is not None
    assert (len(worker.train_reader), worker.steps) == (4, 2)
    report = worker.validate()
    assert report is not None
    labels = [worker.val_reader.read(index).label for index in range(2)]
    assert report.whole.confusion.counts.sum() == sum(int((label != 255).sum()) for label in labels)


def test_entirely_void_labels_have_no_score_so_the_last_checkpoint_is_the_best(
    tiny_run: ExperimentConfig,
    streets_store: Store,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    worker = worker_of(tiny_run, streets_store)
    assert worker.val_reader is not None
    read = worker.val_reader.read
    void = torch.full(worker.val_reader.sizes[0], 255, dtype=torch.uint8).numpy()
    monkeypatch.setattr(worker.val_reader, "read", lambda index: replace(read(index), label=void))
    for step in (worker.steps, 2 * worker.steps):
        worker.step = step
        report = worker.validate()
        assert report is not None
        assert report.metrics("val") == {}, "neither 0 nor 1"
    assert worker.best["epoch"] == 2
    assert "no validation score: every label is void" in capsys.readouterr().out
