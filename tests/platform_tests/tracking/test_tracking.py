import json
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch
from mlflow.artifacts import download_artifacts
from mlflow.models import get_model_info
from mlflow.pytorch import load_model

from gscnn.model import build_model
from gscnn_platform import tracking
from gscnn_platform.config import ExperimentConfig, TrackingConfig, with_overrides
from gscnn_platform.data.store import Store
from gscnn_platform.runs.folder import RunFolder
from gscnn_platform.runs.ref import RunRef
from gscnn_platform.tracking import writer
from gscnn_platform.tracking.uri import check_listening


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tracking.tracking_uri(TrackingConfig(), str(tmp_path_factory.mktemp("tracking")))


Answering = Callable[[int, str], str]


@pytest.fixture
def answering() -> Iterator[Answering]:
    """Returns the URI of a server that gives the same answer to all requests; a redirect leads to itself."""
    servers: list[HTTPServer] = []

    def start(status: int, body: str) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", "/login")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, format: str, *args: object) -> None:
                pass

        servers.append(HTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def run_id(uri: str, tiny_run: ExperimentConfig, streets_store: Store) -> str:
    return tracking.create_run(uri, tiny_run, RunFolder("/runs/a run"), streets_store, {})


def test_class_weights_are_shown_by_class(uri: str, tiny_run: ExperimentConfig, streets_store: Store) -> None:
    config = with_overrides(tiny_run, {"loss.class_weights": "effective_number"})
    weighted = tracking.create_run(uri, config, RunFolder("/runs/weighted"), streets_store, {})
    file = download_artifacts(run_id=weighted, artifact_path="class_weights.json", tracking_uri=uri)
    shown: dict[str, float] = json.loads(Path(file).read_text())
    manifest = streets_store.manifest
    assert shown.keys() == set(manifest.identity.classes)
    assert sum(shown.values()) == pytest.approx(len(shown))
    rarest = manifest.identity.classes[np.argmin(manifest.splits["train"].pixels)]
    assert shown[rarest] == max(shown.values())


def test_the_uri_is_from_the_config_then_the_environment_then_sqlite_beside_the_checkpoints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert tracking.tracking_uri(TrackingConfig(), str(tmp_path)) == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracker\n")
    assert tracking.tracking_uri(TrackingConfig(), str(tmp_path)) == "http://tracker"
    assert tracking.tracking_uri(TrackingConfig(uri="http://mine"), str(tmp_path)) == "http://mine"


@pytest.mark.parametrize("uri", ["sqlite://", "sqlite:///", "sqlite:///:memory:"])
def test_an_in_memory_database_is_rejected(uri: str, tmp_path: Path) -> None:
    with pytest.raises(tracking.TrackingError, match="is an in-memory database and is not kept: use sqlite:///FILE"):
        tracking.tracking_uri(TrackingConfig(uri=uri), str(tmp_path))


@pytest.mark.parametrize("uri", ["http://host:port", "http://host:99999", f"http://{'x' * 70}:5000", "http://[::1"])
def test_an_invalid_server_address_is_reported(uri: str) -> None:
    for look in (lambda: tracking.read_run(uri, "f" * 32), lambda: tracking.find_run(uri, "a run")):
        with pytest.raises(tracking.TrackingError, match=re.escape(f"{uri} is not a server address: ")):
            look()


def test_a_server_behind_a_proxy_is_checked_at_the_proxy(answering: Answering, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", answering(200, ""))
    check_listening("https://tracking.invalid")
    monkeypatch.setenv("no_proxy", "tracking.invalid")
    with pytest.raises(OSError, match=r"not known|resolution|resolve"):
        check_listening("https://tracking.invalid")


@pytest.mark.parametrize("kind", ["garbage", "folder", "no such driver", "no such kind"])
def test_a_database_that_does_not_open_is_reported_in_one_line_within_seconds(kind: str, tmp_path: Path) -> None:
    (tmp_path / "garbage").write_bytes(b"no database" * 100)
    (tmp_path / "folder").mkdir()
    uris = {"no such driver": "postgresql+nothing://host/db", "no such kind": "nothing://host/db"}
    uri, began = uris.get(kind, f"sqlite:///{tmp_path}/{kind}"), time.monotonic()
    with pytest.raises(tracking.TrackingError) as told:
        tracking.set_tags(uri, "f" * 32, {"a": "b"})
    assert time.monotonic() - began < 15
    assert uri in str(told.value) and "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("status", "body"),
    [(200, "<html>log in</html>\n" * 500), (404, "<html>nothing here</html>\n" * 500), (200, "[]"), (302, "")],
)
def test_a_server_other_than_mlflow_is_reported_in_one_line(status: int, body: str, answering: Answering) -> None:
    uri = answering(status, body)
    with pytest.raises(tracking.TrackingError) as told:
        tracking.read_run(uri, "f" * 32)
    assert uri in str(told.value) and "\n" not in str(told.value)
    assert len(str(told.value)) < 500
    assert tracking.fate_of(uri, "f" * 32) == "unknown"


def test_looking_for_a_run_creates_neither_a_folder_nor_a_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    uri, run_id = tracking.tracking_uri(TrackingConfig(), str(tmp_path / "runs")), "f" * 32
    with pytest.raises(tracking.TrackingError, match="there is no such file"):
        tracking.checkpoint_of_run(uri, run_id).__enter__()
    with pytest.raises(tracking.TrackingError, match="there is no such file"):
        tracking.run_of_model(uri, "models:/a@best")
    with pytest.raises(tracking.TrackingError, match="there is no such file"):
        tracking.log_evaluation(uri, run_id, {}, {}, {})
    assert tracking.fate_of(uri, run_id) == "gone"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "uri", ["https://ann:se@cret@host:5000/x", "https://secret@host", "postgresql://ann:secret@host/mlflow"]
)
def test_a_password_in_the_tracking_uri_is_rejected_everywhere_and_never_repeated(
    uri: str, tiny_run: ExperimentConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    (tmp_path / "outbox.json").write_text("{}")
    ways: list[tuple[str, Callable[[], object]]] = [
        ("uri", lambda: TrackingConfig(uri=uri)),
        ("tracking.uri", lambda: with_overrides(tiny_run, {"tracking.uri": uri, "training.epochs": 0})),
        ("MLFLOW_TRACKING_URI", lambda: tracking.tracking_uri(TrackingConfig(), str(tmp_path))),
        ("--uri", lambda: tracking.read_run(uri, "f" * 32)),
        ("--uri", lambda: tracking.sync([tmp_path], uri, print)),
    ]
    for field, way in ways:
        with pytest.raises(ValueError, match=rf"(?s){field}.*(would show|contains a user or a password)") as refused:
            way()
        assert "MLFLOW_TRACKING_PASSWORD" in str(refused.value) and "~/.mlflow/credentials" in str(refused.value)
        assert "cret" not in str(refused.value)


@pytest.mark.parametrize("uri", ["http://h:5000", "postgresql://ann@h:5432/db", "sqlite:////a:b/c@d.db", "databricks"])
def test_a_tracking_uri_without_a_password_is_accepted_unchanged(uri: str) -> None:
    assert TrackingConfig(uri=uri).uri == uri


@pytest.mark.parametrize(
    "content", ["mlflow_tracking_password = secret\n", "[mlflow]\nmlflow_tracking_password = %secret"]
)
def test_a_damaged_credentials_file_is_reported_without_its_content(
    content: str, uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".mlflow").mkdir()
    (tmp_path / ".mlflow" / "credentials").write_text(content)
    with pytest.raises(tracking.TrackingError, match=r"~/.mlflow/credentials cannot be read .* \[mlflow\]") as refused:
        tracking.set_tags(uri, "f" * 32, {})
    assert "secret" not in str(refused.value)


def test_a_new_run_records_config_code_data_and_versions(
    uri: str, run_id: str, tiny_run: ExperimentConfig, streets_store: Store
) -> None:
    run = mlflow.MlflowClient(uri).get_run(run_id)
    assert run.info.run_name == "a run"
    assert run.data.params["loss.edge"] == str(tiny_run.loss.edge)
    assert run.data.params["augmentation.crop"] == "(64, 64)"
    assert run.data.tags["dataset.fingerprint"] == streets_store.manifest.fingerprint
    file = download_artifacts(run_id=run_id, artifact_path="packages.json", tracking_uri=uri)
    packages = json.loads(Path(file).read_text())
    assert (packages["torch"], packages["numpy"]) == (torch.__version__.split("+")[0], np.__version__)
    assert packages["python"] == sys.version.split()[0]
    assert not [tag for tag in run.data.tags if tag.startswith("version.")]
    assert run.data.tags["git.dirty"] in ("True", "False", "unknown")
    assert len(run.data.tags["code.sha256"]) == 16
    assert run.inputs is not None
    dataset = run.inputs.dataset_inputs[0].dataset
    assert (dataset.name, dataset.digest) == ("streets", streets_store.manifest.fingerprint)
    profile = json.loads(str(dataset.profile))
    assert profile["samples"] == {"train": 6, "val": 3, "test": 1}
    assert sum(profile["pixels"]["train"].values()) == 6 * 64 * 96
    assert list(profile["pixels"]["train"])[-1] == "void"


def test_steps_and_pictures_of_rank_0_are_logged_at_their_steps(uri: str, run_id: str, tmp_path: Path) -> None:
    with tracking.RunWriter.opened(RunRef(tmp_path, uri, run_id), system_metrics=False) as writer:
        writer.log_steps([(step, {"train/total": 1 / step, "train/lr": 0.1}) for step in range(1, 701)])
        writer.describe("mIoU 0.5", 3, {}, picture=np.zeros((4, 6, 3), np.uint8))
    client = mlflow.MlflowClient(uri)
    history = client.get_metric_history(run_id, "train/total")
    assert [(metric.step, metric.value) for metric in history] == [(step, 1 / step) for step in range(1, 701)]
    there = [file.path for file in client.list_artifacts(run_id, "validation")]
    assert there == ["validation/epoch-003.png", "validation/last.jpg"]
    note = client.get_run(run_id).data.tags["mlflow.note.content"]
    assert note.startswith("**mIoU 0.5**")
    assert f"get-artifact?path=validation/epoch-003.png&run_uuid={run_id}" in note
    assert client.get_run(run_id).info.status == "RUNNING", "the driver ends the run, not the writer"


def test_the_machines_load_is_tracked_while_the_writer_is_open(
    uri: str, run_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "SYSTEM_SECONDS", 0.05)
    with tracking.RunWriter.opened(RunRef(tmp_path, uri, run_id), system_metrics=True):
        time.sleep(0.5)
    metrics = mlflow.MlflowClient(uri).get_run(run_id).data.metrics
    assert 0 < metrics["system/system_memory_usage_percentage"] < 100
    assert {"system/cpu_utilization_percentage", "system/disk_usage_percentage"} < metrics.keys()


@pytest.mark.parametrize(
    ("failure", "stopped", "status"),
    [(None, None, "FINISHED"), ("ValueError: the disk is full", None, "FAILED"), (None, "SIGTERM", "KILLED")],
)
def test_an_ended_run_records_how_and_why_and_is_running_again_when_resumed(
    failure: str | None, stopped: str | None, status: str, uri: str, run_id: str, tmp_path: Path
) -> None:
    client = mlflow.MlflowClient(uri)
    assert not tracking.close_run(RunRef(tmp_path, uri, run_id), failure, stopped)
    run = client.get_run(run_id)
    assert (run.info.status, run.data.tags.get("failure"), run.data.tags.get("stopped")) == (status, failure, stopped)
    tracking.reopen_run(RunRef(tmp_path, uri, run_id))
    run = client.get_run(run_id)
    assert run.info.status == "RUNNING"
    assert not {"failure", "stopped"} & run.data.tags.keys()


def test_the_logged_model_loads_without_this_project_and_accepts_any_size(
    uri: str, run_id: str, tiny_run: ExperimentConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    model = build_model(tiny_run.model).eval()
    checkpoint, outbox = tmp_path / "checkpoint", tmp_path / "what? 50%20 #1" / "tracking"
    checkpoint.mkdir()
    (checkpoint / "model.pt").write_bytes(b"weights")
    for _ in range(2):  # As by a driver that was killed before it had ended the run, and started again.
        tracking.log_best(RunRef(outbox, uri, run_id), model, checkpoint, {"miou": 0.5, "epoch": 2})
    (checkpoint / "model.pt").unlink()
    assert not tracking.close_run(RunRef(outbox, uri, run_id))
    (outbox / "0" / "delivered.json").unlink()
    assert not tracking.deliver(outbox, patience=20)
    client = mlflow.MlflowClient(uri)
    run = client.get_run(run_id)
    assert run.data.metrics["val_best/miou"] == 0.5
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)  # mlflow.set_tracking_uri would set it for later tests as well.
    assert run.outputs is not None
    [output] = run.outputs.model_outputs
    loaded = load_model(f"models:/{output.model_id}")
    signature = get_model_info(f"models:/{output.model_id}").signature
    assert signature.inputs.input_names() == ["image", "gradient"]
    for size in ((1, 64, 96), (3, 97, 131)):
        image, gradient = torch.randn(size[0], 3, *size[1:]), torch.rand(size[0], 1, *size[1:])
        with torch.inference_mode():
            expected, got = model(image, gradient), loaded(image, gradient)
        torch.testing.assert_close(got["seg_logits"], expected.seg_logits, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(got["edge_logits"], expected.edge_logits, rtol=1e-4, atol=1e-4)
    assert [metric.value for metric in client.get_metric_history(run_id, "val_best/miou")] == [0.5]
    with tracking.checkpoint_of_run(uri, run_id) as folder:
        assert (Path(folder) / "model.pt").read_bytes() == b"weights"


def test_an_unknown_run_is_an_error_that_names_it(uri: str) -> None:
    with pytest.raises(tracking.TrackingError, match="f" * 32), tracking.checkpoint_of_run(uri, "f" * 32):
        pass


def test_a_server_that_does_not_answer_is_an_error_at_once(tiny_run: ExperimentConfig, streets_store: Store) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # Bound and not listening: a connection is refused.
        uri = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(tracking.TrackingError, match=rf"{uri} does not work: .* set --tracking.uri"):
            tracking.create_run(uri, tiny_run, RunFolder("/runs/a run"), streets_store, {})
