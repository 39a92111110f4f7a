"""python -m jobs: lists the jobs, each with an example."""

from pathlib import Path

from gscnn_platform.command_line import list_jobs, user_errors

JOBS = (
    "quickstart",
    "inspect",
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
"""In the order in which a new user needs them."""

if __name__ == "__main__":
    with user_errors():
        list_jobs({name: Path(__file__).with_name(f"{name}.py") for name in JOBS})
