"""What all jobs' command lines share: typed overrides of a config, short help, and errors that a user can read."""

from gscnn_platform.command_line.errors import user_errors
from gscnn_platform.command_line.listing import list_jobs
from gscnn_platform.command_line.reading import choose, read

__all__ = ["choose", "list_jobs", "read", "user_errors"]
