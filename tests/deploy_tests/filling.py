"""Manifests as a user fills them in, with the files that they name, and manifests with a mistake."""

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

VALUES = {
    "FILL_IN_REGION": "us-west-2",
    "FILL_IN_REGISTRY": "123456789012.dkr.ecr.us-west-2.amazonaws.com",
    "FILL_IN_AMI": "ami-0123456789abcdef0",
    "FILL_IN_SECURITY_GROUP": "sg-0123456789abcdef0",
    "FILL_IN_HEAD_PROFILE": "gscnn-head",
    "FILL_IN_WORKER_PROFILE": "gscnn-worker",
    "FILL_IN_MLFLOW_URI": "http://10.0.0.5:5000",
    "FILL_IN_BUCKET": "bucket",
}
"""Placeholder -> what a user might write."""


def filled(name: str, folder: Path, **values: str) -> Path:
    """Writes a copy of ROOT/name to `folder` with all placeholders replaced by `values` or VALUES; returns its path."""
    text = (ROOT / name).read_text()
    for placeholder, value in (VALUES | values).items():
        text = text.replace(placeholder, value)
    copy = folder / Path(name).name
    copy.write_text(text)
    return copy


def replace(path: Path, old: str, new: str) -> Path:
    """Makes one change to a file.

    Raises:
        AssertionError: `old` is not in the file, so that a test's mistake cannot be missing silently.
    """
    text = path.read_text()
    assert old in text, f"{old!r} is not in {path.name}"
    path.write_text(text.replace(old, new))
    return path


def line_of(path: Path, text: str) -> int:
    """Returns the number of the first line with `text`, counted from 1."""
    return next(number for number, line in enumerate(path.read_text().splitlines(), 1) if text in line)


def make_home(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Creates a home folder with the token and the MLflow credentials, and sets HOME of this process to it."""
    for name in (".ray/auth_token", ".mlflow/credentials"):
        secret = folder / "home" / name
        secret.parent.mkdir(parents=True)
        secret.write_text("0123456789abcdef")
        secret.chmod(0o600)
    monkeypatch.setenv("HOME", str(folder / "home"))
    return folder / "home"
