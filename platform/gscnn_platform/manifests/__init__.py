"""What is wrong with the files that start a cluster, found before they cost anything. No torch, and Ray late."""

from gscnn_platform.manifests.checking import Report, check

__all__ = ["Report", "check"]
