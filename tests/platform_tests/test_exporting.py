import errno
import json
from pathlib import Path
from typing import IO, Any

import cv2
import numpy as np
import pytest
import torch

from gscnn.export import NamedOutputs
from gscnn_platform import exporting
from gscnn_platform.config import ExperimentConfig, ExportConfig
from gscnn_platform.data.store import Store
from gscnn_platform.exporting import ExportError, describe, export_checkpoint
from gscnn_platform.runs.loading import LoadedModel, load_model
from tests.saved import RUN_ID, save_checkpoint

SIZES = ((1, 64, 96), (2, 97, 131), (3, 33, 47))


@pytest.fixture
def checkpoint(tmp_path: Path, tiny_run: ExperimentConfig, streets_store: Store) -> Path:
    save_checkpoint(tmp_path / "checkpoint", tiny_run, streets_store)
    return tmp_path / "checkpoint"


@pytest.fixture
def frames(tmp_path: Path, streets_store: Store) -> Path:
    folder = tmp_path / "frames"
    folder.mkdir()
    reader = streets_store.split("val")
    for index in range(2):
        assert cv2.imwrite(str(folder / f"{index}.png"), reader.read(index).image[..., ::-1])
    return folder


def config(checkpoint: Path, name: str, **fields: Any) -> ExportConfig:
    return ExportConfig(checkpoint=str(checkpoint), out=str(checkpoint.parent / name), **fields)


def test_onnx_matches_the_model_for_any_batch_and_size(checkpoint: Path, frames: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    result = export_checkpoint(config(checkpoint, "model.onnx", frames=(str(frames),)))
    assert [check.shape for check in result.checks] == [(1, 64, 96), (1, 64, 96), (2, 64, 96)]
    assert "the same class" in describe(result)
    session = onnxruntime.InferenceSession(result.path)
    assert [(each.name, each.shape) for each in session.get_inputs()] == [
        ("image", ["batch", 3, "height", "width"]),
        ("gradient", ["batch", 1, "height", "width"]),
    ]
    model = load_model(checkpoint).model
    for batch, height, width in SIZES:
        image, gradient = torch.randn(batch, 3, height, width), torch.rand(batch, 1, height, width)
        seg, edge = session.run(["seg_logits", "edge_logits"], {"image": image.numpy(), "gradient": gradient.numpy()})
        with torch.inference_mode():
            expected = model(image, gradient)
        np.testing.assert_allclose(seg, expected.seg_logits, atol=1e-5)
        np.testing.assert_allclose(edge, expected.edge_logits, atol=1e-5)
    properties = session.get_modelmeta().custom_metadata_map
    assert json.loads(properties["classes"]) == list(load_model(checkpoint).dataset.classes)
    assert properties["mlflow_run"] == RUN_ID


def test_a_program_matches_the_model_and_holds_its_classes(checkpoint: Path) -> None:
    result = export_checkpoint(config(checkpoint, "model.pt2"))
    assert [check.shape for check in result.checks] == [
        (1, 128, 160),
        (1, 128, 160),
        (1, 97, 131),
        (1, 97, 131),
        (2, 128, 160),
    ]
    extra = {"metadata.json": ""}
    program = torch.export.load(result.path, extra_files=extra).module()
    assert json.loads(extra["metadata.json"])["edge_prior"] == "canny"
    model = load_model(checkpoint).model
    for batch, height, width in SIZES:
        image, gradient = torch.randn(batch, 3, height, width), torch.rand(batch, 1, height, width)
        with torch.inference_mode():
            expected, got = model(image, gradient), program(image, gradient)
        torch.testing.assert_close(got["seg_logits"], expected.seg_logits, rtol=1e-4, atol=1e-5)


def test_a_file_that_differs_from_the_model_is_not_kept(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write_wrong(loaded: LoadedModel, path: Path) -> exporting.Runner:
        path.write_bytes(b"wrong")
        named = NamedOutputs(loaded.model)
        return lambda image, gradient: {key: value * 1.5 for key, value in named(image, gradient).items()}

    monkeypatch.setattr(exporting, "_write_program", write_wrong)
    with pytest.raises(ExportError, match=r"differs from PyTorch by .* more than --tolerance 0\.001: not written"):
        export_checkpoint(config(checkpoint, "model.pt2"))
    assert [path.name for path in checkpoint.parent.iterdir()] == ["checkpoint"]


def test_a_full_disk_is_reported_with_the_free_space_and_leaves_nothing(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(program: object, file: IO[bytes], **others: object) -> None:
        file.write(b"half")
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        except OSError as error:
            raise RuntimeError("PytorchStreamWriter failed writing file") from error

    monkeypatch.setattr(torch.export, "save", full)
    there = sorted(checkpoint.parent.iterdir())
    with pytest.raises(ExportError, match=r"^--out .*model\.pt2: the disk or its quota is full, .*B are free in"):
        export_checkpoint(config(checkpoint, "model.pt2"))
    assert sorted(checkpoint.parent.iterdir()) == there


@pytest.mark.parametrize("error", [RuntimeError("no such op\nand a long graph"), TypeError("no such op")])
def test_a_model_that_torch_cannot_export_is_named_and_leaves_nothing(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def failing(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(torch.export, "save", failing)
    there = sorted(checkpoint.parent.iterdir())
    with pytest.raises(ExportError, match=r"^torch cannot export resnet10_small to \.pt2: no such op$"):
        export_checkpoint(config(checkpoint, "model.pt2"))
    assert sorted(checkpoint.parent.iterdir()) == there


def test_invalid_options_are_reported_at_once(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ExportError, match=r"model\.pth: need a name that ends in \.onnx or \.pt2"):
        export_checkpoint(config(checkpoint, "model.pth"))
    (checkpoint.parent / "there.onnx").write_bytes(b"mine")
    with pytest.raises(ExportError, match=r"there\.onnx exists already: add --overwrite"):
        export_checkpoint(config(checkpoint, "there.onnx"))
    (checkpoint.parent / "folder.onnx").mkdir()
    with pytest.raises(ValueError, match=r"folder\.onnx', which is a folder: name a file"):
        export_checkpoint(config(checkpoint, "folder.onnx").model_copy(update={"overwrite": True}))
    monkeypatch.setattr(exporting.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ExportError, match=r"ONNX needs onnx, onnxscript, onnxruntime: .*\[export\]"):
        export_checkpoint(config(checkpoint, "model.onnx"))
