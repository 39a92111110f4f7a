"""What a file is, told from its first and last bytes."""

import gzip
import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from gscnn_platform.weight_files import WeightFileError, check_weight_file, read_weights, sha256_of

WEIGHTS = {"conv.weight": torch.arange(24.0).view(2, 3, 2, 2), "steps": torch.tensor(3)}


def check(file: Path) -> None:
    with file.open("rb") as opened:
        check_weight_file(opened, file.name)


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_each_kind_of_file_gives_its_tensors_back(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "weights"
    if kind == "safetensors":
        save_file(WEIGHTS, file)
    else:
        torch.save(WEIGHTS, file, _use_new_zipfile_serialization=kind == "zip")
    check(file)
    found = read_weights(file, file.name)
    assert found.keys() == WEIGHTS.keys()
    assert all(torch.equal(value, WEIGHTS[name]) for name, value in found.items() if isinstance(value, torch.Tensor))


def archive(*names: str) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as opened:
        for name in names:
            opened.writestr(name, "x")
    return content.getvalue()


def array() -> bytes:
    content = io.BytesIO()
    np.save(content, np.zeros(3))
    return content.getvalue()


OTHERS: dict[str, tuple[str, bytes, str]] = {
    "nothing": ("w.pth", b"", "it is empty"),
    "a page": ("w.pth", b"\n <!DOCTYPE html><title>Sign in</title>", "a web page, as of a download that needs a login"),
    "an LFS pointer": ("w.pth", b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "`git lfs pull`"),
    "Keras": ("w.h5", b"\x89HDF\r\n\x1a\n" + bytes(99), "an HDF5 file, as of Keras"),
    "Keras 3": ("w.keras", archive("config.json", "model.weights.h5"), "an archive of Keras or NumPy"),
    "ONNX": ("w.onnx", b"\x08\x08\x12\x07pytorch" + bytes(99), "an ONNX model"),
    "TensorFlow": ("w.ckpt.index", bytes(99), "of TensorFlow"),
    "NumPy": ("w.npy", array(), "a NumPy array"),
    "gzip": ("w.pth.gz", gzip.compress(b"x"), "compressed with gzip"),
    "a pickle": ("w.pkl", b"\x80\x04\x95" + bytes(9), "a pickle, but not of torch.save"),
    "TorchScript": ("w.pt", archive("net/data.pkl", "net/code/net.py"), "a TorchScript program"),
    "an archive": ("w.zip", archive("a.png", "b.png"), r"an archive of other things (a.png, b.png)"),
    "text": ("w.pth", b"hello world", "of an unknown kind, its first bytes are b'hello wo'"),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_a_file_of_another_kind_is_refused_with_what_it_is(tmp_path: Path, kind: str) -> None:
    name, content, told = OTHERS[kind]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightFileError) as caught:
        check(tmp_path / name)
    message = str(caught.value)
    assert message.startswith(f"{name} is not a checkpoint: it is ")
    assert told in message
    assert message.endswith("Needed is a .pth or .pt file of torch.save, or a .safetensors file")


@pytest.mark.parametrize("kind", ["pth", "safetensors"])
def test_a_truncated_file_is_refused_without_reading_its_tensors(tmp_path: Path, kind: str) -> None:
    file = tmp_path / f"w.{kind}"
    save_file(WEIGHTS, file) if kind == "safetensors" else torch.save(WEIGHTS, file)
    content = file.read_bytes()
    for cut in (len(content) - 1, len(content) - 30, 40):
        file.write_bytes(content[:cut])
        with pytest.raises(WeightFileError, match=r"it is truncated: .*download or copy it again"):
            check(file)


def test_a_damaged_middle_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    file = tmp_path / "w.pth"
    torch.save(WEIGHTS, file)
    content = bytearray(file.read_bytes())
    place = content.index(b"conv.weight")
    content[place - 4 : place] = b"\xff\xff\xff\xff"
    file.write_bytes(content)
    check(file)
    with pytest.raises(WeightFileError, match=r"w\.pth is damaged, or holds objects other than tensors"):
        read_weights(file, file.name)


def test_a_list_of_tensors_is_no_dictionary_of_weights(tmp_path: Path) -> None:
    torch.save([torch.zeros(3)], tmp_path / "w.pth")
    with pytest.raises(WeightFileError, match=r"w\.pth holds list, not a dictionary of weights"):
        read_weights(tmp_path / "w.pth", "w.pth")


def test_the_digest_is_sha256(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    assert sha256_of(tmp_path / "x").startswith("ba7816bf8f01cfea414140de5dae2223")
