"""The command line of all jobs: typed overrides of a config, short help, and readable errors."""

from gscnn_platform.command_line.errors import user_errors
from gscnn_platform.command_line.listing import list_jobs
from gscnn_platform.command_line.reading import choose, read

__all__ = ["choose", "list_jobs", "read", "user_errors"]
