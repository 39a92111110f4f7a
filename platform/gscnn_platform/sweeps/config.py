"""The config of a sweep: a recipe and the settings of the search."""

from collections.abc import Mapping
from typing import Any, Final, Literal, Self

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from gscnn_platform.config import Config, Execution, ExperimentConfig, Inline, Metric, TrainingConfig, with_overrides

OWN_METRIC: Final = TrainingConfig().best_metric
"""Default of `training.best_metric`, which a sweep takes as not set: the sweep's own metric applies."""


class SweepError(ValueError):
    """The sweep cannot run or resume with these settings."""


class SweepConfig(Config):
    """A recipe with the settings of every trial, and the sweep's own settings. `run_name` names the sweep."""

    recipe: Inline[ExperimentConfig]
    """The settings of every trial. In options and records, its fields are on one level with the sweep's own."""

    space: str | None = None
    """Search space: loss, loss-small, optimizer, finetune, classes, seeds, ablation; None: only the keys in `set`."""
    set: tuple[str, ...] = ()
    """Additional keys to search, or other domains, such as 'loss.edge=loguniform(1, 50)'."""
    num_trials: int | None = Field(default=None, ge=1, le=100_000)
    """Number of trials; None: all of a grid, else 16."""
    search: Literal["random", "optuna", "grid"] | None = None
    """Search method; None: the default of the space."""
    scheduler: Literal["asha", "pbt", "fifo"] = "fifo"
    """asha stops poor trials early, pbt continues poor trials from good ones, fifo runs all trials to the end."""
    metric: Metric = "miou"
    """Validation score to maximize; it picks each trial's best checkpoint too, in place of `training.best_metric`."""
    grace_epochs: int | None = Field(default=None, ge=1)
    """ASHA's grace period and PBT's perturbation interval, in epochs; None: an eighth of the epochs, and at least the
    epochs up to a validation."""
    max_concurrent: Execution[int | None] = Field(default=None, ge=1)
    """Maximum number of parallel trials; None: as many as fit on the cluster at the start. With `wait_for_nodes`, nodes
    are requested for this many trials."""
    max_trial_failures: Execution[int] = Field(default=1, ge=0)
    """Maximum number of restarts of a trial, from its last checkpoint, after its process failed."""
    register_as: Execution[str | None] = None
    """Name under which the best trial's model is registered in MLflow's model registry, with the alias `best`."""

    @model_validator(mode="before")
    @classmethod
    def _nested(cls, fields: Any) -> Any:
        if not isinstance(fields, Mapping) or "recipe" in fields:
            return fields
        recipe = {key: value for key, value in fields.items() if key not in cls.model_fields}
        return {"recipe": recipe, **{key: value for key, value in fields.items() if key in cls.model_fields}}

    @model_serializer(mode="wrap")
    def _flat(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields = dump(self)
        return {**fields.pop("recipe"), **fields}

    @model_validator(mode="after")
    def _one_metric(self) -> Self:
        asked = self.recipe.training.best_metric
        if asked not in (self.metric, OWN_METRIC):
            raise ValueError(
                f"`training.best_metric` is {asked}: a sweep selects checkpoints by `metric`, which is {self.metric}: "
                f"pass `metric` {asked} instead"
            )
        return self

    @classmethod
    def of(cls, recipe: ExperimentConfig) -> Self:
        """Returns a sweep over a recipe that maximizes the recipe's metric and does not validate untrained models."""
        changes = {"training.best_metric": OWN_METRIC, "training.validate_at_start": False}
        return cls(recipe=with_overrides(recipe, changes), metric=recipe.training.best_metric)

    @property
    def trial_config(self) -> ExperimentConfig:
        """The base config of every trial: the recipe, with checkpoints selected by the sweep's metric."""
        return with_overrides(self.recipe, {"training.best_metric": self.metric})

    @property
    def grace(self) -> int:
        """Epochs before the scheduler's first decision: a multiple of the epochs between two validations."""
        every, epochs = self.recipe.training.validate_every, self.recipe.training.epochs
        return -(-(self.grace_epochs or max(1, epochs // 8)) // every) * every
