"""Checks a file for AWS against EC2's own description of RunInstances, and for Ray's bad defaults. No network."""

import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import botocore
import botocore.session
from botocore.validate import ParamValidator

from gscnn_platform.manifests.documents import Document, Fault, Field, unfilled
from gscnn_platform.manifests.versions import image_faults
from gscnn_platform.text_files import suggestion

MISSING = {
    "InstanceType": "choose an instance type, such as g5.2xlarge",
    "ImageId": "Ray would use Ubuntu 18.04; set a machine image of your region",
    "IamInstanceProfile": "without it these nodes cannot read or write the bucket",
    "SecurityGroupIds": "Ray would create a group that opens port 22 to the whole internet",
}
"""Fields that each node type needs -> what happens without them."""

COMMANDS = {
    "setup_commands": "installs a nightly build of Ray",
    "head_setup_commands": "installs an unpinned boto3",
}
"""Fields that must be given, if only as [] -> what Ray's default for AWS does."""


def faults(document: Document) -> Iterator[Fault]:
    """The faults of a file for AWS, beyond Ray's schema."""
    yield from _region_faults(document)
    if document.get("provider", "cache_stopped_nodes") is not False:
        yield document.fault(
            ("provider", "cache_stopped_nodes"),
            "must be false: Ray would stop machines instead of terminating them, and their disks would cost money",
        )
    for field, effect in COMMANDS.items():
        if not isinstance(document.get(field), list):
            yield document.fault((field,), f"is not given, and Ray's default {effect}; write {field}: []")
    yield from image_faults(document, ("docker", "image"))
    head, types = document.get("head_node_type"), document.get("available_node_types")
    if not isinstance(types, dict):
        yield document.fault(("available_node_types",), "is not given: Ray would choose instance types itself")
        return
    for name in types:
        yield from _size_faults(document, name, name == head)
        yield from _node_faults(document, ("available_node_types", name, "node_config"))


def summary(document: Document) -> str:
    """Region, machines, their number, and what keeps running when idle."""
    types, head = document.get("available_node_types"), document.get("head_node_type")
    config = types[head]["node_config"]
    disk = sum(volume["Ebs"]["VolumeSize"] for volume in config.get("BlockDeviceMappings", []))
    most = document.get("max_workers")
    workers = ", ".join(
        f"{name} {of['node_config']['InstanceType']} up to {of.get('max_workers', most)}"
        for name, of in types.items()
        if name != head
    )
    return (
        f"AWS {document.get('provider', 'region')}: head {config['InstanceType']} that runs no tasks, "
        f"0 to {most} workers ({workers}). Idle, one {config['InstanceType']} and its {disk} GB disk keep running; "
        f"workers terminate after {document.get('idle_timeout_minutes')} minutes without work"
    )


def _region_faults(document: Document) -> Iterator[Fault]:
    region = document.get("provider", "region")
    regions = _session().get_available_regions("ec2")
    if not unfilled(region) and region not in regions:
        yield document.fault(
            ("provider", "region"), f"is {region}, not an AWS region{suggestion(str(region), regions)}"
        )


def _size_faults(document: Document, name: str, is_head: bool) -> Iterator[Fault]:
    """The head takes no tasks, and no worker stays when there is no work."""
    node = ("available_node_types", name)
    if not is_head:
        least = document.get(*node, "min_workers") or 0
        if least != 0:
            yield document.fault((*node, "min_workers"), f"is {least}: idle machines would cost money; set 0")
        return
    if document.get(*node, "resources", "CPU") != 0:
        yield document.fault((*node, "resources"), "must be {CPU: 0}, so that no task lands on the head")
    commands = document.get("head_start_ray_commands")
    for index, command in enumerate(commands if isinstance(commands, list) else []):
        if "ray start" in str(command) and not re.search(r"--num-cpus[= ]0\b", str(command)):
            yield document.fault(
                ("head_start_ray_commands", index), "lacks --num-cpus=0, so that no task lands on the head"
            )


def _node_faults(document: Document, field: Field) -> Iterator[Fault]:
    config = document.get(*field)
    if not isinstance(config, dict):
        return  # Ray's schema says so.
    for name, otherwise in MISSING.items():
        if not config.get(name):
            yield document.fault((*field, name), f"is not given: {otherwise}")
    yield from _id_faults(document, (*field, "ImageId"), "ami")
    groups = config.get("SecurityGroupIds")
    for index in range(len(groups) if isinstance(groups, list) else 0):
        yield from _id_faults(document, (*field, "SecurityGroupIds", index), "sg")
    yield from _request_faults(document, field, config)


def _id_faults(document: Document, field: Field, kind: str) -> Iterator[Fault]:
    value = document.get(*field)
    if (
        value is not None
        and not unfilled(value)
        and not re.fullmatch(rf"{kind}-([0-9a-f]{{8}}|[0-9a-f]{{17}})", str(value))
    ):
        yield document.fault(field, f"is {value}; an id looks like {kind}-0123456789abcdef0")


def _request_faults(document: Document, field: Field, config: Mapping[str, Any]) -> Iterator[Fault]:
    """What EC2 would reject in a request: unknown fields, wrong types, and values that are not in its lists."""
    # SubnetIds is Ray's own field: it uses one of them for each request.
    request = {name: value for name, value in config.items() if name != "SubnetIds"}
    shape = _run_instances()
    report = ParamValidator().validate({**request, "MinCount": 1, "MaxCount": 1}, shape)
    # generate_report() joins these into one text that lists every field of EC2.
    for kind, where, details in report._errors:
        inside = _field_of(where)
        if kind == "unknown field":
            wrong, known = details["unknown_param"], details["valid_names"]
            yield document.fault((*field, *inside, wrong), f"EC2 has no such field{suggestion(wrong, known)}")
        elif kind == "invalid type":
            types = " or ".join(re.findall(r"'(\w+)'", " ".join(details["valid_types"])))
            yield document.fault((*field, *inside), f"is {details['param']!r}; EC2 takes {types}")
        else:
            yield document.fault((*field, *inside), f"{kind}: {', '.join(map(str, details.values()))}")
    for inside, value, known in _unlisted(request, shape, ()):
        yield document.fault(
            (*field, *inside),
            f"is {value}, not among the {len(known)} that botocore {botocore.__version__} lists for EC2"
            f"{suggestion(value, known)}",
        )


def _unlisted(value: Any, shape: Any, field: Field) -> Iterator[tuple[Field, str, list[str]]]:
    """Values that are not in EC2's list for their field, which botocore's validator leaves to the server."""
    if shape.type_name == "structure" and isinstance(value, dict):
        for name in value.keys() & shape.members.keys():
            yield from _unlisted(value[name], shape.members[name], (*field, name))
    elif shape.type_name == "list" and isinstance(value, list):
        for position, item in enumerate(value):
            yield from _unlisted(item, shape.member, (*field, position))
    elif isinstance(value, str) and not unfilled(value):
        known = list(shape.metadata.get("enum", ()))
        if known and value not in known:
            yield field, value, known


def _field_of(where: str) -> Field:
    """botocore's `.BlockDeviceMappings[0].Ebs` -> ("BlockDeviceMappings", 0, "Ebs")."""
    return tuple(int(part) if part.isdigit() else part for part in re.findall(r"\w+", where))


@cache
def _session() -> botocore.session.Session:
    return botocore.session.get_session()


@cache
def _run_instances() -> Any:
    """The shape of the request, as botocore describes it; its attributes are descriptors that no type checker reads."""
    return _session().get_service_model("ec2").operation_model("RunInstances").input_shape
