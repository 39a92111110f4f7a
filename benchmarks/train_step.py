"""What bf16, channels_last and compile each do to a training step: images/s, peak memory, and whether the loss agrees.

    python -m benchmarks.train_step [--backbone resnet50] [--crop 720] [--batch 8] [--steps 30] [--variants ...]

The baseline is Gated-SCNN in float32, eager, in torch's default memory layout. Every variant starts from the same
weights and takes the same steps on the same synthetic batches, which can be learnt. Its peak memory excludes what was
allocated before it was built. Speeds are medians of windows in which the variants take turns, after all of them have
warmed up; ratios are medians over the rounds, so that a noisy machine affects all variants alike. DeepLabV3+ is the
control: its difference from the Gated-SCNN row of the same arithmetic is the cost of the shape stream.

TF32 stays at torch's default in all variants and is printed: on for float32 convolutions, off for matrix products. Loss
curves diverge by rounding alone, more with every step; `channels_last`, which computes the same sums in another order,
shows by how much.

Needs torch, torchvision, numpy, cv2, pydantic and jaxtyping; `compile` needs a C compiler too.
"""

import argparse
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch

from benchmarks.environment import describe, markdown_table
from benchmarks.stepper import StepConfig, Stepper, best_device
from gscnn.batch import SegBatch, normalize
from gscnn.config import LossConfig, ModelConfig
from gscnn.constants import IGNORE_INDEX
from gscnn.edges import boundary_map, image_gradient

BASELINE = "float32"
ROUNDS = 5
NUM_BATCHES = 2
GIB = 2**30


def variants(backbone: str, num_classes: int) -> dict[str, StepConfig]:
    """Name -> step config, the baseline first."""
    plain = StepConfig(ModelConfig(backbone=backbone, num_classes=num_classes))
    fast = replace(plain, precision="bf16", channels_last=True)
    control = plain.model.model_copy(update={"architecture": "deeplabv3plus"})
    no_edges = LossConfig(edge=0, attention=0)
    return {
        BASELINE: plain,
        "channels_last": replace(plain, channels_last=True),
        "activation checkpointing": replace(
            plain, model=plain.model.model_copy(update={"activation_checkpointing": True})
        ),
        "bf16": replace(plain, precision="bf16"),
        "bf16+channels_last": fast,
        "bf16+channels_last+compile": replace(fast, compile=True),
        "deeplabv3plus float32": replace(plain, model=control, loss=no_edges),
        "deeplabv3plus bf16+channels_last": replace(fast, model=control, loss=no_edges),
    }


def drawn_batch(seed: int, images: int, crop: int, num_classes: int) -> SegBatch:
    """Smooth noise in colour; a pixel's class is its level of red, so the task can be learnt. A strip is void."""
    rng = np.random.default_rng(seed)
    pictures, labels = [], []
    for _ in range(images):
        coarse = rng.uniform(0, 255, (max(2, crop // 48), max(2, crop // 48), 3)).astype(np.float32)
        picture = cv2.resize(coarse, (crop, crop), interpolation=cv2.INTER_CUBIC).clip(0, 255).astype(np.uint8)
        label = (picture[..., 0].astype(np.int32) * num_classes // 256).astype(np.uint8)
        label[: crop // 32] = IGNORE_INDEX
        pictures.append(picture)
        labels.append(label)
    return SegBatch(
        image=normalize(torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)),
        label=torch.from_numpy(np.stack(labels)),
        gradient=torch.from_numpy(np.stack([image_gradient(picture) for picture in pictures]))[:, None],
        boundary=torch.from_numpy(np.stack([boundary_map(label) for label in labels]))[:, None],
    )


@dataclass
class Candidate:
    """A variant that has taken its first steps."""

    name: str
    stepper: Stepper
    batches: list[SegBatch]
    losses: list[float]
    first_step: float
    """Seconds, compilation included."""
    peak: float | None
    """GiB; None on the CPU, where torch does not measure it."""

    def images_per_second(self, steps: int) -> float:
        """Speed over one window, after one step that is not timed."""
        self.stepper.step(self.batches[0])
        began = self.stepper.now()
        for number in range(steps):
            self.stepper.step(self.batches[number % NUM_BATCHES])
        return steps * len(self.batches[0]) / (self.stepper.now() - began)

    def deviation_from(self, baseline: "Candidate") -> float | None:
        """Largest relative distance of the loss curves; None if the losses are different ones."""
        if self.stepper.config.loss != baseline.stepper.config.loss:
            return None
        ours, theirs = np.array(self.losses), np.array(baseline.losses)
        return float(np.max(np.abs(ours - theirs) / np.abs(theirs)))


def start(name: str, config: StepConfig, batches: list[SegBatch], steps: int, device: torch.device) -> Candidate:
    """Builds a variant and takes the steps of its loss curve, which also warm it up."""
    on_gpu = device.type == "cuda"
    held = torch.cuda.memory_allocated() if on_gpu else 0
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    stepper = Stepper(config, device)
    placed = [stepper.place(batch) for batch in batches]
    began = stepper.now()
    losses = [stepper.step(placed[0])]
    first_step = stepper.now() - began
    losses += [stepper.step(placed[number % NUM_BATCHES]) for number in range(1, steps)]
    curve = torch.stack(losses).tolist()
    peak = (torch.cuda.max_memory_allocated() - held) / GIB if on_gpu else None
    return Candidate(name, stepper, placed, curve, first_step, peak)


def speeds_in_turns(candidates: list[Candidate], steps: int) -> tuple[list[float], list[float]]:
    """Of each candidate the median images/s, and the median over the rounds of its ratio to the first's."""
    window = max(1, steps // ROUNDS)
    speed = np.array([[candidate.images_per_second(window) for candidate in candidates] for _ in range(ROUNDS)])
    return np.median(speed, axis=0).tolist(), np.median(speed / speed[:, :1], axis=0).tolist()


def table(candidates: list[Candidate], speeds: list[float], ratios: list[float]) -> str:
    """The first candidate is the baseline; `speeds` and `ratios` as `speeds_in_turns` returns them."""
    rows = []
    for index, candidate in enumerate(candidates):
        deviation = candidate.deviation_from(candidates[0])
        rows.append(
            [
                candidate.name,
                speeds[index],
                ratios[index],
                "-" if candidate.peak is None else candidate.peak,
                "-" if deviation is None else f"{deviation:.2%}",
                f"{candidate.losses[0]:.3f} → {candidate.losses[-1]:.3f}",
                candidate.first_step,
            ]
        )
    header = ["variant", "images/s", "x float32", "peak GiB", "loss deviates by", "loss", "first step s"]
    return markdown_table(header, rows)


def main() -> None:
    names = list(variants("resnet50", 19))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="resnet50", help="a name of gscnn.backbones.BACKBONES")
    parser.add_argument("--crop", type=int, default=720, help="side of the square crop in pixels")
    parser.add_argument("--batch", type=int, default=8, help="images per step, 2 or more")
    parser.add_argument("--steps", type=int, default=30, help="steps of the loss curve; as many are timed")
    parser.add_argument("--num-classes", type=int, default=19)
    parser.add_argument("--variants", nargs="+", choices=names, default=names, help="the baseline runs in any case")
    arguments = parser.parse_args()

    device = best_device()
    batches = [
        drawn_batch(seed, arguments.batch, arguments.crop, arguments.num_classes).to(device)
        for seed in range(NUM_BATCHES)
    ]
    candidates = [
        start(name, config, batches, arguments.steps, device)
        for name, config in variants(arguments.backbone, arguments.num_classes).items()
        if name == BASELINE or name in arguments.variants
    ]
    speeds, ratios = speeds_in_turns(candidates, arguments.steps)

    tf32 = f"convolutions {torch.backends.cudnn.allow_tf32}, matrix products {torch.backends.cuda.matmul.allow_tf32}"
    print(f"{describe()} · TF32: {tf32}", end="\n\n")
    print(
        f"{arguments.backbone}, {arguments.batch} images of {arguments.crop}x{arguments.crop}, {arguments.num_classes} "
        f"classes, {arguments.steps} steps of loss, {ROUNDS} windows of {max(1, arguments.steps // ROUNDS)} steps\n"
    )
    print(table(candidates, speeds, ratios))


if __name__ == "__main__":
    main()
