"""python -m jobs.sweep RECIPE --store DIR --space SPACE: searches a recipe's settings, trial by trial."""

from typing import Annotated

import tyro

from gscnn_platform.domains import with_sets
from gscnn_platform.recipes import RECIPES
from gscnn_platform.search_spaces import find_space
from gscnn_platform.tuning import SweepConfig
from jobs.command_line import choose, user_errors


class Sweep(SweepConfig):
    # A field of this name would hide a method of pydantic's class.
    register_as: Annotated[str | None, tyro.conf.arg(name="register")] = None
    """Name in MLflow's model registry under which the best trial's model is registered, with the alias `best`."""


def main() -> None:
    sweeps = {name: (f"on recipe {name}", Sweep.of(recipe)) for name, recipe in RECIPES.items()}
    chosen = choose(sweeps, __doc__, repeated=True)
    config = SweepConfig.model_validate(chosen.model_dump())
    with user_errors():
        from gscnn_platform.tuning import run_sweep

        result = run_sweep(config, with_sets(find_space(config.space), config.set))
    from gscnn_platform.tracking import ui_command

    print(f"\n{result}\nMLflow run   {result.run_id}\nlook at it   {ui_command(result.tracking_uri)}")


if __name__ == "__main__":
    main()
