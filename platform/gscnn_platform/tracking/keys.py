"""Keys of metrics in MLflow, chosen so that its UI shows the charts that people look at first.

The UI makes a section of charts of everything before a key's last slash, sorts the sections by name, and the charts in
a section too. Sections `train` and `val` therefore hold what is looked at, ten charts for a Gated-SCNN, and all other
metrics have sections that sort behind `val`. The rest of the project uses keys of its own, which `key_of` returns: the
charts in `train` and `val` have the same key in both, and runs that earlier versions tracked are read as well.
"""

from typing import Final

from gscnn_platform.names import metric_key, original_key
from gscnn_platform.scores import SCORES

LATER: Final = {
    "val/best_": "val_best/",
    "train_crops/": "visible_in_crops/",
    "train/grad_norm": "weights/grad_norm",
    "train/skipped": "weights/skipped",
} | {score.tracked_as: f"val_more/{score.key}" for score in SCORES if not score.charted_first}
"""Beginning of a key of ours -> the beginning of MLflow's key. None is the beginning of another one's."""


def mlflow_key(key: str) -> str:
    """Returns MLflow's key for a metric of ours, of `val/best_miou` `val_best/miou`; `key_of` reverses it."""
    return metric_key(_replaced(key, LATER))


def key_of(mlflow: str) -> str:
    """Returns our key for a metric's key in MLflow, whichever version tracked it."""
    return _replaced(original_key(mlflow), {later: first for first, later in LATER.items()})


def _replaced(key: str, beginnings: dict[str, str]) -> str:
    for beginning, other in beginnings.items():
        if key == beginning or (key.startswith(beginning) and beginning.endswith(("/", "_"))):
            return other + key.removeprefix(beginning)
    return key
