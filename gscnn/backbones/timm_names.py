"""The names of timm's models, read from its source code: importing timm and torch takes 6 to 10 s."""

import pkgutil
import re
from difflib import get_close_matches
from functools import cache
from importlib.abc import InspectLoader
from importlib.util import find_spec
from typing import Final

PREFIX: Final = "timm/"
"""Begins the name of a backbone that is one of timm's models."""

REGISTERED: Final = re.compile(r"^@register_model\b.*\n(?:@.*\n)*def (\w+)", re.MULTILINE)


@cache
def timm_models() -> frozenset[str]:
    """The names in timm's registry; empty if timm is not installed, as on a machine that only reads configs.

    A name is that of a function in timm.models with the decorator `register_model`. Python's import system reads the
    sources, 1.8 MB in less than 0.1 s, and runs nothing.
    """
    timm = find_spec("timm")
    if timm is None or timm.submodule_search_locations is None:
        return frozenset()
    names: set[str] = set()
    for module in pkgutil.iter_modules([f"{folder}/models" for folder in timm.submodule_search_locations]):
        spec = module.module_finder.find_spec(module.name, None)
        if spec is not None and isinstance(spec.loader, InspectLoader):
            names.update(REGISTERED.findall(spec.loader.get_source(module.name) or ""))
    return frozenset(names)


def check_is_in_timm(backbone: str) -> None:
    """Checks that `backbone`, `timm/NAME`, names a model of timm, if timm is installed.

    Raises:
        ValueError: timm has no such model.
    """
    name, known = backbone.removeprefix(PREFIX), timm_models()
    if known and name not in known:
        # Of `resnet50.a1_in1k` the part behind the dot names weights.
        near = get_close_matches(name.partition(".")[0], known, n=4, cutoff=0.5)
        nearest = f"; did you mean {' or '.join(PREFIX + each for each in near)}?" if near else ""
        raise ValueError(f"timm has no model {name!r} among its {len(known)}{nearest}")
