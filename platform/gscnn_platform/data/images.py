"""Finds image and video files outside of a store and prepares images for a model."""

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from glob import has_magic
from pathlib import Path, PurePosixPath

import numpy as np
from jaxtyping import UInt8

from gscnn.edges import image_gradient
from gscnn_platform.config import EdgeConfig
from gscnn_platform.data.image_files import (
    ANY_IMAGE,
    IMAGE_ENDINGS,
    OTHER_ENDINGS,
    VIDEO_ENDINGS,
    InputError,
    files_below,
    has_ending,
    is_clutter,
    matching,
    named_alike,
    require_utf8,
)
from gscnn_platform.paths import AnyPath, RemotePath, as_path, below, glob_pattern, pure


def edge_prior(image: UInt8[np.ndarray, "H W 3"], edges: EdgeConfig) -> UInt8[np.ndarray, "H W"]:
    """The image's edge prior times 255, as stores hold it and models are trained on it."""
    return np.rint(image_gradient(image, edges.gradient) * 255).astype(np.uint8)


@dataclass(frozen=True)
class FoundImages:
    """The images that the inputs name."""

    files: dict[str, AnyPath]
    """Name -> file. The name is the path below the inputs' common folder, without the extension."""
    in_output: int
    """Number of files that are left out because they lie below the output folder."""
    videos: tuple[AnyPath, ...]
    """Video files, sorted; none unless they are looked for."""
    root: PurePosixPath
    """The inputs' deepest common folder."""


def find_images(
    inputs: Sequence[str], option: str, out: AnyPath | None = None, with_videos: bool = False
) -> FoundImages:
    """Finds the images, and on demand the videos, that a user names.

    Args:
        inputs: files, folders (searched recursively) or glob patterns; paths or URIs. A path that exists is taken
            literally, even if it looks like a pattern; a shell may have expanded a pattern already.
        option: the command-line option of the inputs, for messages.
        out: folder that outputs named like the images are written to; files below it are never input.
        with_videos: whether videos are looked for too. Otherwise a video that is named itself counts as an image, so
            that reading it says what it is.

    Raises:
        InputError: nothing is found, two images would share an output, or a name or link cannot be used.
    """
    found: dict[AnyPath, None] = {}
    roots: list[PurePosixPath] = []
    endings = (*ANY_IMAGE, *VIDEO_ENDINGS) if with_videos else ANY_IMAGE
    for text in map(_without_parents, inputs):
        matches = list(_matching(text, endings))
        if not matches:
            raise InputError(_nothing(option, text, with_videos))
        for path, is_folder in matches:
            roots.append(pure(path) if is_folder else pure(path).parent)
            if is_folder:
                found |= dict.fromkeys(file for file in files_below(path) if has_ending(file.name, endings))
            elif len(inputs) == 1 or not is_clutter(path.name):
                # A file that the user names may have any ending. One of several may come from a shell's pattern.
                found[path] = None
    in_output = _lying_in(out, found)
    files = [file for file in found if file not in in_output]
    if not files and found:
        what = "files" if with_videos else "images"
        raise InputError(
            f"{option} {_shown(inputs)}: all {len(found)} {what} are below --out {out}, "
            "which is never read as input: choose another --out"
        )
    if not files:
        raise InputError(_nothing(option, inputs[0], with_videos))
    root = _common(roots)
    if root is None:
        raise InputError(f"{option} {_shown(inputs)}: local paths and URIs cannot be mixed; run the command for each")
    videos = [file for file in files if with_videos and has_ending(file.name, VIDEO_ENDINGS)]
    images = [file for file in files if file not in set(videos)]
    return FoundImages(_named(sorted(images, key=str), root), len(in_output), tuple(sorted(videos, key=str)), root)


def _named(files: Sequence[AnyPath], root: PurePosixPath) -> dict[str, AnyPath]:
    """Name -> file. As in datasets, a raw camera file or other unreadable format is left out beside a readable image
    of the same name."""
    names: dict[str, AnyPath] = {}
    for file in sorted(files, key=lambda file: has_ending(file.name, OTHER_ENDINGS)):
        require_utf8(file)
        name = str(pure(file).relative_to(root).with_suffix(""))
        if name not in names:
            names[name] = file
        elif not has_ending(file.name, OTHER_ENDINGS):
            raise InputError(f"{names[name]} and {file} would both be written to {name}.png: rename one")
    return dict(sorted(names.items()))


def _without_parents(text: str) -> str:
    """The path with its `..` resolved as the system does: outputs are named by its parts, and must not leave --out."""
    parts = text.split("/")
    if ".." not in parts or "://" in text:
        return text
    after = len(parts) - parts[::-1].index("..")
    return "/".join([os.path.realpath("/".join(parts[:after])), *parts[after:]])


def _matching(text: str, endings: tuple[str, ...]) -> Iterator[tuple[AnyPath, bool]]:
    """The path if it exists, otherwise what matches the pattern; each with whether it is a folder."""
    path = as_path(text)
    if path.exists():
        yield path, path.is_dir()
        return
    parts = text.split("/")
    # The longest prefix that exists is taken literally, whatever its characters: `drive [1]/*.png`.
    lowest = 3 if "://" in text else 1
    counts = range(len(parts) - 1, lowest - 1, -1)
    beginnings = ((count, as_path("/".join(parts[:count]) or "/")) for count in counts)
    fixed, root = next(((count, beginning) for count, beginning in beginnings if beginning.exists()), (0, path))
    pattern = "/".join(parts[fixed:])
    if not fixed or not has_magic(pattern):
        return
    if isinstance(root, RemotePath) or "**" in pattern:
        expression = re.compile(glob_pattern(pattern))
        matches = [(file, False) for file in files_below(root) if expression.fullmatch(str(below(file, root)))]
    else:
        # Without listing the whole tree, which may be large.
        matches = [(path, path.is_dir()) for path in matching(root, pattern)]
    yield from (match for match in matches if match[1] or has_ending(match[0].name, endings))


def _lying_in(folder: AnyPath | None, files: Iterable[AnyPath]) -> set[AnyPath]:
    """The files that are below a folder, after following links."""
    if isinstance(folder, Path):
        target = folder.resolve()
        local = [file for file in files if isinstance(file, Path)]
        inside = {parent: parent.resolve().is_relative_to(target) for parent in {file.parent for file in local}}
        return {file for file in local if inside[file.parent]}
    if folder is None:
        return set()
    return {file for file in files if isinstance(file, RemotePath) and pure(file).is_relative_to(pure(folder))}


def _common(folders: Sequence[PurePosixPath]) -> PurePosixPath | None:
    """The deepest folder that equals or contains each of these; None if there is none."""
    shared = set.intersection(*({folder, *folder.parents} for folder in folders))
    return max(shared, key=lambda folder: len(folder.parts), default=None)


def _shown(inputs: Sequence[str]) -> str:
    return inputs[0] if len(inputs) == 1 else f"{inputs[0]} and {len(inputs) - 1} more"


def _nothing(option: str, text: str, with_videos: bool) -> str:
    """The message for an input without images or videos."""
    path = as_path(text)
    if is_clutter(path.name) and path.is_file():
        return f"{option} {text}: a hidden or system file is used only if it is the single input"
    if isinstance(path, Path) and path.is_symlink() and not path.exists():
        return f"{option} {text}: a link to {path.readlink()}, which does not exist"
    if path.exists():
        what = "image or video" if with_videos else "image"
        endings = (*IMAGE_ENDINGS, *VIDEO_ENDINGS) if with_videos else IMAGE_ENDINGS
        return f"{option} {text}: it has no {what} ({', '.join(endings)})"
    if has_magic(text):
        what = "image, video" if with_videos else "image"
        return f"{option} {text}: no {what} or folder matches this pattern"
    return f"{option} {text}: there is no such file or folder{named_alike(path, way_out='')}"
