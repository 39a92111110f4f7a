"""Runs jobs.compare, without its command line: compares runs and sweeps in MLflow, as text and as an HTML page."""

import sys
from collections.abc import Sequence

from gscnn_platform import cluster, machine, tracking
from gscnn_platform.comparison import CURVES, Comparison, TrackedSweep, best_epoch, compare
from gscnn_platform.config import EXECUTION, TrackingConfig
from gscnn_platform.interrupts import from_now_on
from gscnn_platform.reporting.contender_page import Scenes, render_comparison, shown_run
from gscnn_platform.reporting.templates import write_page
from gscnn_platform.runs.folder import RunFolder
from gscnn_platform.runs.loading import as_file, check_file, is_file
from gscnn_platform.weight_files import sha256_of


def compare_runs(
    references: Sequence[str], uri: str | None, metric: str, out: str, different_data: bool = False
) -> Comparison:
    """Compares runs and sweeps; prints the comparison and writes the page.

    Args:
        references: MLflow run ids of trainings or sweeps, unique run names, their folders, models:/NAME@ALIAS, or the
            authors' released checkpoint, a file that jobs.evaluate has evaluated on the same store.
        uri: tracking URI; None: that of a run's folder, else MLFLOW_TRACKING_URI, else the storage folder's SQLite.
        metric: validation score for the verdicts and the ranking.
        out: HTML file to write.
        different_data: whether to compare runs even if their data differ.

    Raises:
        ValueError: there is nothing to compare.
        TrackingError: a run is not found, or the tracking URI does not answer.
        DifferentDataError: the runs' data differ.
    """
    path = cluster.resolve_local(out, "--out")
    comparison = compare([find(reference, uri) for reference in references], EXECUTION, metric, different_data)
    print(comparison, flush=True)
    write_page(path, render_comparison(comparison, _scenes(comparison)), "--out")
    from_now_on(f"{path} is complete")
    print(f"\nreport  {path}")
    return comparison


def find(reference: str, uri: str | None) -> tracking.TrackedRun | TrackedSweep:
    """The run or sweep that a user names, with its histories.

    Raises:
        TrackingError: no such run, or the tracking URI does not answer.
        ValueError: a folder is not a run's or a sweep's.
        CheckpointError: a file holds no weights.
    """
    is_model = reference.startswith(tracking.MODELS)
    if not is_model and is_file(reference):
        place = tracking.tracking_uri(TrackingConfig(uri=uri), cluster.default_storage())
        with as_file(reference) as file:
            check_file(reference, file)
            run_id = tracking.find_run_of_file(place, reference, sha256_of(file))
    elif not is_model and ("://" in reference or machine.expanded(reference).is_dir()):
        known = RunFolder(cluster.resolve(reference, "the run's folder")).tracked_as()
        if known is None:
            raise ValueError(f"{reference} is not a folder of a run or a sweep: pass one, or an MLflow run id")
        place, run_id = uri or known[0], known[1]
    else:
        place = tracking.tracking_uri(TrackingConfig(uri=uri), cluster.default_storage())
        run_id = (tracking.run_of_model if is_model else tracking.find_run)(place, reference)
    run = tracking.read_run(place, run_id, CURVES)
    return TrackedSweep(run, tracking.children(place, run_id, CURVES)) if tracking.SWEEP in run.tags else run


def _scenes(comparison: Comparison) -> list[Scenes]:
    """A picture of each contender; a picture that cannot be read is reported and left out."""
    scenes = []
    for contender in comparison.contenders:
        run = shown_run(contender)
        if run is None:
            continue
        try:
            found = tracking.picture(run.uri, run.run_id, best_epoch(run))
        except tracking.TrackingError as error:
            print(f"no picture of {contender.name}: {error}", file=sys.stderr)
            continue
        if found is not None:
            scenes.append(Scenes(contender.name, run, *found))
    return scenes
