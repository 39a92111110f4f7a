"""python -m jobs.evaluate --checkpoint runs/NAME --store data/streets: scores a checkpoint per class, as a table, an
HTML page and in MLflow."""

from gscnn_platform.command_line import read, user_errors
from gscnn_platform.config import EvaluateConfig

FIRST = ("checkpoint", "store", "split", "compare", "report", "inference.scales", "inference.flip", "inference.window")
"""Options of the short help."""


def main() -> None:
    with user_errors():
        config = read(EvaluateConfig, __doc__, FIRST)
        from gscnn_platform.reporting.start import evaluate_checkpoint

        evaluate_checkpoint(config)


if __name__ == "__main__":
    main()
