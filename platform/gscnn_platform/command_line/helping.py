"""Help that fits on a screen: an example, the most common options, and how to list the others."""

import textwrap
from collections.abc import Collection, Mapping
from typing import Final

from gscnn_platform.command_line.options import Option, Options

HELP: Final = ("--help", "-h")
HELP_ALL: Final = "--help-all"
"""Shows every option, as tyro prints them."""
WIDTH: Final = 100


def example(doc: str | None) -> str:
    """The command at the start of a job's docstring."""
    return (doc or "").partition(": ")[0]


def what(doc: str | None) -> str:
    """The job's purpose, in one line."""
    return " ".join((doc or "").partition(": ")[2].split("\n\n")[0].split())


def job_name(doc: str | None) -> str:
    """`train`, from the docstring of jobs.train."""
    return example(doc).removeprefix("python -m jobs.").partition(" ")[0]


def usage(doc: str | None, needs: str, name: str = "") -> str:
    """The message of a job that was called without arguments."""
    command = " ".join(filter(None, (f"python -m jobs.{job_name(doc)}", name, HELP[0])))
    return f"{what(doc)}\nneeds: {needs}\nexample: {example(doc)}\noptions: {command}"


def choices_help(doc: str | None, kind: str, choices: Mapping[str, str]) -> str:
    """Help of a job that takes a name first, before that name is given."""
    width = max(map(len, choices))
    lines = [f"  {name:<{width}}  {text}".rstrip() for name, text in choices.items()]
    first = next(iter(choices))
    return "\n".join(
        [
            what(doc),
            f"example: {example(doc)}",
            "",
            f"each {kind}:",
            *lines,
            "",
            f"options: python -m jobs.{job_name(doc)} {first} {HELP[0]}",
        ]
    )


def short_help(doc: str | None, name: str, options: Options, first: Collection[str]) -> str:
    """Help of a job, with the options of `first`; all if there are none."""
    shown_options = options.first(tuple(first))
    lines = [
        what(doc),
        f"example: {example(doc)}",
        "",
        f"options{f', with the defaults of {name}' if name else ''}:",
        *(line for option in shown_options for line in _described(option)),
    ]
    if len(shown_options) < len(options.all):
        command = " ".join(filter(None, (f"python -m jobs.{job_name(doc)}", name, HELP_ALL)))
        lines += ["", f"all {len(options.all)} options: {command}"]
    return "\n".join(lines)


def _described(option: Option) -> list[str]:
    head = f"  {option.with_default}"
    text = textwrap.wrap(" ".join(option.doc.split()), WIDTH - 34)
    if len(head) > 32:
        return [head, *(" " * 34 + line for line in text)]
    return [f"{head:<34}{text[0] if text else ''}".rstrip(), *(" " * 34 + line for line in text[1:])]
