"""Image files outside of a store, prepared for a model."""

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
    """The image's edge prior times 255, as a store holds it and a model was trained on it."""
    return np.rint(image_gradient(image, edges.gradient) * 255).astype(np.uint8)


@dataclass(frozen=True)
class FoundImages:
    """The images of an input."""

    files: dict[str, AnyPath]
    """Name -> file: its path below what all inputs have in common, without its ending."""
    in_output: int
    """Images that lie below the output folder, and are no input for that."""


def find_images(inputs: Sequence[str], option: str, out: AnyPath | None = None) -> FoundImages:
    """The images that a user names.

    Args:
        inputs: files, folders that are searched to their depth, or glob patterns; paths or URIs. What exists is taken
            by its name, whatever its letters; a shell may have expanded a pattern already.
        option: how the user named them.
        out: folder where something named like the images is to be written; what lies below it is never input.

    Raises:
        InputError: no image, two images that would share an output, or a name or link that cannot be used.
    """
    found: dict[AnyPath, None] = {}
    roots: list[PurePosixPath] = []
    for text in map(_without_parents, inputs):
        matches = list(_matching(text))
        if not matches:
            raise InputError(_nothing(option, text))
        for path, is_folder in matches:
            roots.append(pure(path) if is_folder else pure(path).parent)
            if is_folder:
                found |= dict.fromkeys(file for file in files_below(path) if has_ending(file.name, ANY_IMAGE))
            elif len(inputs) == 1 or not is_clutter(path.name):
                # The user names it, so its ending does not matter; one of several may come of a shell's pattern.
                found[path] = None
    in_output = _lying_in(out, found)
    files = [file for file in found if file not in in_output]
    if not files and found:
        raise InputError(
            f"{option} {_shown(inputs)}: all {len(found)} images are below --out {out}, where pictures are written and "
            "never read: choose another --out"
        )
    if not files:
        raise InputError(_nothing(option, inputs[0]))
    root = _common(roots)
    if root is None:
        raise InputError(f"{option} {_shown(inputs)}: give paths of this machine and URIs to two runs")
    return FoundImages(_named(sorted(files, key=str), root), len(in_output))


def _named(files: Sequence[AnyPath], root: PurePosixPath) -> dict[str, AnyPath]:
    """Of a photograph and its raw file, or another that is not read, the first alone, as of a dataset."""
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
    """A path whose `..` are followed as the system does: outputs are named by its parts, and must not leave --out."""
    parts = text.split("/")
    if ".." not in parts or "://" in text:
        return text
    after = len(parts) - parts[::-1].index("..")
    return "/".join([os.path.realpath("/".join(parts[:after])), *parts[after:]])


def _matching(text: str) -> Iterator[tuple[AnyPath, bool]]:
    """The path that exists, else the files and folders that match the pattern; and whether it is a folder."""
    path = as_path(text)
    if path.exists():
        yield path, path.is_dir()
        return
    parts = text.split("/")
    # The longest beginning that exists is no pattern, whatever its letters: `drive [1]/*.png`.
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
        # Not to the depth of a folder that may be large.
        matches = [(path, path.is_dir()) for path in matching(root, pattern)]
    yield from (match for match in matches if match[1] or has_ending(match[0].name, ANY_IMAGE))


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
    """The deepest folder that is or holds all of these; None if none does."""
    shared = set.intersection(*({folder, *folder.parents} for folder in folders))
    return max(shared, key=lambda folder: len(folder.parts), default=None)


def _shown(inputs: Sequence[str]) -> str:
    return inputs[0] if len(inputs) == 1 else f"{inputs[0]} and {len(inputs) - 1} more"


def _nothing(option: str, text: str) -> str:
    """The message for an input without images."""
    path = as_path(text)
    if is_clutter(path.name) and path.is_file():
        return f"{option} {text}: hidden files and those of systems are input only where one alone is named"
    if isinstance(path, Path) and path.is_symlink() and not path.exists():
        return f"{option} {text}: a link to {path.readlink()}, which is not there"
    if path.exists():
        return f"{option} {text}: no image with ending {', '.join(IMAGE_ENDINGS)} there"
    if has_magic(text):
        return f"{option} {text}: no image or folder matches this pattern"
    return f"{option} {text}: there is no such file or folder{named_alike(path, way_out='')}"
