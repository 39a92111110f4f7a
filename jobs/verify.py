"""python -m jobs.verify --store DIR: reads a whole store and lists every fault; status 1 where there is one."""

import sys

import tyro

from gscnn_platform.config import VerifyConfig
from jobs.command_line import user_errors


def main() -> None:
    with user_errors():
        config = tyro.cli(VerifyConfig, description=__doc__)
        from gscnn_platform.data.verification import describe, verify

        result = verify(config)
    print(describe(result))
    sys.exit(1 if result.faults else 0)


if __name__ == "__main__":
    main()
