"""The base of all configs."""

from pydantic import BaseModel, ConfigDict


class Config(BaseModel):
    """Base of all configs: immutable, and unknown names are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)
