"""python -m jobs.train streets --store data/streets: trains a recipe, with any of its fields changed on the command line."""

from gscnn_platform.command_line import choose, user_errors
from gscnn_platform.recipes import RECIPES

FIRST = (
    "store",
    "num_workers",
    "run_name",
    "storage",
    "seed",
    "model.backbone",
    "training.epochs",
    "training.batch_size",
    "optimizer.lr",
    "loss.edge",
)


def main() -> None:
    with user_errors():
        config = choose({name: (recipe.about, recipe) for name, recipe in RECIPES.items()}, __doc__, "recipe", FIRST)
        from gscnn_platform.tracking import ui_command
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
