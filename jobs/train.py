"""python -m jobs.train RECIPE --store DIR: trains a recipe, with any of its fields changed on the command line."""

from gscnn_platform.recipes import RECIPES
from jobs.command_line import choose, user_errors


def main() -> None:
    config = choose({name: (f"recipe {name}", recipe) for name, recipe in RECIPES.items()}, __doc__)
    with user_errors():
        from gscnn_platform.training.trainer import run_training

        result = run_training(config)
    print(
        f"best validation mIoU {result.best_metrics['val/miou']:.4f} at epoch {result.best_metrics['epoch']:.0f}\n"
        f"best checkpoint  {result.best_checkpoint}\n"
        f"last checkpoint  {result.last_checkpoint}\n"
        f"MLflow run       {result.run_id}\n"
        f"look at it       {ui_command(result.tracking_uri)}"
    )


if __name__ == "__main__":
    main()
