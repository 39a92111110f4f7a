"""Files of weights: what a file is by its first bytes, before torch is imported, and its tensors without unpickling."""

import hashlib
import json
import re
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import IO, Any, Final

KINDS: Final = "a .pth or .pt file of torch.save, or a .safetensors file"

SAFETENSORS_HEADER: Final = 100_000_000
"""Maximum bytes of the header of a .safetensors file (the format's own limit)."""

LEGACY: Final = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""First bytes of a file of torch.save before version 1.6: its magic number, pickled."""

OTHERS: Final[Mapping[bytes, str]] = {
    b"version https://git-lfs": "a Git LFS pointer, not the file itself: fetch that with `git lfs pull`",
    b"\x89HDF\r\n\x1a\n": "an HDF5 file, as of Keras: save the weights with torch.save",
    b"\x93NUMPY": "a NumPy array: save the weights with torch.save",
    b"\x1f\x8b": "compressed with gzip: unpack it",
    b"BZh": "compressed with bzip2: unpack it",
    b"\xfd7zXZ": "compressed with xz: unpack it",
    b"\x28\xb5\x2f\xfd": "compressed with zstd: unpack it",
    b"\x80": "a pickle, but not of torch.save: it is not unpickled, since that could run code",
}
"""First bytes -> what such a file is, and what to do."""

PAGE: Final = re.compile(rb"\s*(<!doctype|<html|<\?xml|<head|<body)", re.I)
TENSORFLOW: Final = re.compile(r"\.(index|data-\d+-of-\d+|pb)$")


class WeightFileError(ValueError):
    """The file is none of weights, or is damaged; the message says what it is instead."""


def check_weight_file(file: IO[bytes], name: str) -> None:
    """Finds other kinds of files and truncated ones by reading their first and last bytes.

    Args:
        file: opened, at its beginning; it can seek.
        name: of the file, for the message.

    Raises:
        WeightFileError: it is no file of weights.
    """
    fault = _fault(file, name)
    if fault is not None:
        raise WeightFileError(f"{name} is not a checkpoint: it is {fault}. Needed is {KINDS}")


def read_weights(file: Path, name: str) -> Mapping[str, object]:
    """The content of a file that `check_weight_file` has let through: tensors by name, or a checkpoint around them.

    Args:
        file: on this machine.
        name: of the file, for the message.

    Raises:
        WeightFileError: it is damaged, holds objects whose loading could run code, or no mapping.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    # What torch stumbles on in a damaged file.
    damage = (UnpicklingError, RuntimeError, EOFError, ValueError, LookupError, AttributeError, TypeError)
    try:
        with file.open("rb") as opened:
            is_safetensors = _safetensors_header(opened) is not None
        if is_safetensors:
            return load_file(file)
        with torch.serialization.safe_globals(_numpy_scalars()):
            content: Any = torch.load(file, map_location="cpu", weights_only=True)
    except (*damage, SafetensorError) as error:
        raise WeightFileError(
            f"{name} is damaged, or holds objects other than tensors and numbers, which are not loaded because they "
            "could run code: download it again, or save its state_dict alone"
        ) from error
    if not isinstance(content, Mapping):
        raise WeightFileError(f"{name} holds {type(content).__name__}, not a dictionary of weights")
    return content


def sha256_of(file: Path) -> str:
    """The file's sha256, 64 hex digits."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _fault(file: IO[bytes], name: str) -> str | None:
    """What it is instead of a file of weights; None if it is one, as far as its beginning and its end tell."""
    file.seek(0, 2)
    size = file.tell()
    file.seek(0)
    beginning = file.read(512)
    if not beginning:
        return "empty"
    file.seek(0)
    # First, since the length that such a file begins with may look like the beginning of another kind.
    header = _safetensors_header(file)
    if header is not None:
        return _safetensors_fault(header, size)
    if beginning.startswith(LEGACY):
        return None
    if beginning.startswith(b"PK"):
        return _zip_fault(file)
    known = next((what for start, what in OTHERS.items() if beginning.startswith(start)), None)
    if known is not None:
        return known
    if PAGE.match(beginning):
        return "a web page, as of a download that needs a login: download the file in a browser"
    if TENSORFLOW.search(name):
        return "of TensorFlow: save the weights with torch.save"
    if beginning[257:262] == b"ustar":
        return "a tar archive: unpack it"
    if name.endswith(".onnx") or (beginning[0] == 8 and len(beginning) > 2 and beginning[1] < 32):
        return "an ONNX model, which has no state dict: pass the checkpoint that it was exported from"
    if name.endswith(".safetensors"):
        return "damaged: its first 8 bytes are not the length of a header"
    return f"of an unknown kind, its first bytes are {beginning[:8]!r}"


def _zip_fault(file: IO[bytes]) -> str | None:
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError):
        return "truncated: an archive without its directory at the end; download or copy it again"
    if any(entry.split("/")[1:2] == ["code"] or entry.endswith("constants.pkl") for entry in names):
        return "a TorchScript program: save its state_dict with torch.save"
    if any(entry.rpartition("/")[2] == "data.pkl" for entry in names):
        return None
    if any(entry.endswith((".h5", ".npy")) for entry in names):
        return "an archive of Keras or NumPy: save the weights with torch.save"
    return f"an archive of other things ({', '.join(names[:3])})" if names else "an empty archive"


def _safetensors_header(file: IO[bytes]) -> tuple[int, dict[str, Any] | None] | None:
    """Length of the header and its content, None for one that is cut short or no JSON; None if it cannot be one."""
    start = file.read(9)
    if len(start) < 9 or start[8:] != b"{":
        return None
    [length] = struct.unpack("<Q", start[:8])
    if not 2 <= length <= SAFETENSORS_HEADER:
        return None
    try:
        content = json.loads(start[8:] + file.read(length - 1))
    except ValueError:
        content = None
    return length, content if isinstance(content, dict) else None


def _safetensors_fault(header: tuple[int, dict[str, Any] | None], size: int) -> str | None:
    length, content = header
    try:
        entries = [] if content is None else [entry for name, entry in content.items() if name != "__metadata__"]
        end = 8 + length + max((int(entry["data_offsets"][1]) for entry in entries), default=0)
    except (TypeError, KeyError, IndexError, ValueError):
        return "damaged: its header is none of safetensors"
    if content is None or size < end:
        return f"truncated: {size} bytes of {'more' if content is None else end}; download or copy it again"
    return None if size == end else f"damaged: {size} bytes instead of {end}"


def _numpy_scalars() -> list[Any]:
    """Types besides tensors: the authors' mean IoU is a number of NumPy's. Building one runs no code from the file."""
    import numpy as np
    from numpy._core.multiarray import scalar

    return [
        scalar,
        # numpy 1 wrote the authors' file, under the name that this function had then.
        (scalar, "numpy.core.multiarray.scalar"),
        np.dtype,
        *(type(np.dtype(kind)) for kind in ("f2", "f4", "f8", "i4", "i8", "u1", "bool")),
    ]
