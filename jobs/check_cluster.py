"""python -m jobs.check_cluster cluster.yaml: finds faults in a cluster file before it costs anything."""

import sys

import tyro

from gscnn_platform.command_line import read, user_errors


def check_files(files: tyro.conf.Positional[tuple[str, ...]] = ("cluster.yaml",), /) -> None:
    """Lists every fault with its line and what to do, or describes the cluster; exits with status 1 on faults.

    Args:
        files: for `ray up` (cluster.yaml, deploy/on-premises.yaml) or KubeRay (deploy/kuberay.yaml).
    """
    from gscnn_platform.manifests import check

    reports = [check(file) for file in files]
    print(*reports, sep="\n\n")
    sys.exit(0 if all(report.ready for report in reports) else 1)


def main() -> None:
    with user_errors():
        read(check_files, __doc__)


if __name__ == "__main__":
    main()
