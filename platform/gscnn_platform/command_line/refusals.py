"""What a command line has wrong, in at most three lines: the option as typed, its value, the rule, the way out."""

import sys
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
"""tyro's name of what an option takes, in words."""


class Refusals:
    """tyro's hook: prints what is wrong and ends with status 2. What it does not know falls through to tyro.

    Args:
        doc: of the job.
        choices: names of which the first word must be one; none where the job takes no name.
        options: of the job.
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
            case BadValue(argument=argument, reason="too_few_values"):
                self._end(f"{_name_of(argument)} needs {_how_many(argument)}")
            case InstantiationFailure(argument=argument) if argument is not None:
                self._end(f"{_name_of(argument)} is {_typed(argument)}: must be {_kind_of(argument)}")
            case InstantiationFailure(message=message):
                self._end(_refused_value() or message)
            case _:
                pass

    def unknown_choice(self, kind: str, words: list[str]) -> NoReturn:
        """The first word is none of `choices`."""
        there = f"there are: {', '.join(self.choices)}"
        if words[0].startswith("-"):
            self._end(f"{words[0]} stands where the {kind} is expected; {there}", f"example: {example(self.doc)}")
        self._end(f"there is no {kind} {shown(words[0])}; {there}", did_you_mean(words[0], self.choices))

    def _unknown(self, tokens: list[str]) -> NoReturn:
        typed = tokens[0].partition("=")[0]
        if not typed.startswith("-"):
            before = sys.argv[sys.argv.index(typed) - 1] if typed in sys.argv else ""
            switch = next((option for option in self.options.all if before in option.switches), None)
            if switch is not None:
                self._end(f"{before} takes no value: write {' or '.join(switch.switches)}")
            self._end(
                f"{shown(typed)} belongs to no option",
                "quote a value with spaces; all options: " + self._all_options(),
            )
        near = did_you_mean(typed.replace("_", "-"), self.options.flags())
        self._end(f"{typed} is no option", f"{near} all options: {self._all_options()}".strip())

    def _all_options(self) -> str:
        name = next((f"{word} " for word in sys.argv[1:2] if word in self.choices), "")
        return f"python -m jobs.{job_name(self.doc)} {name}{HELP_ALL if self.choices else HELP[0]}"

    def _end(self, *lines: str) -> NoReturn:
        sys.stderr.write("\n".join(filter(None, lines)) + "\n")
        sys.exit(2)


def _name_of(argument: Any) -> str:
    return str(argument.lowered.metavar) if argument.is_positional() else argument.lowered.name_or_flags[-1]


def _how_many(argument: Any) -> str:
    count = argument.lowered.nargs
    return f"{count} values" if isinstance(count, int) and count > 1 else "a value"


def _kind_of(argument: Any) -> str:
    kinds = str(argument.lowered.metavar).replace("{None}|", "").split()
    words = list(dict.fromkeys(KINDS.get(kind, kind) for kind in kinds))
    return " and ".join(words) if len(kinds) == 1 else f"{len(kinds)} values, each {' or '.join(words)}"


def _typed(argument: Any) -> str:
    """The value of an option as it stands on the command line."""
    for name in argument.lowered.name_or_flags:
        for place, word in enumerate(sys.argv):
            typed, equals, value = word.partition("=")
            if typed.replace("_", "-") == name:
                following = sys.argv[place + 1 :]
                count = argument.lowered.nargs if isinstance(argument.lowered.nargs, int) else 1
                return value if equals else " ".join(following[:count])
    return ""


def _refused_value() -> str | None:
    """pydantic's error of a nested config, in our words: tyro hands on its text alone, and is handling it right now."""
    error, prefix = sys.exc_info()[1], ""
    while error is not None and not isinstance(error, ValidationError):
        prefix = str(getattr(error, "arg", prefix))
        error = error.__context__
    if error is None:
        return None
    names = [part for part in prefix.split(".") if part and not part.startswith("__")]
    return explain(error, lambda key: spelled(".".join([*names, key] if key else names)))
