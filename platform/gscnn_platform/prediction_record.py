"""predictions.json: the settings of a folder of predictions, and whether it is complete.

It is written before the first picture, so that rerunning the command resumes an interrupted prediction.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

from gscnn.config import InferenceConfig
from gscnn_platform.config import Config, PredictConfig
from gscnn_platform.paths import AnyPath, below, write_whole
from gscnn_platform.runs.loading import LoadedModel

RECORD: Final = "predictions.json"


class PredictionSettings(Config):
    """Settings that the pictures depend on, apart from the images."""

    run_id: str
    """MLflow id of the run that trained the model; of the authors' file `sha256:` and its digest."""
    step: float
    """Optimizer step of the checkpoint."""
    trained_on: str
    """Fingerprint of the training store."""
    inference: InferenceConfig
    precision: Literal["float32", "bf16"]
    classes: tuple[str, ...]
    label_values: tuple[int, ...]
    """Raw label value of each class, as in the pictures in `label/`."""

    @classmethod
    def of(cls, config: PredictConfig, loaded: LoadedModel) -> "PredictionSettings":
        return cls(
            run_id=loaded.origin,
            step=loaded.metrics.get("step", 0.0),
            trained_on=loaded.dataset.fingerprint,
            inference=config.inference,
            precision=config.precision,
            classes=loaded.dataset.classes,
            label_values=tuple(loaded.dataset.raw_ids.tolist()),
        )


class PredictionRecord(Config):
    """The content of predictions.json."""

    state: Literal["running", "finished"]
    """`running` is also the state after an interruption."""
    checkpoint: str
    """As the user gave it."""
    settings: PredictionSettings
    predicted: tuple[str, ...] = ()
    """The predicted files; empty until all are predicted."""
    unreadable: Mapping[str, str] = {}
    """File -> reason."""

    def write(self, out: AnyPath) -> None:
        """Writes predictions.json in the output folder. Raises OSError."""
        out.mkdir(parents=True, exist_ok=True)
        write_whole(out / RECORD, (self.model_dump_json(indent=1) + "\n").encode())


def read_record(out: AnyPath) -> PredictionRecord | None:
    """The record in an output folder; None if there is none, or if this code cannot read it."""
    try:
        return PredictionRecord.model_validate_json((out / RECORD).read_bytes())
    except (FileNotFoundError, ValueError):
        return None


def pictures_in(out: AnyPath, kinds: Sequence[str]) -> set[str]:
    """`KIND/NAME.png` of the pictures below an output folder."""
    found = {str(below(path, out)) for path in out.glob("*/**/*.png")}
    return {picture for picture in found if picture.partition("/")[0] in kinds}


def changed(before: PredictionSettings, now: PredictionSettings) -> str:
    """The differences between two settings as text: `step was 40, is 80`."""
    theirs: dict[str, Any] = before.model_dump()
    ours: dict[str, Any] = now.model_dump()
    return "; ".join(f"{key} was {theirs[key]}, is {ours[key]}" for key in ours if theirs[key] != ours[key])
