"""Settings that deploy/mlflow-server rejects before anything starts."""

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pytest

from tests.deploy_tests.team_server import SCRIPT, SECRET_KEY, environment, write_env_file

GOOD: Final = {
    "MLFLOW_BACKEND_STORE_URI": "postgresql://mlflow:secret@127.0.0.1:1/mlflow",
    "MLFLOW_ARTIFACTS_DESTINATION": "/tmp",
    "MLFLOW_SERVER_ALLOWED_HOSTS": "mlflow.example.org",
    "MLFLOW_AUTH_ADMIN_PASSWORD": "of the admin",
    "MLFLOW_FLASK_SERVER_SECRET_KEY": SECRET_KEY,
}
"""Valid settings; nothing listens at the database's port."""


def start(*arguments: Path, settings: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [SCRIPT, *arguments], env=environment(settings), capture_output=True, text=True, timeout=30, check=False
    )


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        *(({name: ""}, f"{name} is not set") for name in GOOD),
        ({"MLFLOW_BACKEND_STORE_URI": "sqlite:///mlflow.db"}, "MLFLOW_BACKEND_STORE_URI is not postgresql://ROLE"),
        ({"MLFLOW_BACKEND_STORE_URI": "postgresql://mlflow:se@cret@h/mlflow"}, "written %3A %2F %40 %25"),
        ({"MLFLOW_ARTIFACTS_DESTINATION": "mlartifacts"}, "is mlartifacts: give an absolute folder"),
        ({"MLFLOW_ARTIFACTS_DESTINATION": "/proc/artifacts"}, "/proc/artifacts cannot be made or written"),
        ({"MLFLOW_SERVER_ALLOWED_HOSTS": "*"}, "MLFLOW_SERVER_ALLOWED_HOSTS is *: give names"),
        ({"MLFLOW_SERVER_ALLOWED_HOSTS": "https://mlflow.example.org"}, "give names with a comma between"),
        ({"MLFLOW_AUTH_ADMIN_PASSWORD": "password1234"}, "that old versions of MLflow came with"),
        ({"MLFLOW_AUTH_ADMIN_PASSWORD": "short"}, "MLFLOW_AUTH_ADMIN_PASSWORD has fewer than 12 characters"),
        ({"MLFLOW_FLASK_SERVER_SECRET_KEY": "short"}, "MLFLOW_FLASK_SERVER_SECRET_KEY has fewer than 32"),
    ],
)
def test_a_missing_or_unsafe_setting_is_rejected_in_one_line(
    changed: Mapping[str, str], message: str, tmp_path: Path
) -> None:
    refused = start(write_env_file(tmp_path / "env", {**GOOD, **changed}))
    assert refused.returncode == 2 and message in refused.stderr, refused
    assert refused.stderr.count("\n") == 1 and not refused.stdout
    assert "cret" not in refused.stderr


@pytest.mark.parametrize(
    ("database", "message"),
    [
        (GOOD["MLFLOW_BACKEND_STORE_URI"], "port 1 failed: Connection refused"),
        ("postgresql+psycopg2://mlflow:secret@127.0.0.1:1/mlflow", "port 1 failed: Connection refused"),
        ("postgresql://mlflow:%zzsecret@127.0.0.1:1/mlflow", "write % of the password as %25"),
    ],
)
def test_a_database_that_does_not_answer_is_reported_at_once_in_one_line(
    database: str, message: str, tmp_path: Path
) -> None:
    pytest.importorskip("psycopg2", reason="psycopg2 is missing: pip install '.[server]'")
    pytest.importorskip("flask_wtf", reason="Flask-WTF is missing: pip install '.[server]'")
    refused = start(write_env_file(tmp_path / "env", {**GOOD, "MLFLOW_BACKEND_STORE_URI": database}))
    assert refused.returncode == 2 and message in refused.stderr, refused
    assert refused.stderr.count("\n") == 1 and "secret" not in refused.stderr


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
def test_an_env_file_that_others_can_read_is_rejected(mode: int, tmp_path: Path) -> None:
    refused = start(write_env_file(tmp_path / "env", GOOD, mode))
    assert refused.returncode == 2
    assert f"{tmp_path}/env holds passwords and has mode {mode:o}: chmod 600 {tmp_path}/env" in refused.stderr


def test_an_env_file_is_read_but_never_executed(tmp_path: Path) -> None:
    odd = f"$HOME `touch {tmp_path}/ran` $(touch {tmp_path}/ran) = x"
    from_file = start(write_env_file(tmp_path / "env", {**GOOD, "MLFLOW_ARTIFACTS_DESTINATION": odd}))
    assert f"MLFLOW_ARTIFACTS_DESTINATION is {odd}: " in from_file.stderr
    assert start(settings={**GOOD, "MLFLOW_ARTIFACTS_DESTINATION": odd}).stderr == from_file.stderr
    assert not (tmp_path / "ran").exists()


def test_a_line_that_is_not_a_setting_is_rejected_without_showing_it(tmp_path: Path) -> None:
    file = write_env_file(tmp_path / "env", GOOD)
    file.write_text(file.read_text() + "export PASSWORD=secret\n")
    refused = start(file)
    assert refused.returncode == 2 and "a line is neither NAME=VALUE nor a comment" in refused.stderr
    assert "secret" not in refused.stderr
