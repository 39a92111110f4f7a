"""What the documents say can be pasted: each command is read by its job, and the snippets of the README run."""

import functools
import importlib
import inspect
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import torch

from tests.released_network import ReleasedNetwork

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "deploy/mlflow.md"]
COMMAND = re.compile(r"python -m jobs\.([\w-]+)((?: [^`#\n]*)?)")


def commands() -> Iterator[tuple[str, str, str]]:
    """Page, job and arguments of every command that is written out whole, in a code block."""
    for page in PAGES:
        for block in re.findall(
            r"^```\w*\n(.*?)^```", page.read_text(encoding="utf-8").replace("\\\n", ""), re.S | re.M
        ):
            for job, words in COMMAND.findall(block):
                if "…" not in words and "..." not in words:
                    yield page.name, job, words.strip()


class ReadError(Exception):
    """The command line was read, and the job would begin."""


@pytest.mark.parametrize(("page", "job", "words"), sorted(set(commands())))
def test_every_command_in_the_documents_is_read_by_its_job(
    page: str, job: str, words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = importlib.import_module(f"jobs.{job}")
    name = "choose" if hasattr(module, "choose") else "read"
    original = getattr(module, name)

    def read_only(target: Any, *arguments: Any, **options: Any) -> Any:
        original(without_body(target) if inspect.isfunction(target) else target, *arguments, **options)
        raise ReadError

    monkeypatch.setattr(module, name, read_only)
    words = words.replace("$fold", "0")  # The variable of a loop.
    monkeypatch.setattr(sys, "argv", [f"{job}.py", *shlex.split(words, comments=True)])
    try:
        module.main()
    except ReadError:
        return
    except SystemExit as ended:
        assert "--help" in words and ended.code == 0, capsys.readouterr()


def without_body(function: Any) -> Any:
    """A function of the same parameters that does nothing."""

    @functools.wraps(function)
    def nothing(*arguments: Any, **options: Any) -> None:
        return None

    return nothing


def first_snippet(page: str) -> str:
    indented = re.search(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.S)
    assert indented is not None
    return dedent(indented[1])


def test_the_snippets_of_the_readme_and_of_weights_md_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with torch.device("meta"):
        shapes = {name: value.shape for name, value in ReleasedNetwork().state_dict().items()}
    weights = {f"module.{name}": torch.zeros(()).expand(shape) for name, shape in shapes.items()}
    torch.save({"state_dict": weights}, "checkpoint.pth")
    names: dict[str, Any] = {}
    exec(first_snippet("README.md"), names)
    assert names["output"].seg_logits.shape == (1, 19, 96, 128)
    assert names["losses"]["total"].isfinite()
    exec(first_snippet("docs/weights.md"), names)
    assert names["output"].edge_logits.shape == (1, 1, 96, 128)
