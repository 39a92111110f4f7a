"""python -m jobs.export --checkpoint PATH_OR_MLFLOW_RUN --out model.onnx: a model for other programs, checked."""

import tyro

from gscnn_platform.exporting import ExportConfig, describe, export_checkpoint
from jobs.command_line import user_errors


def main() -> None:
    with user_errors():
        print(describe(export_checkpoint(tyro.cli(ExportConfig, description=__doc__))))


if __name__ == "__main__":
    main()
