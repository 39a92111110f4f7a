"""manifest.json: the contents of a store, what it was built from, and the checksums of its files."""

import hashlib
import json
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Final

import numpy as np
from pydantic import Field, SerializerFunctionWrapHandler, ValidationError, field_validator, model_serializer
from pydantic_core import from_json

from gscnn_platform.config import Config, EdgeConfig
from gscnn_platform.invalid_values import explain
from gscnn_platform.paths import AnyPath, write_whole

MANIFEST: Final = "manifest.json"

SCHEMA_VERSION: Final = 1
"""Version of the meaning of a row's arrays; part of the fingerprint."""

STORE_VERSION: Final = 3
"""Version of the file formats; not part of the fingerprint. Version 2 added checksums, version 3 anchors."""

READABLE: Final = (2, 3)
"""Store versions that can be read."""

SHA256: Final = r"^[0-9a-f]{64}$"
"""Pattern of a checksum: a copy is named after it, and a foreign manifest must not lead out of the cache's folder."""

MOST_BYTES: Final = 1 << 26
"""Maximum size of a manifest: 64 MiB list the parts of about ten million samples."""


ENVELOPE: Final = ("store_version", "checksum")
"""Keys of manifest.json that are not fields of `Manifest`."""


class StoreError(ValueError):
    """There is no store, or its files do not match its manifest."""


class NoStoreError(StoreError):
    """There is no store, and the existing files are not a store's, so they must not be replaced."""


class StaleStoreError(StoreError):
    """The store is intact, but is not the one that the run needs."""


class Part(Config):
    """One Parquet file of a split."""

    file: str
    """Path below the store's folder, with / between its parts."""
    rows: int = Field(ge=1)
    bytes: int = Field(ge=1)
    footer: str = Field(pattern=SHA256)
    """sha256 of the footer, which holds the position of each row and the name of the file."""
    sha256: str = Field(pattern=SHA256)
    """sha256 of the whole file; a node's copy is named after it."""

    @field_validator("file")
    @classmethod
    def _inside(cls, file: str) -> str:
        path = PurePosixPath(file)
        if path.is_absolute() or ".." in path.parts or "\\" in file or "\0" in file or not path.parts:
            raise ValueError("this path leads out of the store or is empty; a part lies below the store's folder")
        return file


class Split(Config):
    samples: int
    parts: tuple[Part, ...]
    pixels: tuple[int, ...]
    """Pixels of each train id."""
    void_pixels: int
    all_void: int = 0
    """Samples whose labels are entirely void; 0 in older stores, which did not count them."""


class Skipped(Config):
    """A sample that was left out by `--on-bad-sample skip`."""

    split: str
    name: str
    reason: str


class Identity(Config):
    """Everything that the contents of a store depend on; no paths, machines or checksums of files."""

    schema_version: int
    dataset: str
    edges: EdgeConfig
    ignore_index: int
    classes: tuple[str, ...]
    colours: tuple[tuple[int, int, int], ...]
    label_table: dict[int, int]
    """Raw label value -> train id."""
    label_colours: dict[str, int] = Field(default_factory=dict)
    """Colour of colour-coded labels, such as `#804080` -> train id; empty if labels hold numbers."""
    content: str
    """sha256 over the digests of all samples, sorted by split and name."""

    @model_serializer(mode="wrap")
    def _as_before_colours(self, fields: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without an empty `label_colours`, so that stores of numbers keep their manifest and fingerprint."""
        return {key: value for key, value in fields(self).items() if key != "label_colours" or value}

    @property
    def raw_ids(self) -> np.ndarray:
        """Train id -> raw label value, the smallest if several map to it; uint8, or uint16 if any exceeds 255.

        Colour-coded labels have no raw values: train ids stand for themselves.
        """
        raw_of = {train: raw for raw, train in sorted(self.label_table.items(), reverse=True)}
        values = [raw_of.get(train, train) for train in range(len(self.classes))]
        return np.array(values, np.uint8 if max(values) < 256 else np.uint16)

    @property
    def fingerprint(self) -> str:
        """The first sixteen hex digits of the sha256 over all fields."""
        return hashlib.sha256(json.dumps(self.model_dump(), sort_keys=True).encode()).hexdigest()[:16]


class Manifest(Config):
    fingerprint: str
    identity: Identity
    splits: dict[str, Split]
    skipped: tuple[Skipped, ...] = ()
    anchors: bool = False
    """Whether each row has its anchors; not in stores from before version 3."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """The format's settings that differ from its defaults, for the command that rebuilds the store; the file leaves
    them out if there are none."""

    def command(self, path: str | AnyPath, edges: EdgeConfig, *flags: str) -> str:
        """The command that rebuilds this store at `path` with other edge settings."""
        return precompute_command(self.identity.dataset, path, edges, *flags, settings=self.settings)

    def how_to_fix(self, folder: AnyPath) -> str:
        """The end of a message about a damaged store, which says what to do."""
        rebuild = self.command(folder, self.identity.edges, "--overwrite")
        store = shlex.quote(str(folder))
        return f"python -m jobs.verify --store {store} lists every fault, and this rebuilds the store: {rebuild}"


def read_manifest(folder: AnyPath) -> Manifest:
    """The manifest of the store in `folder`.

    Raises:
        StoreError: there is no manifest, or it cannot be read or contradicts itself.
        StaleStoreError: it was written by another version of this code.
    """
    manifest, faults = parse_manifest(folder)
    if faults:
        raise StoreError(f"{folder / MANIFEST}: {'; '.join(faults)}; {manifest.how_to_fix(folder)}")
    return manifest


def parse_manifest(folder: AnyPath) -> tuple[Manifest, list[str]]:
    """The manifest and a list of its contradictions. Raises the errors of `read_manifest` if it cannot be read."""
    file = folder / MANIFEST
    try:
        found = file.is_file()
    except OSError as error:
        raise StoreError(f"{folder} cannot be read: {error}") from error
    if not found:
        raise NoStoreError(_no_store(folder))
    try:
        size = file.stat().st_size
        if size > MOST_BYTES:
            raise StoreError(f"{file} has {size} bytes, more than the limit of {MOST_BYTES}: not a store's manifest")
        data = file.read_bytes()
    except OSError as error:
        raise StoreError(f"{file} cannot be read: {error.strerror or error}") from error
    try:
        content = from_json(data)
    except ValueError as error:
        raise StoreError(f"{file} is not a manifest: {error}; rebuild the store with jobs.precompute") from error
    if not isinstance(content, dict) or not content.keys() & {*Manifest.model_fields, *ENVELOPE}:
        raise NoStoreError(f"{file} belongs to another program, and {folder} is not a store: name another folder")
    _check_versions(folder, content)
    fits = content == sealed(content)
    try:
        manifest = Manifest.model_validate({key: content[key] for key in content if key not in ENVELOPE})
    except ValidationError as error:
        what = explain(error).partition("\n")[0]
        raise StoreError(f"{file} is not a manifest: {what}; rebuild the store with jobs.precompute") from error
    faults = [] if fits else ["its checksum does not match its contents: it was edited, or is damaged"]
    if manifest.fingerprint != manifest.identity.fingerprint:
        faults.append(f"fingerprint {manifest.fingerprint} does not match its contents")
    for name, split in manifest.splits.items():
        rows = sum(part.rows for part in split.parts)
        if rows != split.samples:
            faults.append(f"split {name} has {split.samples} samples and {rows} rows")
    return manifest, faults


def write_manifest(folder: AnyPath, manifest: Manifest) -> None:
    """Turns `folder` into a store, atomically; called after all of its parts are written."""
    without = set() if manifest.settings else {"settings"}
    content = sealed({"store_version": STORE_VERSION, **manifest.model_dump(mode="json", exclude=without)})
    write_whole(folder / MANIFEST, (json.dumps(content, indent=1) + "\n").encode())


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest's JSON with a checksum over everything else in it."""
    rest = {key: value for key, value in content.items() if key != "checksum"}
    return {**rest, "checksum": hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()}


def precompute_command(
    dataset: str,
    out: str | AnyPath,
    edges: EdgeConfig,
    *flags: str,
    root: str = "FOLDER_OF_THE_RAW_DATA",
    settings: Mapping[str, Any] | None = None,
) -> str:
    """The command that builds a store with these settings of the format and of edges."""
    of_root = "" if dataset == "streets" else f" --root {shlex.quote(root)}"
    command = f"python -m jobs.precompute {dataset}{of_root} --out {shlex.quote(str(out))}"
    changed = edges.model_dump(exclude_defaults=True)
    return " ".join([command, *_options("format", settings or {}), *_options("edges", changed), *flags])


def _options(prefix: str, settings: Mapping[str, Any]) -> Iterator[str]:
    for key, value in settings.items():
        option = f"--{prefix}.{key.replace('_', '-')}"
        values = value if isinstance(value, list | tuple) else [value]
        # A switch takes no value.
        yield option if value is True else " ".join([option, *(shlex.quote(str(each)) for each in values)])


def differences(ours: Mapping[str, Any], theirs: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """A message for each leaf in which two nested mappings differ."""
    for key in {**ours, **theirs}:
        # A manifest leaves out a mapping that is empty and younger than its version.
        own, other = ours.get(key, {}), theirs.get(key, {})
        if isinstance(own, Mapping) and isinstance(other, Mapping) and own.keys() == other.keys():
            yield from differences(own, other, f"{prefix}{key}.")
        elif own != other:
            yield f"{prefix}{key} is {own} in the store, expected {other}"


def _no_store(folder: AnyPath) -> str:
    """The message that `folder` is not a store: why, and what to name or type instead."""
    if folder.is_file():
        return f"{folder} is not a store, it is a file: name the folder that jobs.precompute wrote"
    if isinstance(folder, Path) and (folder.parent / MANIFEST).is_file():
        return f"{folder} is a folder of a store: name the store, {folder.parent}"
    if folder.exists() and any(folder.iterdir()):
        return f"{folder} is not a store, it has no {MANIFEST}: name the folder that jobs.precompute wrote (--out)"
    reason = f"it has no {MANIFEST}" if folder.exists() else "there is no such folder"
    return f"{folder} is not a store, {reason}; run: python -m jobs.precompute DATASET --out {shlex.quote(str(folder))}"


def _check_versions(folder: AnyPath, content: dict[str, Any]) -> None:
    identity = content.get("identity")
    versions = {
        "store_version": (content.get("store_version", 1), READABLE),
        "schema_version": (identity.get("schema_version") if isinstance(identity, dict) else None, (SCHEMA_VERSION,)),
    }
    for field, (found, readable) in versions.items():
        if found not in readable:
            raise StaleStoreError(
                f"{folder / MANIFEST}: {field} is {found}, this code reads {' and '.join(map(str, readable))}: rebuild "
                f"the store with "
                f"{_rebuild(folder, identity, content.get('settings'))}"
            )


def _rebuild(folder: AnyPath, identity: Any, settings: Any) -> str:
    """The command that rebuilds a store, from what another version of this code may have written."""
    try:
        known = Identity.model_validate(identity)
    except ValidationError:
        return f"python -m jobs.precompute DATASET --out {shlex.quote(str(folder))} --overwrite"
    known_settings = settings if isinstance(settings, dict) else None
    return precompute_command(known.dataset, folder, known.edges, "--overwrite", settings=known_settings)
