"""One check of a store."""

from pydantic import Field

from gscnn_platform.config.base import Config


class VerifyConfig(Config):
    """One check of a whole store."""

    store: str
    """Folder that jobs.precompute wrote, a path or URI."""
    threads: int | None = Field(default=None, ge=1)
    """Files to read in parallel; None: the number of CPU cores."""
