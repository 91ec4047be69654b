"""Unpacking untrusted archives: nothing outside the folder, no links, never more than the disk holds."""

from __future__ import annotations

import shutil
import stat
import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath

from qhybrid.data.download import check_disk_space
from qhybrid.errors import DataError
from qhybrid.workspace import atomic_folder


def _checked_path(archive: Path, member: zipfile.ZipInfo) -> PurePosixPath:
    name = member.filename
    path = PurePosixPath(name)
    outside = (
        path.is_absolute()
        or ".." in path.parts
        or "\\" in name
        or PureWindowsPath(name).drive
        or not path.parts
    )
    if outside:
        raise DataError(
            f"{archive}: member {name!r} must lie inside the folder, but does not. Nothing was unpacked."
        )
    mode = member.external_attr >> 16
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise DataError(
            f"{archive}: member {name!r} must be a file or folder, but is a link. Nothing was unpacked."
        )
    if member.flag_bits & 0x1:
        raise DataError(f"{archive}: member {name!r} is encrypted. Fix: unpack the archive by hand.")
    return path


def extract_zip(
    archive: str | Path, folder: str | Path, required: Sequence[str] = (), max_bytes: int | None = None
) -> Path:
    """Unpack a zip archive into a folder that appears whole or not at all.

    Args:
        archive: The archive.
        folder: The folder; it must be empty or absent.
        required: Beginnings of member names that must occur, such as `images/`.
        max_bytes: Largest unpacked size; the disk's free space bounds it in any case.

    Returns:
        The folder.

    Raises:
        DataError: If the archive is damaged, lacks a required member, or has members that leave the folder,
            are
            links, or occur twice.
        WorkspaceError: If the disk is too small or the folder is in use.
    """
    source, target = Path(archive), Path(folder)
    if not source.is_file():
        raise DataError(f"{source}: must be a zip archive, but is missing.")
    try:
        with zipfile.ZipFile(source) as bundle:
            members = [(member, _checked_path(source, member)) for member in bundle.infolist()]
            files = [path for member, path in members if not member.is_dir()]
            if len({str(path).casefold() for path in files}) != len(files):
                raise DataError(f"{source}: members must have different names, but some occur twice.")
            for beginning in required:
                if not any(str(path).startswith(beginning) for path in files):
                    raise DataError(
                        f"{source}: must contain {beginning}, but does not. Fix: check the address."
                    )
            size = sum(member.file_size for member, _ in members)
            if max_bytes is not None and size > max_bytes:
                raise DataError(
                    f"{source}: must unpack to at most {max_bytes:,} bytes, but would to {size:,}."
                )
            check_disk_space(target.parent, size)
            with atomic_folder(target) as temporary:
                for member, path in members:
                    place = temporary / path
                    if member.is_dir():
                        place.mkdir(parents=True, exist_ok=True)
                        continue
                    place.parent.mkdir(parents=True, exist_ok=True)
                    # zipfile never gives more bytes than the directory declares, and checks the CRC at the
                    # end.
                    with bundle.open(member) as reader, place.open("xb") as writer:
                        shutil.copyfileobj(reader, writer, 1 << 20)
    except (zipfile.BadZipFile, EOFError, NotImplementedError) as error:
        raise DataError(
            f"{source}: is not a usable zip archive ({error}). Fix: download it again."
        ) from error
    return target
