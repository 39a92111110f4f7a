"""What is imported without torch, Ray and MLflow, so that a command that is mistyped answers at once."""

import ast
from collections.abc import Iterator
from functools import cache

import pytest

from tests.imports import PACKAGES, arrows_of, longest, modules

LIGHT = {
    "gscnn",
    "gscnn.architectures",
    "gscnn.backbones",
    "gscnn.backbones.timm_names",
    "gscnn.config",
    "gscnn.constants",
    "gscnn.edges",
    "gscnn_platform.cluster",
    "gscnn_platform.config",
    "gscnn_platform.data.store.part_building",
    "gscnn_platform.data.precompute",
    "gscnn_platform.data.store",
    "gscnn_platform.data.store.verification",
    "gscnn_platform.inspection.start",
    "gscnn_platform.prediction.job",
    "gscnn_platform.recipes",
    "gscnn_platform.reporting.start",
    "gscnn_platform.runs.loading",
    "gscnn_platform.runs.resume",
    "gscnn_platform.scores",
    "gscnn_platform.tracking",
    "gscnn_platform.training.job",
    "gscnn_platform.training.trainer",
    "gscnn_platform.sweeps",
    "gscnn_platform.sweeps.search_spaces",
    "gscnn_platform.sweeps.space",
    "gscnn_platform.sweeps.start",
    *(f"jobs.{path.stem}" for path in sorted(PACKAGES["jobs"].glob("*.py")) if path.stem != "__init__"),
}
"""Modules that are imported without HEAVY, also by way of others: help, typos and all that can be known to be wrong
before the first tensor are said within a second or two. What needs HEAVY imports it where it is used."""

HEAVY = {
    *("torch", "torchvision", "timm", "ray", "mlflow", "matplotlib", "pandas", "optuna", "sklearn", "scipy", "fsspec"),
    *("albumentations", "requests", "huggingface_hub"),
}
"""On a quiet core torch takes 3 to 6 s, torchvision as much again, MLflow, Ray, matplotlib and pandas 1 to 2 s each."""

IMPORTS = (ast.Import, ast.ImportFrom)


def executed(node: ast.AST) -> Iterator[ast.stmt]:
    """The statements that run when a module is imported: bodies of functions do not, nor what type checkers read."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            continue
        if isinstance(child, ast.stmt):
            yield child
        yield from executed(child)


@cache
def imported_first(name: str) -> tuple[str, ...]:
    """Modules, of PACKAGES or others, whose import begins when `name` is imported, its own packages among them."""
    path = modules()[name]
    statements: list[ast.stmt] = [
        each for each in executed(ast.parse(path.read_text("utf-8"))) if isinstance(each, IMPORTS)
    ]
    found = arrows_of(name, ast.Module(statements, []), str(path), path.name == "__init__.py")
    parents = (name.rpartition(".")[0],) if "." in name else ()
    return (*parents, *(lazily_named(arrow.target) for arrow in found))


def lazily_named(target: str) -> str:
    """The module that an imported name comes from: by the stub of a package that hands its names on lazily."""
    package, _, name = target.rpartition(".")
    path = modules().get(package)
    if path is None or target in modules() or not path.with_suffix(".pyi").exists():
        return target
    stub = ast.parse(path.with_suffix(".pyi").read_text("utf-8"))
    return next(arrow.target for arrow in arrows_of(package, stub, "", True) if arrow.target.endswith(f".{name}"))


def way_to_heavy(light: str) -> str | None:
    """`a -> b -> torch`, the shortest way; None if there is none."""
    known, ways = set(modules()), {light: light}
    for name in (queue := [light]):
        module = longest(name, known)
        if name.split(".")[0] in HEAVY:
            return ways[name]
        for target in imported_first(module) if module is not None else ():
            if target not in ways:
                ways[target] = f"{ways[name]} -> {target}"
                queue.append(target)
    return None


@pytest.mark.parametrize("light", sorted(LIGHT))
def test_what_is_read_first_imports_nothing_heavy(light: str) -> None:
    assert way_to_heavy(light) is None


def test_the_way_to_a_heavy_import_is_named() -> None:
    assert way_to_heavy("gscnn.model") == "gscnn.model -> torch"
    assert way_to_heavy("gscnn_platform.sweeps.driver") == "gscnn_platform.sweeps.driver -> ray.tune"
