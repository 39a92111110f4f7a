"""Fills the pages' templates, which share base.html.jinja: one file each, that loads nothing."""

import base64
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from gscnn_platform.comparison import percent, points

ENVIRONMENT: Final = Environment(
    loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
)
ENVIRONMENT.filters["score"] = "{:.3f}".format
ENVIRONMENT.filters["percent"] = percent
ENVIRONMENT.filters["points"] = points


def fill(template: str, **values: Any) -> str:
    """The template of this folder with its names filled in; text is escaped."""
    return ENVIRONMENT.get_template(template).render(**values)


def data_uri(png: bytes) -> str:
    """A PNG file's bytes as what an img tag takes in place of an address."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
