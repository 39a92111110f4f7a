"""Checks the shape annotations of gscnn in every test, and keeps torch to one thread."""

import inspect
import os
import signal
from collections.abc import Callable
from typing import Annotated, Any, get_origin

import jaxtyping
import pytest
from beartype import beartype
from beartype.vale import IsInstance

# A tensor of these tests is too small to share among threads, and many a machine that runs them has two cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Jobs that tests start would inherit that it is ignored from `nohup make test`.
signal.signal(signal.SIGHUP, signal.SIG_DFL)


def check(function: Callable[..., Any]) -> Callable[..., Any]:
    """beartype's decorator, which rejects generic named tuples (its issue 519): only their class is checked."""
    function.__annotations__ = {name: _without_parameter(hint) for name, hint in function.__annotations__.items()}
    return beartype(function)


def _without_parameter(hint: Any) -> Any:
    origin = get_origin(hint)
    if inspect.isclass(origin) and issubclass(origin, tuple) and origin is not tuple:
        return Annotated[object, IsInstance[origin]]
    return hint


jaxtyping.install_import_hook("gscnn", f"{__name__}.check")

pytest_plugins = ["tests.fixtures"]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Groups for `--dist loadgroup`: tests of the Ray cluster stay in one process, others with their module."""
    for item in items:
        needs_ray = "ray_cluster" in getattr(item, "fixturenames", ())
        item.add_marker(pytest.mark.xdist_group("ray" if needs_ray else item.nodeid.partition("::")[0]))


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Disables the checks of annotations, as in production, so that gscnn's own errors are raised."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
