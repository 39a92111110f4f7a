"""The driver of a sweep: runs the trials on Ray Tune and reports the best one."""

import logging
import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from ray import tune
from ray.tune import FailureConfig, PlacementGroupFactory, RunConfig, TuneConfig

from gscnn.model import build_model
from gscnn_platform import cluster, tracking
from gscnn_platform.comparison import CURVES, Table, TrackedSweep, compare
from gscnn_platform.config import EXECUTION, with_overrides
from gscnn_platform.data.store import Store
from gscnn_platform.interrupts import (
    InterruptedJobError,
    TrainingStoppedError,
    drop_dead_output,
    from_now_on,
    heard,
    is_again,
    leaving_nothing_behind,
    tell_of_signal,
)
from gscnn_platform.runs.alive import alive
from gscnn_platform.runs.folder import LOG, TUNE, RunFolder
from gscnn_platform.sweeps.board import Board, BoardCallback, TrialRow
from gscnn_platform.sweeps.config import SweepConfig, SweepError
from gscnn_platform.sweeps.record import SweepRecord, needs_new_run, trials_of
from gscnn_platform.sweeps.searchers import number_of_trials, scheduler, searcher, tune_domain
from gscnn_platform.sweeps.space import SearchSpace
from gscnn_platform.sweeps.trial import SweepJob, SweepTrial, trial_name
from gscnn_platform.training.execution import Waiting, check_sync_bn
from gscnn_platform.training.progress import say

WHEN_THERE: Final = "Trials resume from their last checkpoints once they are available"
"""Advice to the user after nodes are lost."""


@dataclass(frozen=True)
class SweepResult:
    """The result of a sweep."""

    folder: RunFolder
    tracking_uri: str
    run_id: str
    """MLflow run id of the parent run."""
    metric: str
    trials: list[TrialRow]
    """In the order in which they started."""
    best: TrialRow | None
    """None if no trial has a score."""
    registered: str | None
    """Reference of the registered model: `models:/NAME@best`."""

    comparison: str | None
    """Comparison of variants and seeds, as text and table; None if the space has neither."""
    page: str
    """How to look at the sweep in MLflow, as text."""

    def __str__(self) -> str:
        """Returns a table of the trials, best first, the location of the best one, and the comparison."""
        keys = list(self.trials[0].sampled) if self.trials else []
        rows = []
        for row in sorted(self.trials, key=lambda each: -(each.score or 0.0)):
            values = [row.sampled.get(key) for key in keys]
            shown = [f"{value:.4g}" if isinstance(value, float) else str(value) for value in values]
            score = "-" if row.score is None else f"{row.score:.4f}"
            rows.append((row.name, *shown, score, str(row.epochs), row.state))
        lines = [str(Table(("trial", *keys, self.metric, "epochs", "state"), tuple(rows)))]
        if self.best is not None:
            lines += ["", f"best trial   {self.folder.trial(self.best.name)}, MLflow run {self.best.run_id}"]
        if self.registered is not None:
            lines.append(f"registered   {self.registered}")
        if self.comparison is not None:
            lines += ["", self.comparison, ""]
        lines += [f"MLflow run   {self.run_id}", f"look at it   {self.page}"]
        return "\n".join(lines)


def drive(
    config: SweepConfig, space: SearchSpace, store: Store, folder: RunFolder, before: SweepRecord | None
) -> SweepResult:
    """Runs the sweep after `run_sweep`'s checks; `before` is the record of a sweep that is resumed."""
    scheduler(config, space)
    searcher(config, space)
    is_deleted = before is not None and needs_new_run(before, folder, config.recipe.tracking.on_deleted)
    build_model(config.recipe.model)
    cluster.connect()
    name, count = folder.name, number_of_trials(config, space)
    config, workers, side_by_side = with_resources(with_overrides(config, {"store": str(store.path)}), count)
    with leaving_nothing_behind(f"run the same command to resume sweep {name}"), alive(folder):
        record = before or _new_sweep(config, space, folder, store)
        if is_deleted:
            record = in_new_mlflow_run(record, folder, store)
        if before is None:
            tracking.make_way(folder.ref(record), say)
        folder.write(record.model_copy(update={"state": "running", "config": config}))
        print(
            f"sweep {name} {'resumes:' if before else 'of'} {count} trials on {config.recipe.name}, {side_by_side} at "
            f"a time · maximizes {config.metric} · tracked at {record.tracking_uri}",
            flush=True,
        )
        waiting = Waiting(config.recipe.num_workers, workers.cpus, workers.gpus, WHEN_THERE)
        board = Board(folder, record, space, count, waiting)
        with board.open(), _interrupted_by_sigterm() as stopped:
            if _nodes_arrive(workers, config.recipe.num_workers):
                _tune(config, space, record, folder, side_by_side, count).fit()
            number = stopped[0] if stopped else None
            if number is not None or not board.complete():
                board.close_open_runs("the sweep was stopped")
                board.draw()
                folder.write(record.model_copy(update={"state": "stopped", "config": config}))
                raise TrainingStoppedError(
                    f"stopped after {board.ended} of {count} trials; rerun the command to resume", number
                )
            board.draw()
            if board.best() is None:
                folder.write(record.model_copy(update={"state": "failed", "config": config}))
                raise SweepError(
                    f"no trial has a score: {folder.trial(trial_name(0)).at(LOG)} may show why. Rerun the command to "
                    "retry the failed trials"
                )
            registered = board.finish(config.register_as, store.manifest.fingerprint)
        folder.write(record.model_copy(update={"state": "finished", "config": config}))
        from_now_on(f"sweep {name} is finished, and all of it is kept")
    rows = board.rows()
    return SweepResult(
        folder,
        record.tracking_uri,
        record.run_id,
        config.metric,
        rows,
        board.best(),
        registered,
        _compared(record),
        tracking.look_at(record.tracking_uri, record.run_id, indent=13, charts=False),
    )


def _nodes_arrive(workers: cluster.Workers, needed: int) -> bool:
    """Waits for the nodes of a first trial if the cluster lacks them; returns False if a signal ended the wait."""
    try:
        cluster.wait_for_nodes(workers, needed)
    except KeyboardInterrupt:
        return False
    return True


def _compared(record: SweepRecord) -> str | None:
    if not record.space.variants and "seed" not in record.space.domains:
        return None
    try:
        place = (record.tracking_uri, record.run_id, CURVES)
        run, trials = tracking.read_run(*place), tracking.children(*place)
        return str(compare([TrackedSweep(run, trials)], EXECUTION, f"val/{record.config.metric}"))
    except (tracking.TrackingError, ValueError) as error:
        return f"no comparison: {error}"


def with_resources(config: SweepConfig, count: int) -> tuple[SweepConfig, cluster.Workers, int]:
    """Returns the config with each worker's resources, the workers of all parallel trials, and the number of these
    trials.

    Raises:
        ResourcesError: the cluster has no room for a trial, and the sweep does not wait for nodes.
        ValueError: synchronized batch norm is set and the workers get no GPU.
    """
    workers = cluster.workers_for(config.recipe, None, needed=config.recipe.num_workers)
    check_sync_bn(config.recipe, workers)
    room = max(1, workers.room // config.recipe.num_workers)
    # An autoscaling cluster does not know its maximum size, so it is asked for the number of trials that the user set.
    side_by_side = config.max_concurrent or room
    if not config.recipe.wait_for_nodes:
        side_by_side = min(side_by_side, room)
    changes = {"use_gpu": workers.use_gpu, "cpus_per_worker": workers.cpus}
    resourced = with_overrides(config, changes)
    return resourced, workers._replace(number=min(side_by_side, count) * config.recipe.num_workers), side_by_side


def in_new_mlflow_run(record: SweepRecord, folder: RunFolder, store: Store) -> SweepRecord:
    """Returns the sweep's record with a new parent run, which gets the deleted run's data and its trials."""
    uri, old = record.tracking_uri, record.run_id
    began = tracking.start_time_of(uri, old)
    new = _parent_run(uri, record.config, record.space, folder, store, began)
    tracking.move_to(folder.ref(record), new)
    tracking.set_tags(uri, new, {tracking.REPLACES: old})
    for trial in trials_of(folder):
        if tracking.fate_of(uri, trial.run_id) == "active":
            tracking.set_tags(uri, trial.run_id, {tracking.PARENT: new})
    print(f"MLflow run {old} was deleted: the sweep is tracked in the new run {new}", flush=True)
    return record.model_copy(update={"run_id": new})


def _new_sweep(config: SweepConfig, space: SearchSpace, folder: RunFolder, store: Store) -> SweepRecord:
    uri = tracking.tracking_uri(config.recipe.tracking, folder.storage)
    run_id = _parent_run(uri, config, space, folder, store)
    return SweepRecord(
        name=folder.name,
        config=config,
        space=space,
        fingerprint=store.manifest.fingerprint,
        tracking_uri=uri,
        run_id=run_id,
        began=time.time(),
        state="running",
    )


def _parent_run(
    uri: str,
    config: SweepConfig,
    space: SearchSpace,
    folder: RunFolder,
    store: Store,
    began: int | None = None,
) -> str:
    settings = {
        "space": config.space or "command line",
        "search": config.search or space.search,
        "scheduler": config.scheduler,
        "metric": config.metric,
        "num_trials": number_of_trials(config, space),
        "domains": dict(space.domains),
    }
    return tracking.create_sweep(
        uri, config.trial_config, folder, store, settings["space"], list(space.variants), settings, began
    )


def _tune(
    config: SweepConfig, space: SearchSpace, record: SweepRecord, folder: RunFolder, side_by_side: int, count: int
) -> tune.Tuner:
    job = SweepJob(
        recipe=with_overrides(config.trial_config, {"tracking.uri": record.tracking_uri}),
        space=space,
        metric=f"val/{config.metric}",
        storage=folder.location,
        parent_run_id=record.run_id,
        space_name=config.space or "command line",
        command=shlex.join(sys.orig_argv[1:]),
    )
    with_job = tune.with_parameters(SweepTrial, job=job.model_dump(mode="json"))
    trainable = tune.with_resources(with_job, PlacementGroupFactory([_of_a_trial(config)]))
    # The board reports every event. Tune would add tables, and would print Ray's whole stack trace of a failure twice.
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
    if tune.Tuner.can_restore(folder.at(TUNE)):
        return _restored(folder.at(TUNE), trainable)
    drawn = {key: tune_domain(domain) for key, domain in space.parsed().items()} if config.scheduler == "pbt" else {}
    np.random.seed(config.recipe.seed)  # Tune samples with numpy's global generator.
    return tune.Tuner(
        trainable,
        param_space=drawn,
        tune_config=TuneConfig(
            search_alg=searcher(config, space),
            scheduler=scheduler(config, space),
            num_samples=count,
            max_concurrent_trials=side_by_side,
            reuse_actors=True,
        ),
        run_config=RunConfig(
            name=TUNE,
            storage_path=folder.location,
            failure_config=FailureConfig(max_failures=config.max_trial_failures),
            callbacks=[BoardCallback()],
            verbose=0,
        ),
    )


def _restored(state: str, trainable: Any) -> tune.Tuner:
    try:
        return tune.Tuner.restore(state, trainable=trainable, resume_unfinished=True, resume_errored=True)
    except (ModuleNotFoundError, AttributeError) as error:  # Tune pickles searcher and callbacks by their modules.
        raise SweepError(
            f"{state} was written by another version of this code ({error}): resume the sweep with that version, "
            "or start a new one with --no-resume"
        ) from error


def _of_a_trial(config: SweepConfig) -> dict[str, float]:
    """Returns the resources of the trial's own process; several Ray Train workers have their own in addition."""
    if config.recipe.num_workers > 1:
        # Almost nothing, on the head node, which outlives the workers' nodes. A CPU would be missing for the workers.
        return {"node:__internal_head__": 0.001}
    assert config.recipe.cpus_per_worker is not None
    return {"CPU": config.recipe.cpus_per_worker, **({"GPU": 1} if config.recipe.use_gpu else {})}


@contextmanager
def _interrupted_by_sigterm() -> Iterator[list[int]]:
    """Ends Tune's loop cleanly at a signal, by sending SIGUSR1, which Tune handles; yields the signal's number."""
    numbers: list[int] = []
    first = 0.0
    if threading.current_thread() is not threading.main_thread():
        yield numbers
        return

    def stop(number: int, _: object) -> None:
        nonlocal first
        if numbers:
            if not is_again(number, first):
                return
            raise InterruptedJobError(number, "ended at once; run the same command to resume the sweep")
        first = time.monotonic()
        numbers.append(number)
        drop_dead_output()
        tell_of_signal(number, "stopping the trials; repeat to end at once", stream=1)
        os.kill(os.getpid(), signal.SIGUSR1)

    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"
    before = {number: signal.signal(number, stop) for number in heard()}
    # Until Tune installs its own handler.
    before[signal.SIGUSR1] = signal.signal(signal.SIGUSR1, signal.default_int_handler)
    try:
        yield numbers
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
