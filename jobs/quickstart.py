"""python -m jobs.quickstart: drawn street scenes -> store -> trained Gated-SCNN -> scores, in minutes, offline."""

from gscnn_platform.command_line import read, user_errors

STORE = "data/streets"


def quickstart() -> None:
    """Runs precompute, train and evaluate one after the other, as they would be run by hand."""
    from gscnn_platform import cluster, tracking
    from gscnn_platform.config import EvaluateConfig, with_overrides
    from gscnn_platform.data.formats import FORMATS
    from gscnn_platform.data.precompute import PrecomputeConfig, precompute
    from gscnn_platform.recipes import RECIPES
    from gscnn_platform.training.trainer import run_training

    print("1/3  precompute: draw street scenes, derive edge priors and edge labels", flush=True)
    cluster.connect()  # For all three jobs: Ray Train needs more of a cluster than precompute does.
    precompute(PrecomputeConfig(format=FORMATS["streets"], out=STORE, overwrite=True))
    print("2/3  train: a small Gated-SCNN, tracked in MLflow", flush=True)
    result = run_training(with_overrides(RECIPES["streets"], {"store": STORE}))
    print("3/3  evaluate: the best checkpoint on the validation split", flush=True)
    from gscnn_platform.reporting.checkpoint_evaluation import evaluate_checkpoint

    evaluation = evaluate_checkpoint(EvaluateConfig(checkpoint=result.best_checkpoint, store=STORE))
    print(
        f"\ncheckpoint  {result.best_checkpoint}\n"
        f"report      {evaluation.page}\n"
        f"look at it  make ui, or {tracking.look_at(result.tracking_uri, result.run_id, indent=12)}"
    )


def main() -> None:
    with user_errors():
        read(quickstart, __doc__)


if __name__ == "__main__":
    main()
