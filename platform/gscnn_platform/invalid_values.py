"""Rewords pydantic's errors as field, value and rule.

Our field validators give only the rule, "a side needs 32 pixels or more"; our model validators give a sentence with
field names in backticks: "`min_workers` is 3: must be at most `num_workers`, 1".
"""

import re
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any, Final

from pydantic import ValidationError

RULES: Final[Mapping[str, str]] = {
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be {ge} or more",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be {le} or less",
    "finite_number": "must be a finite number",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "int_parsing_size": "must be a smaller number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "string_type": "must be text",
    "tuple_type": "must be a list",
    "list_type": "must be a list",
    "dict_type": "must be a mapping of names to values",
    "model_type": "must be a mapping of names to values",
    "missing": "is missing",
    "extra_forbidden": "is not a field here",
    "too_short": "needs {min_length} or more values",
    "too_long": "takes at most {max_length} values",
    "string_too_short": "must not be empty",
    "string_pattern_mismatch": "must be of the form {pattern}",
}
"""Type of pydantic's error -> the rule that the value breaks; other errors keep pydantic's message."""

ABSENT: Final = ("missing", "extra_forbidden")
"""Errors about a field, not about its value."""


def explain(error: ValidationError, spelled: Callable[[str], str] = str) -> str:
    """Returns one line per rejected field: `training.epochs is 0: must be 1 or more`.

    Args:
        error: pydantic's, for a config, a file or a search space.
        spelled: how the user writes a field, from its dotted key: `--training.epochs`.
    """
    lines = {_key(found["loc"]): _line(found, spelled) for found in error.errors(include_url=False)}
    return "\n".join(lines.values())


def shown(value: Any) -> str:
    """Returns a value as a user would type it."""
    if isinstance(value, tuple | list):
        return " ".join(map(shown, value))
    if isinstance(value, float):
        return f"{value:g}"
    return repr(value) if isinstance(value, str) and not re.fullmatch(r"[^\s'\"]+", value) else str(value)


def did_you_mean(name: str, known: Mapping[str, object] | set[str] | tuple[str, ...] | list[str]) -> str:
    """Returns `did you mean A or B?`, or an empty text if no known name is similar."""
    near = get_close_matches(name, list(known), n=2, cutoff=0.6)
    return f"did you mean {' or '.join(near)}?" if near else ""


def _line(found: Any, spelled: Callable[[str], str]) -> str:
    kind, key = found["type"], _key(found["loc"])
    if kind == "value_error":
        return _of_validator(str(found["ctx"]["error"]), key, found["input"], spelled)
    if kind == "literal_error":
        choices = found["ctx"]["expected"].replace("'", "")
        near = did_you_mean(str(found["input"]), re.split(r", | or ", choices))
        rule = f"must be {choices}{f'; {near}' if near else ''}"
    else:
        rule = (
            RULES[kind].format(**{key: shown(limit) for key, limit in found.get("ctx", {}).items()})
            if kind in RULES
            else found["msg"].replace("Input should", "must")
        )
    if kind == "missing" and len(found["loc"]) > key.count(".") + 1:
        # One of the values of a tuple.
        return f"{spelled(key)} is {shown(found['input'])}: needs more values"
    if kind in ABSENT or found["input"] in ((), []):
        return f"{spelled(key)} {rule}"
    return f"{spelled(key)} is {shown(found['input'])}: {rule}"


def _of_validator(message: str, key: str, value: Any, spelled: Callable[[str], str]) -> str:
    """Returns a validator's message: field validators give the rule, model validators a sentence with backticks."""
    if not isinstance(value, Mapping):
        return f"{spelled(key)} is {shown(value)}: {message}"
    return re.sub(r"`([\w.]+)`", lambda match: spelled(f"{key}.{match[1]}" if key else match[1]), message)


def _key(loc: tuple[int | str, ...]) -> str:
    """Returns the dotted key, up to the first part that is not a field: an index in a tuple, or a branch of a union."""
    names: list[str] = []
    for part in loc:
        if not isinstance(part, str) or not part.isidentifier():
            break
        names.append(part)
    return ".".join(names)
