"""Start of a sweep: checks what can fail before Ray, torch and MLflow are imported."""

from typing import TYPE_CHECKING

from gscnn_platform import cluster, tracking
from gscnn_platform.data.store import StoreError, open_store
from gscnn_platform.domains import SearchSpace, check
from gscnn_platform.training.resume import usable
from gscnn_platform.tuning.config import SweepConfig, SweepError
from gscnn_platform.tuning.record import choose_sweep

if TYPE_CHECKING:
    from gscnn_platform.tuning.sweep import SweepResult


def run_sweep(config: SweepConfig, space: SearchSpace) -> "SweepResult":
    """Runs the trials of `config` on `space`, in parallel if the cluster has room; blocks until the end.

    The same config, space and data resume a sweep that crashed or was stopped: finished trials are kept, the others
    continue from their last checkpoints, in their MLflow runs. Errors that can be foreseen are raised first.

    Raises:
        SearchSpaceError: the space does not fit the recipe.
        SweepError: the named sweep cannot be resumed, the search does not work with the scheduler, there is nothing to
            validate on, or no trial has a score in the end.
        StoreError: the store is missing, damaged or not the one that the recipe expects.
        StorageError: the storage cannot be read.
        ClusterError: there is no cluster to run on.
        ResourcesError: the cluster is too small for one trial.
        TrackingError: the tracking URI does not work.
        TrainingStoppedError: SIGTERM or Ctrl-C ended the sweep.
    """
    check(space, config.recipe)
    if config.store is None:
        raise StoreError("--store is missing: pass the folder that python -m jobs.precompute wrote")
    if not config.data.validates:
        raise SweepError(
            "--data.val-split is None: a sweep chooses by a validation score; set a split, or hold out a share of the "
            "training split: --data.val-share 0.1"
        )
    store = open_store(cluster.resolve(config.store, "--store"), config.data, config.model.num_classes)
    val = None if config.data.val_share else store.manifest.splits[config.data.val_split or ""]
    if val is not None and val.all_void == val.samples:
        raise SweepError(f"every label of split {config.data.val_split} is void: there is no score to choose by")
    storage = cluster.default_storage() if config.storage is None else cluster.resolve(config.storage, "--storage")
    with usable(storage):
        name, before = choose_sweep(config, space, storage, store.manifest.fingerprint)
    if before is None:
        tracking.check_named_uri(config.tracking)
        cluster.check_can_write(storage, "--storage")
    cluster.check_can_connect()
    from gscnn_platform.tuning.sweep import drive

    return drive(config, space, store, storage, name, before)
