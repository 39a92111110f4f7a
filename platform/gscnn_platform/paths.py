"""Files by path or by URI: pathlib's Path on this machine, a RemotePath like it on s3://, gs://, abfs:// and others.

Arrow reads and writes them; fsspec handles schemes that Arrow does not know. Credentials and endpoints come from the
environment (AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL, GOOGLE_APPLICATION_CREDENTIALS), never from a URI, which is logged.
"""

import errno
import os
import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Final, Literal, NamedTuple

import pyarrow as pa
from pyarrow.fs import (
    FileInfo,
    FileSelector,
    FileSystem,
    FileType,
    FSSpecHandler,
    LocalFileSystem,
    PyFileSystem,
    copy_files,
)

from gscnn_platform.config import has_password
from gscnn_platform.remote_errors import naming

OBJECT_STORES: Final = ("s3", "gcs", "abfs")
"""Arrow's names of file systems whose folders exist only by their files, and whose files appear whole or not at all."""

ARROWS: Final = ("s3://", "gs://", "gcs://", "abfs://", "abfss://", "hdfs://")
"""Schemes that Arrow knows: a path with one of these is created without a network request for its file system."""


BUCKETS: Final = ("s3", "gs", "gcs", "abfs", "abfss")
"""Schemes whose first part is a bucket."""
ONE_SLASH: Final = re.compile(rf"({'|'.join(BUCKETS)}|hdfs|file):/(?!/)")
"""A mistyped URI, for which a folder named `s3:` would be created."""

MOST_NAME: Final = 240
"""Maximum bytes of a file's name in the name of its partial file; file systems allow 255."""


class LocationError(ValueError):
    """A URI that cannot be used; the message says why."""


@dataclass(frozen=True, order=True)
class RemotePath:
    """A file or folder on one of Arrow's file systems, with the part of pathlib's Path that this project uses."""

    uri: str
    """Without a trailing slash."""

    def __str__(self) -> str:
        return self.uri

    def __truediv__(self, below: str | PurePosixPath) -> "RemotePath":
        return RemotePath(f"{self.uri}/{below}")

    @property
    def name(self) -> str:
        return self.uri.rpartition("/")[2]

    @property
    def stem(self) -> str:
        return PurePosixPath(self.name).stem

    @property
    def suffix(self) -> str:
        return PurePosixPath(self.name).suffix

    @property
    def parent(self) -> "RemotePath":
        return RemotePath(self.uri.rpartition("/")[0])

    @property
    def filesystem(self) -> FileSystem:
        return filesystem_of(self.uri)[0]

    @property
    def path(self) -> str:
        """The path within the file system."""
        return filesystem_of(self.uri)[1]

    def exists(self) -> bool:
        return self._info().type != FileType.NotFound

    def is_file(self) -> bool:
        return self._info().type == FileType.File

    def is_dir(self) -> bool:
        return self._info().type == FileType.Directory

    def stat(self) -> "RemoteStat":
        """Raises FileNotFoundError."""
        info = self._info()
        if info.type == FileType.NotFound:
            raise FileNotFoundError(errno.ENOENT, "there is no such file", self.uri)
        return RemoteStat(info.size or 0)

    def files(self) -> dict["RemotePath", int]:
        """Returns all files below this folder with their sizes in bytes; none if the folder does not exist."""
        root = self.path
        selector = FileSelector(root, allow_not_found=True, recursive=True)
        with naming(self.uri):
            found: list[FileInfo] = self.filesystem.get_file_info(selector)
        return {
            self / info.path[len(root) + 1 :]: info.size
            for info in sorted(found, key=lambda info: info.path)
            if info.type == FileType.File
        }

    def iterdir(self) -> Iterator["RemotePath"]:
        """Yields the files and folders directly in this folder, sorted; none if it does not exist."""
        with naming(self.uri):
            found: list[FileInfo] = self.filesystem.get_file_info(FileSelector(self.path, allow_not_found=True))
        return (self / info.base_name for info in sorted(found, key=lambda info: info.path))

    def glob(self, pattern: str) -> Iterator["RemotePath"]:
        """Yields the files below that match, sorted; `**/` stands for any number of folders, as in pathlib."""
        expression = re.compile(glob_pattern(pattern))
        return (file for file in self.files() if expression.fullmatch(file.uri[len(self.uri) + 1 :]))

    def open(self, mode: Literal["rb"]) -> pa.NativeFile:
        """Opens it for reading at any position. Raises OSError."""
        assert mode == "rb"
        with naming(self.uri):
            return self.filesystem.open_input_file(self.path)

    def read_bytes(self) -> bytes:
        with naming(self.uri), self.filesystem.open_input_stream(self.path) as stream:
            return stream.read()

    def read_text(self, encoding: str = "utf-8") -> str:
        return self.read_bytes().decode(encoding)

    def write_bytes(self, content: bytes) -> None:
        """Writes the file; on an object store it appears completely or not at all."""
        with naming(self.uri), self.filesystem.open_output_stream(self.path) as stream:
            stream.write(content)

    def write_text(self, content: str, encoding: str = "utf-8") -> None:
        self.write_bytes(content.encode(encoding))

    def mkdir(self, parents: bool = True, exist_ok: bool = True) -> None:
        if self.filesystem.type_name not in OBJECT_STORES:
            self.filesystem.create_dir(self.path, recursive=parents)

    def unlink(self, missing_ok: bool = False) -> None:
        try:
            self.filesystem.delete_file(self.path)
        except FileNotFoundError:
            if not missing_ok:
                raise

    def _info(self) -> FileInfo:
        with naming(self.uri):
            return self.filesystem.get_file_info(self.path)


class RemoteStat(NamedTuple):
    """The part of os.stat_result that a RemotePath provides."""

    st_size: int
    """Bytes."""


AnyPath = Path | RemotePath


def as_path(location: str | AnyPath) -> AnyPath:
    """Returns the RemotePath of a URI, or the Path of a local path; path objects are returned unchanged.

    The part after the bucket is taken literally, as in the AWS CLI: %20 is not a space.

    Raises:
        LocationError: the kind of URI is unknown, the URI contains a secret or options, or the path is not UTF-8, so
            that no store, picture or page could name it.
    """
    if not isinstance(location, str):
        return location
    try:
        location.encode()
    except UnicodeEncodeError as error:
        shown = os.fsencode(location).decode("utf-8", "backslashreplace")
        raise LocationError(f"{shown}: this path is not UTF-8: rename it, or use a link to it") from error
    if ONE_SLASH.match(location):
        meant = location.replace(":/", ":///" if location.startswith("file:") else "://", 1)
        raise LocationError(f"{location}: a URI has two slashes after its scheme: {meant}")
    location = location.removeprefix("file://")
    if "://" not in location:
        # A path with two leading slashes, such as `$FOLDER//frames` if FOLDER is not set, has another root in pathlib.
        return Path(re.sub("^//+", "/", location))
    _check(location)
    scheme, _, rest = location.partition("://")
    if scheme in BUCKETS and not rest.partition("/")[0]:
        raise LocationError(f"{location}: names no bucket: write {scheme}://BUCKET/FOLDER")
    if not location.startswith(ARROWS):
        filesystem_of(location)
    return RemotePath(location.rstrip("/"))


def filesystem_of(location: str) -> tuple[FileSystem, str]:
    """Returns Arrow's file system of an absolute path or a URI, and the path within that file system.

    Raises:
        LocationError: as for `as_path`.
    """
    if "://" not in location or location.startswith("file://"):
        return LocalFileSystem(), location.removeprefix("file://")
    _check(location)
    anchor = _anchor(location)
    try:
        filesystem, root = _filesystem(anchor, os.getpid())
    except (pa.ArrowInvalid, ValueError, ImportError) as error:
        raise LocationError(f"{location} cannot be used: {error}") from error
    return filesystem, root + location.rstrip("/")[len(anchor) :]


def below(file: AnyPath, folder: AnyPath) -> PurePosixPath:
    """Returns the relative path from a folder to a file below it. Raises ValueError if the file is not below it."""
    return pure(file).relative_to(pure(folder))


def pure(path: AnyPath) -> PurePosixPath:
    """Returns the path, or the part of a URI after its scheme."""
    return PurePosixPath(path.uri.partition("://")[2] if isinstance(path, RemotePath) else path)


def upload(file: Path, to: RemotePath) -> None:
    """Copies a local file. If it raises OSError, an object store is unchanged."""
    copy_files(str(file), to.path, LocalFileSystem(), to.filesystem)


def write_whole(file: AnyPath, content: bytes) -> None:
    """Writes or replaces a file atomically: a reader sees the old or the new one, whenever the writer ends.

    Raises:
        OSError: the previous file, if any, is still there.
    """
    if isinstance(file, RemotePath):
        file.write_bytes(content)
        return
    short = file.name if len(file.name.encode()) <= MOST_NAME else uuid.uuid4().hex
    partial = file.with_name(f".{short}.partial")
    try:
        partial.write_bytes(content)
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)


def remove_if_empty(folder: str) -> None:
    """Removes a folder, a path or URI, if it is empty.

    Raises:
        OSError: it cannot be removed.
    """
    filesystem, path = filesystem_of(folder)
    if filesystem.get_file_info(path).type == FileType.Directory and not filesystem.get_file_info(FileSelector(path)):
        filesystem.delete_dir(path)


def _check(location: str) -> None:
    if has_password(location):
        hidden = f"{location.partition('://')[0]}://...@{location.rpartition('@')[2]}"
        raise LocationError(f"{hidden}: URIs are logged: put the secret into the environment instead")
    if re.search(r"\?\w+=", location):
        raise LocationError(f"{location}: options in a URI are not supported: set an endpoint in AWS_ENDPOINT_URL")


def _anchor(uri: str) -> str:
    """Returns the part of a URI that identifies its file system, such as `s3://bucket`."""
    scheme, _, rest = uri.partition("://")
    return f"{scheme}://{rest.partition('/')[0]}"


@cache
def _filesystem(anchor: str, _process: int) -> tuple[FileSystem, str]:
    # One per process: Arrow's clients lose their threads in a fork.
    # With delayed open, a file of less than 5 MB takes one request to S3 instead of three.
    options = "?allow_delayed_open=true" if anchor.startswith("s3://") else ""
    try:
        filesystem, root = FileSystem.from_uri(anchor + options)
    except pa.ArrowInvalid as unknown:
        import fsspec  # Slow to import, and only needed for schemes that Arrow does not know.

        try:
            found, root = fsspec.core.url_to_fs(anchor)
        except ValueError:
            raise unknown from None
        filesystem = PyFileSystem(FSSpecHandler(found))
    return filesystem, root.rstrip("/")


def glob_pattern(pattern: str) -> str:
    """Returns a glob pattern as a regular expression."""
    translated = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    parts = re.split(r"(\*\*/|\*\*|\*|\?|\[[^]/]+\])", pattern)
    parts = [f"[^{part[2:]}" if part.startswith("[!") else part for part in parts]
    return "".join(part if part.startswith("[") else translated.get(part) or re.escape(part) for part in parts)
