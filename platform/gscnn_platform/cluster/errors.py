"""What can be wrong with a cluster, in words for its users."""


class ClusterError(ValueError):
    """There is no cluster to run on: none answers, it refuses this user, or none can be started here."""


class ResourcesError(ValueError):
    """The cluster has less than the run asks for."""
