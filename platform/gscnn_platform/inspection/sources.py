"""Opens what is inspected: a store, or a raw dataset, whose format is found by its layout."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gscnn_platform import cluster
from gscnn_platform.config import CacheConfig, EdgeConfig
from gscnn_platform.data.formats import FORMATS, BadSampleError, DatasetError, DatasetFormat
from gscnn_platform.data.formats.base import UPRIGHT, DatasetDescription, Sample
from gscnn_platform.data.image_files import InputError
from gscnn_platform.data.store import SplitReader, Store, open_store
from gscnn_platform.data.store.manifest import MANIFEST, Skipped
from gscnn_platform.data.store.part_building import to_arrays
from gscnn_platform.data.store.parts import SampleArrays
from gscnn_platform.invalid_values import did_you_mean
from gscnn_platform.paths import AnyPath, as_path
from gscnn_platform.text_files import TextError

MISFITS: Final = (DatasetError, InputError, TextError)
"""Errors of a folder that does not have a format's layout."""


@dataclass(frozen=True)
class Read:
    """One sample; `turned` tells whether its EXIF orientation rotated it, which a store does not record."""

    arrays: SampleArrays
    turned: bool = False


class Source(ABC):
    """What is inspected: classes, splits and samples."""

    path: AnyPath
    dataset: str
    """The format's name."""
    kind: str
    """`store, fingerprint ...` or `raw dataset`."""
    classes: tuple[str, ...]
    colours: tuple[tuple[int, int, int], ...]
    edges: EdgeConfig
    names: Mapping[str, Sequence[str]]
    """Split -> names of its samples."""
    left_out: tuple[str, ...] = ()
    """Sentences on what exists and is in no split."""
    skipped: tuple[Skipped, ...] = ()
    """Samples that the store lacks because they could not be used."""
    store: Store | None = None
    """None for a raw dataset."""

    @abstractmethod
    def read(self, split: str, indices: Sequence[int]) -> Iterator[Read | Skipped]:
        """These samples of a split, each as arrays or with the reason why it cannot be used. Safe in threads."""


class _StoreSource(Source):
    def __init__(self, store: Store) -> None:
        self.store, identity = store, store.manifest.identity
        self.path, self.dataset = store.path, identity.dataset
        self.kind = f"store, fingerprint {store.manifest.fingerprint}"
        self.classes, self.colours, self.edges = identity.classes, identity.colours, identity.edges
        self.skipped = store.manifest.skipped
        self._readers: dict[str, SplitReader] = {split: store.split(split) for split in store.manifest.splits}
        self.names = {split: reader.names for split, reader in self._readers.items()}

    def read(self, split: str, indices: Sequence[int]) -> Iterator[Read | Skipped]:
        reader = self._readers[split].subset(indices)  # Its own open files: those of one reader are not thread-safe.
        for place in range(len(reader)):
            yield Read(reader.read(place))


class _RawSource(Source):
    def __init__(self, path: AnyPath, format_: DatasetFormat, description: DatasetDescription) -> None:
        self.path, self.dataset, self.kind = path, format_.name, "raw dataset"
        self.classes, self.colours, self.edges = description.classes, description.colours, EdgeConfig()
        self.left_out = description.left_out
        self._table = description.label_table
        self._samples: dict[str, list[Sample]] = {split: format_.samples(path, split) for split in description.splits}
        self.names = {split: [sample.name for sample in samples] for split, samples in self._samples.items()}

    def read(self, split: str, indices: Sequence[int]) -> Iterator[Read | Skipped]:
        for index in indices:
            sample = self._samples[split][index]
            try:
                yield Read(to_arrays(sample, self._table, self.edges), sample.digest().endswith(UPRIGHT))
            except BadSampleError as error:
                yield Skipped(split=split, name=sample.name, reason=str(error))


def open_source(data: str, format_name: str | None = None) -> Source:
    """The store or the raw dataset at `data`; a folder with a manifest.json is a store.

    Raises:
        StoreError: the store is damaged.
        DatasetError, InputError, TextError: the raw dataset does not have the layout of the format, or no format's, or
            that of several.
    """
    path = as_path(cluster.resolve(data, "the dataset"))
    if (path / MANIFEST).is_file():
        if format_name is not None:
            raise DatasetError(f"--format is {format_name!r}, but {path} is a store, which knows its format: remove it")
        return _StoreSource(Store(path, open_store(path).manifest, CacheConfig()))
    if isinstance(path, Path) and (path.parent / MANIFEST).is_file():
        raise DatasetError(f"{path} is a folder of a store: name the store, {path.parent}")
    if not path.is_dir():
        what = "is a file: pass the folder" if path.is_file() else "there is no such folder: pass the folder"
        raise DatasetError(f"{path}: {what} of a store or of a raw dataset{_drawn(data)}")
    format_ = FORMATS[_known(format_name)] if format_name is not None else _format_of(path)
    return _RawSource(path, format_, format_.describe(path))


def _known(name: str) -> str:
    formats = [known for known, format_ in FORMATS.items() if format_.needs_root]
    if name not in formats:
        raise DatasetError(
            f"--format is {name!r}: must be {' or '.join(formats)}. {did_you_mean(name, formats)}{_drawn(name)}".strip()
        )
    return name


def _drawn(name: str) -> str:
    """What to do about a dataset that is generated, and has no folder; empty for another name."""
    if name not in FORMATS or FORMATS[name].needs_root:
        return ""
    build = f"python -m jobs.precompute {name} --out data/{name}"
    return f"\n{name} is drawn, not read: build its store, and inspect that: {build}"


def _format_of(path: AnyPath) -> DatasetFormat:
    """The only format whose layout the folder has. Raises DatasetError if there is none, or several."""
    fitting: list[DatasetFormat] = []
    for format_ in FORMATS.values():
        if format_.needs_root:
            try:
                format_.describe(path)
            except MISFITS:
                continue
            fitting.append(format_)
    if len(fitting) == 1:
        return fitting[0]
    names = ", ".join(format_.name for format_ in fitting)
    known = ", ".join(format_.name for format_ in FORMATS.values() if format_.needs_root)
    what = f"has the layouts of {names}" if fitting else f"has no {MANIFEST} and the layout of no format ({known})"
    why = "choose one" if fitting else "name the format that it should have, to see what is missing"
    raise DatasetError(f"{path} {what}: {why}, with --format NAME")
