"""All open GPU checks that fit into ten minutes, on whatever card there is.

    make gpu-check            or    python -m benchmarks.gpu_check [--store DIR] [--minutes 10] [--only NAME ...]

Each check prints rows of benchmarks/README.md's table and whether its claim holds. A check that fails, needs more
memory than the card has or finds no data is a row as well, with the reason; the other checks still run. A check begins
only within `--minutes`. The order is by what a user loses if the claim is wrong: first the numbers, then the speed.

Needs the packages of benchmarks.ingest. Without a GPU it says so and ends with status 1.
"""

import argparse
import os
import socket
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
import torch
from torch import Tensor
from torch.multiprocessing.spawn import spawn

from benchmarks.environment import describe, markdown_table
from benchmarks.ingest import readings_in_turns
from benchmarks.stepper import StepConfig, Stepper
from benchmarks.train_step import BASELINE, drawn_batch, speeds_in_turns, start, variants
from gscnn.batch import SegBatch, normalize
from gscnn.config import LossConfig, ModelConfig
from gscnn.edges import boundary_map, image_gradient
from gscnn.losses import JointLoss
from gscnn.metrics import BoundaryF, BoundaryIoU, ConfusionMatrix
from gscnn.model import build_model
from gscnn_platform.data.formats.streets import Streets
from gscnn_platform.recipes import RECIPES

CPU: Final = torch.device("cpu")
CUDA: Final = torch.device("cuda")
SMALL: Final = RECIPES["camvid-tiny"].model.model_copy(update={"num_classes": 9, "output_stride": 8})


@dataclass(frozen=True)
class Row:
    """One claim and what was measured."""

    what: str
    target: str
    measured: str
    holds: bool | None
    """None: recorded only."""

    @property
    def verdict(self) -> str:
        return {True: "confirmed", False: "broken", None: "recorded"}[self.holds]


@dataclass(frozen=True)
class Settings:
    """What the checks share."""

    device: torch.device = CUDA
    model: ModelConfig = SMALL
    crop: int = 720
    batch: int = 8
    steps: int = 15
    """Steps of the loss curve of each variant; as many are timed."""
    overfit_steps: int = 600
    store: str | None = None


Check = Callable[[Settings], Iterator[Row]]


@contextmanager
def _full_float32() -> Iterator[None]:
    """Without TF32, whose convolutions have ten bits: the CPU has none."""
    convolutions, products = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = convolutions, products


def losses_and_gradients(model: ModelConfig, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The loss terms [T] and all gradients, flat, of one step on 4 crops of 128x128.

    Without the dual-task regularizer, whose noise differs from device to device.
    """
    torch.manual_seed(0)
    network = build_model(model).to(device, dtype).train()
    batch = drawn_batch(0, 4, 128, model.num_classes).to(device)
    loss = JointLoss(LossConfig(edge=20, attention=1))
    floats = SegBatch(batch.image.to(dtype), batch.label, batch.gradient.to(dtype), batch.boundary)
    terms = loss(network(floats.image, floats.gradient), floats)
    terms["total"].backward()
    gradients = [each.grad.flatten() for each in network.parameters() if each.grad is not None]
    return torch.stack(list(terms.values())).detach().to(CPU, torch.float64), torch.cat(gradients).to(
        CPU, torch.float64
    )


def numerics(settings: Settings) -> Iterator[Row]:
    """Losses and gradients on the device against float64 on the CPU; the CPU's float32 is the yardstick."""
    with _full_float32():
        losses, gradients = losses_and_gradients(settings.model, CPU, torch.float64)
        errors = {}
        for device in (CPU, settings.device):
            ours, flat = losses_and_gradients(settings.model, device, torch.float32)
            errors[device.type] = (
                float(((ours - losses).abs() / losses.abs().clamp_min(1e-9)).max()),
                float((flat - gradients).norm() / gradients.norm()),
            )
    ours, cpu = errors[settings.device.type], errors[CPU.type]
    yield Row(
        "numerics: loss terms and gradients of a step, float32 against float64",
        "at most 10 times the CPU's error in float32",
        f"losses {ours[0]:.1e} (CPU {cpu[0]:.1e}), gradients {ours[1]:.1e} (CPU {cpu[1]:.1e})",
        ours[0] <= max(10 * cpu[0], 1e-5) and ours[1] <= max(10 * cpu[1], 1e-4),
    )


def metrics(settings: Settings) -> Iterator[Row]:
    """The counts of every metric on the device against those on the CPU."""
    torch.manual_seed(0)
    truth = drawn_batch(1, 2, 256, settings.model.num_classes).label
    prediction = torch.where(
        torch.rand(truth.shape) < 0.1, torch.randint(settings.model.num_classes, truth.shape), truth
    )
    prediction = prediction.clamp_max(settings.model.num_classes - 1).to(torch.uint8)
    counts = []
    for device in (CPU, settings.device):
        count = settings.model.num_classes
        confusion, boundary, ring = ConfusionMatrix(count), BoundaryF(count), BoundaryIoU(count)
        for metric in (confusion, boundary, ring):
            metric.update(prediction.to(device), truth.to(device))
        counts.append([confusion.counts, boundary.f_sums, boundary.present, ring.intersections, ring.unions])
    same = all(torch.equal(one.to(CPU), other.to(CPU)) for one, other in zip(*counts, strict=True))
    yield Row(
        "metrics: counts on the GPU against the CPU",
        "bit-equal",
        "bit-equal" if same else "they differ",
        same,
    )


def synchronization(settings: Settings) -> Iterator[Row]:
    """A training step with every loss term must not wait for the GPU: torch raises where it does."""
    config = StepConfig(settings.model, LossConfig(edge=20, attention=1, dual=1, class_weights="image"), "bf16", True)
    stepper = Stepper(config, settings.device)
    batch = stepper.place(drawn_batch(0, 4, 256, settings.model.num_classes))
    stepper.step(batch)
    torch.cuda.set_sync_debug_mode("error")
    try:
        stepper.step(batch)
        found = "none"
    except RuntimeError as error:
        found = str(error).splitlines()[0]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    yield Row("training step: host waits for the device", "none", found, found == "none")


def overfit(settings: Settings) -> Iterator[Row]:
    """Eight drawn scenes, learnt by heart: a model, loss or optimizer that is wrong on this device cannot."""
    images, labels = zip(*(sample.read() for sample in Streets(train=8).samples(None, "train")), strict=True)
    batch = SegBatch(
        image=normalize(torch.stack([torch.from_numpy(image).permute(2, 0, 1) for image in images])),
        label=torch.stack([torch.from_numpy(label) for label in labels]),
        gradient=torch.stack([torch.from_numpy(image_gradient(image)) for image in images])[:, None],
        boundary=torch.stack([torch.from_numpy(boundary_map(label)) for label in labels])[:, None],
    )
    stepper = Stepper(StepConfig(settings.model), settings.device, lr=0.05)
    placed = stepper.place(batch)
    began = stepper.now()
    for step in range(settings.overfit_steps):
        stepper.optimizer.param_groups[0]["lr"] = 0.05 * (1 - step / settings.overfit_steps) ** 0.9
        stepper.step(placed)
    seconds = stepper.now() - began
    confusion = ConfusionMatrix(settings.model.num_classes)
    with torch.no_grad():  # In training mode: the batch is the one whose statistics were learnt.
        confusion.update(stepper.model(placed.image, placed.gradient).seg_logits.argmax(dim=1), placed.label)
    miou = confusion.compute().miou
    yield Row(
        "overfit on 8 frames of `streets`",
        "training mIoU over 0.95",
        f"{miou:.3f} after {settings.overfit_steps} steps, {seconds:.0f} s",
        miou > 0.95,
    )


def step_table(settings: Settings) -> Iterator[Row]:
    """The variants of benchmarks.train_step on a ResNet-50."""
    device = settings.device
    batches = [drawn_batch(seed, settings.batch, settings.crop, 19).to(device) for seed in range(2)]
    candidates = []
    for name, config in variants("resnet50", 19).items():
        try:
            candidates.append(start(name, config, batches, settings.steps, device))
        except (torch.cuda.OutOfMemoryError, RuntimeError) as error:
            yield Row(f"training step: {name}", "runs", _reason(error), False)
    if not candidates or candidates[0].name != BASELINE:
        return
    speeds, ratios = speeds_in_turns(candidates, settings.steps)
    by_name = {candidate.name: index for index, candidate in enumerate(candidates)}
    slack = candidates[by_name["channels_last"]].deviation_from(candidates[0]) if "channels_last" in by_name else None
    for index, candidate in enumerate(candidates):
        deviation = candidate.deviation_from(candidates[0])
        peak = "" if candidate.peak is None else f", {candidate.peak:.1f} GiB"
        curve = "" if deviation is None else f", loss deviates by {deviation:.2%}"
        measured = f"{speeds[index]:.1f} images/s, {ratios[index]:.2f} times float32{peak}{curve}"
        yield Row(
            f"training step: {candidate.name}",
            *claim(candidate.name, ratios, by_name, deviation, slack, [each.peak for each in candidates], measured),
        )


def claim(
    name: str,
    ratios: list[float],
    by_name: dict[str, int],
    deviation: float | None,
    slack: float | None,
    peaks: list[float | None],
    measured: str,
) -> tuple[str, str, bool | None]:
    """Target, measurement and verdict of a variant."""
    mine = by_name[name]
    same = deviation is None or slack is None or deviation <= max(5 * slack, 0.02)
    if name == "channels_last":
        return "no slower than float32, same loss curve", measured, ratios[mine] >= 0.97
    if name == "activation checkpointing":
        less = None if peaks[mine] is None else (peaks[mine] or 0) < (peaks[0] or 0)
        return "less memory, same loss curve", measured, None if less is None else less and same
    if name == "bf16":
        return "faster than float32, same loss curve", measured, ratios[mine] > 1 and same
    if name == "bf16+channels_last":
        others = [ratios[by_name[each]] for each in ("bf16", "channels_last") if each in by_name]
        return "faster than either, same loss curve", measured, ratios[mine] > max(others, default=0) and same
    if name == "bf16+channels_last+compile" and "bf16+channels_last" in by_name:
        return "faster than without compile", measured, ratios[mine] > ratios[by_name["bf16+channels_last"]] and same
    return "none: recorded only", measured, None


def synchronized_batch_norm(settings: Settings) -> Iterator[Row]:
    """Two processes on one card, half of the batch each, against one process with all of it."""
    backends = ("nccl", "gloo") if settings.device.type == "cuda" else ("gloo",)
    reasons = []
    for backend in backends:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        try:
            spawn(_half_of_the_batch, args=(backend, port, settings.model, settings.device.type), nprocs=2)
        except Exception as error:  # NCCL refuses two processes on one card by an error of its own.
            reasons.append(f"{backend}: {_reason(error)}")
        else:
            yield Row(
                "SyncBN: two processes on one card, gradients against one process",
                "within 1e-3",
                f"within 1e-3 ({backend}{'; ' + reasons[0] if reasons else ''})",
                True,
            )
            return
    yield Row("SyncBN: two processes on one card, gradients against one process", "within 1e-3", str(reasons), None)


def _half_of_the_batch(rank: int, backend: str, port: int, model: ModelConfig, device_type: str) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.distributed.init_process_group(backend, rank=rank, world_size=2)
    try:
        with _full_float32():
            device = torch.device(device_type)
            whole = drawn_batch(0, 4, 128, model.num_classes).to(device)
            own = slice(2 * rank, 2 * rank + 2)
            half = SegBatch(whole.image[own], whole.label[own], whole.gradient[own], whole.boundary[own])
            gradients = []
            for batch, shared in ((whole, False), (half, True)):
                torch.manual_seed(0)
                network = build_model(model).to(device).train()
                if shared:
                    network.synchronize_batch_norms()
                loss = JointLoss(LossConfig(), group=torch.distributed.group.WORLD if shared else None)
                total = loss(network(batch.image, batch.gradient), batch)["total"]
                total.backward()
                flat = torch.cat([each.grad.flatten() for each in network.parameters() if each.grad is not None])
                if shared:
                    torch.distributed.all_reduce(flat)
                    flat /= 2
                gradients.append(flat)
            difference = float((gradients[1] - gradients[0]).norm() / gradients[0].norm())
        if difference > 1e-3:
            raise RuntimeError(f"gradients differ by {difference:.1e}")
    finally:
        torch.distributed.destroy_process_group()


def ingest(settings: Settings) -> Iterator[Row]:
    """The loader against the step of recipe `camvid`, by number of loader processes."""
    what = "ingest: `camvid` fed by the loader, over the step alone"
    if settings.store is None:
        yield Row(what, "0.95 or more", "not run: needs --store, a store of CamVid", None)
        return
    readings = readings_in_turns(RECIPES["camvid"], settings.store, (2, 4, 8), step_time=True, seconds=6, rounds=2)
    shares = {count: float(np.median(np.divide(each.fed, each.step))) for count, each in readings.items()}
    measured = ", ".join(f"{count} processes {share:.2f}" for count, share in shares.items())
    yield Row(what, "0.95 or more", measured, max(shares.values()) >= 0.95)


CHECKS: Final[dict[str, Check]] = {
    "numerics": numerics,
    "metrics": metrics,
    "synchronization": synchronization,
    "overfit": overfit,
    "step": step_table,
    "sync-bn": synchronized_batch_norm,
    "ingest": ingest,
}


def run(checks: dict[str, Check], settings: Settings, minutes: float, say: Callable[[str], None]) -> list[Row]:
    """The rows of all checks that begin in time; one that raises is a broken row, and the next one runs."""
    began, rows = time.monotonic(), []
    for name, check in checks.items():
        passed = (time.monotonic() - began) / 60
        if passed >= minutes:
            rows.append(Row(name, "-", f"not run: {minutes:g} minutes are over", None))
            continue
        say(f"{name} · {passed:.1f} of {minutes:g} min")
        try:
            for row in check(settings):
                say(f"  {row.verdict}: {row.what} · {row.measured}")
                rows.append(row)
        except Exception as error:  # The other checks still run.
            traceback.print_exc()
            rows.append(Row(name, "runs", _reason(error), False))
        if settings.device.type == "cuda":
            torch.cuda.empty_cache()
    return rows


def _reason(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:160]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", help="a store of CamVid, for the check of the loader")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--only", nargs="+", choices=list(CHECKS), default=list(CHECKS))
    parser.add_argument("--batch", type=int, default=8, help="images of 720x720 per step: 40 GiB at 8, 20 at 4")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("no GPU: torch.cuda.is_available() is false, and all of these checks need one")
    settings = Settings(store=arguments.store, batch=arguments.batch)
    rows = run({name: CHECKS[name] for name in arguments.only}, settings, arguments.minutes, partial(print, flush=True))
    print(f"\n{describe()}\n")
    print(
        markdown_table(
            ["what", "target", "measured", "verdict"],
            [[row.what, row.target, row.measured, row.verdict] for row in rows],
        )
    )
    broken = [row.what for row in rows if row.holds is False]
    raise SystemExit(f"broken: {'; '.join(broken)}" if broken else 0)


if __name__ == "__main__":
    main()
