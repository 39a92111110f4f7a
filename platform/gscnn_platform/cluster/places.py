"""Resolves the paths of a job: workers run in other folders than the driver, a submitted job in a copy of the code."""

from pathlib import Path
from typing import Final

from gscnn_platform import machine
from gscnn_platform.paths import RemotePath, as_path

PLATFORM_FOLDER: Final = Path(__file__).resolve().parents[2]
"""`<checkout>/platform`, or site-packages if the project is installed as a wheel."""


def in_submitted_job() -> bool:
    """Whether this code runs from the copy that `ray job submit` uploaded."""
    return "working_dir_files" in PLATFORM_FOLDER.parts


def resolve(path: str, option: str) -> str:
    """An absolute path, or the URI as it is; workers run in other folders than the driver.

    Raises:
        ValueError: the path is empty, which would mean the current folder; it ends with a carriage return; or it is
            relative in a submitted job, where it would be in the uploaded copy of the code.
    """
    if not path.strip():
        raise ValueError(f"{option} is empty, as with a shell variable that is not set: give a path or a URI")
    if path.endswith("\r"):
        raise ValueError(
            f"{option} {path!r} ends with a carriage return, as in a script with Windows line endings: convert the "
            "script with dos2unix"
        )
    place = as_path(path)
    if isinstance(place, RemotePath):
        return str(place)
    expanded = machine.expanded(path) if path.startswith("~") else place
    if in_submitted_job() and not expanded.is_absolute():
        raise ValueError(
            f"{option} is {path!r}: a submitted job runs in another folder: pass an absolute path or a URI"
        )
    return str(expanded.absolute())


def resolve_local(path: str, option: str) -> Path:
    """Like `resolve`, for a file that is written on this machine only.

    Raises:
        ValueError: a URI, a relative path in a submitted job, a path that cannot be written, or one that is not a file.
    """
    if isinstance(as_path(path), RemotePath):
        raise ValueError(f"{option} is {path!r}: must be on this machine; copy it afterwards")
    place = Path(resolve(path, option))
    if place.exists() and not place.is_file():
        what = "a folder" if place.is_dir() else "not a file that can be replaced"
        raise ValueError(f"{option} is {path!r}, which is {what}: name a file")
    # The target of a link is written, not the link.
    check_can_write(str(place.resolve().parent), option)
    return place


def check_can_write(folder: str, option: str) -> None:
    """Rejects a folder on this machine that is not writable, before anything starts; URIs pass.

    Raises:
        MachineError: naming the folder and the option.
    """
    place = as_path(folder)
    if not isinstance(place, Path):
        return
    file = next((path for path in (place, *place.parents) if path.is_file()), None)
    if file is not None:
        raise machine.MachineError(f"{option} {place}: {file} is a file; name a folder")
    if not machine.can_write(place):
        raise machine.MachineError(
            f"{place} cannot be written by {machine.user_name()}: choose another with {option} FOLDER"
        )


def default_storage() -> str:
    """`runs` in the current folder, or `~/gscnn-runs` in a submitted job, whose folder is temporary."""
    return str(machine.lasting_folder()) if in_submitted_job() else str(Path("runs").absolute())
