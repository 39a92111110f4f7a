"""Exports a trained model to ONNX or torch.export's format; the file is checked against PyTorch before it appears."""

import importlib.util
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import Dim

from gscnn.batch import normalize
from gscnn.constants import IMAGE_MEAN, IMAGE_STD
from gscnn.export import NamedOutputs, example_inputs, export_program
from gscnn_platform import cluster, tracking
from gscnn_platform.config import EdgeConfig, ExportConfig
from gscnn_platform.data.disk_full import is_full, readable
from gscnn_platform.data.formats.decoding import read_image
from gscnn_platform.data.formats.streets import Streets
from gscnn_platform.data.images import edge_prior, find_images
from gscnn_platform.interrupts import from_now_on, leaving_nothing_behind
from gscnn_platform.runs.loading import LoadedModel

ONNX: Final = ".onnx"
TORCH: Final = ".pt2"
METADATA: Final = "metadata.json"
"""Name of the file in a .pt2 archive that holds what an .onnx file has as metadata properties."""

Runner = Callable[[Tensor, Tensor], dict[str, Tensor]]
"""Image [B, 3, H, W] and gradient [B, 1, H, W] -> logits by name."""


class ExportError(ValueError):
    """The model cannot be exported, or the exported file differs from the model."""


@dataclass(frozen=True)
class Check:
    """The difference between the file and PyTorch on one batch."""

    shape: tuple[int, int, int]
    """Batch, height, width."""
    largest_difference: float
    """Largest difference of a probability."""
    same_label: float
    """Share of the pixels with the same class."""


@dataclass(frozen=True)
class ExportResult:
    path: Path
    checks: tuple[Check, ...]


def export_checkpoint(config: ExportConfig) -> ExportResult:
    """Exports and checks a model; the file appears under its name only after the check has passed.

    Raises:
        ExportError: the file has another extension, exists already or differs from PyTorch, a package is missing, or
            the disk is full.
        CheckpointError, TrackingError: no such checkpoint or run.
        InputError, BadSampleError: frames do not exist or cannot be read.
    """
    path = cluster.resolve_local(config.out, "--out")
    _check_out(path, config.overwrite)
    loaded = tracking.find_model(config.checkpoint, tracking.tracking_uri(config.tracking, cluster.default_storage()))
    batches = _batches(config, loaded.config.data.edges)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.stem}.partial{path.suffix}")
    with leaving_nothing_behind("this export was removed; rerun the command to start again"):
        try:
            runner = _write(loaded, partial)
            checks = tuple(_check(loaded.model, runner, *batch) for batch in batches)
            worst = max(checks, key=lambda check: check.largest_difference)
            if not worst.largest_difference <= config.tolerance:
                raise ExportError(
                    f"{path.suffix} differs from PyTorch by a probability of {worst.largest_difference:.2g} on a batch "
                    f"of shape {worst.shape}, more than --tolerance {config.tolerance:g}: not written"
                )
            partial.replace(path)
            from_now_on(f"{path} is complete")
        except (OSError, RuntimeError) as error:
            if not is_full(error):
                raise
            free = readable(shutil.disk_usage(path.parent).free)
            raise ExportError(
                f"--out {path}: the disk or its quota is full, {free} are free in {path.parent}. No partial output is "
                "left: free space and rerun the command, or name a file on another disk"
            ) from error
        finally:
            partial.unlink(missing_ok=True)
    return ExportResult(path, checks)


def describe(result: ExportResult) -> str:
    """A description of the check, batch by batch, for users."""
    lines = [f"{result.path} · {result.path.stat().st_size / 1e6:.1f} MB · against PyTorch:"]
    for check in result.checks:
        batch, height, width = check.shape
        lines.append(
            f"  {batch} x {width}x{height}: probabilities differ by at most {check.largest_difference:.1e}, "
            f"{check.same_label:.4%} of the pixels have the same class"
        )
    return "\n".join(lines)


def _check_out(path: Path, overwrite: bool) -> None:
    if path.suffix not in (ONNX, TORCH):
        raise ExportError(f"--out {path}: need a name that ends in {ONNX} or {TORCH}")
    if path.is_dir():
        raise ExportError(f"--out {path} is a folder: name a new file")
    if path.exists() and not overwrite:
        raise ExportError(f"--out {path} exists already: add --overwrite, or choose another file")
    if path.suffix == ONNX:
        missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if importlib.util.find_spec(name) is None]
        if missing:
            raise ExportError(
                f"ONNX needs {', '.join(missing)}: install this project with its extra group, "
                "pip install -c constraints.txt -e '.[export]'"
            )


def _batches(config: ExportConfig, edges: EdgeConfig) -> list[tuple[Tensor, Tensor]]:
    """Each frame by itself, and the first two together if they have the same size."""
    if not config.frames:
        scenes = (Streets(height=height, width=width) for height, width in ((128, 160), (97, 131)))
        images = [sample.read()[0] for scene in scenes for sample in scene.samples(None, "val")[:2]]
    else:
        files = find_images([cluster.resolve(text, "--frames") for text in config.frames], "--frames").files
        images = [read_image(file) for file in list(files.values())[: config.most_frames]]
    inputs = [
        (
            normalize(torch.from_numpy(image).permute(2, 0, 1))[None],
            torch.from_numpy(edge_prior(image, edges))[None, None] / 255,
        )
        for image in images
    ]
    if len(inputs) > 1 and inputs[0][0].shape == inputs[1][0].shape:
        (first, first_prior), (second, second_prior) = inputs[:2]
        inputs.append((torch.cat((first, second)), torch.cat((first_prior, second_prior))))
    return inputs


def _check(model: nn.Module, runner: Runner, image: Tensor, gradient: Tensor) -> Check:
    with torch.inference_mode():
        expected = NamedOutputs(model)(image, gradient)
        got = runner(image, gradient)
    differences = [(_probabilities(key, got[key]) - _probabilities(key, expected[key])).abs().max() for key in expected]
    same = got["seg_logits"].argmax(dim=1) == expected["seg_logits"].argmax(dim=1)
    shape = (image.shape[0], image.shape[2], image.shape[3])
    return Check(shape, float(torch.stack(differences).max()), float(same.float().mean()))


def _probabilities(key: str, logits: Tensor) -> Tensor:
    return torch.softmax(logits, dim=1) if key == "seg_logits" else torch.sigmoid(logits)


def _write(loaded: LoadedModel, path: Path) -> Runner:
    try:
        return _write_onnx(loaded, path) if path.suffix == ONNX else _write_program(loaded, path)
    except Exception as error:  # torch.export raises errors of many kinds, with no common base.
        if isinstance(error, OSError) or is_full(error):
            raise
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ExportError(f"torch cannot export {loaded.config.model.backbone} to {path.suffix}: {reason}") from error


def _write_program(loaded: LoadedModel, path: Path) -> Runner:
    program = export_program(loaded.model)
    with path.open("wb") as file:  # Given a path, torch does not report a full disk.
        torch.export.save(program, file, extra_files={METADATA: json.dumps(_metadata(loaded))})
    return torch.export.load(path).module()


def _write_onnx(loaded: LoadedModel, path: Path) -> Runner:
    import onnxruntime

    same = Dim.DYNAMIC  # Named once: repeated names cause a warning per dimension.
    program = torch.onnx.export(
        export_program(loaded.model),
        dynamo=True,
        input_names=["image", "gradient"],
        output_names=list(NamedOutputs(loaded.model)(*example_inputs())),
        dynamic_shapes={
            "image": {0: "batch", 2: "height", 3: "width"},
            "gradient": {0: same, 2: same, 3: same},
        },
        verbose=False,
    )
    assert program is not None
    for key, value in _metadata(loaded).items():
        program.model.metadata_props[key] = value if isinstance(value, str) else json.dumps(value)
    # A single file with the weights: the largest model has 0.55 GB, and the format's limit is 2 GB.
    program.save(path, external_data=False)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]

    def run(image: Tensor, gradient: Tensor) -> dict[str, Tensor]:
        values = session.run(None, {"image": image.numpy(), "gradient": gradient.numpy()})
        return {name: torch.from_numpy(np.asarray(value)) for name, value in zip(names, values, strict=True)}

    return run


def _metadata(loaded: LoadedModel) -> dict[str, Any]:
    """Metadata that a program needs to use the model."""
    return {
        "classes": list(loaded.dataset.classes),
        "label_values": loaded.dataset.raw_ids.tolist(),
        "colours": [list(colour) for colour in loaded.dataset.colours],
        "image_mean": list(IMAGE_MEAN),
        "image_std": list(IMAGE_STD),
        "edge_prior": loaded.config.data.edges.gradient,
        **({"mlflow_run": loaded.run_id} if loaded.file is None else {"weights_sha256": loaded.file.sha256}),
        "trained_on": loaded.dataset.fingerprint,
    }
