"""Starts a sweep: checks what can fail before Ray, torch and MLflow are imported."""

from typing import TYPE_CHECKING

from gscnn_platform import cluster, tracking
from gscnn_platform.config import InitConfig
from gscnn_platform.data.store import StoreError, open_store
from gscnn_platform.runs.folder import usable
from gscnn_platform.runs.resume import choose_run
from gscnn_platform.sweeps.config import SweepConfig, SweepError
from gscnn_platform.sweeps.record import wanted_sweep
from gscnn_platform.sweeps.space import SearchSpace, check
from gscnn_platform.training.initial_weights import check_initial_weights

if TYPE_CHECKING:
    from gscnn_platform.sweeps.driver import SweepResult


def run_sweep(config: SweepConfig, space: SearchSpace) -> "SweepResult":
    """Runs the trials of `config` on `space`, in parallel if the cluster has room; blocks until the sweep ends.

    If a sweep with the same config, space and data crashed or was stopped, it resumes: finished trials are kept, and
    the others resume from their last checkpoints, in their MLflow runs. Foreseeable errors are raised first.

    Raises:
        SearchSpaceError: the space does not fit the recipe.
        SweepError: the named sweep cannot be resumed, the search does not work with the scheduler, there is no
            validation data, or no trial has a score at the end.
        StoreError: the store is missing, damaged, or does not match the recipe.
        InitialWeightsError: the trials cannot start from `init.weights`.
        StorageError: the storage cannot be read.
        ClusterError: there is no cluster to run on.
        ResourcesError: the cluster is too small for one trial.
        TrackingError: the tracking URI does not work.
        TrainingStoppedError: SIGTERM or Ctrl-C ended the sweep.
    """
    check(space, config.trial_config)
    recipe = config.recipe
    if recipe.store is None:
        raise StoreError("--store is missing: pass the folder that python -m jobs.precompute wrote")
    if not recipe.data.validates:
        raise SweepError(
            "--data.val-split is None: a sweep needs a validation score; set a split, or hold out a share of the "
            "training split: --data.val-share 0.1"
        )
    shares = [recipe.data.class_uniform, *space.values_of("data.class_uniform")]
    data = recipe.data.model_copy(update={"class_uniform": max(shares)})
    store = open_store(cluster.resolve(recipe.store, "--store"), data, recipe.model.num_classes)
    val = None if recipe.data.val_share else store.manifest.splits[recipe.data.val_split or ""]
    if val is not None and val.all_void == val.samples:
        raise SweepError(f"every label of split {recipe.data.val_split} is void: there is no validation score")
    storage = cluster.default_storage() if recipe.storage is None else cluster.resolve(recipe.storage, "--storage")
    wanted = wanted_sweep(config, space, store.manifest.fingerprint)
    with usable(storage):
        folder, before = choose_run(wanted, storage)
    if before is None or before.state != "finished":
        for weights in space.values_of("init.weights") or [recipe.init.weights]:
            check_initial_weights(InitConfig(weights=weights))
    if before is None:
        tracking.check_named_uri(recipe.tracking)
        cluster.check_can_write(storage, "--storage")
    cluster.check_can_connect()
    from gscnn_platform.sweeps.driver import drive

    return drive(config, space, store, folder, before)
