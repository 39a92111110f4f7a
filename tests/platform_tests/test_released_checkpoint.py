"""The authors' file as they saved it: tensors, and numbers of numpy's beside them."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gscnn.released_weights import convert_released_state_dict
from gscnn_platform.released_checkpoint import ReleasedCheckpointError, load_released_checkpoint
from tests.released_network import ReleasedNetwork


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    """Under the names of DataParallel, each tensor filled with a number of its own, stored once."""
    with torch.device("meta"):
        shapes = {name: value.shape for name, value in ReleasedNetwork().state_dict().items()}
    return {f"module.{name}": torch.tensor(0.001 * n).expand(shape) for n, (name, shape) in enumerate(shapes.items())}


def saved(file: Path, content: Any) -> Path:
    torch.save(content, file)
    return file


def test_the_authors_file_with_its_numpy_scalars_gives_their_weights(
    tmp_path: Path, weights: dict[str, torch.Tensor]
) -> None:
    beside = {"optimizer": {"lr": np.float32(0.01)}, "epoch": 174, "mean_iu": np.nanmean([0.8, 0.82]), "command": "x"}
    model = load_released_checkpoint(saved(tmp_path / "checkpoint.pth", {"state_dict": weights, **beside}))
    assert not model.training
    expected = convert_released_state_dict(weights)
    ours = model.state_dict()
    assert ours.keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in ours.items())
    assert {value.device.type for value in ours.values()} == {"cpu"}


def test_a_numpy_scalar_under_its_old_name_loads(tmp_path: Path, weights: dict[str, torch.Tensor]) -> None:
    old = tmp_path / "old.pth"
    torch.save({"state_dict": weights, "mean_iu": np.float64(0.8)}, old, _use_new_zipfile_serialization=False)
    content = old.read_bytes()
    assert b"numpy._core.multiarray" in content
    old.write_bytes(content.replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    assert not load_released_checkpoint(old).training


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("made-by-a-pickle",)


def test_a_file_that_would_run_code_is_rejected_without_running_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ReleasedCheckpointError, match=r"evil\.pth .*could run code"):
        load_released_checkpoint(saved(tmp_path / "evil.pth", {"state_dict": {}, "mean_iu": Evil()}))
    assert not Path("made-by-a-pickle").exists()


def test_a_file_that_is_not_a_checkpoint_is_named_with_the_reason(tmp_path: Path) -> None:
    page = tmp_path / "checkpoint.pth"
    page.write_text("<!DOCTYPE html><title>Sign in</title>")
    with pytest.raises(ReleasedCheckpointError, match=r"checkpoint\.pth is not a checkpoint: it is a web page"):
        load_released_checkpoint(page)
    with pytest.raises(ReleasedCheckpointError, match="there is no such file"):
        load_released_checkpoint(tmp_path / "none.pth")
    with pytest.raises(ReleasedCheckpointError, match=r"other\.pth: these are not the released weights"):
        load_released_checkpoint(saved(tmp_path / "other.pth", {"conv.weight": torch.zeros(3)}))
    with pytest.raises(ReleasedCheckpointError, match="not a dictionary"):
        load_released_checkpoint(saved(tmp_path / "list.pth", [torch.zeros(3)]))
