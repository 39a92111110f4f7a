"""Jobs on a cluster without nodes until they request them: they wait, print what for, and run. `make faults`."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from gscnn_platform.config import with_overrides
from gscnn_platform.data.store import open_store
from gscnn_platform.recipes import RECIPES
from tests.faults.driven import TINY
from tests.faults.growing import GrowingCluster
from tests.saved import save_checkpoint

pytestmark = pytest.mark.slow

NEEDS_A_CORE = "a worker needs 1 x 1 CPU, and the cluster has no node that runs tasks, room for 0"
NEEDS_A_GPU = "a worker needs 1 x 1 CPU and 1 GPU, and the cluster has no node that runs tasks, room for 0"
Grow = Callable[[dict[str, int], int], GrowingCluster]


@pytest.fixture
def growing() -> Iterator[Grow]:
    """Starts the test's cluster, given the resources of a node and the maximum number of nodes."""
    started: list[GrowingCluster] = []

    def start(node: dict[str, int], most: int) -> GrowingCluster:
        started.append(GrowingCluster(node, most))
        return started[-1]

    yield start
    for cluster in started:
        cluster.close()


@pytest.fixture(scope="module")
def checkpoint(folder: Path) -> Path:
    """A small untrained model."""
    small = {"model.aspp_channels": 8, "model.low_level_channels": 8, "model.shape_widths": (8, 8, 8, 8)}
    save_checkpoint(folder / "checkpoint", with_overrides(RECIPES["streets"], small), open_store(str(folder / "store")))
    return folder / "checkpoint"


def seconds_waited(log: str, for_what: str) -> int:
    """Returns how long the job waited, in seconds; asserts that it printed this and what it waited for."""
    waits = re.findall(r"^waiting for nodes: (.+?)(?: · (\d+)s)?$", log, re.M)
    assert [what for what, _ in waits] == [for_what, for_what], log[-3000:]
    return int(waits[1][1])


def test_a_sweep_waits_for_its_nodes_and_runs(growing: Grow, folder: Path) -> None:
    cluster = growing({"CPU": 1}, 2)
    tiny = [word for key, value in TINY.items() if key != "num-workers" for word in words_of(key, value)]
    command = ["jobs.sweep", "streets", "--store", folder / "store", "--storage", folder / "sweeps", *tiny]
    command += ["--set", "optimizer.lr=choice(0.01, 0.02)", "--run-name", "grown", "--tracking.no-system-metrics"]
    status, log, _ = cluster.run(*command)
    assert status == 1
    assert (
        "a worker needs 1 x 1 CPU, and the cluster has no node that runs tasks, room for 0: pass --wait-for-nodes"
        in log
    )
    assert cluster.grown() == 0
    status, log, nodes = cluster.run(*command, "--wait-for-nodes", "--use-gpu", "False", "--max-concurrent", 2)
    assert status == 0, log[-3000:]
    seconds_waited(log, NEEDS_A_CORE)
    assert len(re.findall(r"^trial-00[01] finished after epoch 3", log, re.M)) == 2
    assert nodes == 2, "--max-concurrent asks for as many"


def words_of(key: str, value: object) -> list[str]:
    return [f"--{key}", *map(str, value if isinstance(value, tuple) else (value,))]


def test_a_prediction_waits_for_one_node_and_starts_though_no_second_can_come(
    growing: Grow, folder: Path, checkpoint: Path
) -> None:
    frames = folder / "frames"
    frames.mkdir()
    for number in range(20):
        noise = np.random.default_rng(number).integers(0, 256, (48, 64, 3), dtype=np.uint8)
        assert cv2.imwrite(str(frames / f"{number}.png"), noise)
    cluster = growing({"CPU": 1, "GPU": 1}, 1)
    command = ["jobs.predict", "--checkpoint", checkpoint, "--input", frames, "--out", folder / "predicted"]
    status, log, nodes = cluster.run(*command, "--wait-for-nodes", "--use-gpu", "True", "--num-workers", 2)
    assert status == 0, log[-3000:]
    seconds_waited(log, NEEDS_A_GPU)
    assert len(list((folder / "predicted" / "label").glob("*.png"))) == 20
    assert nodes == 1


def test_an_evaluation_waits_for_a_node_and_counts_on_it_what_it_counts_here(
    growing: Grow, folder: Path, checkpoint: Path
) -> None:
    cluster = growing({"CPU": 1, "GPU": 1}, 1)
    command = ["jobs.evaluate", "--checkpoint", checkpoint, "--store", folder / "store", "--report"]
    _, here, nodes = cluster.run(*command, folder / "here.html")
    assert nodes == 0
    status, log, nodes = cluster.run(*command, folder / "there.html", "--wait-for-nodes", "--use-gpu", "True")
    assert status == 0, log[-3000:]
    seconds_waited(log, NEEDS_A_GPU)
    assert nodes == 1
    tables = [re.findall(r"^(?:mean|pixel accuracy).*", text, re.M) for text in (here, log)]
    assert tables[0] == tables[1] != []
