"""python -m jobs: lists the jobs, each with an example."""

from pathlib import Path

from gscnn_platform.command_line import jobs_table

JOBS = (
    "quickstart",
    "precompute",
    "verify",
    "train",
    "sweep",
    "compare",
    "evaluate",
    "predict",
    "export",
    "sync-tracking",
    "check_cluster",
)
"""In the order in which people meet them."""

if __name__ == "__main__":
    print(jobs_table(Path(__file__).with_name(f"{name}.py") for name in JOBS))
