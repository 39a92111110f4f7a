"""Errors of a cluster, for users."""


class ClusterError(ValueError):
    """No cluster is available: none answers, it rejects this user, or none can be started here."""


class ResourcesError(ValueError):
    """The cluster has less than the run asks for."""
