"""Fills the pages' templates, which share base.html.jinja; each page is a self-contained file."""

import base64
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from gscnn_platform.comparison import percent, points
from gscnn_platform.machine import MachineError
from gscnn_platform.paths import write_whole

ENVIRONMENT: Final = Environment(
    loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
)
ENVIRONMENT.filters["score"] = "{:.3f}".format
ENVIRONMENT.filters["percent"] = percent
ENVIRONMENT.filters["points"] = points


def fill(template: str, **values: Any) -> str:
    """The template of this folder with its names filled in; text is escaped."""
    return ENVIRONMENT.get_template(template).render(**values)


def write_page(path: Path, page: str, option: str) -> None:
    """Writes or replaces a page at once: where that fails, what was there before still is.

    Raises:
        MachineError: it cannot be written, since the disk is full, say; naming the option.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Of a link, what it names is written, as an editor does.
        write_whole(path.resolve(), page.encode())
    except OSError as error:
        raise MachineError(f"{path} cannot be written: {error.strerror}; name another file by {option}") from error


def data_uri(png: bytes) -> str:
    """A PNG file's bytes as what an img tag takes in place of an address."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
