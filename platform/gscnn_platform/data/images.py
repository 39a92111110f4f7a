"""Images that lie on disk outside of any store, and what a model needs of them."""

from collections.abc import Sequence
from glob import glob
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from gscnn.edges import image_gradient
from gscnn_platform.config import EdgeConfig
from gscnn_platform.data.formats.folder import IMAGE_ENDINGS


class InputError(ValueError):
    """No images where they were said to be, or images that cannot be told apart by name."""


def edge_prior(image: UInt8[np.ndarray, "H W 3"], edges: EdgeConfig) -> UInt8[np.ndarray, "H W"]:
    """The image's edge prior times 255, as a store holds it and a model was trained on it."""
    return np.rint(image_gradient(image, edges.gradient) * 255).astype(np.uint8)


def find_images(pattern: str, option: str, out: Path | None = None) -> dict[str, Path]:
    """Name of each image -> its file: its path below what all have in common, without its ending.

    Args:
        pattern: a file, a folder that is searched to its depth, or a glob pattern.
        option: how the user named it.
        out: folder where something named like the images is to be written.

    Raises:
        InputError: no image, two images that would share an output, or an output folder inside the input folder.
    """
    path = Path(pattern)
    if path.is_dir():
        if out is not None and out.resolve().is_relative_to(path.resolve()):
            raise InputError(f"--out {out} lies inside {option} {path}, where it would be read as input: move it")
        root, found = path, sorted(path.rglob("*"))
    elif path.is_file():
        root, found = path.parent, [path]
    else:
        found = sorted(map(Path, glob(pattern, recursive=True)))  # noqa: PTH207, Path.glob takes no absolute pattern
        root = _common_folder(found)
    images = [file for file in found if file.suffix.lower() in IMAGE_ENDINGS and not file.name.startswith(".")]
    if path.is_file():
        images = found  # Named by the user, so the ending does not matter.
    if not images:
        raise InputError(f"{option} {pattern}: no image with ending {', '.join(IMAGE_ENDINGS)} there")
    names: dict[str, Path] = {}
    for file in images:
        name = str(file.relative_to(root).with_suffix(""))
        if name in names:
            raise InputError(f"{names[name]} and {file} would both be written to {name}.png: rename one")
        names[name] = file
    return names


def _common_folder(files: Sequence[Path]) -> Path:
    parents = [set(file.parents) for file in files]
    shared = set.intersection(*parents) if parents else {Path()}
    return max(shared, key=lambda folder: len(folder.parts), default=Path())
