"""A cluster on this machine that starts without nodes for tasks and is scaled up by Ray's own autoscaler.

Like `ray.cluster_utils.AutoscalingCluster`, which cannot be used: its example.yaml is not in Ray's wheel, and it starts
and ends with `ray stop --force`, which also ends all other clusters on the machine.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
from ray.autoscaler._private.fake_multi_node.node_provider import FAKE_HEAD_NODE_ID, FAKE_HEAD_NODE_TYPE
from ray.util import get_node_ip_address

from tests.faults.driven import ROOT

PROVIDER = "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider"
UNUSED = (
    "cluster_synced_files",
    "initialization_commands",
    "setup_commands",
    "head_setup_commands",
    "worker_setup_commands",
    "head_start_ray_commands",
    "worker_start_ray_commands",
)
"""Lists that Ray's autoscaler requires in the file and this provider does not use."""
OBJECT_STORE = 100_000_000
START_SECONDS = 150


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


class GrowingCluster:
    """A head node with 0 CPUs, which the autoscaler adds nodes to.

    Args:
        node: CPUs and GPUs of the nodes that may join; Ray does not check that the GPUs exist.
        most: maximum number of these nodes.
    """

    def __init__(self, node: dict[str, int], most: int) -> None:
        # A short path, for Ray's sockets: not pytest's folder, and not /tmp, where jobs look for a cluster to join.
        self.folder = Path(tempfile.mkdtemp(prefix="grow"))
        gcs, dashboard, client = free_ports(3)
        host = get_node_ip_address()
        self.address = f"{host}:{gcs}"
        config = self.folder / "autoscaling.json"
        config.write_text(json.dumps(self._config(node, most)), encoding="utf-8")
        options = {
            "node-ip-address": host,
            "port": gcs,
            "dashboard-port": dashboard,
            "ray-client-server-port": client,
            "min-worker-port": 0,
            "max-worker-port": 0,
            "num-cpus": 0,
            "object-store-memory": OBJECT_STORE,
            "autoscaling-config": config,
        }
        words = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--disable-usage-stats"]
        self.log = self.folder / "log"
        with self.log.open("wb") as out:
            self.process = subprocess.Popen(
                [*words, *(f"--{key}={value}" for key, value in options.items())],
                cwd=self.folder,
                env={**self.variables, **self._variables_of_the_head()},
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        began = time.monotonic()
        while "Ray runtime started" not in (said := self.log.read_text(encoding="utf-8")):
            if self.process.poll() is not None or time.monotonic() - began > START_SECONDS:
                self.close()
                raise RuntimeError(f"no cluster: {said[-3000:]}")
            time.sleep(0.2)

    def _config(self, node: dict[str, int], most: int) -> dict[str, Any]:
        grown = {**node, "object_store_memory": OBJECT_STORE}
        return {
            "cluster_name": "growing",
            "provider": {
                "type": "external",
                "module": PROVIDER,
                "gcs_address": self.address,
                "head_node_id": FAKE_HEAD_NODE_ID,
                "launch_multiple": True,
                # All nodes have the same address, and nothing is installed on them by ssh.
                "use_node_id_as_ip": True,
                "disable_node_updaters": True,
                "disable_launch_config_check": True,
            },
            "max_workers": most,
            "head_node_type": FAKE_HEAD_NODE_TYPE,
            "available_node_types": {
                FAKE_HEAD_NODE_TYPE: {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
                "grown": {"resources": grown, "node_config": {}, "min_workers": 0, "max_workers": most},
            },
            "upscaling_speed": 1.0,
            "idle_timeout_minutes": 5,
            "auth": {},
            "docker": {},
            "file_mounts": {},
            **{key: [] for key in UNUSED},
        }

    @staticmethod
    def _variables_of_the_head() -> dict[str, str]:
        return {
            "RAY_FAKE_CLUSTER": "1",
            "AUTOSCALER_UPDATE_INTERVAL_S": "1",
            "RAY_enable_autoscaler_v2": "1",
            # These variables let the autoscaler identify the head as the node of its provider.
            "RAY_CLOUD_INSTANCE_ID": FAKE_HEAD_NODE_ID,
            "RAY_OVERRIDE_NODE_ID_FOR_TESTING": FAKE_HEAD_NODE_ID,
        }

    @property
    def variables(self) -> dict[str, str]:
        """Environment of this cluster's processes, and of jobs that join it."""
        inherited = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
        return {
            **inherited,
            "RAY_TMPDIR": str(self.folder),
            "RAY_AUTH_MODE": "disabled",
            "PYTHONPATH": f"{ROOT}:{ROOT / 'platform'}",
            "PYTHONUNBUFFERED": "1",
            "OMP_NUM_THREADS": "1",
        }

    def _processes(self) -> list[psutil.Process]:
        with suppress(psutil.NoSuchProcess):
            head = psutil.Process(self.process.pid)
            return [head, *head.children(recursive=True)]
        return []

    def grown(self) -> int:
        """Returns the number of nodes besides the head."""
        raylets = 0
        for process in self._processes():
            with suppress(psutil.NoSuchProcess):
                raylets += process.name() == "raylet"
        return raylets - 1

    def run(self, *words: object, seconds: float = 240) -> tuple[int, str, int]:
        """Runs a job on this cluster; returns exit status, output and the maximum number of nodes during the job."""
        log, most = self.folder / "job", 0
        with log.open("wb") as out:
            job = subprocess.Popen(
                [sys.executable, "-m", *map(str, words)],
                cwd=self.folder,
                env={**self.variables, "RAY_ADDRESS": self.address},
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            began = time.monotonic()
            while job.poll() is None and time.monotonic() - began < seconds:
                most = max(most, self.grown())
                time.sleep(0.5)
        finally:
            if job.poll() is None:
                job.kill()
        return job.wait(), log.read_text(encoding="utf-8"), most

    def close(self) -> None:
        """Ends everything that this cluster started, and nothing else."""
        processes = self._processes()
        self.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(10)
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(processes, timeout=10)
        shutil.rmtree(self.folder, ignore_errors=True)
