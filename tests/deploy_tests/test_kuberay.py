"""The check of deploy/kuberay.yaml: the committed file, and mistakes that Kubernetes would accept silently."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from gscnn_platform.manifests import check, kuberay
from tests.deploy_tests.filling import ROOT, filled, line_of, replace

FILE = "deploy/kuberay.yaml"


@pytest.fixture
def good(tmp_path: Path) -> Path:
    return filled(FILE, tmp_path)


def test_the_committed_file_lacks_only_the_values_to_fill_in() -> None:
    report = check(str(ROOT / FILE))
    assert not report.faults
    start, end = (line_of(ROOT / FILE, text) for text in ("# ---- Fill in", "# ---- The rest"))
    assert all(start < (fault.line or 0) < end for fault in report.placeholders)
    assert str(report).endswith("kuberay.yaml: no fault, 4 places to fill in")


def test_a_filled_in_file_is_valid_and_its_end_is_reported(good: Path) -> None:
    assert str(check(str(good))) == (
        f"{good}: no fault. RayJob gscnn: head of 4 CPUs and 16Gi that runs no tasks, workers gpu up to 4, "
        "removed after 900 s without work; it ends with its job."
    )


def test_the_same_file_waits_for_ray_job_submit_without_its_entrypoint(good: Path) -> None:
    text = replace(good, "submissionMode: K8sJobMode", "submissionMode: InteractiveMode").read_text()
    start, end = text.index("  entrypoint:"), text.index("  # ---- The rest")
    good.write_text(text[:start] + text[end:])
    assert str(check(str(good))).endswith("it waits for your job while the head's pod runs, and ends after it.")


MISTAKES = {
    "a placeholder that is still there": (
        "http://10.0.0.5:5000",
        "FILL_IN_MLFLOW_URI",
        "mlflow: &",
        "metadata.annotations.mlflow: must still be filled in: FILL_IN_MLFLOW_URI",
    ),
    "a misspelt field of the job": (
        "shutdownAfterJobFinishes",
        "shutdownAfterJobFinished",
        "shutdownAfterJobFinished",
        "spec.shutdownAfterJobFinished: there is no such field; did you mean shutdownAfterJobFinishes?",
    ),
    "a misspelt field of a pod": (
        "            tolerations:",
        "            toleration:",
        "toleration:",
        "spec.rayClusterSpec.workerGroupSpecs[0].template.spec.toleration: there is no such field; "
        "did you mean tolerations?",
    ),
    "a number where Ray wants text": (
        'num-cpus: "0"',
        "num-cpus: 0",
        "num-cpus",
        "spec.rayClusterSpec.headGroupSpec.rayStartParams.num-cpus: is 0; it must be text",
    ),
    "a mode that is none": (
        "submissionMode: K8sJobMode",
        "submissionMode: K8SJobMode",
        "submissionMode: K8S",
        "spec.submissionMode: is 'K8SJobMode'; it must be K8sJobMode or HTTPMode or SidecarMode or InteractiveMode; "
        "did you mean K8sJobMode?",
    ),
    "token mode off": (
        "authOptions: {mode: token,",
        "authOptions: {mode: disabled,",
        "authOptions: {mode",
        "spec.rayClusterSpec.authOptions.mode: is disabled: anyone who reaches the head in the cluster could run code; "
        "set authOptions: {mode: token}",
    ),
    "another Ray": (
        "rayVersion: 2.60.0",
        "rayVersion: 2.59.1",
        "rayVersion",
        "spec.rayClusterSpec.rayVersion: is 2.59.1, and constraints.txt has ray==2.60.0; they must be the same",
    ),
    "an image of another Ray": (
        "gscnn:ray2.60.0",
        "gscnn:ray2.60.01",
        "&image",
        "spec.rayClusterSpec.headGroupSpec.template.spec.containers[0].image: is ",
    ),
    "a head for all the world": (
        "serviceType: ClusterIP",
        "serviceType: LoadBalancer",
        "serviceType",
        "spec.rayClusterSpec.headGroupSpec.serviceType: is LoadBalancer, open to others; "
        "set ClusterIP and use kubectl port-forward",
    ),
    "a password in the file": (
        "valueFrom: {secretKeyRef: {name: gscnn-mlflow, key: password}}",
        "value: swordfish",
        "- name: MLFLOW_TRACKING_PASSWORD",
        "spec.rayClusterSpec.headGroupSpec.template.spec.containers[0].env[6]: "
        "MLFLOW_TRACKING_PASSWORD is readable by everyone here; take it from a Secret with valueFrom.secretKeyRef",
    ),
    "no time for a checkpoint": (
        "            terminationGracePeriodSeconds: 150\n",
        "",
        "        template:\n          spec:\n            securityContext",
        "spec.rayClusterSpec.workerGroupSpecs[0].template.spec.terminationGracePeriodSeconds: is 30 by default; "
        "a checkpoint may take 120 s before SIGKILL",
    ),
    "no shared memory": (
        "emptyDir: {medium: Memory, sizeLimit: 16Gi}",
        "emptyDir: {sizeLimit: 16Gi}",
        "volumeMounts: *mounts",
        "spec.rayClusterSpec.workerGroupSpecs[0].template.spec.containers[0].volumeMounts: needs /dev/shm from an "
        "emptyDir of medium Memory: without it DataLoader processes have 64 MB",
    ),
    "workers that stay": (
        "minReplicas: 0",
        "minReplicas: 1",
        "minReplicas",
        "spec.rayClusterSpec.workerGroupSpecs[0].minReplicas: is 1: idle pods would cost money; set 0",
    ),
    "a cluster that outlives its job": (
        "shutdownAfterJobFinishes: true",
        "shutdownAfterJobFinishes: false",
        "shutdownAfterJobFinishes",
        "spec.shutdownAfterJobFinishes: must be true: the cluster would outlive its job",
    ),
    "an entrypoint that is never run": (
        "K8sJobMode",
        "InteractiveMode",
        "entrypoint: >-",
        "spec.entrypoint: is never run in InteractiveMode, which waits for your job; delete it",
    ),
}
"""Mistake -> old text, new text, text on the reported line, message."""


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_reported_with_line_field_and_remedy(mistake: str, good: Path) -> None:
    old, new, place, what = MISTAKES[mistake]
    report = check(str(replace(good, old, new)))
    lines = [str(fault) for fault in (*report.placeholders, *report.faults)]
    assert any(line.startswith(f"{good}:") and f": {what}" in line for line in lines), lines
    if "\n" not in place:
        assert any(line.startswith(f"{good}:{line_of(good, place)}: {what}") for line in lines), lines


def test_an_extra_letter_in_any_field_of_the_file_is_found(good: Path) -> None:
    """Changes each key below `spec` in turn, except those that users may choose freely."""
    document, schema = yaml.safe_load(good.read_text()), jsonschema.Draft7Validator(kuberay.schema())
    slips = [(holder, key) for holder, key, of in _keys(document["spec"], "spec") if of not in FREE]
    assert len(slips) > 80
    for holder, key in slips:
        holder[f"{key}x"] = holder.pop(key)
        assert any(f"'{key}x' was unexpected" in error.message for error in schema.iter_errors(document)), key
        holder[key] = holder.pop(f"{key}x")


FREE = {"rayStartParams", "requests", "limits"}
"""Fields whose keys Ray or Kubernetes' nodes define."""


def _keys(value: Any, name: str) -> Iterator[tuple[dict[str, Any], str, str]]:
    """Yields every mapping below `value` with each of its keys, and the field that it belongs to."""
    if isinstance(value, list):
        for item in value:
            yield from _keys(item, name)
    elif isinstance(value, dict):
        for key in list(value):
            yield value, key, name
            yield from _keys(value[key], key)


def test_the_schema_rejects_unknown_fields_except_where_names_are_free() -> None:
    open_objects = Counter(_open_objects(kuberay.schema(), ()))
    assert open_objects.keys() <= {
        "affinity",
        "capabilities",
        "seccompProfile",
        "fieldRef",
        "secret",
        "configMap",
        "items",
    }


def _open_objects(schema: Any, path: tuple[str, ...]) -> Iterator[str]:
    if isinstance(schema, dict):
        if schema.get("type") == "object" and "additionalProperties" not in schema:
            yield path[-1]
        for key, value in schema.items():
            yield from _open_objects(value, (*path, key))


def test_each_pod_has_the_same_variables_and_its_secrets_come_from_secrets(good: Path) -> None:
    cluster = yaml.safe_load(good.read_text())["spec"]["rayClusterSpec"]
    pods = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    for pod in pods:
        variables = {each["name"]: each for each in pod["template"]["spec"]["containers"][0]["env"]}
        assert variables["MLFLOW_TRACKING_URI"]["value"] == "http://10.0.0.5:5000"
        for name, key in (("MLFLOW_TRACKING_USERNAME", "username"), ("MLFLOW_TRACKING_PASSWORD", "password")):
            reference = {"secretKeyRef": {"name": "gscnn-mlflow", "key": key}}
            assert variables[name] == {"name": name, "valueFrom": reference}


def test_a_pods_pre_stop_hook_takes_as_long_as_its_notice(good: Path) -> None:
    """The notice to Ray has the number of seconds that the pod then waits, within Kubernetes' own limit."""
    cluster = yaml.safe_load(good.read_text())["spec"]["rayClusterSpec"]
    spec = cluster["workerGroupSpecs"][0]["template"]["spec"]
    command = spec["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][-1].split()
    notice = int(command[command.index("--deadline-remaining-seconds") + 1].rstrip(";"))
    assert notice == int(command[command.index("sleep") + 1])
    assert notice < spec["terminationGracePeriodSeconds"]
