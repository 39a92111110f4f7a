"""Several datasets as one, joined by the names of their classes; or one dataset with other classes.

    ROOT/datasets.yaml

    datasets:
      - {format: camvid, root: ../CamVid, map: {pavement: sidewalk, bicyclist: void}}
      - {format: cityscapes, root: ../cityscapes, settings: {share: 0.1}, map: {wall: void, ...}}
    classes: [road, sidewalk, car]       # optional: by default those of the first dataset

`map` renames, merges and drops (`void`) classes of a dataset; every class needs a place. Splits of one name are joined,
and a sample's name begins with its dataset's name.
"""

import hashlib
import json
from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np
from pydantic import ValidationError

from gscnn.constants import IGNORE_INDEX
from gscnn_platform import machine
from gscnn_platform.data.formats.base import (
    UPRIGHT,
    DatasetDescription,
    DatasetFormat,
    Sample,
    remap,
    require_root,
    require_split,
)
from gscnn_platform.data.formats.datasets_file import DatasetsFile, Member, read_datasets, train_ids, union_classes
from gscnn_platform.data.formats.palette import Colour, distinct_colours
from gscnn_platform.data.formats.subset import Samples, chosen_samples, source_of
from gscnn_platform.invalid_values import explain
from gscnn_platform.paths import AnyPath, RemotePath, as_path
from gscnn_platform.text_files import suggestion

FILE: Final = "datasets.yaml"


class Union(DatasetFormat):
    """Several datasets joined by class name, or one dataset with its classes renamed, merged or dropped."""

    name: ClassVar[str] = "union"

    def describe(self, root: AnyPath | None) -> DatasetDescription:
        """The union's classes and all splits of its datasets; raw labels are train ids, 255 is void.

        Raises DatasetError for datasets.yaml, and what the formats of the datasets raise.
        """
        return self._joined(root)[0]

    def samples(self, root: AnyPath | None, split: str) -> list[Sample]:
        """Samples named DATASET/NAME. Raises as `describe`."""
        described, samples = self._joined(root)
        require_split(split, described.splits, root or self.name)
        return samples[split]

    def _joined(self, root: AnyPath | None) -> tuple[DatasetDescription, Samples]:
        root = require_root(root, self.name)
        read = read_datasets(root / FILE)
        found = [
            chosen_samples(_format_of(read, f"datasets.{number}", member), _root_of(root, member))
            for number, member in enumerate(read.members)
        ]
        theirs = [described for described, _ in found]
        classes = union_classes(read, [described.classes for described in theirs])
        samples: Samples = {}
        for member, (described, of_member) in zip(read.members, found, strict=True):
            ids = train_ids(member, described.classes, classes)
            table = {raw: ids[train_id] for raw, train_id in described.label_table.items()}
            for split, of_split in of_member.items():
                samples.setdefault(split, []).extend(
                    MappedSample(f"{member.label}/{each.name}", each, table) for each in of_split
                )
        for of_split in samples.values():
            of_split.sort(key=lambda each: each.name)
        described = DatasetDescription(
            classes=classes,
            colours=_colours(read, classes, theirs),
            label_table={index: index for index in range(len(classes))} | {IGNORE_INDEX: IGNORE_INDEX},
            splits=tuple(samples),
            left_out=tuple(
                f"{member.label}: {sentence}"
                for member, each in zip(read.members, theirs, strict=True)
                for sentence in each.left_out
            ),
        )
        return described, samples


@dataclass(frozen=True)
class MappedSample:
    """A sample of a dataset whose label is read as train ids of the union."""

    name: str
    sample: Sample
    table: dict[int, int]
    """Raw label value -> train id of the union."""

    def read(self) -> tuple[np.ndarray, np.ndarray]:
        """Image uint8 [H, W, 3] RGB and label uint8 [H, W]. Raises BadSampleError."""
        image, raw_label = self.sample.read()
        return image, remap(raw_label, self.table, source_of(self.sample))

    def digest(self) -> str:
        """SHA-256, in hex, of the sample's digest and of the table; with its suffix UPRIGHT."""
        of_sample = self.sample.digest()
        digest = hashlib.sha256(json.dumps([of_sample, sorted(self.table.items())]).encode()).hexdigest()
        return digest + UPRIGHT if of_sample.endswith(UPRIGHT) else digest


def _format_of(read: DatasetsFile, field: str, member: Member) -> DatasetFormat:
    """The member's format with its settings. Raises DatasetError."""
    from gscnn_platform.data.formats import FORMATS  # The registry holds this format too.

    known = {name: entry for name, entry in FORMATS.items() if name != Union.name}
    if member.format not in known:
        near = suggestion(member.format, known)
        raise read.error(f"{field}.format", f"{member.format!r} is not one of {', '.join(known)}{near}")
    default = known[member.format]
    if default.needs_root != (member.root is not None):
        what = "is missing: name the folder of the raw data" if default.needs_root else "remove it, it is generated"
        raise read.error(f"{field}.root", what)
    try:
        return type(default).model_validate(default.model_dump() | member.settings)
    except ValidationError as error:
        lines = explain(error, lambda key: f"{field}.settings.{key}")
        raise read.error(*lines.partition("\n")[0].split(" ", 1)) from error


def _root_of(folder: AnyPath, member: Member) -> AnyPath | None:
    if member.root is None:
        return None
    place = as_path(member.root)
    if isinstance(place, RemotePath):
        return place
    place = machine.expanded(member.root) if member.root.startswith("~") else place
    return place if place.is_absolute() else folder / str(place)


def _colours(read: DatasetsFile, classes: tuple[str, ...], theirs: list[DatasetDescription]) -> tuple[Colour, ...]:
    """The colour of each class: from datasets.yaml, or the first that a dataset has for it and no class before it."""
    chosen: dict[str, Colour] = {entry.name: entry.colour for entry in read.classes if entry.colour is not None}
    for member, described in zip(read.members, theirs, strict=True):
        for name, colour in zip(described.classes, described.colours, strict=True):
            target = member.map.get(name, name)
            if target in classes and target not in chosen and colour not in chosen.values():
                chosen[target] = colour
    return distinct_colours([chosen.get(name) for name in classes])
