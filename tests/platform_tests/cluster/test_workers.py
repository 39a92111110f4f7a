"""What every job's workers get, and what they wait for, on clusters that Ray is made to know."""

import importlib
import re
from collections.abc import Sequence

import pytest
import ray

from gscnn_platform import cluster
from gscnn_platform.cluster import Node, ResourcesError, Workers, workers
from gscnn_platform.command_line.options import Options
from gscnn_platform.config import EvaluateConfig, ExperimentConfig, PredictConfig, with_overrides
from gscnn_platform.prediction import CORES
from gscnn_platform.recipes import STREETS
from gscnn_platform.sweeps import SweepConfig
from gscnn_platform.training.execution import resources
from tests.nodes import clusters, there

# By name: in ray.util stands a function of the same name.
placing = importlib.import_module("ray.util.placement_group")
PREDICT = PredictConfig(checkpoint="runs/a", input=("in",), out="out")
EVALUATE = EvaluateConfig(checkpoint="runs/a", store="store")
JOBS = ("train", "sweep", "predict", "evaluate")


def run_of(**changes: object) -> ExperimentConfig:
    return with_overrides(STREETS, {"training.batch_size": 64, **changes})


def test_a_run_whose_workers_fit_only_over_nodes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    there(monkeypatch, [Node(2)] * 3)
    assert resources(run_of(num_workers=2)) == Workers(number=2, cpus=2, gpus=0, room=3)
    wanted = "--num-workers 2 needs 2 x 3 CPU, and the cluster has 3 nodes of 2 CPU, room for 0: take fewer workers"
    with pytest.raises(ResourcesError, match=wanted):
        resources(run_of(num_workers=2, cpus_per_worker=3))
    waiting = run_of(num_workers=2, cpus_per_worker=3, use_gpu=False, wait_for_nodes=True)
    assert resources(waiting) == Workers(number=2, cpus=3, gpus=0, room=0)


def test_a_run_that_waits_for_nodes_says_whether_for_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else it would take the CPUs of the first GPU node that comes, for all its epochs."""
    there(monkeypatch, [], head=True)
    with pytest.raises(ResourcesError, match="no GPU node has joined yet: pass --use-gpu True"):
        resources(run_of(num_workers=2, wait_for_nodes=True))
    assert resources(run_of(num_workers=2, wait_for_nodes=True, use_gpu=True)) == Workers(2, 1, 1, 0)
    assert resources(run_of(num_workers=2, wait_for_nodes=True, use_gpu=False)) == Workers(2, 1, 0, 0)
    there(monkeypatch, [Node(96, 8)], head=True)
    assert resources(run_of(num_workers=16, wait_for_nodes=True)) == Workers(16, 12, 1, 8)


def test_a_run_that_may_shrink_needs_its_fewest_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    there(monkeypatch, [Node(2)])
    assert resources(run_of(num_workers=4, min_workers=2)).number == 4
    with pytest.raises(ResourcesError, match=r"--num-workers 3 needs 3 x 1 CPU"):
        resources(run_of(num_workers=4, min_workers=3))


@pytest.mark.parametrize(
    "config", [run_of(), SweepConfig.of(run_of()), PREDICT, EVALUATE], ids=lambda c: type(c).__name__
)
@pytest.mark.parametrize("changes", [{}, {"wait_for_nodes": True}, {"cpus_per_worker": 9}, {"use_gpu": True}])
def test_what_an_error_recommends_is_an_option_of_the_job(
    config: ExperimentConfig | SweepConfig | PredictConfig | EvaluateConfig,
    changes: dict[str, object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    there(monkeypatch, [], head=True)
    for number in (1,) if isinstance(config, EvaluateConfig) else (1, 2):
        with pytest.raises(ResourcesError) as refused:
            changed = with_overrides(config, changes)
            cluster.workers_for(changed.recipe if isinstance(changed, SweepConfig) else changed, number)
        recommended = set(re.findall(r"--[a-z-]+", str(refused.value)))
        assert recommended and recommended <= set(Options.of(config).flags())


def test_a_prediction_without_options_takes_every_gpu_or_a_worker_for_every_four_cores(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for nodes in clusters(200):
        there(monkeypatch, nodes)
        for files in (1, 3, 1000):
            found = cluster.workers_for(PREDICT, None, most=files, cores=CORES)
            gpus = sum(min(node) for node in nodes)
            assert found.number == min(gpus or max(1, sum(node.cpus // 4 for node in nodes)), files)
            assert found.gpus == (gpus > 0)
            assert found.cpus == cluster.share(nodes, found.number, found.gpus)


def test_a_sweep_takes_a_core_for_each_worker_or_its_share_of_every_gpus_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = SweepConfig.of(run_of()).recipe
    there(monkeypatch, [Node(8), Node(3)])
    assert cluster.workers_for(sweep, None, needed=2) == Workers(11, 1, 0, 11)
    there(monkeypatch, [Node(4), Node(96, 8), Node(96, 8)])
    assert cluster.workers_for(sweep, None, needed=2) == Workers(16, 12, 1, 16)
    there(monkeypatch, [Node(1)])
    with pytest.raises(ResourcesError, match="--num-workers 2 needs 2 x 1 CPU"):
        cluster.workers_for(sweep, None, needed=2)


class Growing:
    """Stands in for a cluster that scales: a node joins at the third look, for what is asked of it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, node: Node) -> None:
        self.asked: list[Sequence[dict[str, float]]] = []
        self.given_back = 0
        self.looks = 0
        resources_of = {"CPU": float(node.cpus), "GPU": float(node.gpus)}
        monkeypatch.setattr(
            ray,
            "nodes",
            lambda: [{"Alive": True, "Resources": resources_of}] if self._look() and self.asked else [],
        )
        monkeypatch.setattr(workers, "LOOK_SECONDS", 0.0)
        monkeypatch.setattr(placing, "placement_group", self.asked.append)
        monkeypatch.setattr(placing, "remove_placement_group", self._give_back)

    def _look(self) -> bool:
        self.looks += 1
        return self.looks > 2

    def _give_back(self, _: object) -> None:
        self.given_back += 1


def test_waiting_asks_for_a_place_for_every_worker_and_says_once_for_what_it_waits(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    growing = Growing(monkeypatch, Node(8, 1))
    cluster.wait_for_nodes(Workers(number=4, cpus=2, gpus=1, room=0), needed=1)
    assert growing.asked == [[{"CPU": 2, "GPU": 1}]] * 4
    assert growing.given_back == 4, "for the workers themselves"
    needs = "a worker needs 1 x 2 CPU and 1 GPU, and the cluster has no node that runs tasks, room for 0"
    assert capsys.readouterr().out == f"waiting for nodes: {needs}\n"


def test_nothing_is_asked_for_or_said_where_there_is_room(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    there(monkeypatch, [Node(2)])
    monkeypatch.setattr(placing, "placement_group", pytest.fail)
    cluster.wait_for_nodes(Workers(number=4, cpus=1, gpus=0, room=2), needed=2)
    assert capsys.readouterr().out == ""
