"""Reads the imports of all modules, for tests of rules about them."""

import ast
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

PACKAGES = {"gscnn": ROOT / "gscnn", "gscnn_platform": ROOT / "platform/gscnn_platform", "jobs": ROOT / "jobs"}
"""The packages whose imports are read, and their folders."""


@dataclass(frozen=True)
class Arrow:
    """A name that a module imports; `target` is the full dotted name, as far as known: `ray.train.Checkpoint`."""

    source: str
    target: str
    place: str

    def __str__(self) -> str:
        return f"{self.place}: {self.source} -> {self.target}"


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def longest(name: str, packages: set[str]) -> str | None:
    return max((package for package in packages if within(name, package)), key=len, default=None)


@cache
def modules() -> dict[str, Path]:
    """Returns dotted name -> file for all modules in PACKAGES."""
    found = {}
    for package, folder in PACKAGES.items():
        for path in sorted(folder.rglob("*.py")):
            parts = (package, *path.relative_to(folder).with_suffix("").parts)
            found[".".join(parts).removesuffix(".__init__")] = path
    return found


def arrows_of(
    source: str, tree: ast.AST, place: str, is_package: bool = False, submodules: Collection[str] = ()
) -> Iterator[Arrow]:
    """Yields all imports of a module, at any level, and all uses of `submodules`, such as `ray.train.report`."""
    imported: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
            imported |= {alias.name.split(".")[0] for alias in node.names if alias.asname is None}
        elif isinstance(node, ast.ImportFrom):
            parents = source.split(".")[: None if is_package else -1]
            base = parents[: len(parents) - node.level + 1] if node.level else []
            path = ".".join([*base, *([node.module] if node.module else [])])
            targets = [f"{path}.{alias.name}" for alias in node.names]
        else:
            continue
        for target in targets:
            yield Arrow(source, target, f"{place}:{node.lineno}")
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in imported:
            name = f"{node.value.id}.{node.attr}"
            if name in submodules:
                yield Arrow(source, name, f"{place}:{node.lineno}")
