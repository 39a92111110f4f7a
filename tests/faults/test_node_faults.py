"""Cluster nodes that are lost or preempted during training; they are raylets on this machine. `make faults`."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import psutil
import pytest
import ray
from ray._private.node import Node
from ray.cluster_utils import Cluster

from tests.faults.driven import EVERY_STEP, ROOT, Driven, train_workers
from tests.faults.table import note

pytestmark = pytest.mark.slow

# As docs/operate.md advises: a lost node is detected after 15 s.
HEALTH = {"period_ms": "2000", "timeout_ms": "5000", "failure_threshold": "3", "initial_delay_ms": "2000"}
RAY = [sys.executable, "-m", "ray.scripts.scripts"]
VARIABLES = {
    "RAY_AUTH_MODE": "disabled",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "1",
    **{f"RAY_health_check_{key}": value for key, value in HEALTH.items()},
}


class Nodes(Cluster):
    """A head node, and nodes for one worker each."""

    def __init__(self, head_cpus: int, nodes: int) -> None:
        head = {"num_cpus": head_cpus, "include_dashboard": True, "dashboard_port": 8299}
        super().__init__(True, head_node_args=head)
        for _ in range(nodes):
            self.add()

    def add(self) -> None:
        self.add_node(num_cpus=1)

    def with_workers(self) -> list[Node]:
        """Returns the nodes on which a training worker runs."""
        return [node for node in self.worker_nodes if train_workers(raylet(node))]

    def kill(self, node: Node) -> None:
        self.remove_node(node, allow_graceful=False)


def raylet(node: Node) -> psutil.Process:
    return psutil.Process(node.all_processes["raylet"][0].process.pid)


@pytest.fixture
def nodes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Nodes]:
    """A head node without workers and three nodes, or the nodes that the test requests."""
    ray.shutdown()
    for key, value in VARIABLES.items():
        monkeypatch.setenv(key, value)
    cluster = Nodes(*getattr(request, "param", (0, 3)))
    yield cluster
    cluster.shutdown()


@pytest.fixture
def run(run: Driven, nodes: Nodes) -> Driven:
    """A training run on these nodes."""
    assert nodes.address is not None
    run.environment = {**VARIABLES, "RAY_ADDRESS": nodes.address}
    run.extra = {"cpus-per-worker": 1}
    return run


def test_node_killed_with_and_without_another_to_take_its_place(run: Driven, nodes: Nodes, undisturbed: str) -> None:
    run.start()
    run.at_step(6)
    began = time.monotonic()
    nodes.kill(nodes.with_workers()[0])
    run.wait_for("resuming after step")
    spare = time.monotonic() - began
    run.at_step(16)
    nodes.kill(nodes.with_workers()[0])
    run.wait_for(r"waiting for nodes: 2 workers need 2 x 1 CPU, and the cluster has 1")
    began = time.monotonic()
    nodes.add()
    run.wait_for("all required nodes are available")
    run.wait_for(r"(?s)resuming after step.*resuming after step")
    returned = time.monotonic() - began
    assert run.end() == 0, run.log.read_text()[-3000:]
    run.assert_as_if_nothing_had_happened(undisturbed)
    lost = "steps since the last checkpoint"
    note("node killed, another one is free", "SIGKILL to the raylet of a second node", lost, spare)
    note("node killed, none is free", "the same; the run says what it waits for; then a node joins", lost, returned)


def test_node_killed_under_a_run_that_may_shrink(run: Driven, nodes: Nodes) -> None:
    nodes.kill(next(iter(nodes.worker_nodes)))
    run.extra |= {"min-workers": 1}
    run.start()
    run.at_step(12)
    began = time.monotonic()
    nodes.kill(nodes.with_workers()[0])
    run.wait_for(r"resuming after step \d+ of 30 on 1 workers")
    seconds = time.monotonic() - began
    assert run.end() == 0, run.log.read_text()[-3000:]
    assert run.steps_of("train/total") == EVERY_STEP
    lost = "steps since the last checkpoint; one worker continues with the whole batch"
    note("node killed under `--min-workers 1`", "SIGKILL to the raylet of a second node", lost, seconds)


def test_node_taken_away_with_notice(run: Driven, nodes: Nodes) -> None:
    run.extra |= {"training.epochs": 20, "training.checkpoint-steps": 1000, "training.validate-every": 20}
    run.start()
    run.at_step(6)
    leaving = nodes.with_workers()[0]
    drain = [*RAY, "drain-node", "--address", nodes.address, "--node-id", leaving.node_id, "--reason-message", "spot"]
    drain += ["--reason", "DRAIN_NODE_REASON_PREEMPTION", "--deadline-remaining-seconds", "25"]
    subprocess.run(drain, check=True, timeout=60)
    run.wait_for("a node is about to be taken away: checkpoint after step", seconds=25)
    began = time.monotonic()
    nodes.kill(leaving)
    run.wait_for(r"resuming after step ([1-9]\d*) of 200 on 2 workers")
    seconds = time.monotonic() - began
    run.signal(signal.SIGTERM)
    assert run.end() == 143
    saved, went_on = (int(run.found(rf"{said} after step (\d+)")) for said in ("checkpoint", "resuming"))
    assert went_on == saved
    note(
        "node taken away with notice", "ray drain-node for preemption, then SIGKILL", "steps since the notice", seconds
    )


# The nodes of this cluster share a folder, and each unpacks the job's code there over that of the others.
@pytest.mark.parametrize("nodes", [(2, 0)], indirect=True)
def test_ray_job_stop(run: Driven, nodes: Nodes, undisturbed: str) -> None:
    job = [*RAY, "job"]
    address = ["--address", f"http://{nodes.webui_url}"]
    submit = [*address, "--working-dir", str(ROOT), "--runtime-env", str(ROOT / "jobs" / "runtime_env.yaml")]
    run.before = [*job, "submit", *submit, "--submission-id", "first", "--"]
    run.start()
    run.at_step(6)
    began = time.monotonic()
    subprocess.run([*job, "stop", *address, "first"], check=True, env=run.variables, timeout=120)
    run.end()
    stopped_in = time.monotonic() - began
    assert run.said(r"stopped after step \d+; rerun the command to resume from there")
    assert [found.info.status for found in run.mlflow_runs()] == ["KILLED"]
    run.before[-2] = "second"
    seconds = run.resume_to_the_end()
    run.assert_as_if_nothing_had_happened(undisturbed)
    note("ray job stop", f"the command; the job ended after {stopped_in:.0f} s", "nothing", seconds)
