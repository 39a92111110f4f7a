"""The jobs that there are, by the docstrings of their files."""

import ast
from pathlib import Path

from gscnn_platform.command_line.helping import example, what


def jobs_table(folder: Path) -> str:
    """A line or two for each job of a folder: what it does, and an example to paste. No job is imported."""
    docs = [ast.get_docstring(ast.parse(file.read_text("utf-8"))) for file in sorted(folder.glob("[!_]*.py"))]
    rows = [(example(doc), what(doc)) for doc in docs if doc and doc.startswith("python -m jobs.")]
    return "\n".join(f"{text}\n    {command}" for command, text in rows)
