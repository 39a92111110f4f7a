"""What all jobs' command lines share: typed overrides of a config, and errors that a user can read."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

import tyro
from pydantic import ValidationError

from gscnn_platform.interrupts import TrainingStoppedError

T = TypeVar("T")


def choose(configs: Mapping[str, tuple[str, T]], description: str | None, repeated: bool = False) -> T:
    """One of `configs` by its name, with fields changed as the command line says.

    Args:
        configs: name -> description and config.
        description: of the job.
        repeated: whether a list is given by an option for each of its values, `--set A --set B`.
    """
    markers = (tyro.conf.UseAppendAction,) if repeated else ()
    return tyro.extras.overridable_config_cli(configs, description=description, config=markers)


@contextmanager
def user_errors() -> Iterator[None]:
    """Prints what a user can mend as one message rather than a traceback, and ends with status 1.

    A training that a signal has stopped ends with the signal's usual status, 128 and its number.
    """
    try:
        yield
    except TrainingStoppedError as stopped:
        print(f"\n{stopped}", file=sys.stderr)
        sys.exit(stopped.exit_status)
    except (ValueError, ValidationError) as error:
        print(f"\n{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(1)
