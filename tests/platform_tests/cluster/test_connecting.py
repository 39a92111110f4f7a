import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import ray
from ray._common.utils import get_default_ray_temp_dir

from gscnn_platform.cluster import ClusterError, connecting
from gscnn_platform.cluster.address import has_token


def test_the_longest_folder_that_is_let_through_holds_rays_sockets() -> None:
    """Held against the system: a socket of the length that Ray's has can be bound there, and not in a longer one."""
    socket_name = connecting.SOCKET.format(os.getpid())
    most = connecting.LONGEST_SOCKET - len(f"/{socket_name}")
    short = Path("/tmp") / ("x" * (most - len("/tmp/")))
    for folder, fits in ((short, True), (Path(f"{short}x"), False)):
        with socket.socket(socket.AF_UNIX) as bound:
            try:
                # Its folder does not exist: the length is what the system looks at first.
                with pytest.raises(OSError, match="No such file" if fits else "too long"):
                    bound.bind(f"{folder}/{socket_name}")
                if not fits:
                    with pytest.raises(ClusterError, match=f"of {most + 1} bytes, .* a path of at most {most} bytes"):
                        connecting.check_folder(folder / "ray")
                else:
                    connecting.check_folder(folder / "ray")
            finally:
                shutil.rmtree(folder, ignore_errors=True)


def test_a_folder_that_cannot_be_written_is_refused_with_the_setting_that_helps() -> None:
    with pytest.raises(ClusterError, match=r"Ray cannot write /dev/null/ray.*; export RAY_TMPDIR=FOLDER, a folder of"):
        connecting.check_folder(Path("/dev/null/ray"))


def test_a_folder_on_a_full_disk_is_refused_before_ray_hangs_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connecting, "LEAST_FREE", shutil.disk_usage("/tmp").total)
    with pytest.raises(ClusterError, match=r"Ray cannot write /tmp/ray.* MB of its disk are free, .*RAY_TMPDIR="):
        connecting.check_folder(Path("/tmp/ray"))


def test_a_folder_that_is_too_long_is_called_by_the_variable_that_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path("/tmp") / ("x" * 100) / "ray"
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv("TMPDIR", str(folder.parent))
    with pytest.raises(ClusterError, match=f"^TMPDIR is {folder.parent}, a path of 105 bytes.*; export RAY_TMPDIR="):
        connecting.check_folder(folder)


@pytest.mark.parametrize("value", ["", "tmp"])
def test_a_variable_that_is_empty_or_relative_is_named(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv("TMPDIR", value)
    with pytest.raises(ClusterError, match=f"^TMPDIR is {value!r}, not an absolute path, .*: unset it, or export"):
        connecting.check_folder(Path(get_default_ray_temp_dir()))


def test_a_closed_terminal_is_not_heard_by_what_starts_with_ray() -> None:
    look = "import signal; print(signal.SIGHUP in signal.pthread_sigmask(signal.SIG_BLOCK, []))"
    with connecting._own_signals():
        assert subprocess.check_output([sys.executable, "-c", look]) == b"True\n"
    assert signal.SIGHUP not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_too_few_open_files_are_refused_with_the_command_that_helps() -> None:
    with pytest.raises(ClusterError, match=r"may open 256 files, .* run `ulimit -n 8192` first"):
        connecting.check_open_files(256)
    connecting.check_open_files(8192)
    connecting.check_open_files(-1)  # Without a limit.


def test_a_home_that_takes_no_file_gets_a_token_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray writes it to ~/.ray, which a container under a user id without a home does not have."""
    (tmp_path / "home").touch()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("RAY_AUTH_TOKEN", "")
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    assert not has_token(anew=True)
    connecting.provide_token()
    assert len(os.environ["RAY_AUTH_TOKEN"]) == 64
    assert has_token()
    monkeypatch.undo()
    has_token(anew=True)


def test_workers_know_their_own_cluster_and_the_driver_keeps_it_to_itself(ray_cluster: None) -> None:
    """Whoever started it: beside a neighbour's, Ray Train's clean-up asks the cluster that RAY_ADDRESS names."""
    before = os.environ.get("RAY_ADDRESS")
    of_worker = ray.remote(num_cpus=0)(lambda: os.environ.get("RAY_ADDRESS"))
    assert ray.get(of_worker.remote()) == ray.get_runtime_context().gcs_address
    assert os.environ.get("RAY_ADDRESS") == before


@pytest.mark.parametrize(
    ("error", "way_out"),
    [
        (Exception("The current node timed out during startup.\nmore"), "free cores, memory and space in "),
        (PermissionError(13, "Permission denied", "/opt/python"), "give this user access to that file "),
    ],
)
def test_a_failed_start_of_ray_is_one_message_with_the_way_out_that_its_cause_has(
    monkeypatch: pytest.MonkeyPatch, error: Exception, way_out: str
) -> None:
    monkeypatch.setattr(connecting, "named_cluster", lambda: None)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(connecting, "_check_machine", lambda: Path("/tmp/ray"))

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(ray, "init", fail)
    with pytest.raises(ClusterError) as raised:
        connecting.join_or_start(dashboard=False)
    first, second = str(raised.value).split("\n")
    assert first == f"Ray did not start on this machine: {str(error).partition(chr(10))[0].rstrip('.')}"
    assert second.startswith(way_out)
