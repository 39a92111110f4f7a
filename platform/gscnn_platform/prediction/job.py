"""One prediction, from finding the inputs to the finished record."""

import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from tqdm import tqdm

from gscnn_platform import cluster, tracking
from gscnn_platform.config import PredictConfig
from gscnn_platform.data.formats.decoding import BadSampleError
from gscnn_platform.interrupts import from_now_on, leaving_nothing_behind
from gscnn_platform.paths import AnyPath, as_path
from gscnn_platform.prediction.inputs import Inputs, InputVideo, find_inputs, ranges
from gscnn_platform.prediction.record import (
    KINDS,
    THUMBNAILS,
    ImageScores,
    PredictionRecord,
    PredictionSettings,
    RecordKeeper,
    VideoScores,
    changed,
    files_in,
    read_record,
)
from gscnn_platform.runs.loading import LoadedModel

if TYPE_CHECKING:
    from gscnn_platform.prediction.workers import Model

MANY: Final = 1000
"""Frames that a video counts as if its header has no number: enough for several workers."""
SHOWN: Final = 20
"""Maximum number of unreadable files that are listed."""


class PredictError(ValueError):
    """Pictures exist already, no file could be read, or the output folder cannot be written."""


@dataclass(frozen=True)
class PredictResult:
    out: AnyPath
    predicted: int
    """Number of images."""
    videos: Mapping[str, VideoScores]
    """Overlay video below `out` -> the video's scores."""
    unreadable: dict[str, str]
    """File -> reason."""
    in_output: int
    """Files left out because they are below the output folder."""
    resumed: int
    """Images and videos that an interrupted prediction with the same settings had already predicted."""
    seconds_per_image: float | None
    """Median over the images, for one worker; None if there was no image left to predict."""
    peak_gib: float | None
    """Largest resident memory of a worker."""
    page: AnyPath | None
    """The page, if the config asks for one."""


def predict(config: PredictConfig) -> PredictResult:
    """Predicts every image and video; a file that cannot be read is reported and does not stop the rest.

    The same config resumes an interrupted prediction: images and videos whose files are complete are skipped.

    Raises:
        InputError: there is no input outside the output folder, no video can be read, or inputs would share an output.
        PredictError: pictures exist already, the interrupted prediction has other settings, no file could be read, or
            the output folder cannot be written.
        CheckpointError, TrackingError: no such checkpoint or run.
        ClusterError: there is no cluster to run on.
        ResourcesError: the cluster is too small, and the prediction does not wait for nodes.
    """
    out = as_path(cluster.resolve(config.out, "--out"))
    cluster.check_can_write(str(out), "--out")
    inputs = find_inputs(config, out)
    there = files_in(out, (*KINDS, THUMBNAILS))
    mine = _outputs(inputs, there)
    record = read_record(out) if mine and not config.overwrite else None
    if mine and not config.overwrite and (record is None or record.state == "finished"):
        raise PredictError(
            f"{len(mine)} pictures exist already, such as {out / mine[0]}: add --overwrite, or choose another --out"
        )
    # Imported here, so that all of the above is reported before torch is imported.
    from gscnn_platform.prediction.predictor import kinds_of
    from gscnn_platform.prediction.workers import ModelHere, ModelOnRay, threads_here

    threads = threads_here(config, _units(inputs))
    if threads is None:
        cluster.check_can_connect()
    loaded = tracking.find_model(config.checkpoint, tracking.tracking_uri(config.tracking, cluster.default_storage()))
    settings = PredictionSettings.of(config, loaded)
    if record is not None and record.settings != settings:
        raise PredictError(
            f"{out} holds an interrupted prediction, and {changed(record.settings, settings)}: pass the same settings "
            "to resume it, add --overwrite, or choose another --out"
        )
    left = inputs if record is None else _left(inputs, record, there, kinds_of(loaded, config), config)
    units = _units(left)
    model = None
    if units:
        model = ModelOnRay(config, loaded, out, units) if threads is None else ModelHere(config, loaded, out, threads)
    running = PredictionRecord(state="running", checkpoint=config.checkpoint, settings=settings)
    if record is not None:
        running = running.model_copy(update={"images": record.images, "videos": record.videos})
    unreadable, rows = dict(inputs.unreadable), []
    with leaving_nothing_behind(f"the pictures in {out} are complete; rerun the command to predict the others"):
        with RecordKeeper(out, running) as keeper:
            for file in mine if config.overwrite else ():
                (out / file).unlink(missing_ok=True)  # After an interruption, existing pictures would count as done.
            if model is not None:
                rows = _predict_images(model, left.images, keeper, unreadable, out)
                _predict_videos(model, left.videos, keeper, unreadable, out)
            if not keeper.images and not keeper.videos:
                raise PredictError(f"none of {len(unreadable)} files could be read: {_listed(unreadable)}")
            page = _page(keeper.record, inputs, loaded, out) if config.page else None
        from_now_on(f"the pictures in {out} are complete")
    files = [str(file) for name, file in inputs.images.items() if name in keeper.images]
    files += [str(each.video.path) for name, each in inputs.videos.items() if name in keeper.videos]
    finished = {"state": "finished", "predicted": tuple(sorted(files)), "unreadable": dict(sorted(unreadable.items()))}
    keeper.record.model_copy(update=finished).write(out)
    return PredictResult(
        out=out,
        predicted=len(rows),
        videos={each.overlay: keeper.videos[name] for name, each in left.videos.items() if name in keeper.videos},
        resumed=len(inputs.images) + len(inputs.videos) - len(left.images) - len(left.videos),
        unreadable=dict(sorted(unreadable.items())),
        in_output=inputs.in_output,
        seconds_per_image=float(median(row["seconds"] for row in rows)) if rows else None,
        peak_gib=max((row["peak_gib"] for row in rows), default=None),
        page=page,
    )


def describe(result: PredictResult) -> str:
    """A description of the result, with the files that could not be predicted, for users."""
    lines = []
    if result.predicted or not result.videos:
        speed = ""
        if result.seconds_per_image is not None:
            speed = f" · {1 / result.seconds_per_image:.2f} images/s and at most {result.peak_gib:.2f} GiB per worker"
        lines.append(f"{result.predicted} images -> {result.out}{speed}")
    for overlay, video in result.videos.items():
        width, height = video.size
        lines.append(
            f"{len(video.doubt)} frames of {width} x {height} at {video.rate:g} frames/s -> {result.out / overlay}"
        )
        if video.broken:
            lines.append(f"  not decoded, shown as the frame before: {len(video.broken)} ({ranges(video.broken)})")
        lines += [f"  {note}" for note in video.notes]
    if result.resumed:
        lines.append(f"{result.resumed} were predicted before this prediction was interrupted")
    if result.in_output:
        lines.append(f"{result.in_output} files below {result.out} are left out: they are never read as input")
    if result.unreadable:
        lines.append(f"{len(result.unreadable)} files could not be read: {_listed(result.unreadable)}")
    if result.page is not None:
        lines.append(f"page: {result.page}")
    return "\n".join(lines)


def _outputs(inputs: Inputs, there: Set[str]) -> list[str]:
    """The files in the output folder that the inputs would be written to."""
    files = [f"{kind}/{name}.png" for name in inputs.images for kind in KINDS]
    files += [f"{THUMBNAILS}/{name}.jpg" for name in inputs.images]
    files += [video.overlay for video in inputs.videos.values()]
    folders = {f"{kind}/{video.folder}" for kind in (*KINDS, THUMBNAILS) for video in inputs.videos.values()}
    return [file for file in files if file in there] + sorted(
        file for file in there if file.rpartition("/")[0] in folders
    )


def _left(
    inputs: Inputs, record: PredictionRecord, there: Set[str], kinds: Sequence[str], config: PredictConfig
) -> Inputs:
    """The inputs whose files are not complete."""

    def has_image(name: str) -> bool:
        wanted = {f"{kind}/{name}.png" for kind in kinds} | ({f"{THUMBNAILS}/{name}.jpg"} if config.page else set())
        return name in record.images and there >= wanted

    def has_video(name: str, video: InputVideo) -> bool:
        wanted = [f"{kind}/{video.folder}/" for kind in kinds] if config.pictures else []
        counts = [sum(file.startswith(folder) for file in there) for folder in wanted]
        scores = record.videos.get(name)
        return (
            scores is not None
            and video.overlay in there
            and all(count >= len(scores.doubt) - len(scores.broken) for count in counts)
        )

    return replace(
        inputs,
        images={name: file for name, file in inputs.images.items() if not has_image(name)},
        videos={name: video for name, video in inputs.videos.items() if not has_video(name, video)},
    )


def _units(inputs: Inputs) -> int:
    """The number of images and frames; a video whose header has no number counts as many."""
    return len(inputs.images) + sum(video.shape.frames or MANY for video in inputs.videos.values())


def _predict_images(
    model: "Model", files: Mapping[str, AnyPath], keeper: RecordKeeper, unreadable: dict[str, str], out: AnyPath
) -> list[dict[str, Any]]:
    """The rows of the images that could be read; the others are added to `unreadable`.

    Raises:
        PredictError: the output folder cannot be written.
    """
    good: list[dict[str, Any]] = []
    if not files:
        return good
    with tqdm(total=len(files), desc="predict", unit=" images") as bar:
        for row in model.images(files):
            if row["unwritten"]:
                raise _unwritten(out, row["unwritten"])
            bar.update()
            if row["error"]:
                unreadable[str(row["file"])] = str(row["error"])
                continue
            good.append(row)
            doubt = None if math.isnan(row["doubt"]) else round(float(row["doubt"]), 4)
            shares = tuple(round(float(share), 5) for share in row["shares"])
            keeper.add_image(str(row["name"]), ImageScores(doubt=doubt, shares=shares))
    return good


def _predict_videos(
    model: "Model", videos: Mapping[str, InputVideo], keeper: RecordKeeper, unreadable: dict[str, str], out: AnyPath
) -> None:
    """Predicts the videos one after the other; those that cannot be read are added to `unreadable`.

    Raises:
        PredictError: the output folder cannot be written.
    """
    if not videos:
        return
    from gscnn_platform.prediction.videos import predict_video

    with model.frames() as predictor:
        for name, video in videos.items():
            try:
                keeper.add_video(name, predict_video(video, predictor, out))
            except BadSampleError as error:
                unreadable[str(video.video.path)] = str(error)
            except OSError as error:
                raise _unwritten(out, error.strerror or str(error)) from error


def _page(record: PredictionRecord, inputs: Inputs, loaded: LoadedModel, out: AnyPath) -> AnyPath:
    from gscnn_platform.prediction.page import write_page

    try:
        return write_page(record, inputs, loaded, out)
    except OSError as error:
        raise _unwritten(out, error.strerror or str(error)) from error


def _unwritten(out: AnyPath, reason: str) -> PredictError:
    return PredictError(
        f"--out {out} cannot be written: {reason}\n"
        "The existing pictures are complete: free space, and rerun the command to predict the others"
    )


def _listed(unreadable: Mapping[str, str]) -> str:
    lines = [f"\n  {reason}" for reason in list(unreadable.values())[:SHOWN]]
    more = [f"\n  and {len(unreadable) - SHOWN} more"] if len(unreadable) > SHOWN else []
    return "".join(lines + more)
