"""Imports that take seconds, done while something else is waited for."""

import importlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def imported_meanwhile(*modules: str) -> Iterator[None]:
    """Imports modules in a thread beside the block, and waits for them at its end.

    Ray takes 3 to 5 s to start, most of which its processes and not this one are busy; torch and MLflow take as long
    to import. What an import raises is raised again where the module is used.
    """
    thread = threading.Thread(target=_import, args=(modules,), name="imports", daemon=True)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def _import(modules: tuple[str, ...]) -> None:
    for module in modules:
        try:
            importlib.import_module(module)
        except ImportError:
            return
