"""Runs imports that take seconds while the job waits for something else."""

import importlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def imported_meanwhile(*modules: str) -> Iterator[None]:
    """Imports modules in a thread while the block runs, and waits for them at its end.

    Ray takes 3 to 5 s to start, mostly in other processes; torch and MLflow take as long to import. If an import
    fails, it raises again where the module is used.
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
