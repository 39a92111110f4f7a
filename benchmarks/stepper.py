"""A training step on its own: model, losses and optimizer on one device, as in TrainingWorker.

Needs torch, torchvision, numpy, pydantic and jaxtyping: nothing from the platform, so that it runs without it.
"""

import time
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from gscnn.batch import SegBatch
from gscnn.config import LossConfig, ModelConfig
from gscnn.losses import JointLoss
from gscnn.model import build_model


@dataclass(frozen=True)
class StepConfig:
    """What is trained, and in which arithmetic and memory layout."""

    model: ModelConfig
    loss: LossConfig = field(default_factory=LossConfig)
    precision: Literal["float32", "bf16"] = "float32"
    """bf16 means autocast of the forward pass, with losses in float32."""
    channels_last: bool = False
    compile: bool = False


class Stepper:
    """A freshly built model with SGD (momentum 0.9, weight decay 1e-4); equal seeds start from equal weights."""

    def __init__(self, config: StepConfig, device: torch.device, seed: int = 0, lr: float = 0.01) -> None:
        self.config, self.device = config, device
        self.memory_format = torch.channels_last if config.channels_last else torch.contiguous_format
        torch.manual_seed(seed)
        self.model = build_model(config.model).to(device).to(memory_format=self.memory_format).train()
        self.loss = JointLoss(config.loss)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=lr, momentum=0.9, weight_decay=1e-4)
        if config.compile:
            self.model.compile()

    def place(self, batch: SegBatch) -> SegBatch:
        """The batch on the model's device, in its memory layout."""
        return batch.to(self.device, self.memory_format)

    def step(self, batch: SegBatch) -> Tensor:
        """One optimizer step on a placed batch; the total loss stays on the device, and nothing waits for it."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.precision == "bf16"):
            total = self.loss(self.model(batch.image, batch.gradient), batch)["total"]
        total.backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return total.detach()

    def now(self) -> float:
        """Clock time in seconds, read after the device has finished all its work."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


def best_device() -> torch.device:
    """CUDA if available, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
