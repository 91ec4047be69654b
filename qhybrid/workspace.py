"""Where things live on disk, and how files appear: whole or not at all."""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from qhybrid.errors import CheckpointError, QHybridError, WorkspaceError

FINDINGS = "LOG.md"
"""The project's own log of experiments, beside its recipes."""
STARTER_FILES = (
    "circuits/hq_unet_qcnn.qasm",
    "circuits/hq_unet_qcnn.svg",
    "circuits/hq_unet_qcnn.yaml",
    "noise_profiles/README.md",
    "noise_profiles/depolarizing_0.01_0.02.yaml",
    "noise_profiles/fake_nighthawk.yaml",
    "noise_profiles/ideal.yaml",
    "runs/demo.yaml",
    "runs/digits_cnn.yaml",
    "runs/small_scenes.yaml",
    "runs/small_scenes_noise.yaml",
)
"""What a new workspace begins with: all of it runs without a data set of one's own."""
DATA_VARIABLE = "QHYBRID_DATA"
SEVERAL_RUNS = "repeats.json"
"""What is repeated, in a folder of repeated runs."""
_TIME = re.compile(r"(\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d)(Z?)(?:_(\d+))?")
"""Name of a run folder: when it was made, with a number from 2 on where others were made that second.

The time is UTC, told by the Z; earlier versions named folders by the clock of the place.
"""
_TIME_FORMAT = "%Y-%m-%d_%H-%M-%S"
_below: ContextVar[Path | None] = ContextVar("data_root", default=None)
CACHE_VARIABLE = "QHYBRID_CACHE"
LOCK_FILE = ".lock"
_NOTHING_LEFT = 1 << 16
"""A disk with fewer bytes free than this is full: file systems keep some for themselves."""
STARTER_FOLDERS = ("circuits", "noise_profiles", "runs")
STARTER_SUFFIXES = (".yaml", ".md", ".qasm", ".qpy", ".svg")


def data_root(given: str | Path | None = None) -> Path:
    """Return the folder that data sets are looked up in.

    Args:
        given: An explicit folder (``--data-root``); it wins over that of `data_below`, which wins over the
            variable ``QHYBRID_DATA``, which wins over ``./data``.

    Returns:
        The folder; it need not exist.
    """
    return Path(given or _below.get() or os.environ.get(DATA_VARIABLE) or "data").expanduser()


@contextmanager
def data_below(root: str | Path) -> Iterator[None]:
    """Have a block look up below a data root whatever it looks up there, as pretrained weights.

    Args:
        root: The data root of what is done.
    """
    before = _below.set(Path(root))
    try:
        yield
    finally:
        _below.reset(before)


def cache_dir() -> Path:
    """Return the folder for rebuildable files (contraction plans, filter features), creating it.

    Raises:
        WorkspaceError: If it cannot be created.
    """
    import platformdirs

    given = os.environ.get(CACHE_VARIABLE)
    folder = Path(given).expanduser() if given else Path(platformdirs.user_cache_dir("qhybrid"))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WorkspaceError(
            f"Cannot create {folder}: {error}. Fix: set {CACHE_VARIABLE} to a folder."
        ) from error
    return folder


def starter_root() -> Path:
    """Return the folder of the package's own files: inside an installed wheel, else the checkout's root."""
    package = Path(__file__).resolve().parent
    inside = package / "starter"
    return inside if inside.is_dir() else package.parent


def starter_files(examples: bool = False) -> list[Path]:
    """Return what a new workspace begins with, relative to `starter_root()`.

    Args:
        examples: Return all circuits, noise profiles and recipes of the package instead: never results of
            runs, nor the log of findings.
    """
    if not examples:
        return [Path(name) for name in STARTER_FILES]
    root = starter_root()
    found = (file for folder in STARTER_FOLDERS for file in (root / folder).glob("*"))
    return sorted(
        file.relative_to(root) for file in found if file.suffix in STARTER_SUFFIXES and file.name != FINDINGS
    )


def definition_files(folder: str) -> dict[str, Path]:
    """Return the YAML files in ./`folder` and those of the package by name; the workspace's own win."""
    roots = (starter_root(), Path())
    return {file.stem: file for root in roots for file in whole_files(root / folder, ".yaml")}


def newest_of(folders: Iterable[Path], place: Path) -> Path | None:
    """Return the newest of folders, by the time of their making that is their name; None if there are none.

    Args:
        folders: The folders; a single one may have any name.
        place: Where they lie, for the message.

    Raises:
        CheckpointError: If several are there, and not all are named by that time.
    """
    found = sorted(set(folders))
    times = {folder: _TIME.fullmatch(folder.name) for folder in found}
    known = {
        folder: (_instant(time), int(time[3] or 1)) for folder, time in times.items() if time is not None
    }
    if len(found) > 1 and len(known) < len(found):
        raise CheckpointError(
            f"{place} holds {', '.join(one.name for one in found)}, of which none can be told to be the "
            f"newest. Fix: name one of them, for example {found[0]}."
        )
    return max(found, key=lambda folder: known.get(folder, (0.0, 0)), default=None)


def time_name() -> str:
    """Return the name of a folder that is made now, for `newest_of`: the time in UTC."""
    return f"{datetime.now(UTC):{_TIME_FORMAT}}Z"


def _instant(name: re.Match[str]) -> float:
    """Return the seconds since 1970 that a folder's name says, of what looks like a time and is none 0."""
    try:
        moment = datetime.strptime(name[1], _TIME_FORMAT)
        return (moment.replace(tzinfo=UTC) if name[2] else moment).timestamp()
    except (ValueError, OverflowError, OSError):
        return 0.0


def lay_out_starter(folder: str | Path, examples: bool = False) -> list[Path]:
    """Copy starter files to a workspace folder, all of them or none.

    Args:
        folder: The workspace; it may exist and hold other files.
        examples: Copy all other packaged files too. Starter files that are there already stay as they are,
            so that examples can be added to a workspace.

    Returns:
        The files that were written.

    Raises:
        WorkspaceError: If a file of the same name exists already, or the folder cannot be written.
    """
    target = Path(folder)
    names = starter_files(examples)
    present = [name for name in names if os.path.lexists(target / name)]
    if examples:
        kept = {name for name in present if name in starter_files()}
        names, present = ([name for name in some if name not in kept] for some in (names, present))
    if present:
        shown = ", ".join(str(name) for name in present[:3]) + (", ..." if len(present) > 3 else "")
        raise WorkspaceError(
            f"{target} already holds {shown}. Fix: choose another folder, or move them away."
        )
    written: list[Path] = []
    try:
        for name in names:
            with atomic_path(target / name) as temporary:
                shutil.copyfile(starter_root() / name, temporary)
            written.append(target / name)
    except BaseException:
        for file in written:
            file.unlink(missing_ok=True)
        raise
    return written


def whole_files(folder: Path, suffix: str) -> list[Path]:
    """Return the files of a folder with a suffix, sorted, without what a killed process left half written."""
    return sorted(file for file in folder.glob(f"*{suffix}") if not file.name.startswith("."))


def _sibling_for_writing(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=f".part{path.suffix}", dir=path.parent)
    os.close(handle)
    return Path(name)


def _raise_as_workspace_error(error: BaseException, final: Path) -> None:
    """Explain a full disk, or a final path that cannot be replaced; leave all other errors alone."""
    if isinstance(error, WorkspaceError) or not isinstance(error, Exception):
        return
    if disk_is_full(error, final.parent):
        raise WorkspaceError(f"The disk is full: {final} was not written. Fix: free some space.") from error
    if isinstance(error, OSError) and str(final) in (error.filename, error.filename2):
        raise WorkspaceError(
            f"{final} cannot be written ({error.strerror}). Fix: choose another path."
        ) from error


def make_folder(folder: Path) -> Path:
    """Make a folder that results go into, unless it is there, and return it.

    Raises:
        WorkspaceError: If it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WorkspaceError(
            f"Folder {folder} must be writable, since results go into it, but cannot be made "
            f"({error.strerror}). Fix: choose another one with --output."
        ) from error
    return folder


def disk_is_full(error: BaseException | None, folder: Path) -> bool:
    """Return whether an error, or one that it came from, means that a disk or a quota is full.

    Args:
        error: The error. Writers in other languages (safetensors, torch, GDAL) raise ones of their own, some
            of which only say that writing failed.
        folder: Where was written.
    """
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if any(os.strerror(code) in str(error) for code in (errno.ENOSPC, errno.EDQUOT)):
            return True
        if "write" in str(error).lower() and folder.is_dir():
            return shutil.disk_usage(folder).free < _NOTHING_LEFT
        error = error.__cause__ or error.__context__
    return False


@contextmanager
def locked(
    folder: str | Path, name: str = LOCK_FILE, kind: type[QHybridError] = WorkspaceError
) -> Iterator[None]:
    """Keep other processes out of a folder; the system lets go when this process ends, however it ends.

    Args:
        folder: The folder.
        name: The file in it that is locked, and stays there.
        kind: Class of the error.

    Raises:
        QHybridError: Of that kind, if another process works on the folder, or it cannot be written.
    """
    lock = FileLock(Path(folder) / name, timeout=0)
    try:
        if not Path(folder).is_dir():
            raise NotADirectoryError(errno.ENOTDIR, "There is no such folder", str(folder))
        lock.acquire()
    except Timeout as error:
        raise kind(
            f"Only one process may work on {folder}, but another one does. Fix: wait for it, or stop it."
        ) from error
    except OSError as error:
        raise kind(
            f"Folder {folder} must be writable, since results go into it, but: {error}. Fix: make it "
            "writable, or choose another one."
        ) from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Give a temporary sibling to write to, and move it to `path` when the block ends without an error.

    Args:
        path: The final file.

    Yields:
        The temporary file, with the same suffix as `path`. On an error it is removed and `path` stays as it
        was.

    Raises:
        WorkspaceError: If the folder cannot be written or the disk is full.
    """
    final = Path(path)
    try:
        temporary = _sibling_for_writing(final)
    except OSError as error:
        raise WorkspaceError(
            f"Cannot write in {final.parent}: {error}. Fix: choose a writable folder."
        ) from error
    try:
        yield temporary
        with temporary.open("rb") as handle:
            os.fsync(handle.fileno())
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(final)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        _raise_as_workspace_error(error, final)
        raise


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Give a temporary sibling folder to fill, and rename it to `path` when the block ends without an error.

    Args:
        path: The final folder; it must not exist yet, or be empty.

    Yields:
        The temporary folder. On an error it is removed.

    Raises:
        WorkspaceError: If `path` already holds files or its parent cannot be written.
    """
    final = Path(path)
    if final.exists() and (not final.is_dir() or any(final.iterdir())):
        raise WorkspaceError(
            f"{final} already exists and is not empty. Fix: choose another folder or remove it."
        )
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{final.name}.", suffix=".part", dir=final.parent))
    except OSError as error:
        raise WorkspaceError(
            f"Cannot write in {final.parent}: {error}. Fix: choose a writable folder."
        ) from error
    try:
        yield temporary
        temporary.chmod(0o755)
        if final.exists():
            final.rmdir()
        temporary.rename(final)
    except BaseException as error:
        shutil.rmtree(temporary, ignore_errors=True)
        _raise_as_workspace_error(error, final)
        raise


def write_text(path: str | Path, text: str) -> Path:
    """Write a text file whole or not at all, as UTF-8, and return its path."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return Path(path)
