"""Names in state dicts: wrappers, prefixes and short lists of them for messages."""

from collections.abc import Iterable, Mapping
from typing import Final

WRAPPERS: Final = ("state_dict", "model")
"""Keys under which a checkpoint keeps its weights, beside an optimizer's state and numbers."""

MOST_NAMED: Final = 8
"""Maximum names of each kind in a message; a file has several hundred."""


def unwrapped(content: Mapping[str, object]) -> dict[str, object]:
    """The weights of a checkpoint, without the dict around them and without DataParallel's prefix `module.`.

    Raises:
        ValueError: what the checkpoint keeps as its weights is no mapping.
    """
    wrapper = next((key for key in WRAPPERS if key in content), None)
    inner = content if wrapper is None else content[wrapper]
    if not isinstance(inner, Mapping):
        raise ValueError(f'"{wrapper}" holds {type(inner).__name__}: need a mapping of names to tensors')
    prefix = "module." if all(str(name).startswith("module.") for name in inner) else ""
    return {str(name).removeprefix(prefix): value for name, value in inner.items()}


def renamed(name: str, starts: Mapping[str, str]) -> str:
    """The name with its beginning replaced by the first entry of `starts` that fits; unchanged if none does."""
    start = next((start for start in starts if name.startswith(start)), "")
    return starts.get(start, "") + name.removeprefix(start)


def listed(names: Iterable[str]) -> str:
    """`a, b, and 12 more`."""
    names = list(names)
    more = f", and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more
