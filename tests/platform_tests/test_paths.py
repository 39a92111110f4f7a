import errno
import pickle
import threading
import time
from pathlib import Path, PurePosixPath
from types import SimpleNamespace

import boto3
import pytest

from gscnn_platform import remote_errors
from gscnn_platform.paths import LocationError, RemotePath, as_path, below, upload, write_whole
from gscnn_platform.remote_errors import RemoteError, may_pass, patiently
from tests.s3 import BUCKET, Endpoint, Mode


@pytest.fixture
def folder(remote: str) -> RemotePath:
    found = as_path(remote)
    assert isinstance(found, RemotePath)
    return found


def test_a_path_and_a_file_uri_are_local_files() -> None:
    assert as_path("/a b/c%20d") == Path("/a b/c%20d")
    assert as_path("file:///a b/c%20d") == Path("/a b/c%20d")


def test_two_slashes_before_a_path_are_one(tmp_path: Path) -> None:
    assert str(as_path(f"/{tmp_path}")) == str(as_path(f"//{tmp_path}")) == str(tmp_path)


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("s3:/bucket/frames", r"s3:/bucket/frames: a URI has two slashes after its scheme: s3://bucket/frames$"),
        ("file:/data", r"two slashes after its scheme: file:///data$"),
        ("s3://", r"s3://: names no bucket: write s3://BUCKET/FOLDER"),
        ("s3:///frames", r"s3:///frames: names no bucket"),
    ],
)
def test_a_mistyped_uri_does_not_become_a_folder(uri: str, message: str) -> None:
    with pytest.raises(LocationError, match=message):
        as_path(uri)


def test_a_file_with_the_longest_name_is_written(tmp_path: Path) -> None:
    for name in ("a" * 255, "道" * 85):
        write_whole(tmp_path / name, b"1")
        assert (tmp_path / name).read_bytes() == b"1"
    assert len(list(tmp_path.iterdir())) == 2


def test_a_server_error_names_the_uri_and_can_be_pickled_by_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*args: object, **options: object) -> object:
        raise OSError("AWS Error NETWORK_CONNECTION during HeadObject operation")

    calls = ("get_file_info", "open_input_stream", "open_input_file", "open_output_stream")
    monkeypatch.setattr(RemotePath, "filesystem", SimpleNamespace(**dict.fromkeys(calls, fails)))
    monkeypatch.setattr(RemotePath, "path", "bucket/a")
    file = RemotePath("s3://bucket/a")
    for action in (file.exists, file.read_bytes, file.files, file.iterdir, lambda: file.write_bytes(b"2")):
        with pytest.raises(RemoteError, match=r"^AWS Error NETWORK_CONNECTION during HeadObject operation$") as caught:
            action()
        assert caught.value.filename == "s3://bucket/a"
        assert may_pass(caught.value)
        again = pickle.loads(pickle.dumps(caught.value))
        assert (str(again), again.filename) == (str(caught.value), "s3://bucket/a")


def test_a_remote_file_has_pathlibs_parts_and_keeps_its_uri(folder: RemotePath) -> None:
    file = folder / "train" / "50% é.tar.PNG"
    as_pure = PurePosixPath(file.uri)
    assert (file.name, file.stem, file.suffix) == (as_pure.name, as_pure.stem, as_pure.suffix)
    assert (file.parent, file.parent.parent) == (folder / "train", folder)
    assert below(file, folder) == PurePosixPath("train/50% é.tar.PNG")
    file.write_bytes(b"12")
    again = as_path(str(file))
    assert again == file
    assert again.read_bytes() == b"12"


def test_files_are_found_as_pathlib_finds_them(folder: RemotePath, tmp_path: Path) -> None:
    for name in ("a.png", "b.jpg", "x/a.png", "x/y/c.png", "x/y/.d.png", "z/[1].png"):
        (folder / name).write_bytes(b"1")
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"1")
    for pattern in ("*", "*.png", "**/*", "**/*.png", "x/**/*.png", "*/*", "x/y/[a-c].p?g", "nothing/*"):
        here = {below(file, tmp_path) for file in tmp_path.glob(pattern) if file.is_file()}
        assert {below(file, folder) for file in folder.glob(pattern)} == here, pattern
    assert [each.name for each in folder.iterdir()] == ["a.png", "b.jpg", "x", "z"]
    assert list((folder / "nothing").iterdir()) == []


def test_existing_and_missing_files_are_distinguished(folder: RemotePath) -> None:
    (folder / "x/a").write_text("grüß")
    assert ((folder / "x").is_dir(), (folder / "x").is_file()) == (True, False)
    assert ((folder / "x/a").is_file(), (folder / "x/a").stat().st_size) == (True, 6)
    assert (folder / "x/a").read_text() == "grüß"
    assert not (folder / "y").exists()
    with pytest.raises(FileNotFoundError):
        (folder / "y").read_bytes()
    with pytest.raises(FileNotFoundError):
        (folder / "y").stat()
    (folder / "x/a").unlink()
    (folder / "x/a").unlink(missing_ok=True)
    assert not (folder / "x/a").exists()


def test_another_client_reads_what_is_written(folder: RemotePath, tmp_path: Path) -> None:
    content = bytes(range(256)) * 60_000  # Of 15 MB, more than one part of an upload.
    (tmp_path / "big").write_bytes(content)
    upload(tmp_path / "big", folder / "big")
    write_whole(folder / "small", b"3")
    key = folder.path.removeprefix(f"{BUCKET}/")
    read = {
        name: boto3.client("s3").get_object(Bucket=BUCKET, Key=f"{key}/{name}")["Body"].read()
        for name in ("big", "small")
    }
    assert read == {"big": content, "small": b"3"}


def test_fsspec_reads_schemes_that_arrow_does_not_know() -> None:
    folder = as_path("memory://somewhere/below")
    folder.mkdir()
    write_whole(folder / "a", b"1")
    assert [str(file) for file in folder.glob("*")] == ["memory://somewhere/below/a"]


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("nope://x/y", "nope://x/y cannot be used: .*nope"),
        (
            "s3://key:secret@bucket/x",
            r"s3://\.\.\.@bucket/x: URIs are logged: put the secret into the environment instead",
        ),
        ("s3://bucket/x?endpoint_override=localhost:1", "options in a URI are not supported: .* AWS_ENDPOINT_URL"),
    ],
)
def test_an_unusable_uri_is_rejected_without_repeating_its_secret(uri: str, message: str) -> None:
    with pytest.raises(LocationError, match=message) as refused:
        as_path(uri)
    assert "secret@" not in str(refused.value)


def test_a_local_file_is_replaced_atomically(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a"
    write_whole(file, b"old")

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="full"):
        write_whole(file, b"new")
    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]


def test_retries_outlast_an_endpoint_that_fails_for_a_while(
    s3: Endpoint, folder: RemotePath, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(remote_errors, "FIRST_PAUSE", 0.2)
    (folder / "a").write_bytes(b"1")
    s3.mode = Mode.OVERLOADED
    # Arrow gives up after 6 s.
    threading.Timer(8, s3.recover).start()
    assert patiently((folder / "a").read_bytes) == b"1"
    assert "trying again in 0 s: " in capfd.readouterr().err


def test_permanent_errors_are_raised_at_once(s3: Endpoint, folder: RemotePath, tmp_path: Path) -> None:
    for action in (
        (folder / "nothing").read_bytes,
        (tmp_path / "nothing").read_bytes,
        lambda: as_path("s3://no-such-bucket/x").write_bytes(b"1"),
    ):
        began = time.monotonic()
        with pytest.raises(OSError):
            patiently(action)
        assert time.monotonic() - began < 1.5
    assert not may_pass(OSError(errno.ENOSPC, "No space left on device"))
    assert not may_pass(FileNotFoundError(errno.ENOENT, "No such file or directory", "/data/Connection timed out"))
    assert may_pass(OSError(errno.ETIMEDOUT, "Connection timed out"))
    assert not may_pass(OSError("could not verify page integrity, CRC checksum verification failed"))
