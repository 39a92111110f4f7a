"""python -m jobs.export --checkpoint runs/NAME --out model.onnx: exports a model for other programs, checked against
PyTorch."""

from gscnn_platform.command_line import read, user_errors
from gscnn_platform.config import ExportConfig
from gscnn_platform.tracking import check_checkpoint

FIRST = ("checkpoint", "out", "frames", "tolerance", "overwrite")
"""Options of the short help."""


def main() -> None:
    with user_errors():
        config = read(ExportConfig, __doc__, FIRST)
        check_checkpoint(config.checkpoint)
        from gscnn_platform.exporting import describe, export_checkpoint

        print(describe(export_checkpoint(config)))


if __name__ == "__main__":
    main()
