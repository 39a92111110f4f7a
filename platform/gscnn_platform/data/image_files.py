"""Tells images from clutter, and lists the files below a folder: one rule for every reader of folders.

Hidden files and folders, and those that systems and editors leave behind, are ignored. Links are followed, except one
to a parent folder of its own, whose files are read already.
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
"""Of cameras' raw files: mostly TIFFs whose first picture is a small preview."""
OTHER_ENDINGS: Final = (
    *(".jfif", ".jpe", ".gif", ".heic", ".heif", ".avif", ".jp2", ".j2k", ".jxl", ".ppm", ".pgm", ".pnm", ".tga"),
    *(".exr", ".hdr", ".psd", ".npy", ".npz", ".mat", *RAW_ENDINGS),
)
"""Extensions of images that cannot be read: they are listed, so that reading one fails instead of skipping it."""
ANY_IMAGE: Final = (*IMAGE_ENDINGS, *OTHER_ENDINGS)

SYSTEM: Final = {
    *("thumbs.db", "ehthumbs.db", "desktop.ini", "@eadir", "@tmp", "#recycle", "#snapshot", "$recycle.bin", "@recycle"),
    *("__macosx", "__pycache__", "lost+found", "system volume information"),
}
"""Names, in small letters, of what Windows, macOS, NAS boxes, Python and file systems leave behind."""


class InputError(ValueError):
    """A user's folder or file that cannot be used; the message names it and what to do."""


def is_clutter(name: str) -> bool:
    """Whether a file or folder is hidden, or left behind by a system or an editor."""
    return name.startswith((".", "~$")) or name.endswith("~") or name.lower() in SYSTEM


def followed(path: Place) -> Place:
    """The path as it is. Raises InputError where it is a link to nothing, as to a disk that is not mounted."""
    if isinstance(path, Path) and path.is_symlink() and not path.exists():
        raise InputError(f"{path}: a link to {path.readlink()}, which is not there; restore or remove it")
    return path


def named_alike(missing: AnyPath, way_out: str = ": rename it") -> str:
    """`; there is Train: rename it`, where what is missing lies there under nearly its name; else nothing.

    File systems of other computers do not tell capitals apart, nor the two ways to write an accent.
    """
    try:
        others = [child.name for child in missing.parent.iterdir() if child.name != missing.name]
    except OSError:
        return ""  # There is no such folder, or it may not be listed: a hint is no reason to fail.
    there = {unicodedata.normalize("NFC", name).casefold(): name for name in others}
    name = unicodedata.normalize("NFC", missing.name).casefold()
    near = difflib.get_close_matches(name, there, n=1, cutoff=0.8)
    return f"; there is {there[near[0]]}{way_out}" if near else ""


def has_ending(name: str, endings: tuple[str, ...]) -> bool:
    """Whether a name has one of the endings, in small letters or capitals."""
    return name.lower().endswith(endings)


def files_below(folder: AnyPath, without: AnyPath | None = None) -> list[AnyPath]:
    """All files below a folder that are no clutter, sorted; also links to files that are not there.

    Args:
        folder: path or URI.
        without: a folder, of which nothing is listed.

    Raises:
        InputError: a folder that cannot be read, a link to nothing, or a name that is not UTF-8.
    """
    if isinstance(folder, RemotePath):
        left_out = f"{without.uri}/" if isinstance(without, RemotePath) else None
        files = (file for file in folder.files() if left_out is None or not file.uri.startswith(left_out))
        return sorted(file for file in files if not any(map(is_clutter, below(file, folder).parts)))
    # Above the folder, too: a link back to the dataset's root would list the labels as images.
    above = [_identity(parent) for parent in (folder.resolve(), *folder.resolve().parents)]
    leave = _identity(without) if isinstance(without, Path) and without.is_dir() else None
    return sorted(_walk(folder, above, leave)) if leave is None or leave != above[0] else []


def matching(folder: Path, pattern: str) -> Iterator[Path]:
    """Files and folders below that match a glob pattern without `**`, sorted, and are no clutter.

    Raises:
        InputError: a folder that cannot be read, which `glob` leaves out without a word.
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
    """A file's path below a folder, without its ending or `ending`, in Unicode's composed form.

    macOS decomposes accents in names and others do not: image and label would not find each other.
    """
    path = below(file, folder)
    path = PurePosixPath(str(path)[: -len(ending)]) if ending else path.with_suffix("")
    return unicodedata.normalize("NFC", path.as_posix())


def named_files(folder: AnyPath, endings: tuple[str, ...], error: Callable[[str], ValueError]) -> dict[str, AnyPath]:
    """Name -> file, for the files below `folder` with one of `endings`; of no other ending where one of these is there.

    A file of OTHER_ENDINGS, or of another image's, is taken where its name has no file that is read: reading it says
    what is wrong with it.

    Raises:
        InputError: as `files_below`.
        ValueError: `error` of a message, where two files have one name.
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
    """Raises InputError if a path is not UTF-8, as names are that come out of a ZIP file of another system."""
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        shown = os.fsencode(str(path)).decode("utf-8", "backslashreplace")
        raise InputError(
            f"{shown}: this name is not UTF-8, as after unpacking a ZIP file of another system; rename it, or convert "
            "all names below a folder: convmv -f GBK -t UTF-8 -r --notest FOLDER (or the encoding of that system)"
        ) from error


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """What is right in a folder and no clutter. Raises InputError."""
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
            # One that is named like an image is listed: reading it says that the file is missing.
            yield path if has_ending(entry.name, ANY_IMAGE) else followed(path)
            continue
        own = _identity(path)
        if own != leave and own not in above:
            yield from _walk(path, [*above, own], leave)


def _identity(folder: Path) -> tuple[int, int]:
    stat = folder.stat()
    return stat.st_dev, stat.st_ino
