"""Tells images and videos from clutter and lists the files below a folder, by the same rules for all readers.

Hidden files and folders, and those that systems and editors leave behind, are ignored. Links are followed, except a
link to one of its own parent folders, because the files there are listed already.
"""

import difflib
import os
import re
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Final, TypeVar

from gscnn_platform.paths import AnyPath, RemotePath, below, glob_pattern

Place = TypeVar("Place", bound=AnyPath)

IMAGE_ENDINGS: Final = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
"""Extensions of images that can be read."""
LABEL_ENDINGS: Final = (".png", ".tif", ".tiff", ".bmp")
"""Extensions of labels that can be read: lossless formats."""
RAW_ENDINGS: Final = (".dng", ".cr2", ".cr3", ".nef", ".nrw", ".arw", ".orf", ".rw2", ".raf", ".pef", ".srw")
"""Extensions of raw camera files: mostly TIFFs whose first picture is a small preview."""
OTHER_ENDINGS: Final = (
    *(".jfif", ".jpe", ".gif", ".heic", ".heif", ".avif", ".jp2", ".j2k", ".jxl", ".ppm", ".pgm", ".pnm", ".tga"),
    *(".exr", ".hdr", ".psd", ".npy", ".npz", ".mat", *RAW_ENDINGS),
)
"""Extensions of images that cannot be read: they are listed, so that reading one fails instead of skipping it."""
ANY_IMAGE: Final = (*IMAGE_ENDINGS, *OTHER_ENDINGS)
VIDEO_ENDINGS: Final = (
    *(".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".m2ts", ".mts", ".wmv", ".flv", ".3gp"),
    *(".ogv", ".mjpeg", ".mjpg"),
)
"""Extensions of videos."""

SYSTEM: Final = {
    *("thumbs.db", "ehthumbs.db", "desktop.ini", "@eadir", "@tmp", "#recycle", "#snapshot", "$recycle.bin", "@recycle"),
    *("__macosx", "__pycache__", "lost+found", "system volume information"),
}
"""Lower-case names of files and folders that Windows, macOS, NAS devices, Python and file systems leave behind."""


class InputError(ValueError):
    """A user's folder or file cannot be used; the message names it and says what to do."""


def is_clutter(name: str) -> bool:
    """Whether a file or folder of this name is hidden, or left behind by a system or an editor."""
    return name.startswith((".", "~$")) or name.endswith("~") or name.lower() in SYSTEM


def followed(path: Place) -> Place:
    """The path unchanged. Raises InputError if it is a broken link, for example to a disk that is not mounted."""
    if isinstance(path, Path) and path.is_symlink() and not path.exists():
        raise InputError(f"{path}: a link to {path.readlink()}, which does not exist; restore or remove it")
    return path


def named_alike(missing: AnyPath, way_out: str = ": rename it") -> str:
    """`; there is Train: rename it` if the folder holds a similar name to the missing one; otherwise empty.

    Other file systems do not distinguish capitals from small letters, or the two Unicode forms of an accent.
    """
    try:
        others = [child.name for child in missing.parent.iterdir() if child.name != missing.name]
    except OSError:
        return ""  # The folder does not exist or cannot be listed: a hint is not worth an error.
    there = {unicodedata.normalize("NFC", name).casefold(): name for name in others}
    name = unicodedata.normalize("NFC", missing.name).casefold()
    near = difflib.get_close_matches(name, there, n=1, cutoff=0.8)
    return f"; there is {there[near[0]]}{way_out}" if near else ""


def has_ending(name: str, endings: tuple[str, ...]) -> bool:
    """Whether a name has one of the endings, ignoring case."""
    return name.lower().endswith(endings)


def files_below(folder: AnyPath, without: AnyPath | None = None) -> list[AnyPath]:
    """All files below a folder, sorted and without clutter. Broken links named like images are included.

    Args:
        folder: path or URI.
        without: a folder whose files are not listed.

    Raises:
        InputError: a folder cannot be read, another link is broken, or a name is not UTF-8.
    """
    if isinstance(folder, RemotePath):
        left_out = f"{without.uri}/" if isinstance(without, RemotePath) else None
        files = (file for file in folder.files() if left_out is None or not file.uri.startswith(left_out))
        return sorted(file for file in files if not any(map(is_clutter, below(file, folder).parts)))
    # The folder's parents count too: a link back to the dataset's root would list the labels as images.
    above = [_identity(parent) for parent in (folder.resolve(), *folder.resolve().parents)]
    leave = _identity(without) if isinstance(without, Path) and without.is_dir() else None
    return sorted(_walk(folder, above, leave)) if leave is None or leave != above[0] else []


def matching(folder: Path, pattern: str) -> Iterator[Path]:
    """Files and folders below `folder` that match a glob pattern without `**`, sorted and without clutter.

    Raises:
        InputError: a folder cannot be read; `glob` would silently skip it.
    """
    first, _, rest = pattern.partition("/")
    if not first:
        yield from matching(folder, rest) if rest else [folder]
        return
    expression = re.compile(glob_pattern(first))
    found = sorted(entry.name for entry in _entries(folder) if expression.fullmatch(entry.name))
    for path in (folder / name for name in found):
        if "/" not in pattern:
            yield path
        elif path.is_dir():
            yield from matching(path, rest)


def name_of(file: AnyPath, folder: AnyPath, ending: str | None = None) -> str:
    """A file's path below a folder, without its extension (or `ending`), in Unicode's composed form.

    macOS decomposes accents in names and other systems do not, so image and label would not match.
    """
    path = below(file, folder)
    path = PurePosixPath(str(path)[: -len(ending)]) if ending else path.with_suffix("")
    return unicodedata.normalize("NFC", path.as_posix())


def named_files(folder: AnyPath, endings: tuple[str, ...], error: Callable[[str], ValueError]) -> dict[str, AnyPath]:
    """Name -> file, for the files below `folder` that have one of `endings`.

    An image file with another ending is included if no readable file has its name: reading it then reports what is
    wrong with it.

    Raises:
        InputError: as in `files_below`.
        ValueError: two files have the same name; `error` creates the exception from the message.
    """
    found: dict[str, AnyPath] = {}
    unread: dict[str, AnyPath] = {}
    for file in files_below(folder):
        if has_ending(file.name, endings):
            name = name_of(file, folder)
            if name in found:
                raise error(f"{found[name]} and {file.name} have the same name, {name!r}; rename or remove one of them")
            found[name] = file
        elif has_ending(file.name, ANY_IMAGE):
            unread.setdefault(name_of(file, folder), file)
    return {**unread, **found}


def require_utf8(path: str | AnyPath) -> None:
    """Raises InputError if a path is not UTF-8, which happens when a ZIP file from another system is unpacked."""
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        shown = os.fsencode(str(path)).decode("utf-8", "backslashreplace")
        raise InputError(
            f"{shown}: this name is not UTF-8, as after unpacking a ZIP file of another system; rename it, or convert "
            "all names below a folder: convmv -f GBK -t UTF-8 -r --notest FOLDER (or the encoding of that system)"
        ) from error


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """The direct entries of a folder, without clutter. Raises InputError."""
    try:
        with os.scandir(folder) as found:
            return [entry for entry in found if not is_clutter(entry.name)]
    except OSError as error:
        raise InputError(f"{folder}: the folder cannot be read ({error.strerror})") from error


def _walk(folder: Path, above: list[tuple[int, int]], leave: tuple[int, int] | None) -> Iterator[AnyPath]:
    for entry in _entries(folder):
        path = folder / entry.name
        require_utf8(path)
        if not path.is_dir():
            # A broken link named like an image is listed: reading it reports that the file is missing.
            yield path if has_ending(entry.name, ANY_IMAGE) else followed(path)
            continue
        own = _identity(path)
        if own != leave and own not in above:
            yield from _walk(path, [*above, own], leave)


def _identity(folder: Path) -> tuple[int, int]:
    stat = folder.stat()
    return stat.st_dev, stat.st_ino
