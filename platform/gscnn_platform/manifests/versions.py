"""The versions that a cluster must have: those of constraints.txt, which the tests ran with."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

from gscnn_platform.manifests.documents import Document, Fault, Field, unfilled

CONSTRAINTS: Final = Path(__file__).resolve().parents[3] / "constraints.txt"


@cache
def locked(package: str) -> str:
    """The version of a package in constraints.txt.

    Raises:
        ValueError: it is not pinned there, or the file is missing, as in an installed wheel.
    """
    if not CONSTRAINTS.is_file():
        raise ValueError(f"{CONSTRAINTS} is missing: run this from a checkout")
    pinned = re.search(rf"^{re.escape(package)}==(\S+)$", CONSTRAINTS.read_text(encoding="utf-8"), re.MULTILINE)
    if pinned is None:
        raise ValueError(f"{CONSTRAINTS} does not pin {package}")
    return pinned[1]


def image_faults(document: Document, field: Field) -> Iterator[Fault]:
    """An image needs a tag that names the Ray version of constraints.txt, so that it cannot change unnoticed."""
    image, ray = document.get(*field), locked("ray")
    if not isinstance(image, str):
        yield document.fault(field, f"is {image!r}; give the image that deploy/Dockerfile builds")
        return
    tag = image.split("@")[0].rpartition("/")[2].partition(":")[2]
    if not tag or tag == "latest":
        yield document.fault(field, f"is {image}, which may change at any time; use a tag such as ray{ray}-py311")
    elif not re.search(rf"(?<![\d.]){re.escape(ray)}(?![\d.])", tag):
        yield document.fault(
            field,
            f"is {image}, and constraints.txt has ray=={ray}; rebuild deploy/Dockerfile and tag it …:ray{ray}-…",
        )


def version_faults(document: Document, field: Field) -> Iterator[Fault]:
    """A field that states Ray's version."""
    stated, ray = document.get(*field), locked("ray")
    if stated != ray and not unfilled(stated):
        yield document.fault(field, f"is {stated}, and constraints.txt has ray=={ray}; they must be the same")
