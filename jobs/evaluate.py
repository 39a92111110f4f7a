"""python -m jobs.evaluate --checkpoint PATH_OR_MLFLOW_RUN --store DIR: scores per class, an HTML page, tracked."""

import tyro

from gscnn_platform.evaluation import EvaluateConfig
from gscnn_platform.reporting.job import evaluate_checkpoint
from jobs.command_line import user_errors


def main() -> None:
    with user_errors():
        evaluate_checkpoint(tyro.cli(EvaluateConfig, description=__doc__))


if __name__ == "__main__":
    main()
