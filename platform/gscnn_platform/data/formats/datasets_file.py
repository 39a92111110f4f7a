"""Reads datasets.yaml: the datasets of a union, and how their classes become the union's."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, TypeVar

from pydantic import Field, ValidationError

from gscnn.constants import IGNORE_INDEX
from gscnn_platform.config import Config
from gscnn_platform.data.formats.base import DatasetError
from gscnn_platform.data.image_files import named_alike
from gscnn_platform.invalid_values import explain
from gscnn_platform.paths import AnyPath
from gscnn_platform.text_files import read_yaml, suggestion

VOID: Final = "void"
EXAMPLE: Final = "datasets: [{format: camvid, root: CamVid}, {format: cityscapes, root: cityscapes, map: {wall: void}}]"

Text = Annotated[str, Field(min_length=1)]
Entry = TypeVar("Entry", bound=Config)
Channel = Annotated[int, Field(ge=0, le=255)]


class Member(Config):
    """A dataset of a union."""

    format: Text
    root: Text | None = None
    """Folder of the raw dataset: a path, relative to the folder of datasets.yaml, or a URI."""
    name: str = Field(default="", pattern=r"^([\w-][\w.-]*)?$")
    """Prefix of its samples' names; empty: the format."""
    map: dict[Text, Text] = Field(default_factory=dict)
    """Class of this dataset -> class of the union or `void`; classes that are not listed keep their names."""
    settings: dict[Text, Any] = Field(default_factory=dict)
    """Settings of the format, such as share."""

    @property
    def label(self) -> str:
        return self.name or self.format


class ClassEntry(Config):
    """A class of a union."""

    name: Text
    colour: tuple[Channel, Channel, Channel] | None = None
    """RGB; None: the colour that it has in the first dataset that has it."""


@dataclass(frozen=True)
class DatasetsFile:
    """The content of datasets.yaml."""

    file: AnyPath
    members: tuple[Member, ...]
    classes: tuple[ClassEntry, ...]
    """In the order of the train ids; empty: those of the first dataset that its map leaves alone."""

    def error(self, field: str, what: str) -> DatasetError:
        return DatasetError(f"{self.file}: {field}: {what}")


def read_datasets(file: AnyPath) -> DatasetsFile:
    """The content of datasets.yaml.

    Raises:
        DatasetError: the content is wrong; the message names file, field and value, and says what is expected.
        TextError: the file cannot be read or is not valid YAML.
    """
    if not file.is_file():
        raise DatasetError(f"{file}: the file is missing; write one with {EXAMPLE}{named_alike(file)}")
    content = read_yaml(file)
    fields = ("datasets", "classes")
    if not isinstance(content, dict) or not isinstance(content.get("datasets"), list) or not content["datasets"]:
        raise DatasetError(f"{file}: it needs a list of datasets, such as {EXAMPLE}")
    unknown = next((key for key in content if key not in fields), None)
    if unknown is not None:
        near = suggestion(str(unknown), fields)
        raise DatasetError(f"{file}: {unknown}: there is no such field; the fields are {' and '.join(fields)}{near}")
    members = tuple(_valid(Member, file, f"datasets.{n}", entry) for n, entry in enumerate(content["datasets"]))
    entries = content.get("classes") or []
    if not isinstance(entries, list):
        raise DatasetError(f"{file}: classes: is {entries!r}; it must be a list of names, such as [road, car]")
    named = [{"name": entry} if not isinstance(entry, Mapping) else entry for entry in entries]
    classes = tuple(_valid(ClassEntry, file, f"classes.{n}", entry) for n, entry in enumerate(named))
    read = DatasetsFile(file, members, classes)
    _check_once(read, "datasets", [member.label for member in members], "give one of them another `name`")
    _check_once(read, "classes", [entry.name for entry in classes], "list it once")
    if any(entry.name == VOID for entry in classes):
        raise read.error("classes", f"{VOID!r} is not a class; map classes to it instead")
    return read


def union_classes(read: DatasetsFile, theirs: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """The union's classes in the order of the train ids, given the classes of each dataset.

    Raises DatasetError if a class of a dataset has no place in the union, or a class of the union is in no dataset.
    """
    first = read.members[0].map
    classes = tuple(entry.name for entry in read.classes) or tuple(
        name for name in theirs[0] if first.get(name, name) == name
    )
    for number, (member, names) in enumerate(zip(read.members, theirs, strict=True)):
        _check_map(read, f"datasets.{number}", member, names, classes)
    there = {member.map.get(name, name) for member, names in zip(read.members, theirs, strict=True) for name in names}
    lost = next((name for name in classes if name not in there), None)
    if lost is not None:
        raise read.error(
            "classes", f"no dataset has class {lost!r}; map a class to it, or remove it{suggestion(lost, there)}"
        )
    return classes


def train_ids(member: Member, names: Sequence[str], classes: Sequence[str]) -> dict[int, int]:
    """Train id of the dataset -> train id of the union; void stays void."""
    ids = {name: index for index, name in enumerate(classes)} | {VOID: IGNORE_INDEX}
    return {theirs: ids[member.map.get(name, name)] for theirs, name in enumerate(names)} | {IGNORE_INDEX: IGNORE_INDEX}


def _check_map(read: DatasetsFile, field: str, member: Member, names: Sequence[str], classes: Sequence[str]) -> None:
    for name, target in member.map.items():
        if name not in names:
            raise read.error(
                f"{field}.map",
                f"{name!r} is not a class of {member.label}; its classes are {', '.join(names)}"
                f"{suggestion(name, names)}",
            )
        if target not in (*classes, VOID):
            raise read.error(
                f"{field}.map",
                f"{name} maps to {target!r}, which is not a class; use one of {', '.join(classes)} or {VOID}, or list "
                f"it under classes{suggestion(target, classes)}",
            )
    without = [name for name in names if name not in classes and name not in member.map]
    if without:
        folded = {name.casefold(): name for name in classes}
        write = ", ".join(f"{name}: {folded.get(name.casefold(), VOID)}" for name in without)
        raise read.error(
            field,
            f"the union has no class {', '.join(without)} of {member.label}; name a class or {VOID} for each, or list "
            f"it under classes\nmap: {{{write}}}",
        )


def _valid(of: type[Entry], file: AnyPath, field: str, entry: Any) -> Entry:
    if not isinstance(entry, Mapping):
        raise DatasetError(f"{file}: {field}: is {entry!r}; it must be a mapping of fields to values")
    try:
        return of.model_validate(entry)
    except ValidationError as error:
        lines = explain(error, lambda key: f"{field}.{key}")
        raise DatasetError(f"{file}: {lines.partition(chr(10))[0]}") from error


def _check_once(read: DatasetsFile, field: str, names: list[str], way_out: str) -> None:
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise read.error(field, f"{twice!r} is there {names.count(twice)} times; {way_out}")
