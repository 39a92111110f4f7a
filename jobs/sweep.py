"""python -m jobs.sweep streets --store data/streets --space loss-small: searches the settings of a recipe, trial by
trial."""

from gscnn_platform.command_line import choose, user_errors
from gscnn_platform.recipes import RECIPES, describe
from gscnn_platform.sweeps import SweepConfig, find_space, with_sets

FIRST = (
    "store",
    "space",
    "set",
    "num_trials",
    "search",
    "scheduler",
    "metric",
    "run_name",
    "register_as",
    "training.epochs",
)
"""Options of the short help."""


def main() -> None:
    sweeps = {name: (describe(recipe), SweepConfig.of(recipe)) for name, recipe in RECIPES.items()}
    with user_errors():
        config = choose(sweeps, __doc__, "recipe", FIRST, repeated=True)
        space = with_sets(find_space(config.space), config.set)
        from gscnn_platform.sweeps import run_sweep

        print(f"\n{run_sweep(config, space)}")


if __name__ == "__main__":
    main()
