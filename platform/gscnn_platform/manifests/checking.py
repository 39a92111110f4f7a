"""Chooses the check of a file, and formats the result."""

from dataclasses import dataclass
from pathlib import Path

from gscnn_platform.manifests.documents import Document, Fault, UnreadableError


@dataclass(frozen=True)
class Report:
    file: str
    placeholders: tuple[Fault, ...] = ()
    """Fields that the user must still fill in."""
    faults: tuple[Fault, ...] = ()
    """All other faults."""
    summary: str = ""
    """A description of the cluster; empty if the file is not ready."""

    @property
    def ready(self) -> bool:
        return not self.placeholders and not self.faults

    def __str__(self) -> str:
        if self.ready:
            return f"{self.file}: no fault. {self.summary}."
        lines = sorted((*self.placeholders, *self.faults), key=lambda fault: fault.line or 0)
        counts = (_count(self.faults, "fault"), _count(self.placeholders, "place") + " to fill in")
        return "\n".join([*map(str, lines), f"{self.file}: {', '.join(counts)}"])


def check(file: str) -> Report:
    """Checks a file for `ray up` or KubeRay as far as possible without a network."""
    try:
        document = Document(Path(file))
    except UnreadableError as error:
        return Report(file, faults=(error.fault,))
    # Imported late, because each has its own dependencies: botocore takes 0.4 s.
    if document.get("kind") is not None:
        from gscnn_platform.manifests import kuberay as manifest
    elif document.get("provider") is not None:
        from gscnn_platform.manifests import ray_up as manifest
    else:
        what = "has neither `provider`, for `ray up`, nor `kind`, for Kubernetes"
        return Report(file, faults=(document.fault((), what),))
    placeholders, faults = tuple(document.placeholders()), tuple(manifest.faults(document))
    ready = not placeholders and not faults
    return Report(file, placeholders, faults, manifest.summary(document) if ready else "")


def _count(faults: tuple[Fault, ...], noun: str) -> str:
    match len(faults):
        case 0:
            return f"no {noun}"
        case 1:
            return f"1 {noun}"
        case many:
            return f"{many} {noun}s"
