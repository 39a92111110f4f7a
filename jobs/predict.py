"""python -m jobs.predict --checkpoint PATH_OR_MLFLOW_RUN --input FILE_FOLDER_OR_GLOB --out DIR: images -> pictures."""

import tyro

from gscnn_platform.prediction import PredictConfig, describe, predict
from jobs.command_line import user_errors


def main() -> None:
    with user_errors():
        print(describe(predict(tyro.cli(PredictConfig, description=__doc__))))


if __name__ == "__main__":
    main()
