"""What a run waits for when nodes are missing, said to its user. Ray Train waits without a word."""

import time
from typing import Final

from gscnn_platform import cluster
from gscnn_platform.config import ExperimentConfig
from gscnn_platform.training.progress import say

LOOK_SECONDS: Final = 5.0


class Waiting:
    """Looks at the cluster now and then, and says once when it has become too small, and once when it has not any more.

    Args:
        config: how many workers are needed.
        cpus, use_gpu: of each worker.
    """

    def __init__(self, config: ExperimentConfig, cpus: int, use_gpu: bool) -> None:
        self.needed, self.cpus, self.gpus = config.min_workers or config.num_workers, cpus, int(use_gpu)
        self._looked_at = time.monotonic()
        self._lacking: str | None = None

    def __call__(self) -> None:
        if time.monotonic() - self._looked_at < LOOK_SECONDS:
            return
        self._looked_at = time.monotonic()
        before, self._lacking = self._lacking, cluster.lacking(self.needed, self.cpus, self.gpus)
        if self._lacking and self._lacking != before:
            say(
                f"waiting for nodes: {self.needed} workers need {self._lacking}. Training goes on from the last "
                "checkpoint when they are there; or stop it and start the same command with fewer --num-workers, or "
                "with --min-workers to go on with fewer by itself"
            )
        elif before and not self._lacking:
            say("all nodes are there that the run needs")
