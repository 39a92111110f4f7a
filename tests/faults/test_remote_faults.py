"""Store and checkpoints on an object store that fails: a local S3 endpoint. `make faults`."""

import signal
import time
from pathlib import Path

import pytest

from gscnn_platform.data.store import StoreError, open_store
from gscnn_platform.paths import RemotePath, as_path, below, upload
from tests.faults.driven import Driven
from tests.faults.table import note
from tests.s3 import Endpoint, Mode

pytestmark = pytest.mark.slow

OUTAGE_SECONDS = 25


@pytest.fixture
def remote_run(run: Driven, remote: str, tmp_path: Path) -> Driven:
    """A run with store and checkpoints on the endpoint, and with an empty cache on the nodes."""
    place = as_path(remote)
    assert isinstance(place, RemotePath)
    for file in (run.folder / "store").rglob("*.*"):
        upload(file, place / "store" / str(below(file, run.folder / "store")))
    run.store, run.storage = place / "store", place / "runs"
    run.environment = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    return run


@pytest.mark.parametrize("cached", [True, False])
def test_object_store_out_of_reach(remote_run: Driven, undisturbed: str, s3: Endpoint, cached: bool) -> None:
    remote_run.name += f"_{'cached' if cached else 'remote'}"
    remote_run.extra = {} if cached else {"data.cache.gigabytes": 0, "data.loader-processes": 1}
    s3.bytes_per_second = 2_000_000
    remote_run.start()
    remote_run.at_step(6)
    with s3.failing(Mode.OVERLOADED):
        remote_run.wait_for("trying again in")
        time.sleep(OUTAGE_SECONDS)
    began = time.monotonic()
    remote_run.at_step(12)
    seconds = time.monotonic() - began
    remote_run.signal(signal.SIGKILL)
    remote_run.end()
    remote_run.resume_to_the_end()
    remote_run.assert_as_if_nothing_had_happened(undisturbed)
    what = f"503 to every request for {OUTAGE_SECONDS} s, parts {'in the cache' if cached else 'read row by row'}"
    note("object store out of reach", f"{what}; then the driver killed", "nothing: the run waits for it", seconds)


@pytest.mark.parametrize("mode", [Mode.REFUSE, Mode.STALL])
def test_store_out_of_reach_when_it_is_opened(remote_run: Driven, s3: Endpoint, mode: Mode) -> None:
    began = time.monotonic()
    with s3.failing(mode), pytest.raises(StoreError, match=f"{remote_run.store} cannot be read: .*NETWORK_CONNECTION"):
        open_store(str(remote_run.store))
    note("object store out of reach at the start", f"{mode.value}", "nothing: an error", time.monotonic() - began)
