"""`python -m jobs`, and what each job says first."""

import subprocess
import sys
from pathlib import Path

import pytest

from jobs.__main__ import JOBS

ROOT = Path(__file__).resolve().parents[2]


def said(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", *words], cwd=ROOT, capture_output=True, text=True, check=False)


def test_every_job_is_listed_once_with_an_example() -> None:
    assert sorted(JOBS) == sorted(file.stem for file in (ROOT / "jobs").glob("[!_]*.py"))
    lines = said("jobs").stdout.splitlines()
    assert len(lines) == 2 * len(JOBS)
    for job, example, what in zip(JOBS, lines[::2], lines[1::2], strict=True):
        assert example.startswith(f"python -m jobs.{job}")
        assert what.startswith("    ")
        assert what.endswith(".")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["train", "streets"], "write python -m jobs.train"),
        (["check-cluster"], "write python -m jobs.check_cluster"),
        (["trian"], "did you mean train?"),
    ],
)
def test_a_job_that_is_named_behind_a_space_does_not_pass_for_done(words: list[str], told: str) -> None:
    answer = said("jobs", *words)
    assert (answer.returncode, answer.stdout, answer.stderr) == (
        2,
        "",
        f"python -m jobs lists the jobs and takes no arguments: {told}\n",
    )


@pytest.mark.parametrize(
    ("redirected", "status", "error"),
    [
        (">&-", 0, ""),
        (">&- 2>&-", 0, ""),
        (">/dev/full", 1, "\na file of this job, or its output: No space left on device\n"),
    ],
)
def test_output_that_is_closed_or_full_gives_no_traceback(redirected: str, status: int, error: str) -> None:
    command = f"{sys.executable} -m jobs {redirected}"
    answer = subprocess.run(command, cwd=ROOT, shell=True, capture_output=True, text=True, check=False)
    assert (answer.returncode, answer.stderr) == (status, error)


@pytest.mark.parametrize("job", [job for job in JOBS if job not in ("quickstart", "check_cluster")])
def test_a_job_without_arguments_says_in_five_lines_what_it_needs(job: str) -> None:
    answer = said(f"jobs.{job}")
    assert answer.returncode == 2
    lines = (answer.stdout + answer.stderr).splitlines()
    assert len(lines) <= 5
    assert any(line.startswith("needs: ") for line in lines)
    assert any(line.startswith(f"example: python -m jobs.{job}") for line in lines)
