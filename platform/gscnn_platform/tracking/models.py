"""Finds the model that a user names by a folder, an MLflow run or a registered model."""

from collections.abc import Iterator
from contextlib import contextmanager

from gscnn_platform import tracking
from gscnn_platform.runs.loading import LoadedModel, as_file, as_folder, check_file, is_file, load_model
from gscnn_platform.tracking.uri import MODELS, is_run_id


def find_model(reference: str, uri: str) -> LoadedModel:
    """Returns the model that a user names. Imports MLflow only for MLflow runs and registered models.

    Args:
        reference: folder or URI of a checkpoint or a run, path or URI of the authors' released checkpoint, or an MLflow
            run id or registered model (`models:/NAME@ALIAS`) at `uri`.
        uri: of the tracking server or store.

    Raises:
        CheckpointError: a file of the checkpoint is missing or damaged.
        TrackingError: there is no such run, or it has no checkpoint.
    """
    with find_checkpoint(reference, uri) as place:
        return load_model(place)


def check_checkpoint(reference: str) -> None:
    """Finds, before torch is imported, a path of this machine at which there is nothing or a file of another kind.

    Raises:
        CheckpointError: naming it, and what it is instead.
    """
    if "://" in reference or reference.startswith(MODELS) or is_run_id(reference):
        return
    with as_file(reference) if is_file(reference) else as_folder(reference) as place:
        if place.is_file():
            check_file(reference, place)


@contextmanager
def find_checkpoint(reference: str, uri: str) -> Iterator[str]:
    """Path or URI of what `find_model` loads; of a run's artifact a copy, while open. Raises TrackingError."""
    if reference.startswith(MODELS):
        reference = tracking.run_of_model(uri, reference)
    if not is_run_id(reference):
        yield reference
        return
    with tracking.checkpoint_of_run(uri, reference) as folder:
        yield folder
