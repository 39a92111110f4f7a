"""python -m jobs.predict --checkpoint runs/NAME --input frames drive.mp4 --out predictions: predicts label, colour,
edge and overlay pictures for images, and overlay videos for videos."""

from gscnn_platform.command_line import read, user_errors
from gscnn_platform.config import PredictConfig
from gscnn_platform.tracking import check_checkpoint

FIRST = (
    "checkpoint",
    "input",
    "out",
    "overwrite",
    "page",
    "pictures",
    "video",
    "fps",
    "num_workers",
    "inference.scales",
    "inference.flip",
    "inference.window",
)
"""Options of the short help."""


def main() -> None:
    with user_errors():
        config = read(PredictConfig, __doc__, FIRST)
        check_checkpoint(config.checkpoint)
        from gscnn_platform.prediction import describe, predict

        print(describe(predict(config)))


if __name__ == "__main__":
    main()
