"""The jobs that there are, by the docstrings of their files."""

import ast
from collections.abc import Iterable
from pathlib import Path

from gscnn_platform.command_line.helping import example, what


def jobs_table(files: Iterable[Path]) -> str:
    """For each job's file what it does, and an example to paste. No job is imported."""
    docs = [ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) for file in files]
    return "\n".join(f"{example(doc)}\n    {what(doc)}" for doc in docs)
