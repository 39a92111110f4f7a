"""Reads text files written by users: lists, YAML and JSON. Only this module decides which encodings are supported."""

import codecs
import difflib
import json
from collections.abc import Hashable, Iterable
from typing import Any, Final, Protocol

import yaml

MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # Before UTF-16, whose mark is a prefix of this one.
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
"""Byte order mark -> encoding."""

PROBLEMS: Final = {
    "mapping values are not allowed here": "a second `:` in one line, or a line indented unlike the others; "
    "put text that holds a `:` in quotes",
    "found character '\\t' that cannot start any token": "a tab; indent with spaces",
    "found character": "text that starts with a special character of YAML; put it in quotes",
    "could not find expected ':'": "a field without `:` and a value, or a `-` without a space after it",
    "expected <block end>, but found '<block mapping start>'": "indented unlike the lines above it",
    "expected <block end>, but found '<scalar>'": "indented unlike the lines above it",
    "expected ',' or ']', but got '<stream end>'": "a `[` that is not closed",
    "expected the node content, but found '<stream end>'": "a `[` or `{` that is not closed",
    "expected ',' or '}', but got '<stream end>'": "a `{` that is not closed",
    "found unexpected end of stream": "a quotation mark that is not closed",
    "found unhashable key": "a list or a mapping before a `:`; write one word or number there",
    "but found another document": "`---` begins a second document; keep one",
    "could not determine a constructor for the tag": "a tag, `!NAME`; put text that starts with ! in quotes",
    "found undefined alias": "an alias, `*NAME`, without its anchor; put text that starts with * in quotes",
}
"""Start of PyYAML's message -> a message that a user can act on."""


class File(Protocol):
    """A Path or a RemotePath."""

    def read_bytes(self) -> bytes: ...


class TextError(ValueError):
    """A text file cannot be read; the message names the file, the line if it is known, and the fix."""

    def __init__(self, file: File, what: str, line: int | None = None) -> None:
        super().__init__(f"{file}: {what}" if line is None else f"{file}: line {line}: {what}")
        self.line, self.what = line, what


def read_text(file: File, utf8_alone: bool = False) -> str:
    """The text of a file in UTF-8, or in the encoding that its byte order mark names; lines end in \\n alone.

    Args:
        file: the file to read.
        utf8_alone: reject other marked encodings, for a file that another program reads next.

    Raises:
        TextError: the file cannot be read, or is in another encoding.
    """
    try:
        data = file.read_bytes()
    except FileNotFoundError as error:
        raise TextError(file, "the file is missing") from error
    except OSError as error:
        raise TextError(file, f"the file cannot be read ({error.strerror or error})") from error
    return _decoded(file, data, utf8_alone)


def _decoded(file: File, data: bytes, utf8_alone: bool = False) -> str:
    mark, encoding = next(((mark, name) for mark, name in MARKS if data.startswith(mark)), (b"", "utf-8"))
    if utf8_alone and encoding != "utf-8":
        raise TextError(file, f"is {encoding.upper()}, but the program that uses it reads UTF-8: save it as UTF-8")
    data = data[len(mark) :]
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        named = f"; its mark says {encoding.upper()}" if mark else ""
        raise TextError(
            file,
            f"byte 0x{data[error.start]:02x} is not {encoding.upper()}{named}; text is read as UTF-8, or as UTF-16 "
            "with a byte order mark: save the file as UTF-8 in an editor, or convert it with "
            "`iconv -f ENCODING -t UTF-8`",
            None if mark else data.count(b"\n", 0, error.start) + 1,
        ) from error
    if "\0" in text:
        what = "holds NUL bytes, as UTF-16 without a byte order mark does, or a file that is not text: save it as UTF-8"
        raise TextError(file, what)
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_yaml(file: File) -> Any:
    """The content of a YAML file. Raises TextError if it is not valid YAML or a key occurs twice."""
    return parse_yaml(file, read_text(file))


def parse_yaml(file: File, text: str) -> Any:
    """Like `read_yaml`, for a file's text that was read already."""
    try:
        return yaml.load(text, _UniqueKeyLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = error.problem or error.context or "something that YAML does not have"
        known = next((ours for theirs, ours in PROBLEMS.items() if problem.startswith(theirs)), problem)
        line = None if mark is None else mark.line + 1
        raise TextError(file, f"not valid YAML: {known}", line) from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        what = f"not valid YAML: the character U+{ord(text[error.position]):04X}; remove it"
        raise TextError(file, what, line) from error
    except ValueError as error:
        # A date such as 2024-13-45.
        raise TextError(file, f"not valid YAML: {error}; put text that looks like a date in quotes") from error
    except RecursionError as error:
        raise TextError(file, "not valid YAML: brackets or lines nested a thousand levels deep") from error


def parse_json(file: File, data: bytes) -> Any:
    """The content of a JSON file whose bytes were read already. Raises TextError if it is not valid JSON."""
    text = _decoded(file, data)
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        ends = error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated string")
        what = "it ends too early, the file is truncated" if ends else f"{error.msg} at column {error.colno}"
        raise TextError(file, f"not valid JSON: {what}", error.lineno) from error
    except (ValueError, RecursionError) as error:  # A number of more than 4300 digits, or a thousand brackets.
        raise TextError(file, f"not valid JSON: {error}") from error


def suggestion(wrong: str, names: Iterable[str]) -> str:
    """`; did you mean X?`, or an empty text if no name is similar."""
    near = difflib.get_close_matches(wrong, list(names), n=1)
    return f"; did you mean {near[0]}?" if near else ""


class _UniqueKeyLoader(yaml.SafeLoader):
    """Rejects duplicate keys and octal numbers: PyYAML keeps the last of two equal keys and reads 010 as 8, but a
    label table must not lose or change a key."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, object]:
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node)  # 7 and 0x7 are the same key.
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key_node.value} occurs twice; remove one of them", key_node.start_mark
                )
            if type(key) is int and key_node.value.isdigit() and int(key_node.value) != key:
                raise yaml.constructor.ConstructorError(
                    None,
                    None,
                    f"{key_node.value} is read as {key}, because a leading 0 makes a number octal; write it without",
                    key_node.start_mark,
                )
            seen.add(key)
        return super().construct_mapping(node, deep)
