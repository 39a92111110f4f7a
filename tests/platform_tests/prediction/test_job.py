"""Prediction of files without Ray; the job itself is tested end to end in jobs_tests."""

import errno
import os
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from gscnn.batch import normalize
from gscnn.config import InferenceConfig
from gscnn_platform import cluster, machine
from gscnn_platform.config import ExperimentConfig, PredictConfig, with_overrides
from gscnn_platform.data.formats.cityscapes import Cityscapes
from gscnn_platform.data.images import InputError, find_images
from gscnn_platform.data.store import Identity, Store
from gscnn_platform.paths import AnyPath, as_path, below
from gscnn_platform.prediction import CHUNK, KINDS, PredictError, Predictor, predict
from gscnn_platform.prediction.record import PredictionRecord, PredictionSettings, read_record
from gscnn_platform.runs.loading import load_model
from tests.layouts import write_cityscapes
from tests.saved import save_checkpoint


def image_file(path: Path, seed: int = 0, shape: tuple[int, int] = (40, 56)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)
    assert cv2.imwrite(str(path), noise)
    return path


def picture(path: Path) -> np.ndarray:
    """As written: any depth, BGR."""
    read = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert read is not None
    return read


def predictor(tmp_path: Path, run: ExperimentConfig, store: Store, **fields: Any) -> Predictor:
    save_checkpoint(tmp_path / "checkpoint", run, store)
    config = PredictConfig(
        checkpoint=str(tmp_path / "checkpoint"), input=("unused",), out=str(tmp_path / "out"), **fields
    )
    return Predictor(load_model(config.checkpoint), config, config.out, cpus=1)


def rows(files: dict[str, Path]) -> dict[str, np.ndarray]:
    return {"name": np.array(list(files)), "file": np.array([str(file) for file in files.values()])}


def test_every_picture_matches_the_models_prediction(
    tmp_path: Path, tiny_run: ExperimentConfig, streets_store: Store
) -> None:
    torch.manual_seed(0)  # Of the untrained weights.
    worker = predictor(tmp_path, tiny_run, streets_store)
    file = image_file(tmp_path / "in" / "a.png")
    [error] = worker(rows({"deep/a": file}))["error"]
    assert error == ""
    written = {kind: picture(tmp_path / "out" / kind / "deep/a.png") for kind in KINDS}

    rgb = np.ascontiguousarray(picture(file)[..., ::-1])
    prior = torch.from_numpy((cv2.Canny(rgb, 10, 100) > 0).astype(np.float32))[None, None]
    with torch.inference_mode():
        output = worker.model(normalize(torch.from_numpy(rgb).permute(2, 0, 1))[None], prior)
    label = output.seg_logits[0].argmax(0).numpy()
    best, second = output.seg_logits[0].topk(2, dim=0).values
    tied = (best - second < 1e-5).numpy()  # By rounding, either class may win there.
    assert tied.mean() < 0.01
    np.testing.assert_array_equal(written["label"][~tied], label[~tied])
    assert len(np.unique(label)) > 1
    colours = np.array(streets_store.manifest.identity.colours, np.uint8)
    np.testing.assert_array_equal(written["colour"][..., ::-1], colours[written["label"]])
    np.testing.assert_allclose(written["edge"] / 255, torch.sigmoid(output.edge_logits)[0, 0], atol=0.5 / 255 + 1e-6)
    assert written["overlay"].shape == rgb.shape


def test_label_pictures_hold_the_datasets_own_values(
    tmp_path: Path, tiny_run: ExperimentConfig, streets_store: Store
) -> None:
    worker = predictor(tmp_path, tiny_run, streets_store)
    worker(rows({"plain": image_file(tmp_path / "a.png")}))
    shifted = {raw + 1000: train for raw, train in streets_store.manifest.identity.label_table.items()}
    worker.raw_ids = streets_store.manifest.identity.model_copy(update={"label_table": shifted}).raw_ids
    worker(rows({"shifted": tmp_path / "a.png"}))
    plain, moved = (picture(tmp_path / "out/label" / f"{name}.png") for name in ("plain", "shifted"))
    assert (plain.dtype, moved.dtype) == (np.uint8, np.uint16)
    np.testing.assert_array_equal(moved, plain.astype(int) + 1000)


def test_the_smallest_raw_value_of_a_class_is_written_and_void_never(streets_store: Store) -> None:
    identity = streets_store.manifest.identity
    two = identity.model_copy(update={"classes": ("a", "b"), "label_table": {9: 0, 4: 0, 7: 1, 2: 255}})
    assert Identity.model_validate(two.model_dump()).raw_ids.tolist() == [4, 7]


def test_a_bad_file_is_reported_and_the_others_are_written(
    tmp_path: Path, tiny_run: ExperimentConfig, streets_store: Store
) -> None:
    worker = predictor(tmp_path, tiny_run, streets_store)
    good = [image_file(tmp_path / f"{name}.png", shape=shape) for name, shape in (("a", (40, 56)), ("b", (33, 47)))]
    bad = tmp_path / "bad.png"
    bad.write_bytes(good[0].read_bytes()[:90])
    result = worker(rows({"a": good[0], "bad": bad, "b": good[1]}))
    assert [bool(error) for error in result["error"]] == [False, True, False]
    assert str(bad) in result["error"][1]
    assert sorted(path.name for path in (tmp_path / "out/label").iterdir()) == ["a.png", "b.png"]


def test_an_output_folder_that_cannot_be_written_is_reported_and_leaves_complete_pictures(
    tmp_path: Path, tiny_run: ExperimentConfig, streets_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = predictor(tmp_path, tiny_run, streets_store)
    write = Path.write_bytes

    def full(file: Path, content: bytes) -> int:
        write(file, content[:1])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    image = image_file(tmp_path / "a.png")
    worker(rows({"a": image}))
    monkeypatch.setattr(Path, "write_bytes", full)
    result = worker(rows({"b": image}))
    assert result["unwritten"].tolist() == ["No space left on device"]
    assert result["error"].tolist() == [""]
    assert {path.name for path in (tmp_path / "out").rglob("*.*")} == {"a.png"}


def test_one_worker_on_this_machine_predicts_without_a_cluster_what_a_worker_predicts(
    tmp_path: Path, tiny_run: ExperimentConfig, streets_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "would_start", lambda: True)
    monkeypatch.setattr(cluster, "connect", lambda **_: pytest.fail("a cluster is started"))
    files = {f"{index:02}": image_file(tmp_path / f"in/{index:02}.png", index) for index in range(CHUNK + 2)}
    (tmp_path / "in/broken.png").write_bytes(b"no image")
    worker = predictor(tmp_path, tiny_run, streets_store)
    worker(rows(files))
    config = worker.config.model_copy(
        update={"input": (f"{tmp_path}/in",), "out": f"{tmp_path}/here", "num_workers": 1, "use_gpu": False}
    )
    result = predict(config)
    assert (result.predicted, list(result.unreadable)) == (CHUNK + 2, [f"{tmp_path}/in/broken.png"])
    for kind in KINDS:
        for name in files:
            here, there = (picture(tmp_path / out / kind / f"{name}.png") for out in ("here", "out"))
            np.testing.assert_array_equal(here, there)
    record = read_record(tmp_path / "here")
    assert record is not None
    assert record.predicted == tuple(map(str, files.values()))


@pytest.mark.parametrize(
    "asked",
    [
        {"num_workers": 2},
        {"use_gpu": True},
        {"cpus_per_worker": 64},
    ],
)
def test_resources_that_one_process_lacks_are_requested_from_a_cluster(
    tmp_path: Path,
    tiny_run: ExperimentConfig,
    streets_store: Store,
    monkeypatch: pytest.MonkeyPatch,
    asked: dict[str, Any],
) -> None:
    monkeypatch.setattr(cluster, "would_start", lambda: True)
    monkeypatch.setattr(cluster, "check_can_connect", lambda: None)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(machine, "cores", lambda: 4)

    def asks(**_: object) -> None:
        raise cluster.ClusterError("asked")

    monkeypatch.setattr(cluster, "connect", asks)
    for index in range(2):
        image_file(tmp_path / f"in/{index}.png", index)
    save_checkpoint(tmp_path / "checkpoint", tiny_run, streets_store)
    config = PredictConfig(
        checkpoint=str(tmp_path / "checkpoint"), input=(f"{tmp_path}/in",), out=f"{tmp_path}/out", **asked
    )
    with pytest.raises(cluster.ClusterError, match="asked"):
        predict(config)


def test_a_model_without_shape_stream_writes_no_edges(
    tmp_path: Path, tiny_run: ExperimentConfig, streets_store: Store
) -> None:
    plain = {"model.architecture": "deeplabv3plus", "loss.edge": 0.0, "loss.attention": 0.0}
    worker = predictor(tmp_path, with_overrides(tiny_run, plain), streets_store)
    worker(rows({"a": image_file(tmp_path / "a.png")}))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["colour", "label", "overlay"]


def names(*inputs: str | Path, out: Path | None = None) -> list[str]:
    return list(find_images([str(text) for text in inputs], "--input", out).files)


def test_inputs_are_a_file_a_folder_or_a_glob(tmp_path: Path) -> None:
    for name in ("in/a.png", "in/deep/b.jpg", "in/deep/c.png"):
        image_file(tmp_path / name)
    (tmp_path / "in" / "notes.txt").write_text("no image")
    odd = image_file(tmp_path / "in" / "d.png").rename(tmp_path / "in" / "d.odd")
    found = find_images([str(tmp_path / "in")], "--input").files
    assert list(found) == ["a", "deep/b", "deep/c"]
    assert found["deep/b"] == tmp_path / "in/deep/b.jpg"
    assert names(tmp_path / "in/**/*.png") == ["a", "deep/c"]
    assert names(tmp_path / "in/deep/[!b].*") == ["c"]
    assert names(odd) == ["d"], "a file that is named needs no known ending"


def test_a_pattern_expanded_by_a_shell_gives_the_same_images(tmp_path: Path) -> None:
    for name in ("in/cam0/a.png", "in/cam0/b.jpg", "in/cam1/a.png", "in/cam1/deep/c.png", "in/d.png"):
        image_file(tmp_path / name)
    for pattern in ("in/cam0/*.png", "in/cam0/*", "in/*", "in/cam*", "in/*/*", "in/cam?/[ab].*"):
        expanded = sorted(tmp_path.glob(pattern))
        assert names(*expanded) == names(tmp_path / pattern) != [], pattern
    assert names(tmp_path / "in/cam0", tmp_path / "in/cam1") == ["cam0/a", "cam0/b", "cam1/a", "cam1/deep/c"]
    assert names(tmp_path / "in", tmp_path / "in/cam1") == names(tmp_path / "in"), "each file once"
    image_file(tmp_path / "in/Thumbs.png").rename(tmp_path / "in/Thumbs.db")
    assert names(*sorted((tmp_path / "in").iterdir())) == names(tmp_path / "in")


@pytest.mark.parametrize("folder", ["drive [1]", "50%?", "a*b", "o'brien {x}", "道路 ~"])
def test_a_path_that_exists_is_taken_literally(tmp_path: Path, folder: str) -> None:
    image_file(tmp_path / folder / "a.png")
    image_file(tmp_path / folder / "deep [2]/b.png")
    image_file(tmp_path / "drive 1/no.png")
    assert names(tmp_path / folder) == ["a", "deep [2]/b"]
    assert names(tmp_path / folder / "*.png") == names(tmp_path / folder / "a.png") == ["a"]
    assert names(tmp_path / folder / "deep [2]/*.png") == ["b"]
    assert names(tmp_path / folder / "**/*.png") == ["a", "deep [2]/b"]


def test_images_below_the_output_folder_are_never_input(tmp_path: Path) -> None:
    drive, out = tmp_path / "drive", tmp_path / "drive/pred"
    for name in ("drive/a.png", "drive/pred/label/a.png", "drive/pred/overlay/a.png"):
        image_file(tmp_path / name)
    (tmp_path / "link").symlink_to(drive)
    for text in (drive, f"{drive}/**/*.png", tmp_path / "link"):
        found = find_images([str(text)], "--input", out)
        assert (list(found.files), found.in_output) == (["a"], 2), text
    assert find_images([f"{drive}/*.png"], "--input", out).in_output == 0
    for text in (out, drive):
        with pytest.raises(InputError, match=r"images are below --out .*, which is never read as input"):
            names(text, out=drive)


def test_inputs_follow_links_and_leave_clutter_out(tmp_path: Path) -> None:
    for name in ("in/a.png", "in/.ipynb_checkpoints/a-checkpoint.png", "in/@eaDir/a.png", "in/._a.png", "other/b.png"):
        image_file(tmp_path / name.replace("._a", "hidden")).rename(tmp_path / name)
    (tmp_path / "in/night").symlink_to(tmp_path / "other")
    (tmp_path / "in/loop").symlink_to(tmp_path / "in")
    for text in ("in", "in/**/*.png", "in/**"):
        assert names(tmp_path / text) == ["a", "night/b"], text


def test_dots_in_an_input_never_lead_an_output_out_of_its_folder(tmp_path: Path) -> None:
    for name in ("frames/a.png", "work/b.png", "work/deep/c.png"):
        image_file(tmp_path / name)
    (tmp_path / "work/link").symlink_to(tmp_path / "frames")
    work = tmp_path / "work"
    assert names(f"{work}/../frames", f"{work}/b.png") == ["frames/a", "work/b"]
    assert names(f"{work}/../frames/*.png", work) == ["frames/a", "work/b", "work/deep/c", "work/link/a"]
    assert names(f"{work}/link/../work/b.png") == ["b"], "`..` of a link leads to the folder above its target"
    assert names(f"{work}/deep/..") == names(work)


def test_a_photograph_beside_its_raw_file_is_one_image(tmp_path: Path) -> None:
    image_file(tmp_path / "a.jpg")
    for name in ("a.DNG", "a.heic", "b.heic"):
        (tmp_path / name).write_bytes(b"x")
    found = find_images([str(tmp_path)], "--input").files
    assert {name: file.name for name, file in found.items()} == {"a": "a.jpg", "b": "b.heic"}


def test_local_paths_and_uris_cannot_be_mixed(tmp_path: Path, remote: str) -> None:
    file = image_file(tmp_path / "a.png")
    (as_path(remote) / "b.png").write_bytes(file.read_bytes())
    with pytest.raises(InputError, match="local paths and URIs cannot be mixed"):
        names(tmp_path, remote)


def test_the_error_says_why_a_named_file_is_not_used(tmp_path: Path) -> None:
    for name in (".a.png", "Thumbs.png"):
        image_file(tmp_path / name)
    (tmp_path / "gone.png").symlink_to("unmounted/a.png")
    (tmp_path / "Thumbs.png").rename(tmp_path / "Thumbs.db")
    with pytest.raises(InputError, match=r"\.a\.png: a hidden or system file is used only if it is the single input"):
        names(tmp_path / ".a.png", tmp_path / "Thumbs.db")
    with pytest.raises(InputError, match=r"/A\.png: there is no such file or folder; there is a\.png$"):
        names(image_file(tmp_path / "deep/a.png").with_name("A.png"))
    with pytest.raises(InputError, match=r"gone\.png: a link to unmounted/a\.png, which does not exist"):
        names(tmp_path / "gone.png")


def test_inputs_that_share_an_output_or_do_not_exist_are_errors(tmp_path: Path) -> None:
    image_file(tmp_path / "in/a.png")
    (tmp_path / "empty").mkdir()
    for inputs, reason in (
        (["nowhere"], "there is no such file or folder"),
        (["in", "nowhere"], "there is no such file or folder"),
        (["in/*.jpg"], "no image or folder matches this pattern"),
        (["nowhere/*.png"], "no image or folder matches this pattern"),
        (["empty"], r"it has no image \(\.png, \.jpg"),
    ):
        with pytest.raises(InputError, match=f"--input .*{re.escape(inputs[-1])}: {reason}"):
            names(*(tmp_path / text for text in inputs))
    image_file(tmp_path / "in/a.jpg")
    with pytest.raises(InputError, match=r"a\.jpg and .*a\.png would both be written"):
        names(tmp_path / "in")


@pytest.mark.usefixtures("ray_cluster")
def test_files_and_pictures_on_an_object_store_equal_those_on_a_disk(
    tmp_path: Path, tiny_run: ExperimentConfig, streets_store: Store, remote: str
) -> None:
    for number, name in enumerate(["a", "deep/b", "deep/c"]):
        file = image_file(tmp_path / f"in/{name}.png", seed=number)
        (as_path(remote) / f"in/{name}.png").write_bytes(file.read_bytes())
    (as_path(remote) / "in/bad.png").write_bytes(b"no image")
    save_checkpoint(tmp_path / "checkpoint", tiny_run, streets_store)
    for place, pattern in ((str(tmp_path), "in"), (remote, "in/**/*.png")):
        config = PredictConfig(
            checkpoint=str(tmp_path / "checkpoint"), input=(f"{place}/{pattern}",), out=f"{place}/out", num_workers=1
        )
        result = predict(config)
        assert (result.predicted, list(result.unreadable)) == (3, [f"{remote}/in/bad.png"] if place == remote else [])
        with pytest.raises(PredictError, match=rf"12 pictures exist already, such as {place}/out/label/a\.png"):
            predict(config)
        interrupt(as_path(place) / "out", "overlay/a.png")
        resumed = predict(config)
        assert (resumed.predicted, resumed.resumed) == (1, 2)
    written = {str(below(file, as_path(remote) / "out")): file for file in (as_path(remote) / "out").glob("**/*.png")}
    assert len(written) == 12
    for name, file in written.items():
        assert file.read_bytes() == (tmp_path / "out" / name).read_bytes()


def interrupt(out: AnyPath, *missing: str) -> None:
    """Leaves a folder of predictions as an interrupt does: some pictures are missing, and the record says so."""
    record = read_record(out)
    assert record is not None
    assert record.state == "finished"
    for picture in missing:
        (out / picture).unlink()
    record.model_copy(update={"state": "running"}).write(out)


def test_an_interrupted_prediction_resumes_with_the_same_settings_only(
    tmp_path: Path, tiny_run: ExperimentConfig, streets_store: Store
) -> None:
    save_checkpoint(tmp_path / "checkpoint", tiny_run, streets_store)
    loaded = load_model(tmp_path / "checkpoint")
    image_file(tmp_path / "in/a.png")
    image_file(tmp_path / "out/label/a.png")
    config = PredictConfig(checkpoint=str(tmp_path / "checkpoint"), input=(f"{tmp_path}/in",), out=f"{tmp_path}/out")
    flipped = config.model_copy(update={"inference": InferenceConfig(flip=True)})
    before = PredictionSettings.of(flipped, loaded)
    PredictionRecord(state="running", checkpoint="x", settings=before).write(tmp_path / "out")
    with pytest.raises(PredictError, match=r"interrupted prediction, and inference was .*'flip': True.*--overwrite"):
        predict(config)


def test_existing_pictures_are_not_overwritten_by_default(tmp_path: Path) -> None:
    file = image_file(tmp_path / "in/a.png")
    before = image_file(tmp_path / "out/edge/a.png").read_bytes()
    config = PredictConfig(checkpoint="not read", input=(str(file),), out=str(tmp_path / "out"))
    with pytest.raises(PredictError, match=r"1 pictures exist already.*out/edge/a\.png.*--overwrite"):
        predict(config)
    assert (tmp_path / "out/edge/a.png").read_bytes() == before


def test_cityscapes_pictures_hold_its_label_ids(tmp_path: Path) -> None:
    described = Cityscapes().describe(write_cityscapes(tmp_path, frames=1))
    identity = Identity.model_construct(classes=described.classes, label_table=described.label_table)
    ids = [7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33]
    assert identity.raw_ids.tolist() == ids


def test_patterns_and_output_folders_on_an_object_store_follow_the_same_rules(tmp_path: Path, remote: str) -> None:
    content = image_file(tmp_path / "a.png").read_bytes()
    for name in ("drive [1]/a.png", "drive [1]/deep/b.png", "drive [1]/.hidden/c.png", "drive [1]/pred/label/a.png"):
        (as_path(remote) / name).write_bytes(content)
    out = as_path(f"{remote}/drive [1]/pred")
    for text, expected, left_out in (("", ["a", "deep/b"], 1), ("/*.png", ["a"], 0), ("/**/*.png", ["a", "deep/b"], 1)):
        found = find_images([f"{remote}/drive [1]{text}"], "--input", out)
        assert (list(found.files), found.in_output) == (expected, left_out)
    with pytest.raises(InputError, match="no image or folder matches this pattern"):
        names(f"{remote}/drive [1]/*.jpg")
