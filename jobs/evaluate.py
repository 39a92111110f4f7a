"""python -m jobs.evaluate --checkpoint PATH_OR_MLFLOW_RUN --store DIR: scores per class, an HTML page, tracked."""

import tyro

from gscnn_platform.config import EvaluateConfig
from jobs.command_line import user_errors


def main() -> None:
    with user_errors():
        config = tyro.cli(EvaluateConfig, description=__doc__)
        from gscnn_platform.reporting.job import evaluate_checkpoint

        evaluate_checkpoint(config)


if __name__ == "__main__":
    main()
