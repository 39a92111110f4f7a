"""Fills and writes the pages' templates, which extend base.html.jinja; each page is a self-contained file."""

import base64
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from gscnn_platform.machine import MachineError
from gscnn_platform.paths import write_whole

ENVIRONMENT: Final = Environment(
    loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
)
ENVIRONMENT.filters["score"] = "{:.3f}".format


def fill(template: str, **values: Any) -> str:
    """Renders a template of this folder with these values; text is escaped."""
    return ENVIRONMENT.get_template(template).render(**values)


def write_page(path: Path, page: str, option: str) -> None:
    """Writes or replaces a page atomically: if this fails, the previous file is unchanged.

    Raises:
        MachineError: it cannot be written, for example because the disk is full; the message names the option.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # If the path is a link, its target is written, as editors do.
        write_whole(path.resolve(), page.encode())
    except OSError as error:
        raise MachineError(f"{path} cannot be written: {error.strerror}; name another file by {option}") from error


def data_uri(picture: bytes, kind: str = "png") -> str:
    """The bytes of a PNG file, or of another kind such as `webp`, as a data URI for an img tag."""
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"
