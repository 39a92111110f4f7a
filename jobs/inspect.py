"""python -m jobs.inspect data/streets: shows what a store or a raw dataset holds and what is wrong with it, on one HTML
page."""

import sys

from gscnn_platform.command_line import read, user_errors
from gscnn_platform.config import InspectConfig

FIRST = ("format", "out", "recipe", "strict", "max_samples", "gallery", "track")
"""Options of the short help."""


def main() -> None:
    with user_errors():
        config = read(InspectConfig, __doc__, FIRST, needs="a store or the folder of a raw dataset")
        from gscnn_platform.inspection.start import inspect_dataset

        result = inspect_dataset(config)
        sys.exit(1 if config.strict and not result.is_clean else 0)


if __name__ == "__main__":
    main()
