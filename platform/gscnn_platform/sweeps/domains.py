"""Domains: the values that one key of a sweep may take, as text such as `loguniform(1, 50)`.

The text is parsed with this grammar and never evaluated:

    domain = kind "(" [value ("," value)*] ")"
    value  = number | true | false | none | word | "text in JSON's quotes"
"""

import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, Literal

EXAMPLES: Final = {
    "uniform": "uniform(0, 1)",
    "loguniform": "loguniform(1, 50)",
    "quniform": "quniform(0, 1, 0.1)",
    "randint": "randint(2, 9)",
    "choice": 'choice(true, none, 5, imagenet, "a b")',
}
"""Each kind with an example. quniform yields the multiples of its third number, both ends included. randint yields
whole numbers and excludes its end, 9, as in numpy and Ray Tune."""

MOST_LISTED: Final = 1000
"""Maximum number of listed values of a domain, or of combinations of a grid; more are treated as continuous."""

Value = float | int | bool | str | None

_TOKEN: Final = re.compile(
    r"""(?P<space>\s+)
    |(?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)(?![\w.])
    |(?P<word>[^\W\d][\w.-]*)
    |(?P<quoted>"(?:[^"\\]|\\.)*")
    |(?P<sign>[(),])""",
    re.VERBOSE,
)
_KEYWORDS: Final[dict[str, bool | None]] = {"true": True, "false": False, "none": None}


class SearchSpaceError(ValueError):
    """A domain that cannot be parsed, or a search space that does not match the config."""


@dataclass(frozen=True)
class Domain:
    """The values that one key may take. `str(domain)` is its text, which parses to an equal domain.

    Raises:
        SearchSpaceError: the arguments do not fit the kind.
    """

    kind: Literal["uniform", "loguniform", "quniform", "randint", "choice"]
    args: tuple[Value, ...]

    def __post_init__(self) -> None:
        fault = _fault(self.kind, self.args)
        if fault is not None:
            raise SearchSpaceError(f"{self}: {fault[1]}")

    def __str__(self) -> str:
        return f"{self.kind}({', '.join(written(value) for value in self.args)})"

    def values(self) -> Sequence[Value] | None:
        """Returns all values, in order; None for a continuous domain or more than MOST_LISTED values."""
        if self.kind == "choice":
            return self.args
        if self.kind == "randint":
            low, high = (int(bound) for bound in self.numbers)
            return range(low, high) if high - low <= MOST_LISTED else None
        if self.kind == "quniform":
            low, high, step = (Fraction(str(number)) for number in self.numbers)
            count = int((high - low) / step) + 1
            return [float(low + step * index) for index in range(count)] if count <= MOST_LISTED else None
        return None

    def extremes(self) -> Sequence[Value]:
        """Returns values that show whether a config accepts the whole domain.

        These are all listed values, or both ends and, for floats, a value between them: an integer field rejects it.
        """
        listed = self.values()
        if listed is not None:
            return listed
        low, high, *step = self.numbers
        if self.kind == "randint":
            return low, high - 1
        golden = (math.sqrt(5) - 1) / 2
        return low, low + (step[0] if step else golden * (high - low)), high

    @property
    def numbers(self) -> tuple[float, ...]:
        """The arguments of a numeric kind: low, high and, for quniform, the step."""
        assert self.kind != "choice"
        return tuple(value for value in self.args if isinstance(value, int | float))


def parse_domain(text: str) -> Domain:
    """Returns the domain that `text` describes, by the grammar at the top of this file.

    Raises:
        SearchSpaceError: `text` is invalid; the message shows the position of the error and all kinds.
    """
    tokens = list(_tokens(text))
    (kind, word, start), rest = tokens[0], tokens[1:]
    if kind != "word" or word not in EXAMPLES:
        raise _misread(text, start, f"{word!r} is not a kind of domain" if word else "expected a kind of domain")
    _expect(text, rest.pop(0), "(")
    args: list[Value] = []
    starts: list[int] = []
    while rest[0][1] != ")" or args:  # After a comma there must be a value.
        group, token, place = rest.pop(0)
        starts.append(place)
        args.append(_read_value(text, group, token, place))
        if rest[0][1] != ",":
            break
        rest.pop(0)
    end = rest.pop(0)
    _expect(text, end, ")", "',' or ')'")
    if rest[0][0] != "end":
        raise _misread(text, rest[0][2], "expected nothing more")
    fault = _fault(word, args)
    if fault is not None:
        index, reason = fault
        raise _misread(text, [*starts, end[2]][index], reason)
    return Domain(word, tuple(args))  # pyright: ignore[reportArgumentType]  # EXAMPLES has the literal's names


def _fault(kind: str, args: Sequence[Value]) -> tuple[int, str] | None:
    """Returns the index of the invalid argument, or of the closing parenthesis, and why; None if all are valid."""
    for index, value in enumerate(args):
        if isinstance(value, float) and not math.isfinite(value):
            return index, f"{value} is not finite"
    if kind == "choice":
        if not args:
            return 0, "choice needs at least one value"
        twice = next((index for index, value in enumerate(args) if value in args[:index]), None)
        return None if twice is None else (twice, f"{written(args[twice])} is listed twice")
    wanted = 3 if kind == "quniform" else 2
    numbers: list[float] = []
    for index, value in enumerate(args[:wanted]):
        if isinstance(value, bool) or not isinstance(value, int if kind == "randint" else int | float):
            return index, f"{kind} takes {'whole ' if kind == 'randint' else ''}numbers, not {written(value)}"
        numbers.append(value)
    if len(args) != wanted:
        return min(len(args), wanted), f"{kind} takes {wanted} numbers, not {len(args)}"
    low, high = numbers[:2]
    if kind == "loguniform" and low <= 0:
        return 0, f"{low} has no logarithm: loguniform starts above 0"
    if not low < high:
        return 1, f"the upper end {high} is not above the lower end {low}"
    if kind == "quniform":
        step = numbers[2]
        if step <= 0:
            return 2, f"the step {step} is not above 0"
        for index, bound in enumerate((low, high)):
            if (Fraction(str(bound)) / Fraction(str(step))).denominator != 1:
                return index, f"{bound} is not a multiple of the step {step}"
    return None


def _tokens(text: str) -> Iterator[tuple[str, str, int]]:
    """Yields class, text and position of each token, and finally ("end", "", len(text))."""
    place = 0
    while place < len(text):
        match = _TOKEN.match(text, place)
        if match is None:
            raise _misread(text, place, f"{text[place]!r} is not expected here")
        if match.lastgroup != "space":
            yield match.lastgroup or "", match.group(), place
        place = match.end()
    yield "end", "", len(text)


def _expect(text: str, token: tuple[str, str, int], sign: str, described: str = "") -> None:
    if token[0] != "sign" or token[1] != sign:
        raise _misread(text, token[2], f"expected {described or repr(sign)}")


def _read_value(text: str, group: str, token: str, place: int) -> Value:
    if group == "word":
        return _KEYWORDS.get(token.lower(), token)
    if group == "number":
        number = float(token)
        if not math.isfinite(number):
            raise _misread(text, place, "the number is too large")
        return int(token) if token.lstrip("+-").isdecimal() else number
    if group == "quoted":
        try:
            return json.loads(token)
        except json.JSONDecodeError as error:
            raise _misread(text, place, f"not JSON's text: {error.msg}") from error
    raise _misread(text, place, "expected a value")


def written(value: Value) -> str:
    """Returns the value as text in the grammar."""
    if value is None or isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str):
        return repr(value)
    word = _TOKEN.fullmatch(value)
    plain = word is not None and word.lastgroup == "word" and value.lower() not in _KEYWORDS
    return value if plain else json.dumps(value, ensure_ascii=False)


def _misread(text: str, place: int, reason: str) -> SearchSpaceError:
    kinds = ", ".join(EXAMPLES.values())
    return SearchSpaceError(f"{reason}; a domain is one of {kinds}:\n    {text}\n    {' ' * place}^")
