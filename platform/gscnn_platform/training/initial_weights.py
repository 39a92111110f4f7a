"""The weights that a run starts from: checked and read on the driver, before a worker starts."""

from typing import Final

from gscnn_platform import cluster, tracking
from gscnn_platform.config import ExperimentConfig, InitConfig
from gscnn_platform.paths import as_path
from gscnn_platform.runs.checkpoint import MODEL, CheckpointError, faults
from gscnn_platform.runs.initial import InitialWeights
from gscnn_platform.runs.loading import as_file, as_folder, check_file, is_file
from gscnn_platform.weight_files import WeightFileError, check_weight_file, read_weights, sha256_of

SOURCES: Final = (
    "pass a .pth, .pt or .safetensors file, a checkpoint's or a run's folder, an MLflow run id or models:/NAME@best"
)


class InitialWeightsError(ValueError):
    """There is nothing at `init.weights` that the model can start from."""


def check_initial_weights(config: InitConfig) -> None:
    """Finds a missing or truncated file, or one of another kind, within a second: it reads a few bytes.

    Raises:
        InitialWeightsError: naming it, and what it is instead.
    """
    source = config.weights
    if source is None or tracking.is_run_id(source) or source.startswith(tracking.MODELS):
        return
    try:
        place = as_path(cluster.resolve(source, "--init.weights"))
        if place.is_file():
            with place.open("rb") as opened:
                check_weight_file(opened, source)  # pyright: ignore[reportArgumentType]
        elif not place.exists():
            raise InitialWeightsError(f"--init.weights {source}: there is no such file or folder; {SOURCES}")
        else:
            _check_folder(source)
    except (WeightFileError, CheckpointError, OSError) as error:
        raise InitialWeightsError(f"--init.weights {error}") from error


def _check_folder(source: str) -> None:
    with as_folder(source) as folder:
        if not (folder / MODEL).is_file():
            there = ", ".join(sorted(path.name for path in folder.iterdir())[:5]) or "nothing"
            raise InitialWeightsError(
                f"--init.weights {source}: the folder holds no checkpoint, but {there}; {SOURCES}"
            )


def read_initial_weights(config: ExperimentConfig, uri: str) -> InitialWeights:
    """The tensors of `init.weights` that fit the model, on the CPU; `uri` is of the tracking server or store.

    Raises:
        InitialWeightsError: the file is damaged or another network's, or the folder is no checkpoint's.
        TrackingError: no such run or registered model.
    """
    import torch

    import gscnn
    from gscnn.initial_weights import fit_weights

    source = config.init.weights
    assert source is not None
    try:
        with (
            tracking.find_checkpoint(source, uri) as place,
            as_file(place) if is_file(place) else as_folder(place) as there,
        ):
            damaged = faults(there) if there.is_dir() else []
            if damaged:
                raise CheckpointError(f"{source} cannot be used: {', '.join(damaged)}")
            file = there / MODEL if there.is_dir() else there
            check_file(source, file)
            digest, content = sha256_of(file), read_weights(file, source)
            with torch.device("meta"):
                model = gscnn.build_model(config.model)
            fitted = fit_weights(content, model, config.init.parts)
            # Of a file that may be mapped into memory and removed at the end of this block.
            tensors = {name: value.clone() for name, value in fitted.tensors.items()}
    except (CheckpointError, WeightFileError) as error:
        raise InitialWeightsError(f"--init.weights {error}") from error
    except ValueError as error:
        if isinstance(error, tracking.TrackingError):
            raise
        raise InitialWeightsError(
            f"--init.weights {source} with --model.backbone {config.model.backbone}: {error}"
        ) from error
    report = {
        "weights": source,
        "sha256": digest,
        "parts": config.init.parts,
        "loaded": {title: [part.loaded, part.total] for title, part in fitted.parts.items()},
        "other_shape": fitted.other_shape,
        "missing": fitted.missing,
        "unused": fitted.unused,
    }
    return InitialWeights(tensors, report, f"initial weights from {source} (sha256 {digest[:12]}): {fitted}")
