"""Finds the model that a user names by a folder, an MLflow run or a registered model."""

from gscnn_platform import tracking
from gscnn_platform.runs.loading import LoadedModel, load_model
from gscnn_platform.tracking.uri import MODELS, is_run_id


def find_model(reference: str, uri: str) -> LoadedModel:
    """Returns the model that a user names. Imports MLflow only for MLflow runs and registered models.

    Args:
        reference: folder or URI of a checkpoint or a run, or an MLflow run id or registered model
            (`models:/NAME@ALIAS`) at `uri`.
        uri: of the tracking server or store.

    Raises:
        CheckpointError: a file of the checkpoint is missing or damaged.
        TrackingError: there is no such run, or it has no checkpoint.
    """
    if reference.startswith(MODELS):
        reference = tracking.run_of_model(uri, reference)
    if not is_run_id(reference):
        return load_model(reference)
    with tracking.checkpoint_of_run(uri, reference) as folder:
        return load_model(folder)
