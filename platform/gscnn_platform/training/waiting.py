"""Tells the user what a run waits for when nodes are missing. Ray Train waits silently."""

import time
from typing import Final

from gscnn_platform import cluster
from gscnn_platform.training.progress import say

LOOK_SECONDS: Final = 5.0


class Waiting:
    """Checks the cluster periodically, and says once when it becomes too small and once when it is large enough again.

    Args:
        needed: workers without which nothing is done.
        cpus, gpus: of each worker.
        advice: what follows, and what the user can do.
    """

    def __init__(self, needed: int, cpus: int, gpus: int, advice: str) -> None:
        self.needed, self.cpus, self.gpus, self.advice = needed, cpus, gpus, advice
        self._looked_at = time.monotonic()
        self._lacking: str | None = None

    def __call__(self) -> None:
        if time.monotonic() - self._looked_at < LOOK_SECONDS:
            return
        self._looked_at = time.monotonic()
        before, self._lacking = self._lacking, cluster.lacking(self.needed, self.cpus, self.gpus)
        if self._lacking and self._lacking != before:
            workers = f"{self.needed} workers need" if self.needed > 1 else "a worker needs"
            say(f"waiting for nodes: {workers} {self._lacking}. {self.advice}")
        elif before and not self._lacking:
            say("all required nodes are available")
