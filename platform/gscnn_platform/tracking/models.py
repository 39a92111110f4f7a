"""The model that a user names: by a folder, an MLflow run or a registered model."""

from gscnn_platform import tracking
from gscnn_platform.runs.loading import LoadedModel, load_model
from gscnn_platform.tracking.uri import MODELS, is_run_id


def find_model(reference: str, uri: str) -> LoadedModel:
    """The model that a user names. Imports MLflow only for what is named by it.

    Args:
        reference: a checkpoint's or a run's folder or URI, or, at `uri`, an MLflow run id or a registered model,
            `models:/NAME@ALIAS`.
        uri: of the tracking server or store.

    Raises:
        CheckpointError: naming what is missing.
        TrackingError: no such run, or it has no checkpoint.
    """
    if reference.startswith(MODELS):
        reference = tracking.run_of_model(uri, reference)
    if not is_run_id(reference):
        return load_model(reference)
    with tracking.checkpoint_of_run(uri, reference) as folder:
        return load_model(folder)
