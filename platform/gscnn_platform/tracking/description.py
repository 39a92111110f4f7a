"""The description of a training run in MLflow, as Markdown: scores, the last validation picture, how to compare.

The UI shows the first 100 pixels of a description until a user clicks "Show more": the caption and the table.
"""

import math
import shlex
from collections.abc import Mapping, Sequence
from typing import Final

from gscnn_platform.names import markdown
from gscnn_platform.runs.ref import RunRef
from gscnn_platform.scores import SCORES
from gscnn_platform.tracking.uri import artifact_link, artifact_picture

SHOWN: Final = tuple(score for score in SCORES if score.charted_first)
"""Scores of the table: those whose charts come first."""
PICTURES: Final = "validation"
"""Artifact folder of the pictures by epoch."""
LAST: Final = "last.jpg"
"""The last of them as the description shows it, in the same folder."""
WIDTH: Final = 640
"""Width of that in pixels: the UI's filter removes an image's size, and a wider one widens the whole page."""


def picture_name(epoch: int) -> str:
    """Returns the file name of an epoch's picture."""
    return f"epoch-{epoch:03d}.png"


def describe(
    run: RunRef, caption: str, scores: Mapping[int, Mapping[str, float]], best: int | None, picture: int | None
) -> str:
    """Returns the description of a run after a validation.

    Args:
        run: the run.
        caption: its first line, as text.
        scores: epoch -> scores, of the rows of the table, in order.
        best: the best epoch so far; None if there is none.
        picture: epoch of the picture to show; None shows none.
    """
    command = f"python -m jobs.compare {run.run_id} OTHER_RUN --uri {shlex.quote(run.tracking_uri)}"
    paragraphs = [
        f"**{markdown(caption)}**",
        _scores_table(scores, best),
        *([] if picture is None else _picture(run.run_id, picture)),
        # As code within a line, which the page wraps: a block of code would widen it.
        f"Compare this run with another one, or with a sweep: ``{command}``",
    ]
    return "\n\n".join(paragraphs)


def _scores_table(scores: Mapping[int, Mapping[str, float]], best: int | None) -> str:
    rows = [["", *(score.title for score in SHOWN)]]
    for epoch, of_epoch in scores.items():
        values = [of_epoch.get(score.tracked_as, math.nan) for score in SHOWN]
        name = f"epoch {epoch}, the best so far" if epoch == best else f"epoch {epoch}"
        rows.append([name, *("-" if math.isnan(value) else f"{value:.3f}" for value in values)])
    return markdown_table(rows)


def _picture(run_id: str, epoch: int) -> list[str]:
    text = f"validation scenes at epoch {epoch}"
    link = artifact_link(run_id, f"{PICTURES}/{picture_name(epoch)}", f"{text} in full size")
    return [artifact_picture(run_id, f"{PICTURES}/{LAST}", text), f"{link}; all epochs: Artifacts, folder {PICTURES}"]


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """Returns a table, with the heading as its first row; the UI leaves no space between columns."""
    lines = [f"| {' | '.join(f'{cell}&nbsp;&nbsp;' for cell in row)} |" for row in rows]
    return "\n".join([lines[0], f"|{'---|' * len(rows[0])}", *lines[1:]])
