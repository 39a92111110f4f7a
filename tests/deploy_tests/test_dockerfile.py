"""deploy/Dockerfile: what the image contains and must not contain, as far as can be checked without Docker."""

import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.deploy_tests.filling import ROOT

KNOWN = {"FROM", "RUN", "ENV", "WORKDIR", "COPY", "USER"}
"""Instructions in the file; any other is a mistake, or must be added here with a test."""


def instructions() -> list[tuple[str, str]]:
    """Returns each instruction with its arguments, with continued lines joined."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "deploy/Dockerfile").read_text(), flags=re.MULTILINE)
    lines = text.replace("\\\n", " ").splitlines()
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in lines if line.strip()]


def arguments(instruction: str) -> list[str]:
    return [given for name, given in instructions() if name == instruction]


def installation() -> list[str]:
    """Returns the command that installs the dependencies, split into words."""
    commands = [part.strip() for run in arguments("RUN") for part in run.split("&&")]
    return shlex.split(next(command for command in commands if command.startswith("uv pip install")))


def test_every_instruction_is_valid_and_every_command_parses() -> None:
    assert {name for name, _ in instructions()} == KNOWN
    for command in arguments("RUN"):
        checked = subprocess.run(["bash", "-n", "-c", command], capture_output=True, text=True)
        assert checked.returncode == 0, checked.stderr


def test_the_base_is_pinned_to_a_python_that_the_project_supports() -> None:
    base = arguments("FROM")
    assert len(base) == 1
    version = re.fullmatch(r"python:(3\.\d+)-slim-\w+", base[0])
    assert version is not None, base
    requires = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    low, high = re.findall(r"3\.(\d+)", requires)
    assert int(low) <= int(version[1].split(".")[1]) < int(high)


def test_the_image_contains_dependencies_and_nothing_of_the_project() -> None:
    sources = [word for copy in arguments("COPY") for word in copy.split()[:-1]]
    assert sorted(sources) == ["constraints.txt", "pyproject.toml"]
    assert all((ROOT / source).is_file() for source in sources)
    command = installation()
    assert command[command.index("-r") + 1] == "pyproject.toml"
    assert command[command.index("-c") + 1] == "constraints.txt"
    assert not {"-e", "--editable", ".", "./"} & set(command)
    assert not any(word.startswith(".[") for word in command)


def test_the_build_context_excludes_history_data_and_env_files() -> None:
    kept = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert kept == ["*", "!pyproject.toml", "!constraints.txt"]


def test_ray_up_finds_what_it_needs_in_the_container() -> None:
    """rsync and ssh for the head, which starts workers; a home that `docker inspect` shows; Ubuntu's user 1000."""
    install = next(command for command in arguments("RUN") if "apt-get install" in command)
    assert {"rsync", "openssh-client", "wget"} <= set(install.split())
    assert "HOME=/home/ray" in arguments("ENV")
    assert any("useradd --uid 1000 --create-home" in command for command in arguments("RUN"))
    assert arguments("USER") == ["ray"]
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert any(package.startswith("boto3") for package in extras[installation()[installation().index("--extra") + 1]])


def test_the_image_installs_the_pinned_versions(tmp_path: Path) -> None:
    """Resolves the same command without installing anything."""
    uv = Path(sys.executable).with_name("uv")
    if not uv.is_file():
        pytest.skip("uv is not in this environment")
    command = [word for word in installation()[1:] if word != "--system"]
    options = ["--dry-run", "--python", sys.executable, "--target", str(tmp_path)]
    resolved = subprocess.run([str(uv), *command, *options], cwd=ROOT, capture_output=True, text=True, timeout=300)
    if resolved.returncode != 0 and re.search("dns|connect|network|timed out|fetch", resolved.stderr, re.IGNORECASE):
        pytest.skip(f"no package registry: {resolved.stderr.splitlines()[0]}")
    assert resolved.returncode == 0, resolved.stderr
    chosen = dict(re.findall(r"^ \+ (\S+)==(\S+)$", resolved.stderr, re.MULTILINE))
    pinned = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines())
    assert {"ray", "torch", "mlflow", "boto3"} <= chosen.keys()
    assert {name: version for name, version in chosen.items() if pinned.get(name) != version} == {}
    assert "gscnn-platform" not in chosen
