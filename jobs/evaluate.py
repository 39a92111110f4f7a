"""python -m jobs.evaluate --checkpoint PATH_OR_MLFLOW_RUN --store DIR: scores per class, printed and tracked."""

import sys
from contextlib import nullcontext

import torch
import tyro

from gscnn_platform import cluster, tracking
from gscnn_platform.data.loader import whole_images
from gscnn_platform.data.store import StaleStoreError, open_store
from gscnn_platform.evaluation import EvalReport, EvaluateConfig, evaluate
from gscnn_platform.training.checkpoints import load_model
from jobs.command_line import user_errors


def run(config: EvaluateConfig) -> EvalReport:
    uri = tracking.tracking_uri(config.tracking, cluster.default_storage())
    of_run = tracking.is_run_id(config.checkpoint)
    with tracking.checkpoint_of_run(uri, config.checkpoint) if of_run else nullcontext(config.checkpoint) as path:
        loaded = load_model(path)
    splits = {"fingerprint": None, "train_split": config.split, "val_split": config.split}
    expected = loaded.config.data.model_copy(update=splits)
    store = open_store(cluster.resolve(config.store, "--store"), expected, loaded.config.model.num_classes)
    classes = store.manifest.identity.classes
    if classes != loaded.dataset.classes:
        raise StaleStoreError(f"{store.path} has classes {classes}, the model was trained on {loaded.dataset.classes}")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = loaded.model.to(device)
    batches = whole_images(store.split(config.split), config.batch_size, progress=f"evaluate {config.split}")
    report = evaluate(model, batches, classes, device, config.precision)
    print(report.table())
    try:
        tracking.log_evaluation(
            uri, loaded.run_id, report.metrics(f"{config.split}_evaluated"), report.table(), config.split
        )
    except tracking.TrackingError as error:
        print(f"not tracked: {error}", file=sys.stderr)
    return report


def main() -> None:
    with user_errors():
        run(tyro.cli(EvaluateConfig, description=__doc__))


if __name__ == "__main__":
    main()
