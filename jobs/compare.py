"""python -m jobs.compare RUN RUN_OR_SWEEP: compares runs side by side, as text and as an HTML page."""

import tyro

from gscnn_platform.command_line import read, user_errors


def compare(
    runs: tyro.conf.Positional[tuple[str, ...]],
    /,
    out: str = "comparison.html",
    metric: str = "val/miou",
    uri: str | None = None,
    different_data: bool = False,
) -> None:
    """Compares training runs and sweeps: settings that differ, scores, curves, scenes, and whether differences are
    noise.

    Args:
        runs: MLflow run ids of trainings or sweeps, run names, folders of runs, or the authors' released checkpoint, a
            file that jobs.evaluate has evaluated; the others are compared with the first. Runs that differ only in
            their seed count as one.
        out: HTML page to write.
        metric: validation score for verdicts and ranking, such as val/boundary_f_3px.
        uri: MLflow tracking URI; by default the run folder's, MLFLOW_TRACKING_URI, or SQLite under runs/.
        different_data: compare runs even if their data differs.
    """
    from gscnn_platform.reporting.start import compare_runs

    compare_runs(runs, uri, metric, out, different_data)


def main() -> None:
    with user_errors():
        read(compare, __doc__, needs="the runs or sweeps to compare, by MLflow id, name or folder")


if __name__ == "__main__":
    main()
