"""Builds all parts of a store on all nodes with Ray Data, with a progress bar that counts samples."""

import logging
from functools import partial
from typing import Any, Final

from tqdm import tqdm

from gscnn_platform.data.disk_full import Failure, Progress, storage_error
from gscnn_platform.data.store.destination import Destination
from gscnn_platform.data.store.part_building import BuildJob, Chunk, PartReport, build_part
from gscnn_platform.threads import in_thread

LOOK_SECONDS: Final = 0.2
"""Seconds between updates of the progress bar."""


class SampleCount:
    """Counts the samples that tasks have started; an actor, because a task returns only a complete part."""

    def __init__(self) -> None:
        self._count = 0

    def add(self, count: int) -> None:
        self._count += count

    def get(self) -> int:
        return self._count


def part_reports(job: BuildJob, part_rows: int, progress: Progress, place: Destination, title: str) -> list[PartReport]:
    """Writes all parts with Ray Data and returns a report for each.

    Raises:
        StorageError: a task could not write.
    """
    import ray
    import ray.data
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    # Hides a dozen lines on the plan and progress; set after the import, which sets a level of its own.
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    ray.data.DataContext.get_current().enable_progress_bars = False
    chunks = [
        {"split": split, "start": start, "stop": min(start + part_rows, len(of_split))}
        for split, of_split in job.samples.items()
        for start in range(0, len(of_split), part_rows)
    ]
    here: Any = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    count: Any = ray.remote(num_cpus=0, scheduling_strategy=here)(SampleCount).remote()
    build = partial(_build_part, job=job, count=count)
    dataset = ray.data.from_items(chunks, override_num_blocks=len(chunks)).map(build)
    with tqdm(total=progress.total, unit=" samples", desc=title) as bar:

        def look() -> None:
            bar.update(ray.get(count.get.remote()) - bar.n)

        reports = in_thread(lambda: _collected(dataset, progress, place), look, LOOK_SECONDS)
        look()
    return reports


def _collected(dataset: Any, progress: Progress, place: Destination) -> list[PartReport]:
    reports: list[PartReport] = []
    failure: Failure | None = None
    for row in dataset.iter_rows():
        report = PartReport.model_validate_json(row["report"])
        if failure is None:
            progress.samples += report.samples
            progress.bytes += report.bytes
            reports.append(report)
        if failure is None and report.failure is not None:
            failure = report.failure
            if not place.abort():
                break
    if failure is not None:
        raise storage_error(progress, failure)
    return reports


def _build_part(chunk: dict[str, Any], job: BuildJob, count: Any) -> dict[str, str]:
    """Calls `build_part` in Ray Data; the report is JSON, so that rows with different fields need no common schema."""
    report = build_part(Chunk.model_validate(chunk), job, tell=count.add.remote)
    return {"report": report.model_dump_json()}
