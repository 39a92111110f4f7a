"""A YAML file whose faults can be named by file, line, field and value."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from gscnn_platform.text_files import TextError, parse_yaml, read_text

PLACEHOLDER = re.compile(r"FILL_IN_\w+")
"""A placeholder that the user must replace."""

Field = tuple[str | int, ...]
"""Keys and list positions from the top of a document: ("docker", "run_options", 0)."""


@dataclass(frozen=True)
class Fault:
    file: str
    line: int | None
    """Counted from 1; None if there is no file."""
    field: str
    what: str
    """The wrong value, why it is wrong, and what to do."""

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{place}: {self.field}: {self.what}" if self.field else f"{place}: {self.what}"


class UnreadableError(ValueError):
    """There is no such file, or it is not YAML."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(str(fault))
        self.fault = fault


class Document:
    """One YAML document; anchors and merged keys are resolved, and a value's line is where it is written."""

    def __init__(self, path: Path) -> None:
        """
        Raises:
            UnreadableError: naming the file and, if it is not YAML, the line.
        """
        self.file = str(path)
        try:
            text = read_text(path, utf8_alone=True)
            self.value: Any = parse_yaml(path, text)
            self._root = yaml.compose(text, Loader=yaml.SafeLoader)
        except TextError as error:
            raise UnreadableError(Fault(self.file, error.line, "", error.what)) from error

    def get(self, *field: str | int) -> Any:
        """The value of a field, or None if it or its parent is missing."""
        value = self.value
        for key in field:
            try:
                value = value[key]
            except (KeyError, IndexError, TypeError):
                return None
        return value

    def fault(self, field: Iterable[str | int], what: str) -> Fault:
        """A fault of a field, with its line, or the line of the field that should contain it."""
        field = tuple(field)
        return Fault(self.file, self._line(field), dotted(field), what)

    def placeholders(self) -> Iterator[Fault]:
        """Every value that must still be filled in, once, where it is written."""
        seen: set[int] = set()
        for field, node in _scalars(self._root, ()):
            names = list(dict.fromkeys(PLACEHOLDER.findall(node.value)))
            if names and id(node) not in seen:
                seen.add(id(node))
                yield self.fault(field, f"must still be filled in: {', '.join(names)}")

    def _line(self, field: Field) -> int | None:
        node, line = self._root, None if self._root is None else self._root.start_mark.line + 1
        for key in field:
            name, node = (None, None) if node is None else _entry(node, key)
            if node is None:
                break
            # A value behind an alias is written elsewhere; a mapping begins with the key above it.
            start = node if name is None or isinstance(node, yaml.ScalarNode) else name
            line = start.start_mark.line + 1
        return line


def dotted(field: Field) -> str:
    """`docker.run_options[0]`"""
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in field).removeprefix(".")


def unfilled(value: object) -> bool:
    """Whether a value holds a placeholder, which is reported once and separately."""
    return bool(PLACEHOLDER.search(str(value)))


def _entry(node: yaml.Node, key: str | int) -> tuple[yaml.Node | None, yaml.Node | None]:
    """Name and value of a mapping's field, including merged ones; for a list's item, only the value."""
    if isinstance(node, yaml.SequenceNode):
        return None, node.value[key] if isinstance(key, int) and key < len(node.value) else None
    merged: list[yaml.Node] = []
    for name, value in node.value if isinstance(node, yaml.MappingNode) else ():
        if name.value == str(key):
            return name, value
        if name.tag == "tag:yaml.org,2002:merge":
            merged += value.value if isinstance(value, yaml.SequenceNode) else [value]
    return next((found for mapping in merged if (found := _entry(mapping, key))[1] is not None), (None, None))


def _scalars(node: yaml.Node | None, field: Field) -> Iterator[tuple[Field, yaml.ScalarNode]]:
    if isinstance(node, yaml.ScalarNode):
        yield field, node
    elif isinstance(node, yaml.SequenceNode):
        for position, item in enumerate(node.value):
            yield from _scalars(item, (*field, position))
    elif isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            yield from _scalars(value, (*field, name.value))
