"""Checks a RayJob for KubeRay: no misspelt fields, no open ports, deleted when its work is done."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from gscnn_platform.manifests.documents import Document, Fault, Field
from gscnn_platform.manifests.schemas import schema_faults
from gscnn_platform.manifests.versions import image_faults, version_faults

CLUSTER: Field = ("spec", "rayClusterSpec")
HEAD: Field = (*CLUSTER, "headGroupSpec")

SECRETS = ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "RAY_AUTH_TOKEN", "AWS_SECRET_ACCESS_KEY")
"""Environment variables whose value must come from a Secret."""

LEAST_GRACE_S = 120
"""Seconds that a checkpoint may take, as in jobs/runtime_env.yaml; Kubernetes' default is 30 s."""


def faults(document: Document) -> Iterator[Fault]:
    """The faults of a RayJob."""
    wrong_shape = list(schema_faults(document, schema()))
    yield from wrong_shape
    if wrong_shape:
        return
    yield from _cluster_faults(document)
    yield from _job_faults(document)
    for group in _groups(document):
        yield from _pod_faults(document, (*group, "template", "spec"))


@cache
def schema() -> dict[str, Any]:
    """The schema of a RayJob; every object refuses unknown fields."""
    return yaml.safe_load((Path(__file__).parent / "kuberay_schema.yaml").read_text(encoding="utf-8"))


def summary(document: Document) -> str:
    """A description of the cluster: when it ends, and its idle cost."""
    groups = document.get(*CLUSTER, "workerGroupSpecs") or []
    workers = ", ".join(f"{group['groupName']} up to {group.get('maxReplicas')}" for group in groups)
    idle = document.get(*CLUSTER, "autoscalerOptions", "idleTimeoutSeconds")
    head = document.get(*HEAD, "template", "spec", "containers", 0, "resources", "requests") or {}
    end = {
        "InteractiveMode": "it waits for your job while the head's pod runs, and ends after it",
    }.get(document.get("spec", "submissionMode"), "it ends with its job")
    return (
        f"RayJob {document.get('metadata', 'name')}: head of {head.get('cpu')} CPUs and {head.get('memory')} that runs "
        f"no tasks, workers {workers}, removed after {60 if idle is None else idle} s without work; {end}"
    )


def _groups(document: Document) -> Iterator[Field]:
    yield HEAD
    for index in range(len(document.get(*CLUSTER, "workerGroupSpecs") or [])):
        yield (*CLUSTER, "workerGroupSpecs", index)


def _cluster_faults(document: Document) -> Iterator[Fault]:
    yield from version_faults(document, (*CLUSTER, "rayVersion"))
    mode = document.get(*CLUSTER, "authOptions", "mode")
    if mode != "token":
        yield document.fault(
            (*CLUSTER, "authOptions", "mode"),
            f"is {mode}: anyone who reaches the head in the cluster could run code; set authOptions: {{mode: token}}",
        )
    service = document.get(*HEAD, "serviceType")
    if service not in (None, "ClusterIP"):
        yield document.fault(
            (*HEAD, "serviceType"), f"is {service}, open to others; set ClusterIP and use kubectl port-forward"
        )
    if document.get(*HEAD, "enableIngress"):
        yield document.fault((*HEAD, "enableIngress"), "is true, open to others; use kubectl port-forward")
    if document.get(*HEAD, "rayStartParams", "num-cpus") != "0":
        yield document.fault((*HEAD, "rayStartParams"), 'needs num-cpus: "0", so that no task lands on the head')
    if document.get(*CLUSTER, "enableInTreeAutoscaling") is not True:
        yield document.fault((*CLUSTER, "enableInTreeAutoscaling"), "must be true: no worker would be added or removed")
    for group in list(_groups(document))[1:]:
        least = document.get(*group, "minReplicas")
        if least:
            yield document.fault((*group, "minReplicas"), f"is {least}: idle pods would cost money; set 0")


def _job_faults(document: Document) -> Iterator[Fault]:
    job = document.get("spec")
    if job.get("shutdownAfterJobFinishes") is not True:
        yield document.fault(("spec", "shutdownAfterJobFinishes"), "must be true: the cluster would outlive its job")
    interactive = job.get("submissionMode") == "InteractiveMode"
    if interactive and "entrypoint" in job:
        yield document.fault(
            ("spec", "entrypoint"), "is never run in InteractiveMode, which waits for your job; delete it"
        )
    if not interactive and not job.get("entrypoint"):
        yield document.fault(("spec", "entrypoint"), "is not given: set a command, or submissionMode: InteractiveMode")


def _pod_faults(document: Document, pod: Field) -> Iterator[Fault]:
    container = (*pod, "containers", 0)
    yield from image_faults(document, (*container, "image"))
    grace = document.get(*pod, "terminationGracePeriodSeconds")
    if grace is None or grace < LEAST_GRACE_S:
        yield document.fault(
            (*pod, "terminationGracePeriodSeconds"),
            f"is {'30 by default' if grace is None else grace}; a checkpoint may take {LEAST_GRACE_S} s before SIGKILL",
        )
    for index, variable in enumerate(document.get(*container, "env") or []):
        if variable["name"] in SECRETS and "value" in variable:
            yield document.fault(
                (*container, "env", index),
                f"{variable['name']} is readable by everyone here; take it from a Secret with valueFrom.secretKeyRef",
            )
    memory = {
        volume["name"]
        for volume in document.get(*pod, "volumes") or []
        if volume.get("emptyDir", {}).get("medium") == "Memory"
    }
    mounts = document.get(*container, "volumeMounts") or []
    if not any(mount["mountPath"] == "/dev/shm" and mount["name"] in memory for mount in mounts):
        yield document.fault(
            (*container, "volumeMounts"),
            "needs /dev/shm from an emptyDir of medium Memory: without it DataLoader processes have 64 MB",
        )
