import os
import pwd
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from gscnn_platform import machine
from gscnn_platform.machine import MachineError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A user id without an entry in /etc/passwd, and no variable that names the user."""

    def unknown(uid: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME", "HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(machine.tempfile, "gettempdir", lambda: str(tmp_path))


def test_a_user_without_a_name_is_named_by_the_id(nobody: None) -> None:
    assert machine.user_name() == f"uid-{os.getuid()}"
    assert machine.name_of(4242) == "uid-4242"


def test_a_user_without_a_home_has_a_private_folder_for_temporary_files(nobody: None, tmp_path: Path) -> None:
    folder = tmp_path / f"gscnn-uid-{os.getuid()}"
    assert machine.home() == folder
    assert folder.stat().st_mode & 0o777 == 0o700
    assert machine.lasting_folder() == folder / "gscnn-runs"
    assert machine.expanded("~/runs") == folder / "runs"


def test_home_is_from_the_variable_then_from_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/somewhere")
    assert machine.home() == Path("/somewhere")
    for empty in (lambda: monkeypatch.setenv("HOME", ""), lambda: monkeypatch.delenv("HOME")):
        empty()
        assert machine.home() == Path(pwd.getpwuid(os.getuid()).pw_dir)


def test_a_folder_of_another_user_is_not_used(nobody: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.temporary_folder()
    uid = os.getuid()
    (tmp_path / f"gscnn-uid-{uid + 1}").mkdir()
    monkeypatch.setattr(os, "getuid", lambda: uid + 1)
    with pytest.raises(MachineError, match=f"belongs to uid-{uid}; export TMPDIR="):
        machine.temporary_folder()


def test_an_unwritable_home_is_an_error_if_files_must_persist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "home").touch()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(machine.tempfile, "gettempdir", lambda: str(tmp_path))
    with pytest.raises(MachineError, match=r"home/gscnn-runs cannot be written.*; export HOME=FOLDER"):
        machine.lasting_folder()
    assert machine.cache_folder() == tmp_path / f"gscnn-{machine.user_name()}" / "cache", "copies need not last"


def test_the_home_of_an_unknown_user_is_an_error() -> None:
    with pytest.raises(MachineError, match="~nobody-of-this-name/x: there is no user 'nobody-of-this-name'"):
        machine.expanded("~nobody-of-this-name/x")
    assert machine.expanded("runs/~x") == Path("runs/~x")


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu.max": "20000 100000\n"}, 1),
        ({"cpu.max": "800000 100000\n"}, 6),
        ({"cpu.max": "max 100000\n"}, 6),
        ({"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 3),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 6),
        ({}, 6),
    ],
)
def test_cores_respect_the_containers_limit(
    files: dict[str, str], cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(6)))
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content, encoding="utf-8")
    assert machine.cores(tmp_path) == cores


def test_a_job_prints_characters_that_the_terminals_encoding_lacks() -> None:
    code = "import jobs; print('run x · 1 → 2')"
    environment = {**os.environ, "PYTHONPATH": ".:platform", "PYTHONIOENCODING": "ascii"}
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, check=False)
    assert (run.returncode, run.stdout) == (0, rb"run x \xb7 1 \u2192 2" + b"\n"), run.stderr


def test_a_process_without_home_or_user_name_gets_both_for_libraries() -> None:
    code = "import pathlib, os, pwd, jobs; print(pathlib.Path.home() == pathlib.Path(pwd.getpwuid(os.getuid()).pw_dir))"
    environment = {"PYTHONPATH": ".:platform", "PATH": os.environ["PATH"]}
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, check=False)
    assert run.stdout == b"True\n", run.stderr


@pytest.mark.parametrize(("given", "expected"), [({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE")])
def test_openmp_waits_without_spinning_in_every_job_unless_the_user_sets_it(
    given: dict[str, str], expected: str
) -> None:
    paths = {"PYTHONPATH": f"{ROOT}:{ROOT / 'platform'}", "PATH": os.environ["PATH"]}
    program = "import os, sys, jobs; assert 'torch' not in sys.modules; print(os.environ['OMP_WAIT_POLICY'])"
    found = subprocess.run([sys.executable, "-c", program], env=paths | given, capture_output=True, text=True)
    assert found.stdout.strip() == expected, found.stderr


V2 = {"memory.max": "4000000", "memory.current": "3000000", "memory.stat": "anon 1\ninactive_file 500000"}
V1 = {
    "memory/memory.limit_in_bytes": "4000000",
    "memory/memory.usage_in_bytes": "3000000",
    "memory/memory.stat": "cache 1\ntotal_inactive_file 500000",
}


@pytest.mark.parametrize("files", [V2, V1])
def test_free_memory_is_what_the_containers_limit_leaves_with_cached_files(
    tmp_path: Path, files: dict[str, str]
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert machine.free_memory(tmp_path) == 1_500_000


@pytest.mark.parametrize("files", [{}, {**V2, "memory.max": "max"}])
def test_without_a_containers_limit_free_memory_is_the_machines(tmp_path: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert machine.free_memory(tmp_path) == pytest.approx(psutil.virtual_memory().available, rel=0.2)


PAGES_OF_MAPS = """
import resource, sys
from gscnn_platform import machine
if sys.argv[1] == "kept":
    machine.keep_freed_memory()
def step():
    maps = [bytearray(b"x") * 24_000_000 for _ in range(8)]
step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(3):
    step()
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) * resource.getpagesize())
"""
"""Three steps of eight maps of 24 MB each, after a first one; prints the bytes that the kernel had to hand out."""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="it is glibc that gives memory back")
def test_kept_memory_is_not_handed_out_again_by_the_kernel() -> None:
    bytes_handed_out = {}
    for way in ("default", "kept"):
        command = [sys.executable, "-c", PAGES_OF_MAPS, way]
        run = subprocess.run(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": "platform"}, capture_output=True)
        bytes_handed_out[way] = int(run.stdout)
    maps = 3 * 8 * 24_000_000
    assert bytes_handed_out["default"] > 0.3 * maps
    assert bytes_handed_out["kept"] < 0.05 * maps
