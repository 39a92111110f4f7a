"""Images that lie on disk outside of any store, and what a model needs of them."""

from collections.abc import Sequence
from glob import glob, has_magic
from pathlib import Path, PurePosixPath

import numpy as np
from jaxtyping import UInt8

from gscnn.edges import image_gradient
from gscnn_platform.config import EdgeConfig
from gscnn_platform.data.image_files import IMAGE_ENDINGS
from gscnn_platform.paths import AnyPath, as_path, pure


class InputError(ValueError):
    """No images where they were said to be, or images that cannot be told apart by name."""


def edge_prior(image: UInt8[np.ndarray, "H W 3"], edges: EdgeConfig) -> UInt8[np.ndarray, "H W"]:
    """The image's edge prior times 255, as a store holds it and a model was trained on it."""
    return np.rint(image_gradient(image, edges.gradient) * 255).astype(np.uint8)


def find_images(pattern: str, option: str, out: AnyPath | None = None) -> dict[str, AnyPath]:
    """Name of each image -> its file: its path below what all have in common, without its ending.

    Args:
        pattern: a file, a folder that is searched to its depth, or a glob pattern; a path or URI.
        option: how the user named it.
        out: folder where something named like the images is to be written.

    Raises:
        InputError: no image, two images that would share an output, or an output folder inside the input folder.
    """
    path = as_path(pattern)
    is_file = path.is_file()
    if path.is_dir():
        if out is not None and _lies_in(out, path):
            raise InputError(f"--out {out} lies inside {option} {path}, where it would be read as input: move it")
        root, found = pure(path), sorted(path.glob("**/*"))
    elif is_file:
        root, found = pure(path).parent, [path]
    else:
        found = _matching(pattern)
        root = _common_folder([pure(file) for file in found])
    # A file is named by the user, so its ending does not matter.
    images = found if is_file else [file for file in found if _is_image(file.name)]
    if not images:
        raise InputError(f"{option} {pattern}: no image with ending {', '.join(IMAGE_ENDINGS)} there")
    names: dict[str, AnyPath] = {}
    for file in images:
        name = str(pure(file).relative_to(root).with_suffix(""))
        if name in names:
            raise InputError(f"{names[name]} and {file} would both be written to {name}.png: rename one")
        names[name] = file
    return names


def _is_image(name: str) -> bool:
    return name.lower().endswith(IMAGE_ENDINGS) and not name.startswith(".")


def _matching(pattern: str) -> Sequence[AnyPath]:
    path = as_path(pattern)
    if isinstance(path, Path):
        return sorted(map(Path, glob(pattern, recursive=True)))  # noqa: PTH207, Path.glob takes no absolute pattern
    folders = pattern.split("/")
    fixed = next((number for number, part in enumerate(folders) if has_magic(part)), len(folders))
    root = as_path("/".join(folders[:fixed]))
    return sorted(root.glob("/".join(folders[fixed:])))


def _lies_in(folder: AnyPath, other: AnyPath) -> bool:
    if isinstance(folder, Path) and isinstance(other, Path):
        return folder.resolve().is_relative_to(other.resolve())
    return pure(folder).is_relative_to(pure(other)) and type(folder) is type(other)


def _common_folder(files: Sequence[PurePosixPath]) -> PurePosixPath:
    parents = [set(file.parents) for file in files]
    shared = set.intersection(*parents) if parents else {PurePosixPath()}
    return max(shared, key=lambda folder: len(folder.parts), default=PurePosixPath())
