"""The check of cluster.yaml: its output for the file and for likely mistakes."""

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import yaml

from gscnn_platform.manifests import check
from tests.deploy_tests.filling import ROOT, VALUES, filled, line_of, make_home, replace


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return make_home(tmp_path, monkeypatch)


@pytest.fixture
def good(tmp_path: Path, home: Path) -> Path:
    return filled("cluster.yaml", tmp_path)


def test_the_committed_file_lacks_only_the_values_to_fill_in(home: Path) -> None:
    report = check(str(ROOT / "cluster.yaml"))
    assert not report.faults
    named = Counter(word for fault in report.placeholders for word in fault.what.replace(",", "").split())
    assert {name for name in named if name.startswith("FILL_IN")} == VALUES.keys() - {"FILL_IN_BUCKET"}
    start, end = (line_of(ROOT / "cluster.yaml", text) for text in ("# ---- Fill in", "# ---- The rest"))
    assert all(start < (fault.line or 0) < end for fault in report.placeholders)
    assert str(report).endswith("cluster.yaml: no fault, 8 places to fill in")


def test_a_filled_in_file_is_valid_and_its_idle_cost_is_reported(good: Path) -> None:
    assert str(check(str(good))) == (
        f"{good}: no fault. AWS us-west-2: head m7i.xlarge that runs no tasks, 0 to 4 workers "
        "(gpu_on_demand g5.2xlarge up to 0, gpu_spot g5.2xlarge up to 4). "
        "Idle, one m7i.xlarge and its 150 GB disk keep running; workers terminate after 15 minutes without work."
    )


MISTAKES = {
    "a placeholder that is still there": (
        "ami-0123456789abcdef0",
        "FILL_IN_AMI",
        "  ami: ",
        "metadata.ami: must still be filled in: FILL_IN_AMI",
    ),
    "a misspelt field of Ray": (
        "idle_timeout_minutes",
        "idle_timeout_minute",
        "idle_timeout_minute",
        "idle_timeout_minute: there is no such field; did you mean idle_timeout_minutes?",
    ),
    "a misspelt field of EC2": (
        "Encrypted: true}\n      MetadataOptions: {HttpTokens: required}\n  gpu_on",
        "Encryptd: true}\n      MetadataOptions: {HttpTokens: required}\n  gpu_on",
        "Encryptd",
        "available_node_types.head.node_config.BlockDeviceMappings[0].Ebs.Encryptd: EC2 has no such field; "
        "did you mean Encrypted?",
    ),
    "a wrong type in node_config": (
        "VolumeSize: 150",
        "VolumeSize: 150GB",
        "150GB",
        "available_node_types.head.node_config.BlockDeviceMappings[0].Ebs.VolumeSize: is '150GB'; EC2 takes int",
    ),
    "an instance type that is none": (
        "InstanceType: m7i.xlarge",
        "InstanceType: m7i.xlrge",
        "m7i.xlrge",
        "available_node_types.head.node_config.InstanceType: is m7i.xlrge, not among the",
    ),
    "a region that is none": (
        "region: &region us-west-2",
        "region: &region us-west2",
        "&region",
        "provider.region: is us-west2, not an AWS region; did you mean us-west-2?",
    ),
    "token mode off": (
        "    - --env RAY_AUTH_MODE=token\n",
        "",
        "  - >-",
        "head_start_ray_commands[0]: starts Ray without RAY_AUTH_MODE=token: anyone who reaches a port could run code; "
        "put it before `ray start`, or `--env RAY_AUTH_MODE=token` into docker.run_options",
    ),
    "no token for the nodes": (
        "  ~/.ray/auth_token: ~/.ray/auth_token\n",
        "",
        "file_mounts:",
        "file_mounts: lacks ~/.ray/auth_token: ~/.ray/auth_token, the token that every node needs",
    ),
    "an image of another Ray": (
        "gscnn:ray2.60.0-",
        "gscnn:ray2.59.1-",
        "&image",
        "docker.image: is 123456789012.dkr.ecr.us-west-2.amazonaws.com/gscnn:ray2.59.1-py311, and constraints.txt has "
        "ray==2.60.0; rebuild deploy/Dockerfile and tag it …:ray2.60.0-…",
    ),
    "an image that changes": (
        "gscnn:ray2.60.0-py311\n",
        "gscnn:latest\n",
        "&image",
        "docker.image: is 123456789012.dkr.ecr.us-west-2.amazonaws.com/gscnn:latest, which may change at any time; "
        "use a tag such as ray2.60.0-py311",
    ),
    "no instance profile on the workers": (
        "      IamInstanceProfile: *worker_profile",
        "     ",
        "node_config: &worker",
        "available_node_types.gpu_on_demand.node_config.IamInstanceProfile: is not given: "
        "without it these nodes cannot read or write the bucket",
    ),
    "a security group of Ray's own making": (
        "      SecurityGroupIds: [*security_group]\n      IamInstanceProfile: *head_profile",
        "      IamInstanceProfile: *head_profile",
        "    node_config:",
        "available_node_types.head.node_config.SecurityGroupIds: is not given: "
        "Ray would create a group that opens port 22 to the whole internet",
    ),
    "a dashboard that is open": (
        "--dashboard-host=127.0.0.1\n",
        "--dashboard-host=0.0.0.0\n",
        "  - >-",
        "head_start_ray_commands[0]: has --dashboard-host=0.0.0.0, open to others; "
        "give 127.0.0.1 and use `ray dashboard`",
    ),
    "a head that takes tasks": (
        "--num-cpus=0 ",
        "",
        "  - >-",
        "head_start_ray_commands[0]: lacks --num-cpus=0, so that no task lands on the head",
    ),
    "workers that stay": (
        "    min_workers: 0\n    max_workers: *spot_workers",
        "    min_workers: 2\n    max_workers: *spot_workers",
        "min_workers: 2",
        "available_node_types.gpu_spot.min_workers: is 2: idle machines would cost money; set 0",
    ),
    "Ray's own way to install itself": (
        "\nsetup_commands: []\n",
        "\n",
        "cluster_name: gscnn",
        "setup_commands: is not given, and Ray's default installs a nightly build of Ray; write setup_commands: []",
    ),
    "a number of workers as text": (
        "&max_workers 4",
        "&max_workers four",
        "&max_workers",
        "max_workers: is 'four'; it must be a whole number",
    ),
    "a head node type that is not there": (
        "head_node_type: head",
        "head_node_type: chief",
        "cluster_name: gscnn",
        "Ray refuses it: `head_node_type` must be one of `available_node_types`.",
    ),
    "something that is not YAML": ("provider:\n", "provider: {\n", "  region: *region", "not valid YAML: "),
}
"""Mistake -> old text, new text, text on the reported line, message."""


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_reported_with_line_field_and_remedy(mistake: str, good: Path) -> None:
    old, new, place, what = MISTAKES[mistake]
    replace(good, old, new)
    report = check(str(good))
    lines = [str(fault) for fault in (*report.placeholders, *report.faults)]
    assert any(line.startswith(f"{good}:{line_of(good, place)}: {what}") for line in lines), lines


def test_files_with_an_editors_peculiarities_are_read_if_ray_reads_them(good: Path) -> None:
    text, said = good.read_text(), str(check(str(good)))
    good.write_bytes(text.replace("\n", "\r\n").encode("utf-8-sig"))
    assert str(check(str(good))) == said
    good.write_bytes(text.encode("utf-16"))
    [fault] = check(str(good)).faults
    assert str(fault) == f"{good}: is UTF-16-LE, but the program that uses it reads UTF-8: save it as UTF-8"
    good.write_bytes(text.encode() + "# Straße\n".encode("latin-1"))
    [fault] = check(str(good)).faults
    assert str(fault).startswith(f"{good}:{text.count(chr(10)) + 1}: byte 0xdf is not UTF-8")


def test_all_mistakes_are_reported_together(good: Path) -> None:
    for mistake in ("a misspelt field of Ray", "a wrong type in node_config", "token mode off"):
        replace(good, *MISTAKES[mistake][:2])
    said = str(check(str(good)))
    assert [text in said for text in ("idle_timeout_minute:", "VolumeSize", "head_start", "worker_start")] == [True] * 4
    assert said.endswith("4 faults, no place to fill in")


def test_a_missing_or_readable_secret_is_found_before_a_machine_is_started(good: Path, home: Path) -> None:
    (home / ".ray/auth_token").chmod(0o644)
    (home / ".mlflow/credentials").unlink()
    said = [fault.what for fault in check(str(good)).faults]
    assert said == [
        "~/.ray/auth_token can be read by others here and on every node: chmod 600 ~/.ray/auth_token",
        "~/.mlflow/credentials is not on this machine; deploy/mlflow.md says what to write in it; "
        "without a tracking server, delete the line",
    ]


def test_the_command_returns_a_status_and_imports_neither_torch_nor_ray_unnecessarily(good: Path) -> None:
    """Importing gscnn takes 8 s and Ray 1 s, so a file that does not fit Ray's schema is reported before either."""
    done = _run("-m", "jobs.check_cluster", str(good))
    assert done.returncode == 0, done.stderr
    assert "no fault" in done.stdout
    loaded = _run(
        "-c",
        "import sys; from gscnn_platform.manifests import check; check(sys.argv[1]); print(*sys.modules)",
        str(replace(good, "idle_timeout_minutes", "idle_timeout_minute")),
    ).stdout.split()
    assert "botocore" in loaded
    assert {"torch", "gscnn", "ray", "mlflow"}.isdisjoint(loaded)
    assert _run("-m", "jobs.check_cluster", str(good)).returncode == 1


def test_without_boto3_the_check_reports_what_to_install(good: Path) -> None:
    hidden = (
        "import importlib.util, sys; find = importlib.util.find_spec; "
        "importlib.util.find_spec = lambda name: None if name == 'botocore' else find(name); "
        "from gscnn_platform.manifests import check; print(check(sys.argv[1]))"
    )
    said = _run("-c", hidden, str(good)).stdout
    assert "is aws, which needs boto3, here and for ray up: pip install -c constraints.txt -e '.[aws]'" in said


def test_on_premises_machines_follow_the_same_rules(tmp_path: Path, home: Path) -> None:
    config = yaml.safe_load((ROOT / "deploy/on-premises.yaml").read_text())
    key = home / "cluster_key"
    key.write_text("")
    key.chmod(0o600)
    config["auth"] = {"ssh_user": "user", "ssh_private_key": str(key)}
    config["provider"] |= {"head_ip": "10.0.0.1", "worker_ips": ["10.0.0.2", "10.0.0.3"]}
    path = tmp_path / "on-premises.yaml"
    path.write_text(re.sub(r"FILL_IN_\w+", "filled-in", yaml.safe_dump(config)))
    assert str(check(str(path))) == (
        f"{path}: no fault. Machines of your own: head 10.0.0.1 and 2 more, accessed by ssh as user; "
        "all stay up until ray down."
    )

    config["provider"]["worker_ips"][1] = "host3"
    text = re.sub(r"FILL_IN_\w+", "filled-in", yaml.safe_dump(config))
    path.write_text(text.replace("RAY_AUTH_MODE=token", "").replace("127.0.0.1", "0.0.0.0"))
    key.unlink()
    said = str(check(str(path)))
    for part in (
        "head_start_ray_commands[0]: starts Ray without RAY_AUTH_MODE=token",
        "worker_start_ray_commands[1]: starts Ray without RAY_AUTH_MODE=token",
        "has --dashboard-host=0.0.0.0, open to others",
        "provider.worker_ips[1]: is host3; set the machine's IP address, which is how Ray identifies it",
        f"auth.ssh_private_key: {key} is not on this machine",
    ):
        assert part in said, said
    assert said.endswith("5 faults, no place to fill in")


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'platform'}"}
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, cwd=ROOT, env=environment)


@pytest.mark.parametrize("name", ["cluster.yaml", "deploy/kuberay.yaml"])
def test_every_image_tag_has_the_versions_of_the_dockerfile(name: str) -> None:
    python = next(
        line.split(":")[1].split("-")[0]
        for line in (ROOT / "deploy/Dockerfile").read_text().splitlines()
        if line.startswith("FROM python:")
    )
    ray = next(
        line.removeprefix("ray==")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if line.startswith("ray==")
    )
    assert f"/gscnn:ray{ray}-py{python.replace('.', '')}\n" in (ROOT / name).read_text()
