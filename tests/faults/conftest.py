"""Fixtures of the fault tests: a store of small scenes, and the weights of an uninterrupted training run on it."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from gscnn_platform.data.formats.streets import Streets
from tests.faults.driven import EVERY_STEP, Driven
from tests.stores import build_store


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("faults")
    build_store(folder / "store", Streets(height=64, width=96, train=40, val=6, test=1))
    return folder


@pytest.fixture(scope="session")
def undisturbed(folder: Path) -> str:
    """The weights at the end of an uninterrupted run."""
    run = Driven(folder, "undisturbed")
    run.start()
    assert run.end() == 0, run.log.read_text()[-3000:]
    assert run.steps_of("train/total") == EVERY_STEP
    return run.weights()


@pytest.fixture
def run(folder: Path, request: pytest.FixtureRequest) -> Iterator[Driven]:
    driven = Driven(folder, request.node.originalname.removeprefix("test_")[:40])
    yield driven
    if driven.running:
        driven.signal(signal.SIGKILL)
