"""python -m jobs.predict --checkpoint PATH_OR_MLFLOW_RUN --input FILE_FOLDER_OR_GLOB --out DIR: images -> pictures."""

import tyro

from gscnn_platform.config import PredictConfig
from jobs.command_line import user_errors


def main() -> None:
    with user_errors():
        config = tyro.cli(PredictConfig, description=__doc__)
        from gscnn_platform.prediction import describe, predict

        print(describe(predict(config)))


if __name__ == "__main__":
    main()
