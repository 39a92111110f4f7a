"""Finds faults in the files that start a cluster before they cost anything. No torch; Ray is imported late."""

from gscnn_platform.manifests.checking import Report, check

__all__ = ["Report", "check"]
