"""How many calls a tracking server handles: each writer sends batches of metrics like a run's outbox.

    MLFLOW_TRACKING_URI=http://... MLFLOW_TRACKING_USERNAME=... MLFLOW_TRACKING_PASSWORD=... \\
        python -m benchmarks.tracking_server [--writers 1 8] [--rows 60] [--seconds 15]

A running training sends at most one such call per second, however fast its steps are, so calls per second are the
trainings that the server supports at once. The writers are processes on this machine: use another machine than the
server's, or read the figures as those of both together. The runs go into the experiment `benchmark` and are deleted at
the end.
"""

import argparse
import multiprocessing
import os
import time
from multiprocessing.synchronize import Barrier

import numpy as np
from mlflow.entities import Metric

from benchmarks.environment import describe, markdown_table
from gscnn_platform.tracking.delivery import client_of

EXPERIMENT = "benchmark"


def write(uri: str, run_id: str, rows: int, seconds: float, start: Barrier) -> list[float]:
    """Sends calls of `rows` metric rows for `seconds`; returns the seconds that each call took."""
    client, times, step = client_of(uri), list[float](), 0
    client.get_run(run_id)
    start.wait()
    began = time.perf_counter()
    while time.perf_counter() - began < seconds:
        step += 1
        batch = [Metric(f"benchmark/{key}", 1 / step, int(time.time() * 1000), step) for key in range(rows)]
        called = time.perf_counter()
        client.log_batch(run_id, metrics=batch)
        times.append(time.perf_counter() - called)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--writers", type=int, nargs="+", default=[1, 8], help="at once")
    parser.add_argument("--rows", type=int, default=60, help="metric rows a call: 10 steps of 6 keys")
    parser.add_argument("--seconds", type=float, default=15)
    arguments = parser.parse_args()
    uri = os.environ["MLFLOW_TRACKING_URI"]
    client = client_of(uri)
    known = client.get_experiment_by_name(EXPERIMENT)
    experiment = known.experiment_id if known else client.create_experiment(EXPERIMENT)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["gscnn_platform.tracking"])
    table = []
    for writers in arguments.writers:
        runs = [client.create_run(experiment).info.run_id for _ in range(writers)]
        with context.Manager() as manager, context.Pool(writers) as pool:
            start = manager.Barrier(writers)
            each = [(uri, run, arguments.rows, arguments.seconds, start) for run in runs]
            times = np.concatenate(pool.starmap(write, each, chunksize=1))
        for run in runs:
            client.delete_run(run)
        calls = len(times) / arguments.seconds
        table.append((writers, calls, calls * arguments.rows, *(np.percentile(times, (50, 95)) * 1e3)))
    print(describe())
    print(markdown_table(("writers", "calls/s", "rows/s", "ms a call, median", "95%"), table))


if __name__ == "__main__":
    main()
