"""python -m jobs.check_cluster FILE...: what is wrong with a cluster's file, before it costs anything."""

import sys

import tyro

from gscnn_platform.manifests import check


def main(files: tyro.conf.Positional[tuple[str, ...]] = ("cluster.yaml",), /) -> None:
    """Lists every fault with its line and the way out, or says what the cluster is; status 1 where there is a fault.

    Args:
        files: for `ray up` (cluster.yaml, deploy/on-premises.yaml) or KubeRay (deploy/kuberay.yaml).
    """
    reports = [check(file) for file in files]
    print(*reports, sep="\n\n")
    sys.exit(0 if all(report.ready for report in reports) else 1)


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
