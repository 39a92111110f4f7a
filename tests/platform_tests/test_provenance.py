from pathlib import Path

import pytest

import gscnn
from gscnn_platform import provenance


def test_the_commit_of_a_submitted_job_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance.subprocess, "run", _no_git)
    monkeypatch.setenv(provenance.GIT_COMMIT, "abc123-dirty")
    assert provenance.git_state() == ("abc123", "True")
    monkeypatch.delenv(provenance.GIT_COMMIT)
    assert provenance.git_state() == ("unknown", "unknown")


def test_a_git_that_cannot_be_run_counts_as_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise PermissionError("git")

    monkeypatch.setattr(provenance.subprocess, "run", refused)
    monkeypatch.delenv(provenance.GIT_COMMIT, raising=False)
    assert provenance.git_state() == ("unknown", "unknown")


def _no_git(*_: object, **__: object) -> None:
    raise FileNotFoundError("git")


def test_the_code_digest_changes_with_any_source_of_either_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in ("gscnn", "gscnn_platform"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "module.py").write_text("x = 1")
    monkeypatch.setattr(gscnn, "__file__", str(tmp_path / "gscnn" / "__init__.py"))
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "gscnn_platform" / "provenance.py"))
    digests = {provenance.code_digest()}
    for package in ("gscnn", "gscnn_platform"):
        (tmp_path / package / "module.py").write_text("x = 2")
        digests.add(provenance.code_digest())
    assert len(digests) == 3
