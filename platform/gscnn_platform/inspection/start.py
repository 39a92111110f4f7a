"""Runs jobs.inspect, without its command line: reads, checks, draws, writes and tracks."""

import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gscnn_platform import cluster, tracking
from gscnn_platform.config import InspectConfig
from gscnn_platform.inspection.sources import open_source
from gscnn_platform.interrupts import from_now_on
from gscnn_platform.names import file_name, markdown
from gscnn_platform.recipes import recipe_named

if TYPE_CHECKING:
    from gscnn_platform.inspection.checks import Finding
    from gscnn_platform.inspection.gallery import Picture
    from gscnn_platform.inspection.recipe_sections import Sections
    from gscnn_platform.inspection.survey import Survey


@dataclass(frozen=True)
class Inspection:
    """The result of an inspection."""

    page: Path
    errors: int
    warnings: int

    @property
    def is_clean(self) -> bool:
        """Whether there is neither an error nor a warning."""
        return not self.errors and not self.warnings


def inspect_dataset(config: InspectConfig) -> Inspection:
    """Inspects a store or a raw dataset; prints what it finds, writes the page, and tracks both if asked to.

    Raises:
        DatasetError, InputError, TextError: there is no such folder, or it has no known layout.
        StoreError: the store is damaged.
        MachineError: the page cannot be written.
        ValueError: there is no such recipe.
    """
    began = time.perf_counter()
    recipe = None if config.recipe is None else recipe_named(config.recipe)
    path = cluster.resolve_local(config.out, "--out")
    uri = tracking.tracking_uri(config.tracking, cluster.default_storage()) if config.track else None
    source = open_source(config.data, config.format)
    if config.format is None and source.kind == "raw dataset":
        print(f"{source.path} has the layout of {source.dataset}", flush=True)
    # Imported here: pages need jinja2, and the survey OpenCV.
    from gscnn_platform.inspection.checks import findings
    from gscnn_platform.inspection.gallery import gallery
    from gscnn_platform.inspection.page import render
    from gscnn_platform.inspection.recipe_sections import NOT_TRIED, tried
    from gscnn_platform.inspection.survey import survey
    from gscnn_platform.reporting.templates import write_page

    with ExitStack() as stack:
        # Started first: it loads torch while the samples are read.
        trial = None if recipe is None else stack.enter_context(tried(recipe, source))
        measured = survey(source, config.max_samples)
        found = findings(measured)
        for finding in found:
            print(finding)
        pictures = gallery(measured, found, config.gallery)
        of_recipe = NOT_TRIED if trial is None else trial.sections()
    page = render(measured, found, pictures, of_recipe.html)
    write_page(path, page, "--out")
    from_now_on(f"{path} is complete")
    counts = {level: sum(finding.level == level for finding in found) for level in ("error", "warning", "note")}
    told = ", ".join(f"{count} {level}{'' if count == 1 else 's'}" for level, count in counts.items())
    print(
        f"{told} in {len(measured.samples)} samples, {time.perf_counter() - began:.0f} s\npage  {path} "
        f"({path.stat().st_size / 1e6:.1f} MB)",
        flush=True,
    )
    if uri is not None:
        try:
            _track(config, uri, measured, found, pictures, page, of_recipe)
        except tracking.TrackingError as error:
            print(f"not tracked: {error}", file=sys.stderr)
    return Inspection(path, counts["error"], counts["warning"])


def _track(
    config: InspectConfig,
    uri: str,
    measured: "Survey",
    found: "Sequence[Finding]",
    pictures: "Sequence[Picture]",
    page: str,
    of_recipe: "Sections",
) -> None:
    from gscnn_platform.inspection.gallery import side_by_side
    from gscnn_platform.inspection.page import numbers

    source = measured.source
    lines = [f"- **{finding.level}**: {markdown(finding.what)}" for finding in found] or ["Nothing to report."]
    files = {
        f"pictures/{place:03d}-{file_name(each.sample.split)}-{file_name(each.sample.name)}.jpg": side_by_side(each)
        for place, each in enumerate(pictures)
    }
    run_id = tracking.log_inspection(
        uri,
        config.tracking,
        f"inspect-{source.path.name}",
        {"data": str(source.path), "dataset": source.dataset, "kind": source.kind},
        {**numbers(measured), **of_recipe.numbers},
        "\n".join(lines),
        {"inspection.html": page.encode(), **files, **of_recipe.files},
    )
    print(f"tracked as MLflow run {run_id} at {uri}")
