"""A minimal Ray Train run: one worker that imports torch and torchvision and takes one step of a ResNet-18.

    python -m benchmarks.bare_train

benchmarks.start compares the start of jobs.train with it. Prints "first step" after the step.
"""

import os
import sys
import tempfile

import ray
from ray.train import RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer


def first_step() -> None:
    import torch
    import torchvision

    model = torchvision.models.resnet18(weights=None)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    model(torch.randn(4, 3, 96, 128)).sum().backward()
    optimizer.step()
    sys.stdout.write("first step\n")
    sys.stdout.flush()


def main() -> None:
    ray.init(runtime_env={"env_vars": {"PYTHONPATH": os.environ.get("PYTHONPATH", "")}})
    with tempfile.TemporaryDirectory() as folder:
        TorchTrainer(
            first_step, scaling_config=ScalingConfig(num_workers=1), run_config=RunConfig(storage_path=folder)
        ).fit()


if __name__ == "__main__":
    main()
