"""Runs jobs.evaluate, without its command line: evaluates checkpoints on a store; prints, writes and tracks scores."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from gscnn.config import InferenceConfig
from gscnn_platform import cluster, provenance, tracking
from gscnn_platform.config import EvaluateConfig
from gscnn_platform.data.held_out import HELD_OUT, validation_samples
from gscnn_platform.data.loader import to_batch, whole_images
from gscnn_platform.data.store import SplitReader, StaleStoreError, Store, open_store
from gscnn_platform.data.store.manifest import read_manifest
from gscnn_platform.evaluation import EvalReport, evaluate
from gscnn_platform.figures import Panels, predict_panels
from gscnn_platform.interrupts import from_now_on
from gscnn_platform.machine import MachineError
from gscnn_platform.names import file_name
from gscnn_platform.paths import as_path
from gscnn_platform.reporting.templates import write_page
from gscnn_platform.runs.loading import LoadedModel

if TYPE_CHECKING:
    from gscnn_platform.reporting.checkpoint_page import FramePicture


@dataclass(frozen=True)
class Evaluated:
    """A model and its evaluation report."""

    name: str
    loaded: LoadedModel
    report: EvalReport


@dataclass(frozen=True)
class Evaluation:
    """The evaluated models, and the path of the page."""

    models: tuple[Evaluated, ...]
    page: Path


def evaluate_checkpoint(config: EvaluateConfig) -> Evaluation:
    """Evaluates one checkpoint, or two on the same frames, on a split; prints, writes and tracks the scores.

    Raises:
        CheckpointError, TrackingError: no such checkpoint or run.
        StoreError: the store is missing or damaged, or does not match the model.
        ClusterError, ResourcesError: a cluster is needed, but there is none or it is too small.
        MachineError: the page cannot be written.
    """
    uri = tracking.tracking_uri(config.tracking, cluster.default_storage())
    references = [config.checkpoint, *([config.compare] if config.compare else [])]
    loaded = [tracking.find_model(reference, uri) for reference in references]
    store = _open_store(config, loaded)
    names = _names(loaded)
    path = page_path(config, names)
    workers = _workers(config)
    device = torch.device("cpu") if workers else _device(config)
    models: list[Evaluated] = []
    for name, model in zip(names, loaded, strict=True):
        asked = (config, model, store, name)
        report = cluster.run_on_worker(workers, _count, *asked) if workers else _count(*asked)
        print(f"\n{name}\n{report.table()}", flush=True)
        models.append(Evaluated(name, model, report))
    page = _page(config, models, store, device)
    unwritten: MachineError | None = None
    try:
        write_page(path, page, "--report")
        print(f"\nreport  {path}", flush=True)
        from_now_on(f"{path} is complete, but the scores may not all be tracked")
    except MachineError as error:  # The scores are still tracked.
        unwritten = error
    for evaluated in models:
        try:
            _track(uri, evaluated, config, store, path.stem, page)
        except tracking.TrackingError as error:
            print(f"not tracked: {error}", file=sys.stderr)
    if unwritten is not None:
        raise unwritten
    return Evaluation(tuple(models), path)


def _open_store(config: EvaluateConfig, loaded: Sequence[LoadedModel]) -> Store:
    """Opens the store to evaluate on.

    Raises StaleStoreError if a model was trained with other classes or edge settings than the store's, or if the split
    is `held-out` and a model was trained on another store or on some of the held-out samples.
    """
    path = cluster.resolve(config.store, "--store")
    manifest = read_manifest(as_path(path))
    splits = manifest.splits
    if config.split not in (HELD_OUT, *splits):
        held = any(model.config.data.val_share for model in loaded)
        also = f"; --split {HELD_OUT} evaluates on the samples that the run held out" if held else ""
        raise StaleStoreError(f"{path} has no split {config.split!r}; it has: {', '.join(splits)}{also}")
    store: Store | None = None
    for model in loaded:
        split = model.config.data.train_split if config.split == HELD_OUT else config.split
        of_training = {"fingerprint": None, "val_split": None, "val_share": 0, "class_uniform": 0}
        ours = {**of_training, "train_split": split, "cache": config.cache}
        if _derives_prior(model):
            ours["edges"] = manifest.identity.edges
        store = open_store(path, model.config.data.model_copy(update=ours), model.config.model.num_classes)
        classes = store.manifest.identity.classes
        if classes != model.dataset.classes:
            raise StaleStoreError(f"{path} has classes {classes}, the model was trained on {model.dataset.classes}")
        if config.split == HELD_OUT:
            _check_held_out(store, model, loaded[0])
    assert store is not None
    return store


def _check_held_out(store: Store, model: LoadedModel, first: LoadedModel) -> None:
    """Raises StaleStoreError if a model was trained on samples that the first model's run held out."""
    data, of_first = model.config.data, first.config.data
    if not data.val_share:
        raise StaleStoreError(f"--split {HELD_OUT}: {model.origin} held out nothing (data.val_share is 0)")
    if store.manifest.fingerprint != model.dataset.fingerprint:
        raise StaleStoreError(
            f"--split {HELD_OUT}: run {model.run_id} held out samples of store {model.dataset.fingerprint}, and "
            f"{store.path} is {store.manifest.fingerprint}: pass the store that it was trained on"
        )
    chosen = [(each.train_split, each.val_share, each.val_seed) for each in (data, of_first)]
    if chosen[0] != chosen[1]:
        raise StaleStoreError(
            f"--split {HELD_OUT}: the two runs held out different samples, (train_split, val_share, val_seed) are "
            f"{chosen[1]} and {chosen[0]}: compare them on a split that neither was trained on"
        )


def _samples(config: EvaluateConfig, store: Store, loaded: LoadedModel) -> SplitReader:
    """The samples to evaluate on, with the model's edge prior: a split, or what this model's run held out."""
    reader = validation_samples(store, loaded.config.data) if config.split == HELD_OUT else store.split(config.split)
    assert reader is not None
    return reader.with_prior(loaded.config.data.edges) if _derives_prior(loaded) else reader


def _derives_prior(loaded: LoadedModel) -> bool:
    """Whether the model reads the released edge prior, which is derived from the images of any store."""
    return loaded.config.data.edges.gradient == "released"


def _workers(config: EvaluateConfig) -> cluster.Workers | None:
    """The resources of the cluster's worker that evaluates; None if this process evaluates."""
    if not config.wait_for_nodes and (not config.use_gpu or torch.cuda.is_available()):
        if config.cpus_per_worker is not None:
            torch.set_num_threads(config.cpus_per_worker)
        return None
    cluster.check_can_connect()
    cluster.connect()
    return cluster.workers_for(config, 1)


def _device(config: EvaluateConfig) -> torch.device:
    return torch.device("cuda" if config.use_gpu is not False and torch.cuda.is_available() else "cpu")


def _count(config: EvaluateConfig, loaded: LoadedModel, store: Store, name: str) -> EvalReport:
    device = _device(config)
    model = loaded.model.to(device)
    batches = whole_images(
        _samples(config, store, loaded), config.batch_size, progress=f"evaluate {name} on {config.split}"
    )
    return evaluate(model, batches, store.manifest.identity.classes, device, config.precision, config.inference)


def _names(loaded: Sequence[LoadedModel]) -> list[str]:
    """Short, unique names of the models."""
    names = [
        f"{model.config.run_name or model.config.name} {model.origin.removeprefix('sha256:')[:6]}" for model in loaded
    ]
    if len(set(names)) == len(names):
        return names
    names = [f"{name} epoch {model.metrics.get('epoch', 0):.0f}" for name, model in zip(names, loaded, strict=True)]
    if len(set(names)) < len(names):
        raise ValueError(f"--checkpoint and --compare are the same checkpoint, {names[0]}: name another one")
    return names


def page_path(config: EvaluateConfig, names: Sequence[str]) -> Path:
    """The path of these models' page. Raises ValueError if it cannot be written there."""
    stem = "-vs-".join(map(file_name, names))
    by_default = f"{cluster.default_storage()}/evaluation/{stem}-{file_name(config.split)}.html"
    return cluster.resolve_local(by_default if config.report is None else config.report, "--report")


def _page(config: EvaluateConfig, models: Sequence[Evaluated], store: Store, device: torch.device) -> str:
    # Imported here: importing matplotlib takes 2 s of CPU time.
    from gscnn_platform.reporting.checkpoint_page import render
    from gscnn_platform.reporting.checkpoint_pictures import confusion_picture, distance_picture

    reports = {evaluated.name: evaluated.report for evaluated in models}
    dataset = store.manifest.identity.dataset
    reader = _samples(config, store, models[0].loaded)
    return render(
        title=f"{' against '.join(reports)} on {dataset}, split {config.split}",
        facts={**_model_facts(models), **_data_facts(config, store, reader)},
        reports=reports,
        colours=store.manifest.identity.colours,
        frames=_frames(config, models, store, reader, device),
        distance_png=distance_picture({name: report.distance_curve() for name, report in reports.items()}),
        confusion_png=confusion_picture(
            {name: report.whole.confusion.counts.numpy() for name, report in reports.items()},
            store.manifest.identity.classes,
        ),
    )


def _model_facts(models: Sequence[Evaluated]) -> dict[str, str]:
    facts = {}
    for evaluated in models:
        network = evaluated.loaded.config.model
        loaded = evaluated.loaded
        of_run = (
            f"epoch {loaded.metrics.get('epoch', float('nan')):.0f}, trained on {loaded.dataset.fingerprint}, "
            f"MLflow run {loaded.run_id}"
        )
        origin = of_run if loaded.file is None else f"the authors' released weights, {loaded.origin}"
        facts[evaluated.name] = f"{network.architecture}, {network.backbone}, {origin}"
    return facts


def _data_facts(config: EvaluateConfig, store: Store, reader: SplitReader) -> dict[str, str]:
    inference = config.inference
    window = "whole images" if inference.window is None else f"windows of {inference.window[0]}x{inference.window[1]}"
    scales = ", ".join(f"{scale:g}" for scale in inference.scales)
    return {
        "data": f"{store.manifest.identity.dataset}, fingerprint {store.manifest.fingerprint}",
        "split": f"{config.split}, {len(reader)} frames",
        "inference": f"{window}, scales {scales}{', flipped as well' if inference.flip else ''}, {config.precision}",
        "code": f"commit {provenance.git_state()[0]}",
    }


def _frames(
    config: EvaluateConfig, models: Sequence[Evaluated], store: Store, reader: SplitReader, device: torch.device
) -> "list[FramePicture]":
    from gscnn_platform.reporting.checkpoint_page import FramePicture
    from gscnn_platform.reporting.checkpoint_pictures import frame_picture, worst_windows

    pictures = []
    readers = [reader, *(_samples(config, store, evaluated.loaded) for evaluated in models[1:])]
    for title, index in chosen_frames([evaluated.report.frames for evaluated in models]).items():
        views: dict[str, Panels] = {}
        for evaluated, of_model in zip(models, readers, strict=True):
            batch = to_batch([of_model.read(index)]).to(device)
            name = evaluated.name if len(models) > 1 else ""
            [views[name]] = predict_panels(evaluated.loaded.model, batch, config.inference)
        panels = list(views.values())
        windows = worst_windows(panels[0].truth, [view.prediction for view in panels])
        scores = " and ".join(f"{evaluated.report.frames[index]:.3f}" for evaluated in models)
        caption = f"{title}: {reader.names[index]}, mIoU {scores}"
        picture = frame_picture(views, reader.names[index], store.manifest.identity.colours, windows)
        pictures.append(FramePicture(caption, picture))
    return pictures


def chosen_frames(scores: Sequence[Sequence[float]]) -> Mapping[str, int]:
    """Titles and indices of the frames to show, chosen by the mIoU of each frame for one or two models.

    For one model: its best, median and worst frame. For two models: the frames with the largest differences in favour
    of each, and the frame with the median difference. Frames that are all void are left out, and no frame is repeated.
    """
    first, last = np.asarray(scores[0], float), np.asarray(scores[-1], float)
    ranked_by = first if len(scores) == 1 else first - last
    order = [int(index) for index in np.argsort(ranked_by, kind="stable") if not np.isnan(ranked_by[index])]
    if not order:
        return {}
    titles = ("best frame", "median frame", "worst frame")
    if len(scores) > 1:
        titles = ("most in favour of the first model", "median difference", "most in favour of the second model")
    # By index first, so that a split of one or two frames shows each frame once.
    picked = dict(zip((order[-1], order[len(order) // 2], order[0]), titles, strict=True))
    return {title: index for index, title in picked.items()}


def _run_of(uri: str, evaluated: Evaluated, config: EvaluateConfig, store: Store) -> str:
    """The MLflow run that trained the model; of a file the run that stands for it on this store."""
    loaded = evaluated.loaded
    if loaded.run_id is not None:
        return loaded.run_id
    assert loaded.file is not None
    scores = evaluated.report.metrics("val")
    counts = config.split == loaded.config.data.val_split and config.inference == InferenceConfig()
    return tracking.run_of_file(uri, config.tracking, loaded.file, loaded.config, store, scores if counts else {})


def _track(uri: str, evaluated: Evaluated, config: EvaluateConfig, store: Store, page_name: str, page: str) -> None:
    report, split = evaluated.report, config.split
    stem, run_id = file_name(split), _run_of(uri, evaluated, config, store)
    if tracking.fate_of(uri, run_id) == "gone":
        raise tracking.TrackingError(f"MLflow run {run_id} is not at {uri}: pass its tracking URI by --tracking.uri")
    if tracking.needs_new_run(uri, run_id, config.tracking.on_deleted):
        raise tracking.DeletedError(
            f"MLflow run {run_id} was deleted, and only a resumed training can start a new one: restore it with "
            "--tracking.on-deleted restore"
        )
    tracking.log_evaluation(
        uri,
        run_id,
        metrics=report.metrics(f"{split}_evaluated"),
        by_distance={
            factor: {f"{split}_evaluated_distance/{key}": value for key, value in scores.items()}
            for factor, scores in report.distance_curve().items()
        },
        files={
            f"{stem}.txt": report.table(),
            f"{stem}.json": json.dumps(report.as_data(), indent=1),
            f"{file_name(page_name) if config.compare else stem}.html": page,
        },
    )
