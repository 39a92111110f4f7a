"""What a checkpoint costs: its size, and the seconds that training waits for it.

    python -m benchmarks.checkpoint_cost [--recipes streets cityscapes] [--folder DIR]

Writes each recipe's model, with random weights, a full optimizer state and checksums, to this machine's disk and reads
it again. The share is relative to `training.checkpoint_minutes`, 10: the most that writing in the background could
save.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.environment import describe, markdown_table
from gscnn.constants import IGNORE_INDEX
from gscnn.model import build_model
from gscnn_platform.config import EdgeConfig, ExperimentConfig
from gscnn_platform.data.store.manifest import SCHEMA_VERSION, Identity
from gscnn_platform.recipes import RECIPES
from gscnn_platform.runs.checkpoint import Content
from gscnn_platform.runs.folder import RunFolder
from gscnn_platform.runs.loading import load_training_state

ROUNDS = 5


def content_of(recipe: ExperimentConfig) -> Content:
    """What a run of the recipe saves after its first step."""
    model = build_model(recipe.model.model_copy(update={"weights": None}))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    average = model.state_dict() if recipe.training.ema_decay is not None else None
    state = {"step": 1, "model": model.state_dict(), "optimizer": optimizer.state_dict(), "average": average}
    names = tuple(f"class {number}" for number in range(recipe.model.num_classes))
    identity = Identity(
        schema_version=SCHEMA_VERSION,
        dataset="none",
        edges=EdgeConfig(),
        ignore_index=IGNORE_INDEX,
        classes=names,
        colours=tuple((number, number, number) for number in range(len(names))),
        label_table={},
        content="",
    )
    return Content(model.state_dict(), state, recipe, identity, {"step": 1}, "0" * 32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", nargs="+", default=["streets", "cityscapes"], choices=list(RECIPES))
    parser.add_argument("--folder", type=Path, help="folder on the disk to measure; default: that of temporary files")
    arguments = parser.parse_args()
    rows = []
    for name in arguments.recipes:
        content = content_of(RECIPES[name])
        with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
            run, times = RunFolder(folder), []
            for step in range(ROUNDS):
                began = time.perf_counter()
                run.keep(step, content, best=False)
                times.append(time.perf_counter() - began)
            last = run.last()
            size = sum(file.stat().st_size for file in Path(last).iterdir())
            began = time.perf_counter()
            load_training_state(last)
            read = time.perf_counter() - began
        median = statistics.median(times)
        rows.append((name, f"{size / 1e6:.0f} MB", f"{median:.2f} s", f"{median / 600:.2%}", f"{read:.2f} s"))
    print(describe())
    print(markdown_table(("recipe", "size", "written in, median", "share of 10 minutes", "read in"), rows))


if __name__ == "__main__":
    main()
