"""Where rasters lie: local files, and names that GDAL resolves (URLs, zip archives, object stores)."""

from __future__ import annotations

import os
import re
from pathlib import Path, PosixPath
from typing import Self
from urllib.parse import unquote

from qhybrid.errors import DataError, DatasetNotFoundError

_URL = re.compile(r"^(https?|ftp):/+", re.IGNORECASE)
_FILE = re.compile(r"^file:/+(localhost/)?", re.IGNORECASE)
_STORE = re.compile(r"^(s3|gs|az|oss):/+", re.IGNORECASE)
_STORES = {"s3": "/vsis3/", "gs": "/vsigs/", "az": "/vsiaz/", "oss": "/vsioss/"}
_INNER_URL = re.compile(r"(/vsi[a-z0-9_]+/)(https?|ftp):/+", re.IGNORECASE)
_LOCAL_SYSTEMS = re.compile(r"^(/vsi(?:zip|tar|gzip|7z|rar)/)+", re.IGNORECASE)
_NESTED = re.compile(r"^\{?/?vsi[a-z0-9_]+/", re.IGNORECASE)
_ARCHIVE = re.compile(r"\.(zip|tar|tgz|tar\.gz|7z|rar|gz)(?=/|\}|$)", re.IGNORECASE)

_ARCHIVES = {".zip": "vsizip", ".tar": "vsitar", ".tgz": "vsitar"}

_HTTP_DEFAULTS = {
    "GDAL_HTTP_CONNECTTIMEOUT": "10",
    "GDAL_HTTP_TIMEOUT": "120",
    "GDAL_HTTP_LOW_SPEED_TIME": "30",
    "GDAL_HTTP_LOW_SPEED_LIMIT": "1",
    "GDAL_HTTP_MAX_RETRY": "2",
    "GDAL_HTTP_RETRY_DELAY": "1",
}
"""GDAL waits for ever by default. Variables of the environment that are set already keep their values."""


class GdalPath(PosixPath):
    """A name that GDAL resolves, in the place of a path.

    A plain path would collapse `https://` to `https:/`. `str` and `os.fspath` return the name as it was
    given; `name`, `stem` and `suffix` are those of a path.
    """

    _text: str

    def __new__(cls, *parts: str | os.PathLike[str]) -> Self:
        """Take a name, or the parts of one."""
        text = "/".join(os.fspath(part).rstrip("/") for part in parts)
        self = super().__new__(cls, text)
        self._text = text
        return self

    def __str__(self) -> str:
        known = self.__dict__.get("_text")  # absent where pathlib made the object, as for `parent`
        return known if known is not None else _with_slashes(super().__str__())

    def __fspath__(self) -> str:
        return str(self)

    def __truediv__(self, key: str | os.PathLike[str]) -> Self:
        return type(self)(str(self), key)

    def __reduce__(self) -> tuple[type[Self], tuple[str]]:
        return type(self), (str(self),)


def _with_slashes(text: str) -> str:
    """Restore the slashes of a URL that went through a path."""
    text = _URL.sub(lambda match: f"{match[1].lower()}://", text)
    text = _STORE.sub(lambda match: f"{match[1].lower()}://", text)
    return _INNER_URL.sub(lambda match: f"{match[1]}{match[2].lower()}://", text)


def as_location(place: str | Path) -> Path:
    """Return the location of a raster: a path, or a `GdalPath` for what GDAL alone can resolve.

    Args:
        place: A file (also as `file://`), a URL (http, https, ftp, s3, gs, az), or a name such as
            `/vsizip/maps.zip/a.tif`.
    """
    if isinstance(place, GdalPath):
        return place
    text = str(place)
    if match := _FILE.match(text):
        return Path("/", unquote(text[match.end() :]))
    if not (_URL.match(text) or _STORE.match(text) or text.startswith("/vsi")):
        return Path(place)
    found = GdalPath(_with_slashes(text))
    system, archive = _LOCAL_SYSTEMS.match(text), local_file(found)
    # `/vsizip//a.zip` lost its second slash in a path: without it the archive is below the working folder.
    if (
        system
        and archive
        and not archive.is_absolute()
        and not archive.exists()
        and Path("/", archive).exists()
    ):
        return GdalPath(f"{system[0]}/{text[system.end() :]}")
    return found


def join_location(folder: Path, name: str | Path) -> Path:
    """Return a location below a folder; a URL, a `/vsi...` name or an absolute path stands for itself."""
    found = as_location(name)
    return found if isinstance(found, GdalPath) or found.is_absolute() else folder / found


def as_folder(place: Path) -> Path:
    """Return a folder of data: the inside of an archive where the place is one."""
    system = _ARCHIVES.get(place.suffix.lower())
    inside = system is not None and not isinstance(place, GdalPath) and place.is_file()
    return GdalPath(f"/{system}/{place.resolve()}") if inside else place


def gdal_name(place: str | Path) -> str:
    """Return what GDAL opens: paths as they are, URLs with their virtual file system in front."""
    text = str(as_location(place))
    if _URL.match(text):
        return f"/vsicurl/{text}"
    store = _STORE.match(text)
    return _STORES[store[1].lower()] + text[store.end() :] if store else text


def is_remote(place: str | Path) -> bool:
    """Return whether a location is reached through a network: its content may change unseen."""
    name = gdal_name(place)
    inner = _LOCAL_SYSTEMS.sub("", name)
    if inner != name:
        return bool(_URL.match(inner) or _NESTED.match(inner))
    return name.startswith("/vsi") and not name.startswith("/vsimem/")


def local_file(place: str | Path) -> Path | None:
    """Return the file on this machine that a location reads: itself, or the archive that it is in.

    Returns:
        None for what is reached through a network, or is in memory.
    """
    name = gdal_name(place)
    if is_remote(place) or name.startswith("/vsimem/"):
        return None
    inner = _LOCAL_SYSTEMS.sub("", name)
    if inner == name:
        return Path(name)
    braced = re.match(r"^\{(.*?)\}", inner)
    if braced:
        return Path(braced[1])
    match = _ARCHIVE.search(inner)
    return Path(inner[: match.end()] if match else inner)


def check_present(place: str | Path) -> None:
    """Check that the file of a location is there, as far as that is known without the network.

    Also sets time limits for what comes through the network, where the environment has none.

    Raises:
        DataError: If it is missing.
    """
    file = local_file(place)
    if file is not None and not file.is_file():
        raise DataError(f"{place}: must be a raster file, but is missing. Fix: check the path.")
    if is_remote(place):
        _limit_time()


def _limit_time() -> None:
    for key, value in _HTTP_DEFAULTS.items():
        os.environ.setdefault(key, value)


def cannot_open(place: str | Path, error: Exception) -> DataError:
    """Return the error that says why a raster cannot be opened, and what can be done."""
    if is_remote(place):
        remedy = (
            "Fix: check the address, the network and the rights (GDAL's variables, such as GDAL_HTTP_HEADERS "
            "or AWS_NO_SIGN_REQUEST=YES), or download the file."
        )
    elif isinstance(as_location(place), GdalPath):
        remedy = "Fix: check the name inside the archive, or replace the file."
    else:
        return DataError(f"{place}: cannot be opened as a raster ({error}). Fix: replace the file.")
    return DataError(f"{place}: is missing or cannot be opened as a raster ({error}). {remedy}")


def list_files(folder: Path, remedy: str) -> list[Path]:
    """Return all files below a folder or in an archive, sorted; hidden ones are passed over.

    Args:
        folder: A folder, or a `/vsi...` name of one.
        remedy: What to tell the user when it is missing.

    Raises:
        DatasetNotFoundError: If there is no such folder.
    """
    if isinstance(folder, GdalPath):
        from pyogrio import vsi_listtree  # takes a second, and few data sets need it

        root = gdal_name(folder)
        if is_remote(folder):
            _limit_time()
        try:
            names = [name for name in vsi_listtree(root) if not name.endswith("/")]
        except (OSError, RuntimeError, ValueError) as error:
            raise DatasetNotFoundError(
                f"{folder}: must be a folder of rasters, but cannot be listed ({error}). {remedy}"
            ) from error
        return [GdalPath(name) for name in sorted(names) if "/." not in name[len(root) :]]
    if not folder.is_dir():
        raise DatasetNotFoundError(f"{folder}: must be a folder of rasters, but is missing. {remedy}")
    found: list[Path] = []
    for base, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(base, name) for name in names if not name.startswith(".")]
    return sorted(found)
