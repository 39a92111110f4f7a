"""Command line -> config, with tyro. `refusals` writes the errors, `helping` the help."""

import inspect
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import NoReturn, TypeVar, get_type_hints, overload

import tyro
from pydantic import BaseModel

# tyro's own messages are boxes of up to twenty lines that name its internals. The hook is not a public API:
# pyproject.toml pins the versions that have it.
from tyro._errors import on_parse_error
from tyro.constructors import ConstructorRegistry, StructConstructorSpec, StructFieldSpec, StructTypeInfo

from gscnn_platform.command_line.helping import HELP, HELP_ALL, choices_help, job_name, short_help, usage, what
from gscnn_platform.command_line.options import Options
from gscnn_platform.command_line.refusals import Refusals
from gscnn_platform.config import is_inline

T = TypeVar("T")
C = TypeVar("C", bound=BaseModel)

INLINING = ConstructorRegistry()
"""tyro's rules for configs with fields that are marked `Inline`."""


@INLINING.struct_rule
def _inlined(info: StructTypeInfo) -> StructConstructorSpec | None:
    """The options of a config that has `Inline` fields; None of any other, whose options tyro knows."""
    config = info.default
    if not isinstance(config, BaseModel):
        return None
    inline = {name: getattr(config, name) for name, field in type(config).model_fields.items() if is_inline(field)}
    if not inline:
        return None

    def build(**values: object) -> BaseModel:
        parts = {
            name: type(part)(**{key: values.pop(key) for key in type(part).model_fields})
            for name, part in inline.items()
        }
        return type(config)(**parts, **values)

    build.__doc__ = type(config).__doc__
    return StructConstructorSpec(build, tuple(_option_fields(config)))


def _option_fields(config: BaseModel) -> Iterator[StructFieldSpec]:
    hints = get_type_hints(type(config), include_extras=True)
    for name, field in type(config).model_fields.items():
        value = getattr(config, name)
        if is_inline(field):
            yield from _option_fields(value)
        else:
            yield StructFieldSpec(name, hints[name], default=value, helptext=field.description)


def choose(
    configs: Mapping[str, tuple[str, C]],
    doc: str | None,
    kind: str,
    first: Collection[str] = (),
    repeated: bool = False,
) -> C:
    """One of `configs` by its name, with the fields that the command line changes.

    Args:
        configs: name -> description and config.
        doc: the job's docstring: an example of its command, a colon and what it does.
        kind: what the names stand for, such as recipe.
        first: fields in the short help; empty: all of them.
        repeated: whether a list is given by repeating its option, `--set A --set B`.
    """
    name, words = next(((word, sys.argv[2:]) for word in sys.argv[1:2] if word in configs), (None, sys.argv[1:]))
    refusals = Refusals(doc, tuple(configs), Options.of(configs[name][1] if name else next(iter(configs.values()))[1]))
    _check_utf8(refusals)
    if not words and name is None:
        _tell(usage(doc, f"a {kind} ({', '.join(configs)})", next(iter(configs))), status=2)
    if name is None:
        if words[0] in (*HELP, HELP_ALL):
            _tell(choices_help(doc, kind, {key: text for key, (text, _) in configs.items()}), status=0)
        refusals.unknown_choice(kind, words)
    elif set(words) & set(HELP):
        _tell(short_help(doc, name, refusals.options, first), status=0)
    markers = (tyro.conf.AvoidSubcommands, *((tyro.conf.UseAppendAction,) if repeated else ()))
    default = configs[name][1]
    with on_parse_error(refusals):
        return tyro.cli(
            type(default),
            default=default,
            args=_full_help(words),
            prog=f"python -m jobs.{job_name(doc)} {name}",
            config=markers,
            registry=INLINING,
        )


@overload
def read(target: type[T], doc: str | None, first: Collection[str] = (), needs: str = "") -> T: ...
@overload
def read(target: Callable[..., T], doc: str | None, first: Collection[str] = (), needs: str = "") -> T: ...
def read(target: type[T] | Callable[..., T], doc: str | None, first: Collection[str] = (), needs: str = "") -> T:
    """A config from the options of its class, or the result of a function called with its options.

    Args:
        target: class or function; the help of a function shows all of its options.
        doc: as in `choose`.
        first: as in `choose`.
        needs: the positional arguments that are required, of a class its fields without a default; empty: none.
    """
    words, refusals = sys.argv[1:], Refusals(doc, (), Options.of(target).optional() if needs else Options.of(target))
    _check_utf8(refusals)
    if needs and not words:
        _tell(usage(doc, needs), status=2)
    if set(words) & set(HELP) and inspect.isclass(target):
        _tell(short_help(doc, "", refusals.options, first), status=0)
    with on_parse_error(refusals):
        return tyro.cli(
            target,
            args=_full_help(words),
            prog=f"python -m jobs.{job_name(doc)}",
            description=what(doc),
            config=(tyro.conf.PositionalRequiredArgs,) if needs else (),
        )


def _check_utf8(refusals: Refusals) -> None:
    for word in sys.argv[1:]:
        try:
            word.encode()
        except UnicodeEncodeError:
            refusals.not_utf8(word)


def _full_help(words: list[str]) -> list[str]:
    return [HELP[0] if word == HELP_ALL else word for word in words]


def _tell(text: str, status: int) -> NoReturn:
    print(text)
    sys.exit(status)
