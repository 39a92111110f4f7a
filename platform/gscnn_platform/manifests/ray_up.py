"""Checks a file for `ray up`, on AWS or on your own machines: Ray's schema, open ports, and idle costs."""

import importlib.util
import ipaddress
import json
import logging
import re
import shlex
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

from gscnn_platform import machine
from gscnn_platform.manifests.documents import Document, Fault, unfilled
from gscnn_platform.manifests.schemas import schema_faults

LOOPBACK = ("127.0.0.1", "localhost", "::1")

START_COMMANDS = {"head": "head_start_ray_commands", "worker": "worker_start_ray_commands"}
"""Role -> the field with its commands."""

TOKEN_MODE = "RAY_AUTH_MODE=token"


def faults(document: Document) -> Iterator[Fault]:
    """The faults of a file for `ray up`; those that Ray finds come last, because importing Ray takes a second."""
    wrong_shape = list(schema_faults(document, _ray_schema()))
    yield from wrong_shape
    for role in START_COMMANDS:
        yield from _start_faults(document, role)
    yield from _file_mount_faults(document)
    provider = document.get("provider", "type")
    if provider == "aws":
        yield from _aws_faults(document)
    elif provider == "local":
        yield from _local_faults(document)
    elif provider is not None:
        yield document.fault(("provider", "type"), f"is {provider}; this check knows aws and local")
    if not wrong_shape:
        yield from _rays_own_faults(document)


def summary(document: Document) -> str:
    """A description of the cluster and its idle cost."""
    if document.get("provider", "type") == "aws":
        from gscnn_platform.manifests import aws

        return aws.summary(document)
    workers = document.get("provider", "worker_ips") or []
    return (
        f"Machines of your own: head {document.get('provider', 'head_ip')} and {len(workers)} more, "
        f"accessed by ssh as {document.get('auth', 'ssh_user')}; all stay up until ray down"
    )


def _ray_schema() -> dict[str, Any]:
    """The schema that Ray comes with, found without importing Ray, which takes a second."""
    ray = importlib.util.find_spec("ray")
    assert ray is not None and ray.origin is not None, "Ray is a dependency of this package"
    return json.loads((Path(ray.origin).parent / "autoscaler/ray-schema.json").read_text(encoding="utf-8"))


def _rays_own_faults(document: Document) -> Iterator[Fault]:
    """Ray's own errors beyond its schema, after it has added its defaults."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    logging.getLogger("ray.autoscaler").setLevel(logging.WARNING)  # It logs each default that it fills in.
    try:
        validate_config(prepare_config(deepcopy(document.value)))
    except (ValueError, RuntimeError, AssertionError) as error:
        yield document.fault((), f"Ray refuses it: {error}")


def _start_faults(document: Document, role: str) -> Iterator[Fault]:
    """Faults of the commands that start Ray: the token, the dashboard, and the options of a head."""
    field = START_COMMANDS[role]
    commands = document.get(field)
    if not isinstance(commands, list):
        yield document.fault((field,), "is not given: Ray's default requires no token and opens the dashboard to all")
        return
    # YAML reads text with a colon in it as a mapping.
    starts = [(index, str(command)) for index, command in enumerate(commands) if "ray start" in str(command)]
    if not starts:
        yield document.fault((field,), "has no `ray start`")
    for index, command in starts:
        if TOKEN_MODE not in command and not any(TOKEN_MODE in option for option in docker_options(document, role)):
            yield document.fault(
                (field, index),
                f"starts Ray without {TOKEN_MODE}: anyone who reaches a port could run code; "
                f"put it before `ray start`, or `--env {TOKEN_MODE}` into docker.run_options",
            )
        if role == "head":
            yield from _head_faults(document, index, command)


def _head_faults(document: Document, index: int, command: str) -> Iterator[Fault]:
    field = (START_COMMANDS["head"], index)
    dashboard = re.search(r"--dashboard-host[= ](\S+)", command)
    if dashboard is not None and dashboard[1] not in LOOPBACK:
        yield document.fault(
            field, f"has --dashboard-host={dashboard[1]}, open to others; give 127.0.0.1 and use `ray dashboard`"
        )
    if "--autoscaling-config" not in command:
        yield document.fault(
            field, "lacks --autoscaling-config=~/ray_bootstrap_config.yaml: no worker would ever start"
        )


def docker_options(document: Document, role: str) -> list[str]:
    """The `docker run` options of a role: run_options and the role's own."""
    options = [document.get("docker", name) for name in ("run_options", f"{role}_run_options")]
    return [str(option) for group in options if isinstance(group, list) for option in group]


def _file_mount_faults(document: Document) -> Iterator[Fault]:
    """`ray up` opens these files only after it has started a machine, so a missing one costs money."""
    mounts = document.get("file_mounts")
    mounts = mounts if isinstance(mounts, dict) else {}
    if not any(str(remote).endswith(".ray/auth_token") for remote in mounts):
        yield document.fault(
            ("file_mounts",), "lacks ~/.ray/auth_token: ~/.ray/auth_token, the token that every node needs"
        )
    for remote, local in mounts.items():
        path = machine.expanded(str(local))
        if not path.exists():
            yield document.fault(("file_mounts", remote), f"{local} is not on this machine; {_how_to_make(path)}")
        elif path.is_file() and path.stat().st_mode & 0o077:
            yield document.fault(
                ("file_mounts", remote), f"{local} can be read by others here and on every node: chmod 600 {local}"
            )


def _how_to_make(path: Path) -> str:
    match path.name:
        case "auth_token":
            return f"ray get-auth-token --generate; chmod 600 {shlex.quote(str(path))}"
        case "credentials":
            return "deploy/mlflow.md says what to write in it; without a tracking server, delete the line"
        case _:
            return "create it, or delete the line"


def _aws_faults(document: Document) -> Iterator[Fault]:
    if importlib.util.find_spec("botocore") is None:
        yield document.fault(
            ("provider", "type"),
            "is aws, which needs boto3, here and for ray up: pip install -c constraints.txt -e '.[aws]'",
        )
        return
    from gscnn_platform.manifests import aws

    yield from aws.faults(document)


def _local_faults(document: Document) -> Iterator[Fault]:
    """Faults of a cluster of your own machines: addresses and the ssh key."""
    workers = document.get("provider", "worker_ips")
    addresses = {("provider", "head_ip"): document.get("provider", "head_ip")}
    addresses |= {
        ("provider", "worker_ips", i): ip for i, ip in enumerate(workers if isinstance(workers, list) else [])
    }
    for field, address in addresses.items():
        if not unfilled(address) and not _is_address(address):
            yield document.fault(field, f"is {address}; set the machine's IP address, which is how Ray identifies it")
    if not isinstance(workers, list):
        yield document.fault(("provider", "worker_ips"), "is not given: list the other machines, or []")
    key = document.get("auth", "ssh_private_key")
    if key is not None and not unfilled(key) and not machine.expanded(str(key)).is_file():
        yield document.fault(("auth", "ssh_private_key"), f"{key} is not on this machine; ssh-keygen -t ed25519 -f …")


def _is_address(text: object) -> bool:
    try:
        ipaddress.ip_address(str(text))
    except ValueError:
        return False
    return True
