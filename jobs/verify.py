"""python -m jobs.verify --store data/streets: checks a whole store and lists every fault; exits with status 1 if there
is one."""

import sys

from gscnn_platform.command_line import read, user_errors
from gscnn_platform.config import VerifyConfig


def main() -> None:
    with user_errors():
        config = read(VerifyConfig, __doc__)
        from gscnn_platform.data.store.verification import describe, verify

        result = verify(config)
        print(describe(result))
        sys.exit(1 if result.faults else 0)


if __name__ == "__main__":
    main()
