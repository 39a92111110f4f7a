"""Errors of the command line, in at most three lines: the option as typed, its value, the rule, what to type."""

import os
import re
import sys
from itertools import takewhile
from typing import Any, Final, NoReturn

from pydantic import ValidationError
from tyro._errors import (
    BadValue,
    InstantiationFailure,
    InvalidChoice,
    MissingArgs,
    ParseErrorEvent,
    UnrecognizedArgs,
)

from gscnn_platform.command_line.helping import HELP, HELP_ALL, example, job_name, usage
from gscnn_platform.command_line.options import Options, spelled
from gscnn_platform.invalid_values import did_you_mean, explain, shown

KINDS: Final = {"INT": "a whole number", "FLOAT": "a number", "{True,False}": "True or False", "{None}": "None"}
"""tyro's name for an option's type -> words."""

DASHES: Final = "\N{EN DASH}\N{EM DASH}\N{MINUS SIGN}\N{NON-BREAKING HYPHEN}"


class Refusals:
    """tyro's hook: prints what is wrong and exits with status 2. Unknown errors are left to tyro.

    Args:
        doc: the job's docstring.
        choices: allowed values of the first word; empty if the job takes no name.
        options: the job's options.
    """

    def __init__(self, doc: str | None, choices: tuple[str, ...], options: Options) -> None:
        self.doc, self.choices, self.options = doc, choices, options

    def __call__(self, event: ParseErrorEvent, /) -> None:
        match event:
            case UnrecognizedArgs(tokens=tokens):
                self._unknown(tokens)
            case MissingArgs(unrecognized_tokens=[_, *_] as tokens):
                self._unknown(tokens)
            case MissingArgs(missing_arguments=missing):
                names = " and ".join(_name_of(each.arg) for each in missing)
                if not sys.argv[1:]:
                    self._end(usage(self.doc, names))
                self._end(f"{names} {'is' if len(missing) == 1 else 'are'} missing", f"example: {example(self.doc)}")
            case InvalidChoice(argument=argument, value=value, choices=choices):
                near = did_you_mean(value, choices)
                self._end(f"{_name_of(argument)} is {shown(value)}: must be {' or '.join(choices)}", near)
            case BadValue(argument=argument, reason="too_few_values") if argument.is_positional():
                if unknown := [word for word in sys.argv[1:] if self._is_unknown_option(word)]:
                    self._unknown(unknown)
                self._end(f"{_name_of(argument)} is missing", f"example: {example(self.doc)}")
            case BadValue(argument=argument, reason="too_few_values"):
                self._end(f"{_name_of(argument)} needs {_how_many(argument)}", self._dashed(argument))
            case InstantiationFailure(argument=argument) if argument is not None:
                self._end(f"{_name_of(argument)} is {_typed(argument)}: must be {_kind_of(argument)}")
            case InstantiationFailure(message=message):
                self._end(_refused_value() or message)
            case _:
                pass

    def unknown_choice(self, kind: str, words: list[str]) -> NoReturn:
        """The first word is not one of `choices`."""
        there = f"there are: {', '.join(self.choices)}"
        if words[0].startswith("-"):
            self._end(f"{words[0]} is not a {kind}; {there}", f"example: {example(self.doc)}")
        self._end(f"there is no {kind} {shown(words[0])}; {there}", did_you_mean(words[0], self.choices))

    def not_utf8(self, word: str) -> NoReturn:
        """A word that is not text, which no record, tag or page could hold."""
        shown_bytes = os.fsencode(word).decode("utf-8", "backslashreplace")
        self._end(f"{shown_bytes} is not UTF-8: rename the file, or use a link to it; type options in UTF-8")

    def _dashed(self, argument: Any) -> str:
        """What to do about a value that looks like an option; empty if an option follows."""
        after = next(iter(_words_after(argument)), "")
        if not self._is_unknown_option(after) or argument.is_positional():
            return ""
        return f"write {_name_of(argument)}={after} for a value that starts with a dash"

    def _is_unknown_option(self, word: str) -> bool:
        known = (*self.options.flags(), *HELP, HELP_ALL)
        return word.startswith("-") and word.partition("=")[0].replace("_", "-") not in known

    def _unknown(self, tokens: list[str]) -> NoReturn:
        if "--" in sys.argv:
            self._end("-- is not an option: leave it out", f"all options: {self._all_options()}")
        typed = tokens[0].partition("=")[0]
        plain = typed.lstrip(DASHES)
        if plain != typed:  # As word processors do with two hyphens.
            self._end(f"{typed} begins with a dash that is not a hyphen: write --{plain.lstrip('-')}")
        if not typed.startswith("-"):
            before = sys.argv[sys.argv.index(typed) - 1] if typed in sys.argv else ""
            switch = next((option for option in self.options.all if before in option.switches), None)
            if switch is not None:
                self._end(f"{before} takes no value: write {' or '.join(switch.switches)}")
            self._end(
                f"{shown(typed)} does not belong to an option",
                "quote a value with spaces; all options: " + self._all_options(),
            )
        near = did_you_mean(typed.replace("_", "-"), self.options.flags())
        self._end(f"{typed} is not an option", f"{near} all options: {self._all_options()}".strip())

    def _all_options(self) -> str:
        name = next((f"{word} " for word in sys.argv[1:2] if word in self.choices), "")
        return f"python -m jobs.{job_name(self.doc)} {name}{HELP_ALL if self.choices else HELP[0]}"

    def _end(self, *lines: str) -> NoReturn:
        sys.stderr.write("\n".join(filter(None, lines)) + "\n")
        sys.exit(2)


def _name_of(argument: Any) -> str:
    if not argument.is_positional():
        return argument.lowered.name_or_flags[-1]
    name = str(argument.lowered.metavar)
    # A field of a config has its type there.
    return str(argument.field.intern_name).upper() if name in (*KINDS, "STR") else name


def _how_many(argument: Any) -> str:
    count = argument.lowered.nargs
    return f"{count} values" if isinstance(count, int) and count > 1 else "a value"


def _kind_of(argument: Any) -> str:
    kinds = re.sub(r"\{None\}\||[][]|\.\.\.", "", str(argument.lowered.metavar)).split()
    each = " or ".join(dict.fromkeys(KINDS.get(kind, kind) for kind in kinds))
    if not isinstance(argument.lowered.nargs, int):
        return f"one or more values, each {each}"
    return each if len(kinds) == 1 else f"{len(kinds)} values, each {each}"


def _typed(argument: Any) -> str:
    """The value of an option as typed on the command line."""
    place = _place_of(argument)
    if place is None:
        return ""
    _, equals, value = sys.argv[place].partition("=")
    if equals:
        return shown(value)
    count = argument.lowered.nargs
    values = list(takewhile(lambda word: not word.startswith("--"), _words_after(argument)))
    return shown(values[:count] if isinstance(count, int) else values)


def _words_after(argument: Any) -> list[str]:
    place = _place_of(argument)
    return [] if place is None else sys.argv[place + 1 :]


def _place_of(argument: Any) -> int | None:
    """The position of an option on the command line; if it is repeated, the last one, which counts."""
    names = argument.lowered.name_or_flags
    places = [n for n, word in enumerate(sys.argv) if word.partition("=")[0].replace("_", "-") in names]
    return places[-1] if places else None


def _refused_value() -> str | None:
    """pydantic's error in a nested config, reworded: tyro passes on only its text, while handling the exception."""
    error, prefix = sys.exc_info()[1], ""
    while error is not None and not isinstance(error, ValidationError):
        prefix = str(getattr(error, "arg", prefix))
        error = error.__context__
    if error is None:
        return None
    names = [part for part in prefix.split(".") if part and not part.startswith("__")]
    return explain(error, lambda key: spelled(".".join([*names, key] if key else names)))
