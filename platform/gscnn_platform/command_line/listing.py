"""Lists the jobs, from the docstrings of their files."""

import ast
import sys
from collections.abc import Mapping
from pathlib import Path

from gscnn_platform.command_line.helping import HELP, example, what
from gscnn_platform.invalid_values import did_you_mean, shown


def list_jobs(files: Mapping[str, Path]) -> None:
    """Prints what each job does and an example to paste, from the docstring of its file. Imports no job.

    Exits with status 2 if there are arguments, as in `python -m jobs train`.
    """
    asked = [word for word in sys.argv[1:] if word not in HELP]
    if asked:
        job = asked[0].replace("-", "_") if asked[0] not in files else asked[0]
        told = f"write python -m jobs.{job}" if job in files else did_you_mean(asked[0], list(files))
        told = told or f"leave out {shown(asked[0])}"
        sys.stderr.write(f"python -m jobs lists the jobs and takes no arguments: {told}\n")
        sys.exit(2)
    for file in files.values():
        doc = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8")))
        print(f"{example(doc)}\n    {what(doc)}")
