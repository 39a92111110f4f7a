"""Reads classes.yaml: names and colours in the order of the train ids, and the meaning of each raw label value,
colour, or name in annotation files."""

import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from reprlib import repr as shortened
from typing import Any, Final

from gscnn.constants import IGNORE_INDEX
from gscnn_platform.data.formats.base import DatasetError
from gscnn_platform.data.formats.colour_labels import Colour, as_hex
from gscnn_platform.data.formats.decoding import RAW_VALUES
from gscnn_platform.data.image_files import named_alike
from gscnn_platform.paths import AnyPath
from gscnn_platform.text_files import read_yaml, suggestion

VOID: Final = "void"
CONTROL: Final = ("Cc", "Cs", "Zl", "Zp")
"""Unicode categories of line breaks, other control characters and surrogates."""
EXAMPLE: Final = "classes: [road, car], or with colours, classes: [{name: road, colour: [128, 64, 128]}, ...]"
FIELDS: Final = ("classes", "labels", "background")
HEX: Final = re.compile(r"#[0-9a-fA-F]{6}")
DECIMALS: Final = re.compile(r"\D*(\d{1,3})\D+(\d{1,3})\D+(\d{1,3})\D*")
"""A colour as three numbers in any notation, for the message that says how to write it."""


@dataclass(frozen=True)
class ClassesFile:
    """The content of classes.yaml."""

    path: AnyPath
    names: tuple[str, ...]
    """In the order of the train ids."""
    colours: tuple[Colour | None, ...]
    """RGB, 0..255; None for a class without a colour."""
    labels: dict[int, str]
    """Raw label value -> class name or `void`. Raw values are train ids if this and `label_colours` are empty."""
    annotations: dict[str, str]
    """Name in annotation files -> class name or `void`, as `labels` lists them. Class names mean themselves."""
    background: str | None
    """Class name, or `void`, of the pixels that no annotation covers; None if the file does not say."""
    label_colours: dict[Colour, str]
    """Colour of a label -> class name or `void`, as `labels` lists them."""

    @property
    def train_ids(self) -> dict[str, int]:
        """Class name or `void` -> train id."""
        return {name: index for index, name in enumerate(self.names)} | {VOID: IGNORE_INDEX}

    def colour_table(self) -> dict[Colour, str]:
        """Colour of a label -> class name or `void`: the listed ones, and its own `colour` for each class that
        `labels` does not name.

        Raises DatasetError if a class's own colour means something else too.
        """
        table = dict(self.label_colours)
        for number, (name, colour) in enumerate(zip(self.names, self.colours, strict=True)):
            if colour is None or name in self.label_colours.values():
                continue
            if colour in table:
                raise DatasetError(
                    f"{self.path}: classes.{number}.colour: {as_hex(colour)} would mean both {name} and "
                    f"{table[colour]} in the labels; give {name} another colour, or list its colours in labels: "
                    f'{{"#RRGGBB": {name}}}'
                )
            table[colour] = name
        return table


def read_classes(path: AnyPath) -> ClassesFile:
    """The content of classes.yaml at `path`.

    Raises:
        DatasetError: the content is wrong; the message names file, field and value, and says how to fix it.
        TextError: the file cannot be read, has an unsupported encoding, or is not valid YAML.
    """
    return _Reader(path).read()


def _normal(name: str) -> str:
    """The name without surrounding spaces, in Unicode's composed form, so that equal names compare equal."""
    return unicodedata.normalize("NFC", name.strip())


class _Reader:
    def __init__(self, path: AnyPath) -> None:
        self.path = path

    def read(self) -> ClassesFile:
        if not self.path.is_file():
            raise self._error("", f"the file is missing; write one with {EXAMPLE}{named_alike(self.path)}")
        content = read_yaml(self.path)
        if not isinstance(content, dict):
            raise self._error("", f"holds {shortened(content)}; it needs a field `classes`, such as {EXAMPLE}")
        self._known("", content, FIELDS)
        entries = content.get("classes")
        if not isinstance(entries, list) or not entries:
            raise self._error("classes", f"is {shortened(entries)}; it must be a list, such as {EXAMPLE}")
        pairs = [self._entry(f"classes.{number}", entry) for number, entry in enumerate(entries)]
        names = tuple(name for name, _ in pairs)
        self._check_names(names)
        labels = dict(self._labels(content["labels"], names)) if "labels" in content else {}
        return ClassesFile(
            path=self.path,
            names=names,
            colours=tuple(colour for _, colour in pairs),
            labels={raw: name for raw, name in labels.items() if isinstance(raw, int)},
            label_colours={raw: name for raw, name in labels.items() if isinstance(raw, tuple)},
            annotations={raw: name for raw, name in labels.items() if isinstance(raw, str)},
            background=self._background(content["background"], names) if "background" in content else None,
        )

    def _entry(self, field: str, entry: Any) -> tuple[str, Colour | None]:
        if not isinstance(entry, dict):
            return self._name(field, entry), None
        self._known(field, entry, ("name", "colour"))
        if "name" not in entry:
            raise self._error(field, f"{entry!r} has no name; write {{name: NAME}}, or NAME alone")
        colour = entry.get("colour")
        return self._name(f"{field}.name", entry["name"]), None if colour is None else self._colour(field, colour)

    def _name(self, field: str, name: Any) -> str:
        if isinstance(name, str) and name.strip():
            control = next((letter for letter in name if unicodedata.category(letter) in CONTROL), None)
            if control is not None:
                raise self._error(field, f"{name!r} has the character U+{ord(control):04X}; a name is printable text")
            return _normal(name)
        if isinstance(name, str) or name is None or isinstance(name, list | dict):
            raise self._error(
                field, f"{name!r} is not a class name; write a name, in quotes if YAML reads it as another type"
            )
        raise self._error(field, f"YAML reads this name as {name!r}; put it in quotes")

    def _colour(self, field: str, colour: Any) -> Colour:
        whole = isinstance(colour, list) and all(type(value) is int and 0 <= value <= 255 for value in colour)
        if not whole or len(colour) != 3:
            raise self._error(f"{field}.colour", f"{colour!r} must be three whole numbers from 0 to 255: [R, G, B]")
        return colour[0], colour[1], colour[2]

    def _check_names(self, names: tuple[str, ...]) -> None:
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise self._error(
                "classes", f"{twice!r} is listed {names.count(twice)} times; give every class its own name"
            )
        void = next((name for name in names if name.casefold() == VOID), None)
        if void is not None:
            raise self._error("classes", f"{void!r} is not a class; remove it, and map its values in labels")
        if len(names) > IGNORE_INDEX:
            raise self._error(
                "classes",
                f"{len(names)} classes; 2 to {IGNORE_INDEX} are allowed: list those to distinguish, and map the raw "
                f"values of the others to one of them or to {VOID} in labels: {{300: {names[0]}, 301: {VOID}}}",
            )
        if len(names) == 1:
            raise self._error(
                "classes",
                f"{names[0]!r} is the only class, and a model needs two or more: add the background as a class "
                "(shapes also need `background: background`)\n"
                f"labels of 0 and 1:    classes: [background, {names[0]}]\n"
                f"labels of 0 and 255:  the same, and  labels: {{0: background, 255: {names[0]}}}",
            )

    def _labels(self, labels: Any, names: tuple[str, ...]) -> Iterator[tuple[int | Colour | str, str]]:
        if not isinstance(labels, dict) or not labels:
            comment = "; put colours in quotes, because # starts a comment" if labels is None else ""
            raise self._error(
                "labels",
                f"is {shortened(labels)}; it must map raw values to classes: {{7: {names[0]}, 0: {VOID}}}, or colours: "
                f'{{"#804080": {names[0]}, "#000000": {VOID}}}{comment}',
            )
        first: Any = None
        found: set[int | Colour | str] = set()
        for key, value in labels.items():
            raw = self._raw(key, value)
            first = raw if first is None else first
            if type(raw) is not type(first):
                both = f"{next(iter(labels))!r} and {key!r}"
                raise self._error("labels", f"has both {both}; a dataset's labels are numbers, colours or names")
            if raw in found:
                what = f"the colour {key}" if isinstance(raw, tuple) else repr(key)
                raise self._error("labels", f"{what} is listed twice; remove one of the lines")
            found.add(raw)
            name = _normal(value) if isinstance(value, str) else value
            if name != VOID and name not in names:
                known = f"use one of {', '.join(names)} or {VOID}"
                raise self._error(
                    "labels", f"{key} maps to {name!r}, which is not a class; {known}{suggestion(str(name), names)}"
                )
            yield raw, name

    def _background(self, background: Any, names: tuple[str, ...]) -> str:
        name = _normal(background) if isinstance(background, str) else background
        if name != VOID and name not in names:
            known = f"{', '.join(names)} or {VOID}"
            raise self._error(
                "background", f"{background!r} is not a class; use one of {known}{suggestion(str(name), names)}"
            )
        return name

    def _raw(self, key: Any, value: Any) -> int | Colour | str:
        """A key of `labels` as a raw label value, a colour or a name in annotation files; `value` is what it means."""
        if type(key) is int and 0 <= key < RAW_VALUES:
            return key
        if isinstance(key, str):
            if HEX.fullmatch(key.strip()):
                red, green, blue = bytes.fromhex(key.strip()[1:])
                return red, green, blue
            if type(value) is int:
                raise self._error("labels", f"{key!r} comes before its value; write the raw value first: {{0: {key}}}")
            decimals = DECIMALS.fullmatch(key)
            if decimals and all(int(value) <= 255 for value in decimals.groups()):
                red, green, blue = (int(value) for value in decimals.groups())
                raise self._error("labels", f'{key!r} is a colour; write it as "{as_hex((red, green, blue))}"')
            if _normal(key) and not key.startswith("#"):
                return _normal(key)
        raise self._error(
            "labels",
            f"{key!r} is not a label value; use whole numbers from 0 to {RAW_VALUES - 1}, without quotes or leading "
            'zeros, or colours such as "#804080", in quotes',
        )

    def _known(self, field: str, mapping: Mapping[Any, Any], known: tuple[str, ...]) -> None:
        for key in mapping:
            if key not in known:
                place = f"{field}.{key}" if field else str(key)
                fields = f"{', '.join(known[:-1])} and {known[-1]}{suggestion(str(key), known)}"
                raise self._error(place, f"there is no such field; the fields are {fields}")

    def _error(self, field: str, what: str) -> DatasetError:
        return DatasetError(f"{self.path}: {field}: {what}" if field else f"{self.path}: {what}")
