"""python -m jobs.sweep RECIPE --store DIR --space SPACE: searches a recipe's settings, trial by trial."""

from gscnn_platform.domains import with_sets
from gscnn_platform.recipes import RECIPES
from gscnn_platform.search_spaces import find_space
from gscnn_platform.tracking import ui_command
from gscnn_platform.tuning import SweepConfig, run_sweep
from jobs.command_line import choose, user_errors


def main() -> None:
    config = choose({name: (f"on recipe {name}", SweepConfig.of(recipe)) for name, recipe in RECIPES.items()}, __doc__)
    with user_errors():
        result = run_sweep(config, with_sets(find_space(config.space), config.set))
    print(result.summary())
    print(f"MLflow run   {result.run_id}\nlook at it   {ui_command(result.tracking_uri)}")


if __name__ == "__main__":
    main()
