"""deploy/mlflow-server with a real PostgreSQL: access, permissions, delivered data, and secrecy of passwords."""

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import mlflow
import numpy as np
import pytest
from mlflow.exceptions import MlflowException
from requests import HTTPError

from gscnn.model import build_model
from gscnn_platform import tracking
from gscnn_platform.config import ExperimentConfig, with_overrides
from gscnn_platform.data.store import Store
from gscnn_platform.runs.folder import RunFolder
from gscnn_platform.runs.ref import RunRef
from tests.deploy_tests.postgres import PASSWORD, free_port, running_postgres
from tests.deploy_tests.team_server import SECRET_KEY, TeamServer, User, running_server

ADMIN: Final = ("admin", "of the admin = 100%")
ALICE: Final = ("alice", "alice's: 50% more")
BOB: Final = ("bob-1", "the password of bob")
SEARCH: Final = "/api/2.0/mlflow/experiments/search?max_results=1"
CREATE_USER: Final = "/api/2.0/mlflow/users/create"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TeamServer]:
    """A server with the users alice and bob-1."""
    pytest.importorskip("flask_wtf", reason="Flask-WTF is missing: pip install '.[server]'")
    folder = tmp_path_factory.mktemp("mlflow-server")
    with running_postgres() as database:
        settings = {
            "MLFLOW_BACKEND_STORE_URI": database,
            "MLFLOW_ARTIFACTS_DESTINATION": str(folder / "artifacts"),
            "MLFLOW_SERVER_ALLOWED_HOSTS": "mlflow.example.org,gpu-1",
            "MLFLOW_AUTH_ADMIN_PASSWORD": ADMIN[1],
            "MLFLOW_FLASK_SERVER_SECRET_KEY": SECRET_KEY,
            "MLFLOW_WORKERS": "1",
            "MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE": "true",  # Must be ignored.
        }
        with running_server(folder, free_port(), settings) as server:
            for name, password in (ALICE, BOB):
                assert server.answer(CREATE_USER, ADMIN, body={"username": name, "password": password}) == 200
            yield server


@pytest.fixture
def be(monkeypatch: pytest.MonkeyPatch, server: TeamServer, tmp_path: Path) -> Callable[[User | None], None]:
    """Returns a function that gives this process a user's credentials, or none."""
    monkeypatch.setenv("HOME", str(tmp_path))

    def be(user: User | None) -> None:
        for name, value in zip(("USERNAME", "PASSWORD"), user or (None, None), strict=True):
            variable = f"MLFLOW_TRACKING_{name}"
            if value is None:
                monkeypatch.delenv(variable, raising=False)
            else:
                monkeypatch.setenv(variable, value)

    be(None)
    return be


@pytest.fixture
def run_of_alice(be: Callable[..., None], server: TeamServer, tiny_run: ExperimentConfig, streets_store: Store) -> str:
    be(ALICE)
    config = with_overrides(tiny_run, {"tracking.experiment": "of alice"})
    return tracking.create_run(server.uri, config, RunFolder("/runs/a run"), streets_store, {})


@pytest.mark.parametrize(
    ("user", "status"),
    [(None, 401), (("alice", "wrong"), 401), (("nobody", ALICE[1]), 401), (ALICE, 200), (ADMIN, 200)],
)
def test_only_users_with_their_password_have_access(server: TeamServer, user: User | None, status: int) -> None:
    assert server.answer(SEARCH, user) == status


@pytest.mark.parametrize("path", ["/", "/signup", "/graphql", "/api/2.0/mlflow-artifacts/artifacts?path=x", "/docs"])
def test_without_a_password_there_is_no_page_and_no_artifact(server: TeamServer, path: str) -> None:
    assert server.answer(path) == 401


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("mlflow.example.org", 200),
        ("gpu-1:5000", 200),
        ("localhost", 200),
        ("10.1.2.3:5000", 200),
        ("172.31.0.4", 200),
        ("172.32.0.4", 403),
        ("203.0.113.5", 403),
        ("evil.example.org", 403),
    ],
)
def test_a_host_name_that_is_not_allowed_is_rejected_whatever_the_password(
    server: TeamServer, host: str, status: int
) -> None:
    assert server.answer(SEARCH, ALICE, Host=host) == status


@pytest.mark.parametrize(
    ("origin", "host", "status"),
    [
        ("https://mlflow.example.org", "mlflow.example.org", 200),
        ("http://gpu-1:5000", "gpu-1:5000", 200),
        ("http://localhost:5000", "localhost:5000", 200),
        ("https://evil.example.org", "mlflow.example.org", 403),
        ("http://10.evil.example.org", "10.1.2.3:5000", 403),
    ],
)
def test_the_servers_own_pages_may_post_and_other_sites_pages_may_not(
    server: TeamServer, origin: str, host: str, status: int
) -> None:
    posted = {"experiment_ids": ["0"]}
    assert server.answer("/ajax-api/2.0/mlflow/runs/search", ALICE, posted, Origin=origin, Host=host) == status


def test_only_the_admin_creates_users(server: TeamServer) -> None:
    eve = ("eve-1", "the password of eve")
    assert server.answer(CREATE_USER, ALICE, body={"username": eve[0], "password": eve[1]}) == 403
    assert server.answer(SEARCH, eve) == 401


@pytest.fixture
def opened() -> Iterator[list[str]]:
    """Files and folders that this process opens or creates."""
    seen, active = list[str](), True

    def note(event: str, arguments: tuple[Any, ...]) -> None:
        if active and event in ("open", "os.mkdir", "os.rename", "os.link"):
            seen.append(str(arguments[0]))

    sys.addaudithook(note)  # Permanent: Python cannot remove audit hooks.
    yield seen
    active = False


def test_a_users_run_arrives_completely_and_its_files_only_through_the_server(
    server: TeamServer, run_of_alice: str, tiny_run: ExperimentConfig, tmp_path: Path, opened: list[str]
) -> None:
    run_id, outbox = run_of_alice, tmp_path / "run" / "tracking"
    checkpoint = tmp_path / "checkpoint"
    checkpoint.mkdir()
    (checkpoint / "model.pt").write_bytes(b"weights")
    with tracking.RunWriter.opened(RunRef(outbox, server.uri, run_id), system_metrics=False) as writer:
        writer.log_steps([(step, {"train/total": 1 / step, "train/lr": 0.1}) for step in range(1, 701)])
        writer.describe("mIoU 0.5", 3, {}, picture=np.zeros((4, 6, 3), np.uint8))
    model = build_model(tiny_run.model).eval()
    tracking.log_best(RunRef(outbox, server.uri, run_id), model, checkpoint, {"miou": 0.5, "epoch": 2})
    left = tracking.close_run(RunRef(outbox, server.uri, run_id))
    assert not left, left
    client = mlflow.MlflowClient(server.uri)
    run = client.get_run(run_id)
    assert (run.info.status, run.data.metrics["val_best/miou"]) == ("FINISHED", 0.5)
    assert (run.info.artifact_uri or "").startswith("mlflow-artifacts:/")
    history = client.get_metric_history(run_id, "train/total")
    assert [(metric.step, metric.value) for metric in history] == [(step, 1 / step) for step in range(1, 701)]
    with tracking.checkpoint_of_run(server.uri, run_id) as folder:
        assert (Path(folder) / "model.pt").read_bytes() == b"weights"
    assert run.outputs is not None
    [output] = run.outputs.model_outputs
    files = {file.path for file in client.list_logged_model_artifacts(output.model_id)}
    assert {"MLmodel", "data"} <= files
    assert tracking.find_run(server.uri, "a run") == run_id

    artifacts = server.folder / "artifacts"
    there = {path.name for path in artifacts.rglob("*") if path.is_file()}
    assert {"model.pt", "MLmodel", "epoch-003.png", "config.json"} <= there
    assert opened and not [path for path in opened if path.startswith(str(artifacts))]


def test_another_user_can_read_a_run_but_neither_change_nor_delete_it(
    server: TeamServer, run_of_alice: str, be: Callable[..., None], tmp_path: Path
) -> None:
    client = mlflow.MlflowClient(server.uri)
    before = client.get_run(run_of_alice)
    experiment = before.info.experiment_id
    (tmp_path / "file").write_text("of bob")
    be(BOB)
    assert client.get_run(run_of_alice).data.params == before.data.params
    attempts: list[Callable[[], object]] = [
        lambda: client.set_tag(run_of_alice, "mine", "now"),
        lambda: client.log_metric(run_of_alice, "val/miou", 1.0),
        lambda: client.log_artifact(run_of_alice, str(tmp_path / "file"), "dataset"),
        lambda: client.set_terminated(run_of_alice, "FAILED"),
        lambda: client.delete_run(run_of_alice),
        lambda: client.delete_experiment(experiment),
        lambda: client.create_run(experiment),
    ]
    for attempt in attempts:
        with pytest.raises((MlflowException, HTTPError), match="403"):
            attempt()
    after = client.get_run(run_of_alice)
    assert after.to_dictionary() == before.to_dictionary()
    assert [file.path for file in client.list_artifacts(run_of_alice, "dataset")] == ["dataset/manifest.json"]


def test_a_run_in_another_users_experiment_is_rejected_with_what_to_do(
    server: TeamServer, run_of_alice: str, be: Callable[..., None], tiny_run: ExperimentConfig, streets_store: Store
) -> None:
    be(BOB)
    config = with_overrides(tiny_run, {"tracking.experiment": "of alice"})
    expected = rf"tracking URI {server.uri}: the server does not let user 'bob-1' do this.*EDIT.*--tracking.experiment"
    with pytest.raises(tracking.TrackingError, match=expected):
        tracking.create_run(server.uri, config, RunFolder("/runs/another"), streets_store, {})


@pytest.mark.parametrize(
    ("user", "message"),
    [(None, "requires a user and a password"), (("alice", "wrong"), "rejects this password of user 'alice'")],
)
def test_a_run_without_the_right_password_is_rejected_with_where_to_set_it(
    server: TeamServer,
    user: User | None,
    message: str,
    be: Callable[..., None],
    tiny_run: ExperimentConfig,
    streets_store: Store,
) -> None:
    be(user)
    expected = rf"^tracking URI {server.uri}: the server {message} \(401\): .*MLFLOW_TRACKING_USERNAME.*credentials"
    with pytest.raises(tracking.TrackingError, match=expected) as refused:
        tracking.create_run(server.uri, tiny_run, RunFolder("/runs/a run"), streets_store, {})
    assert "\n" not in str(refused.value) and "wrong" not in str(refused.value)


def test_a_password_that_stops_working_is_reported_and_loses_nothing(
    server: TeamServer, run_of_alice: str, be: Callable[..., None], tmp_path: Path
) -> None:
    be(("alice", "wrong"))
    said: list[str] = []
    run = RunRef(tmp_path / "run" / "tracking", server.uri, run_of_alice)
    with tracking.RunWriter.opened(run, system_metrics=False, say=said.append) as writer:
        writer.log_steps([(1, {"train/total": 1.0})])
        time.sleep(1.5)
    left = tracking.close_run(run, patience=1)
    assert "rejects this password of user 'alice' (401)" in said[0] and "training continues" in said[0]
    assert left.waiting == "metrics of 1 steps, status" and "(401)" in str(left) and "jobs.sync-tracking" in str(left)
    be(None)
    # MLflow reads this file itself; a running training job notices a change within ten seconds.
    credentials = tmp_path / ".mlflow" / "credentials"
    credentials.parent.mkdir()
    name, password = ALICE[0], ALICE[1].replace("%", "%%")
    credentials.write_text(f"[mlflow]\nmlflow_tracking_username = {name}\nmlflow_tracking_password = {password}\n")
    assert not tracking.deliver(run.outbox, patience=20)
    assert mlflow.MlflowClient(server.uri).get_run(run_of_alice).data.metrics == {"train/total": 1.0}


def test_no_secret_is_in_a_command_line_a_log_or_a_file_that_others_can_read(server: TeamServer) -> None:
    lines = {pid: Path(f"/proc/{pid}/cmdline").read_text() for pid in server.processes()}
    assert any("uvicorn" in line for line in lines.values())
    uri = (server.folder / "env").read_text().partition("MLFLOW_BACKEND_STORE_URI=")[2].partition("\n")[0]
    encoded = uri.partition("mlflow:")[2].partition("@")[0]
    shown = "".join(lines.values()) + (server.folder / "log").read_text()
    for secret in (PASSWORD, encoded, ADMIN[1], ALICE[1], BOB[1], SECRET_KEY):
        assert secret not in shown
    holding = [path for path in (server.folder / "private").rglob("*") if path.is_file()]
    assert [path.name for path in holding] == ["auth.ini"]
    assert encoded.replace("%", "%%") in holding[0].read_text()
    assert (holding[0].stat().st_mode & 0o777, holding[0].parent.stat().st_mode & 0o777) == (0o600, 0o700)
