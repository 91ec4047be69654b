"""The content of a raster: a hash of all files that decide its pixels."""

from __future__ import annotations

import hashlib
from pathlib import Path

from qhybrid.data.raster_file import open_raster
from qhybrid.errors import DataError

_CHUNK = 1 << 22


def content_hash(path: str | Path) -> str:
    """Return the SHA-256 of all bytes of a raster and of the files that belong to it.

    They are those that GDAL lists: the file, the sources of a VRT, masks, sidecars, world files. Names do not
    count: a copy under another name has the same hash.

    Raises:
        DataError: If a file cannot be read.
    """
    seen: set[Path] = set()
    digest = hashlib.sha256()
    waiting = [Path(path)]
    while waiting:
        file = waiting.pop(0)
        if file in seen or not file.is_file():
            continue
        seen.add(file)
        digest.update(_file_hash(file))
        if file == Path(path) or file.suffix.lower() == ".vrt":
            with open_raster(file) as handle:
                waiting += [Path(name) for name in handle.files]
    return digest.hexdigest()


def _file_hash(path: Path) -> bytes:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}). Fix: check the file.") from error
    return digest.digest()
