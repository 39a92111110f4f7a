"""python -m jobs.export --checkpoint PATH_OR_MLFLOW_RUN --out model.onnx: a model for other programs, checked."""

import tyro

from gscnn_platform.config import ExportConfig
from jobs.command_line import user_errors


def main() -> None:
    with user_errors():
        config = tyro.cli(ExportConfig, description=__doc__)
        from gscnn_platform.exporting import describe, export_checkpoint

        print(describe(export_checkpoint(config)))


if __name__ == "__main__":
    main()
