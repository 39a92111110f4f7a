"""python -m jobs.train streets --store data/streets: trains a recipe, tracked in MLflow; rerun it to resume."""

from gscnn_platform.command_line import choose, user_errors
from gscnn_platform.recipes import RECIPES, describe

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
"""Options of the short help."""


def main() -> None:
    recipes = {name: (describe(recipe), recipe) for name, recipe in RECIPES.items()}
    with user_errors():
        config = choose(recipes, __doc__, "recipe", FIRST)
        from gscnn_platform.training.trainer import run_training

        print(run_training(config))


if __name__ == "__main__":
    main()
