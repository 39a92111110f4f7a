"""The folder of a run or of a sweep, by path or URI, with the names of its content.

RUN/record.json      config, data and MLflow run, and how the run ended
RUN/alive.json       touched by the driver while it runs
RUN/step-NNNNNNNN/   the last checkpoints, to resume from; the number is the step
RUN/best-NNNNNNNN/   the best checkpoint, without the state to resume from
RUN/initial.pt       the weights that it starts from, until there is a checkpoint; init.json says where they are from
RUN/tracking/        the outbox; for remote storage it is in the home folder instead
RUN/log.txt          output of a sweep's trial
SWEEP/sweep.json     like record.json; alive.json and tracking/ are like those of a run
SWEEP/trials.json    table of the trials
SWEEP/tune/          Ray Tune's state
SWEEP/trial-NNN/     run of a trial

Ray Train does not manage the checkpoints: they count as soon as they are written, and only this module deletes them.
"""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self, TypeVar

from pyarrow.fs import FileSelector, FileType, LocalFileSystem

from gscnn_platform import machine
from gscnn_platform.data.disk_full import StorageError, is_full, readable
from gscnn_platform.paths import AnyPath, as_path, filesystem_of, write_whole
from gscnn_platform.remote_errors import naming, patiently
from gscnn_platform.runs.checkpoint import CHECKSUMS, INITIAL, Content, copy, save
from gscnn_platform.runs.record import RECORD, SWEEP_RECORD, Record
from gscnn_platform.runs.ref import RunRef

ALIVE: Final = "alive.json"
OUTBOX: Final = "tracking"
LOG: Final = "log.txt"
TRIALS: Final = "trials.json"
TUNE: Final = "tune"
"""Resuming a sweep unpickles this folder: only trusted users may have write access to it."""
INIT_REPORT: Final = "init.json"
STEP, BEST = "step-", "best-"
"""Prefixes of the names of a run's checkpoints; the step number follows."""
KEPT: Final = 2
"""Number of last checkpoints that a run keeps, so that it can resume from the previous one if the newest is damaged."""

R = TypeVar("R", bound=Record)


def checkpoint_name(prefix: str, step: int) -> str:
    """Returns a checkpoint's name, such as `step-00001200`; names sort by step."""
    return f"{prefix}{step:08d}"


def step_of(name: str) -> int:
    """Returns the step in a checkpoint's name."""
    return int(name.rpartition("-")[2])


@dataclass(frozen=True)
class RunFolder:
    """The folder of a run or of a sweep; it need not exist yet."""

    location: str
    """Absolute path or URI, without a trailing slash."""

    @classmethod
    def of(cls, storage: str, name: str) -> Self:
        """Returns the folder of a run in a storage folder, which is a path or URI."""
        return cls(f"{storage}/{name}")

    def __str__(self) -> str:
        return self.location

    @property
    def storage(self) -> str:
        """The parent folder: the storage folder of a run, or the sweep's folder for a trial."""
        return self.location.rpartition("/")[0]

    @property
    def name(self) -> str:
        return self.location.rpartition("/")[2]

    @property
    def path(self) -> AnyPath:
        return as_path(self.location)

    @property
    def is_remote(self) -> bool:
        return "://" in self.location

    @property
    def outbox(self) -> Path:
        """Folder of the outbox: beside the checkpoints, or in the home folder if the checkpoints are remote."""
        if not self.is_remote:
            return Path(self.location) / OUTBOX
        # Another storage may have another run of the same name.
        which = hashlib.sha256(self.storage.encode()).hexdigest()[:8]
        return machine.lasting_folder() / "outbox" / f"{self.name}-{which}"

    def trial(self, name: str) -> "RunFolder":
        """Returns the folder of a trial's run in this sweep's folder."""
        return RunFolder.of(self.location, name)

    def read(self, kind: type[R]) -> R | None:
        """Returns the record; None if there is none of this kind, or if this version cannot read it."""
        try:
            return kind.model_validate(self.read_json(kind.FILE))
        except (FileNotFoundError, ValueError):
            return None

    def write(self, record: Record) -> None:
        """Replaces the record atomically: a reader sees the old or the new one."""
        self.write_json(record.FILE, record.model_dump(mode="json"))

    def ref(self, record: Record) -> RunRef:
        """Returns the MLflow run and the outbox of the run with this record."""
        return RunRef(self.outbox, record.tracking_uri, record.run_id)

    def tracked_as(self) -> tuple[str, str] | None:
        """Returns tracking URI and MLflow run id of the run or sweep; None if the folder belongs to neither."""
        for name in (RECORD, SWEEP_RECORD):
            try:
                record = self.read_json(name)
                return record["tracking_uri"], record["run_id"]
            except (FileNotFoundError, ValueError, KeyError):
                continue
        return None

    def read_json(self, name: str) -> dict[str, Any]:
        """Returns the content of a JSON file. Raises FileNotFoundError, or ValueError if it is not JSON."""
        return json.loads((self.path / name).read_bytes())

    def write_json(self, name: str, content: dict[str, Any]) -> None:
        """Replaces a JSON file atomically: a reader sees the old or the new one."""
        self.path.mkdir(parents=True, exist_ok=True)
        write_whole(self.path / name, json.dumps(content, indent=1).encode())

    def at(self, name: str) -> str:
        """Returns the path or URI of a file or folder in this folder."""
        return f"{self.location}/{name}"

    def steps(self) -> list[str]:
        """Returns the names of the checkpoints to resume from, newest first, without incompletely written ones."""
        return self._whole(STEP)[::-1]

    def last(self) -> str:
        """Returns the path or URI of the newest of these checkpoints; there must be one."""
        return self.at(self.steps()[0])

    def best(self) -> str | None:
        """Returns the path or URI of the best checkpoint; None if there is none yet."""
        names = self._whole(BEST)
        return self.at(names[-1]) if names else None

    def keep(self, step: int, content: Content, best: bool) -> None:
        """Writes the checkpoint of a step, also as the best one if `best`; removes the checkpoints that it replaces.

        Raises:
            StorageError: the disk is full.
            OSError: another error, of a remote folder after PATIENCE_SECONDS of retries. It may be temporary: Ray Train
                restarts the workers.
        """
        try:
            patiently(lambda: self._keep(step, content, best))
        except (OSError, RuntimeError) as error:
            if not is_full(error):
                raise
            raise self._full(checkpoint_name(STEP, step)) from error

    def clone(self, donor: "RunFolder") -> None:
        """Makes another run's last checkpoint the only one that this run resumes from."""
        source, path = filesystem_of(donor.last())
        filesystem, root = filesystem_of(self.location)
        name = path.rpartition("/")[2]
        self.discard(name)
        (self.path / name).mkdir(parents=True)
        copy([entry.path for entry in source.get_file_info(FileSelector(path))], source, f"{root}/{name}", filesystem)
        self.discard(*(other for other in self._names(STEP) if other != name))

    def discard(self, *names: str) -> None:
        """Removes these checkpoints, complete or not, if they exist."""
        filesystem, root = filesystem_of(self.location)
        for name in names:
            if filesystem.get_file_info(f"{root}/{name}").type == FileType.Directory:
                filesystem.delete_dir(f"{root}/{name}")

    def _keep(self, step: int, content: Content, best: bool) -> None:
        name = checkpoint_name(STEP, step)
        self._write(name, content, resumable=True)
        # Checkpoints of later steps are damaged: the run resumed from an earlier one.
        last = [other for other in self.steps() if other <= name][:KEPT]
        self.discard(*(other for other in self._names(STEP) if other not in last))
        if content.config.init.weights is not None:
            (self.path / INITIAL).unlink(missing_ok=True)
        if best:
            name = checkpoint_name(BEST, step)
            self._write(name, content, resumable=False)
            self.discard(*(other for other in self._names(BEST) if other != name))

    def _write(self, name: str, content: Content, resumable: bool) -> None:
        # The folder exists if the step is repeated, for example after its checkpoint was damaged.
        self.discard(name)
        place = self.path / name
        place.mkdir(parents=True)
        if isinstance(place, Path):
            save(place, content, resumable)
            return
        with tempfile.TemporaryDirectory() as folder:
            save(Path(folder), content, resumable)
            copy([str(file) for file in Path(folder).iterdir()], LocalFileSystem(), place.path, place.filesystem)

    def _full(self, name: str) -> StorageError:
        folder = tempfile.gettempdir() if self.is_remote else self.location
        self.discard(name)
        free = readable(shutil.disk_usage(folder).free)
        return StorageError(
            f"checkpoint {name} cannot be written, the disk of {folder} or its quota is full: {free} are left. The "
            "previous checkpoints are intact: free space, then rerun the command to resume from the last one"
        )

    def _whole(self, prefix: str) -> list[str]:
        filesystem, root = filesystem_of(self.location)
        names = self._names(prefix)
        with naming(self.location):
            infos = filesystem.get_file_info([f"{root}/{name}/{CHECKSUMS}" for name in names])
        return [name for name, info in zip(names, infos, strict=True) if info.type == FileType.File]

    def _names(self, prefix: str) -> list[str]:
        return _folders_in(self.location, prefix)


def runs_in(storage: str, prefix: str) -> list[RunFolder]:
    """Returns the folders in `storage`, a path or URI, whose names start with `prefix`, in order; it need not exist."""
    return [RunFolder.of(storage, name) for name in _folders_in(storage, prefix)]


def _folders_in(location: str, prefix: str) -> list[str]:
    filesystem, root = filesystem_of(location)
    with naming(location):
        entries = filesystem.get_file_info(FileSelector(root, allow_not_found=True))
    folders = [entry.base_name for entry in entries if entry.type == FileType.Directory]
    return sorted(name for name in folders if name.startswith(prefix))


@contextmanager
def usable(storage: str) -> Iterator[None]:
    """Turns an OSError in the block, which finds or starts a run, into a StorageError."""
    try:
        yield
    except OSError as error:
        raise StorageError(f"--storage {storage} cannot be used: {error}") from error
