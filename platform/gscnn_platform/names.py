"""Allowed names of runs, recipes, experiments and registered models, and how to escape text for other systems.

One function per system: paths, MLflow's metric keys and filters, SQLite URIs, Markdown, matplotlib. Imports nothing
else from this project, and no torch, Ray or MLflow.
"""

import difflib
import hashlib
import posixpath
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Final
from urllib.parse import quote, unquote

MOST_BYTES: Final = 200
"""Maximum length of a name in UTF-8: file names have at most 255 bytes, and ours get suffixes such as the outbox's."""
MOST_PART: Final = 60
"""Maximum bytes of each text in a file name made of several."""
ALLOWED: Final = "letters, digits, spaces and _ - . + = , @"
RESERVED: Final = ("mlartifacts", "evaluation", "outbox", "mlflow.db")
"""Names that a storage folder uses for other purposes than runs."""
MOST_EXPERIMENT: Final = 500
"""Maximum length of an experiment's name in MLflow, in characters."""
MOST_KEY: Final = 250
"""Maximum length of a metric's key in MLflow, in characters."""

_ESCAPES: Final = {
    "(": "lpar",
    ")": "rpar",
    "[": "lbrack",
    "]": "rbrack",
    "{": "lbrace",
    "}": "rbrace",
    "&": "and",
    ",": "comma",
    ";": "semi",
    "%": "percent",
    "=": "equals",
    "+": "plus",
    "'": "apos",
    '"': "quot",
    ":": "colon",
    "/": "slash",
    "#": "hash",
    "?": "quest",
    "!": "excl",
    "<": "lt",
    ">": "gt",
}
_CHARACTERS: Final = {word: character for character, word in _ESCAPES.items()}


class NamingError(ValueError):
    """A name that cannot be used; the message says which characters are allowed."""


def check_name(name: str, option: str) -> str:
    """Returns a name that becomes a folder, a part of a URI or a registered model, if it is allowed.

    Args:
        name: of a run, a sweep, a recipe or a registered model.
        option: the option that it was given with, for the message.

    Raises:
        NamingError: it is empty, has a character that is not allowed, starts with a dot, a dash or a space, ends with a
            dot or a space, is longer than MOST_BYTES, or is a name that a storage folder reserves.
    """
    wrong = _wrong(name)
    if wrong is not None:
        raise NamingError(f"{option} {name[:80]!r} cannot be used: {wrong}.\nAllowed are {ALLOWED}.")
    return name


def _wrong(name: str) -> str | None:
    if not name.strip():
        return "it is empty"
    bad = dict.fromkeys(repr(character) for character in name if not _is_allowed(character))
    if bad:
        return f"it has {', '.join(bad)}"
    if name[0] in ".- " or name[-1] in ". ":
        return "it starts with a dot, a dash or a space, or ends with a dot or a space"
    if len(name.encode()) > MOST_BYTES:
        return f"it has {len(name.encode())} bytes, and may have at most {MOST_BYTES}"
    if name in RESERVED or name.startswith("mlflow.db"):
        return "the storage folder has a file or a folder of this name"
    return None


def _is_allowed(character: str) -> bool:
    # Category M: on macOS, the dots of an umlaut are a separate character.
    return character.isalnum() or character in "_-.+=,@ " or unicodedata.category(character).startswith("M")


def check_experiment(name: str, option: str) -> str:
    """Returns an MLflow experiment's name if it is valid. It is not a path, so any printable text is.

    Raises:
        NamingError: it is empty, has a control character, or is longer than MLflow allows.
    """
    if not name.strip() or not name.isprintable() or len(name) > MOST_EXPERIMENT:
        raise NamingError(f"{option} {name[:80]!r} cannot be used: give 1 to {MOST_EXPERIMENT} printable characters.")
    return name


def near_misses(text: str, known: Iterable[str]) -> str:
    """Returns `; did you mean A or B?` for similar names; empty if there are none."""
    found = difflib.get_close_matches(text, list(known), n=3, cutoff=0.5)
    return f"; did you mean {' or '.join(found)}?" if found else ""


def file_name(text: str) -> str:
    """Returns any text as a part of a file name, at most 60 bytes; different texts may get the same name.

    A longer text ends with a digest, so that long texts that differ only at their end get different names.
    """
    safe = "".join(character if _is_allowed(character) and character != " " else "-" for character in text)
    safe = safe.lstrip(".-") or "unnamed"
    if len(safe.encode()) <= MOST_PART:
        return safe
    return f"{_cut(safe, MOST_PART - 9)}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def _cut(text: str, most: int) -> str:
    return text.encode()[:most].decode(errors="ignore")


def metric_key(key: str) -> str:
    """Returns a metric's key in a form that MLflow accepts; `original_key` reverses it.

    MLflow accepts letters of any alphabet, digits, `_ - . : /` and space, and only normalized paths. Other characters
    become a word or their number between colons: `val_iou/road (paved)` becomes `val_iou/road :lpar:paved:rpar:`.
    Different keys stay different. A key that gets longer than MOST_KEY ends with a digest, which cannot be reversed.
    """
    escaped = "".join(character if _is_plain(character) else _escape(character) for character in key)
    if posixpath.normpath(escaped) != escaped or escaped.startswith((".", "/")):
        escaped = "".join(_escape(character) if character in "/." else character for character in escaped)
    if len(escaped) > MOST_KEY:
        digest = hashlib.sha256(key.encode()).hexdigest()[:12]
        escaped = f"{escaped[: MOST_KEY - len(digest) - 1]}-{digest}"
    return escaped


def original_key(escaped: str) -> str:
    """Returns the original of a key from `metric_key`; other keys are returned unchanged."""
    return re.sub(r":(\w+):", _unescape, escaped)


def _is_plain(character: str) -> bool:
    return re.fullmatch(r"[\w. /-]", character) is not None


def _escape(character: str) -> str:
    return f":{_ESCAPES.get(character, f'x{ord(character):x}')}:"


def _unescape(match: re.Match[str]) -> str:
    word = match[1]
    if word in _CHARACTERS:
        return _CHARACTERS[word]
    code = int(word[1:], 16) if re.fullmatch(r"x[0-9a-f]{1,6}", word) else 0x110000
    return chr(code) if code < 0x110000 else match[0]


def filter_pattern(text: str) -> str:
    """Returns a quoted pattern for LIKE in MLflow's filter language that matches `text` and hardly anything else.

    That language has no escapes: a value with both kinds of quotes, or with a backslash at its end, cannot be written.
    So each character that might be special becomes `_`, which matches any character; compare the results with `text`.
    """
    pattern = re.sub(r"[^\w ./:@=+,-]", "_", text)
    return f"'{pattern}'"


def sqlite_uri(database: Path) -> str:
    """Returns the tracking URI of a SQLite file.

    SQLAlchemy ends the path at `?` and decodes `%20`. If the path has either, it is encoded, with a scheme for which
    MLflow does not also create the encoded path's folder.
    """
    path = str(database)
    if "?" in path or unquote(path) != path:
        return f"sqlite+pysqlite:///{quote(path)}"
    return f"sqlite:///{path}"


def sqlite_path(uri: str) -> Path | None:
    """Returns the file of a SQLite tracking URI; None for another kind of URI."""
    scheme, _, rest = uri.partition(":///")
    if scheme not in ("sqlite", "sqlite+pysqlite"):
        return None
    return Path(unquote(rest.partition("?")[0]))


def markdown(text: str) -> str:
    """Escapes text so that Markdown shows it as it is, in a table's cell too."""
    return re.sub(r"([\\`*_{}\[\]()#+!|<>~-])", r"\\\1", text.replace("\n", " "))


def picture_text(text: str) -> str:
    """Escapes text so that matplotlib draws it as it is: `$` starts no formula, `_` does not hide it from a legend."""
    shown = "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
    # A word joiner would be drawn as a box by some fonts; this space is as thin as they get.
    return ("\N{HAIR SPACE}" if shown.startswith("_") else "") + shown.replace("$", r"\$")
