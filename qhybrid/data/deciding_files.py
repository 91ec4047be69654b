"""Which files decide the pixels of a raster, or the shapes of a vector file.

GDAL is asked, and what it may read without listing it is added: sources of a VRT at any depth, world files,
masks, overviews and statistics beside a file, headers, parts of a shapefile.
"""

from __future__ import annotations

import bisect
import html
import itertools
import os
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, unquote

import rasterio
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from qhybrid.data.raster_file import SAFE_PNG
from qhybrid.errors import DataError

_BEHIND_NAME = (".msk", ".aux.xml", ".ovr", ".msk.ovr", ".ovr.msk", ".hdr", ".prj", ".w", "-wal", "-journal")
"""Companions that are named after the whole file name."""
_BEHIND_STEM = (
    ".wld", ".hdr", ".prj", ".tab", ".aux", ".rrd", ".rde", ".ige", ".rpb", "_rpc.txt", ".rpc",
    ".imd", ".clr", ".sta", ".stx", ".shp", ".shx", ".dbf", ".cpg", ".qpj", ".sbn", ".sbx", ".geoloc",
)  # fmt: skip
"""Companions that are named after the file name without its suffix."""
_SOURCE = re.compile(
    r"<(SourceFilename|SourceDataset|Filename|X_DATASET|Y_DATASET)\b([^>]*)>([^<]*)</\1\s*>", re.IGNORECASE
)
_RELATIVE = re.compile(r"""relativeToVRT\s*=\s*["']1["']""", re.IGNORECASE)
_VSI = re.compile(r"/vsi([a-z0-9_]+)([/?{])(.*)", re.DOTALL)
_INSIDE_A_FILE = {"zip", "tar", "gzip", "7z", "rar", "subfile", "sparse", "cached"}
_VRT_BYTES = 2**27
_PATIENCE = {"GDAL_HTTP_CONNECTTIMEOUT": "10", "GDAL_HTTP_TIMEOUT": "60"}
"""Seconds to wait for a server, where the environment says nothing: GDAL waits for ever."""


@dataclass(frozen=True)
class DecidingFiles:
    """What decides the content of one image, mask or vector file.

    Attributes:
        files: Local files by labels that are the same wherever the data lie.
        urls: Addresses of remote files.
        names: Parts of names that decide too, as the place in an archive.
        unknown: Names whose content cannot be told.
    """

    files: dict[str, Path]
    urls: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()


class Listings:
    """Names of the files in folders, each folder looked at once: for many files of one folder."""

    def __init__(self) -> None:
        self._names: dict[Path, list[tuple[str, str]]] = {}

    def beginning_with(self, stem: str, folder: Path) -> list[tuple[str, str]]:
        """Return the names in a folder that begin with a text in lower case, as (lower case, name)."""
        if folder not in self._names:
            self._names[folder] = sorted((entry.name.lower(), entry.name) for entry in folder.iterdir())
        names = self._names[folder]
        start = bisect.bisect_left(names, (stem, ""))
        return list(itertools.takewhile(lambda pair: pair[0].startswith(stem), names[start:]))


def deciding_files(location: str | Path, listings: Listings | None = None) -> DecidingFiles:
    """Return what decides the pixels that are read at a location.

    Args:
        location: A file, a folder, a URL, or a name that GDAL can open (`/vsi...`, a VRT, a subdataset).
        listings: Shared by the calls for many files.

    Raises:
        DataError: If a local file is missing.
    """
    search = _Search(listings or Listings())
    search.add(str(location))
    main = search.main or Path(str(location))
    files = {_label(file, main): file for file in search.files}
    return DecidingFiles(files, tuple(search.urls), tuple(search.names), tuple(search.unknown))


def _label(file: Path, main: Path) -> str:
    """Return a name that stays when all is moved, copied or renamed; `*` stands for the main file's name."""
    name = Path(os.path.relpath(file, main.parent)).as_posix()
    for known, sign in ((main.name, "*"), (main.stem, "~")):
        if "/" not in name and name.lower().startswith(known.lower()):
            return sign + name[len(known) :].lower()
    return name


class _Search:
    """Collects what decides a location, each file once."""

    def __init__(self, listings: Listings) -> None:
        self._listings = listings
        self.files: dict[Path, None] = {}
        self.urls: dict[str, None] = {}
        self.names: dict[str, None] = {}
        self.unknown: dict[str, None] = {}
        self.main: Path | None = None

    def add(self, name: str) -> None:
        """Add a location and all that it refers to."""
        if re.match(r"(https?|ftp)://", name):
            self.urls[name] = None
            self._ask_gdal(name)
        elif (found := _VSI.fullmatch(name)) is not None:
            self._add_virtual(name, *found.groups())
        elif Path(name).is_dir():
            self._add_folder(Path(name))
        elif Path(name).exists() or not _is_connection(name):
            self._add_file(Path(name))
        else:
            self._add_connection(name)

    def _add_virtual(self, name: str, kind: str, sign: str, rest: str) -> None:
        """Add a name of GDAL's virtual file systems."""
        if kind in {"curl", "curl_streaming"}:
            address = parse_qs(rest).get("url", [""])[0] if sign == "?" else unquote(rest)
            if address and address not in self.urls:
                self.urls[address] = None
                self._ask_gdal(name)
            return
        inner = rest.partition(",")[2] if kind == "subfile" else rest.lstrip("{").replace("}", "")
        file = _existing_part(inner) if kind in _INSIDE_A_FILE else None
        if file is None:
            self.unknown[name] = None
            return
        self._take(file)
        # Which part of it is read decides too; where it lies does not.
        self.names[name.replace(str(file), file.name)] = None

    def _add_folder(self, folder: Path) -> None:
        """Add all files of a folder that is one data source, as an ESRI geodatabase."""
        self.main = self.main or folder
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            self.files[file] = None

    def _add_file(self, file: Path) -> None:
        if file in self.files:
            return
        if not file.is_file():
            raise DataError(f"{file}: must be a file, but is missing. Fix: check the path.")
        self._take(file)
        self._ask_gdal(str(file))  # first: opening a GeoPackage may write its -wal into it, and remove that
        for companion in self._companions(file):
            self.files.setdefault(companion, None)
        for source in _sources_of_vrt(file):
            self.add(source)

    def _companions(self, file: Path) -> list[Path]:
        """Return the files beside a file that GDAL may read with it, in upper or lower case."""
        stem, suffix = file.stem.lower(), file.suffix.lower().lstrip(".")
        ends = {*_BEHIND_STEM, *((f".{suffix}w", f".{suffix[0]}{suffix[-1]}w") if suffix else ())}
        wanted = {stem + end for end in ends} | {file.name.lower() + end for end in _BEHIND_NAME}
        beside = self._listings.beginning_with(stem, file.parent)
        found = [file.parent / name for lower, name in beside if lower in wanted and name != file.name]
        return [companion for companion in found if companion.is_file() and not _is_empty_log(companion)]

    def _take(self, file: Path) -> None:
        self.main = self.main or file
        self.files[file] = None

    def _add_connection(self, name: str) -> None:
        """Add what a name such as `vrt://a.tif?bands=1` or `NETCDF:a.nc:x` opens."""
        before = len(self.files) + len(self.urls)
        self._ask_gdal(name)
        if len(self.files) + len(self.urls) == before:
            self.unknown[name] = None
        for file in self.files:  # where it lies does not decide
            name = name.replace(str(file), file.name)
        self.names[name] = None

    def _ask_gdal(self, name: str) -> None:
        """Add the files that GDAL lists, with those that they refer to."""
        for file in _listed_by_gdal(name):
            if file.startswith("/vsimem/"):
                self.unknown[file] = None
            elif file != name and Path(file) not in self.files and file not in self.urls:
                self.add(file)


def _is_empty_log(file: Path) -> bool:
    """Return whether a file is a log of SQLite with nothing in it, which comes and goes with its readers."""
    return file.name.lower().endswith(("-wal", "-journal")) and not file.stat().st_size


def _is_connection(name: str) -> bool:
    """Return whether a name is no plain path: it has a driver or a protocol in front (not a drive letter)."""
    return re.match(r"[A-Za-z0-9_+]{2,}:", name) is not None or name.lstrip().startswith("<")


def _listed_by_gdal(name: str) -> list[str]:
    """Return the files that GDAL names for a data set; none if it is no raster."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            patience = {key: value for key, value in _PATIENCE.items() if key not in os.environ}
            with rasterio.Env(**SAFE_PNG, **patience), rasterio.open(name) as handle:
                return [str(file) for file in handle.files]
    except (RasterioError, OSError, ValueError):
        return []  # whoever reads it says so


def _existing_part(name: str) -> Path | None:
    """Return the file that a path inside an archive begins with."""
    path = Path(name)
    return next((part for part in (path, *path.parents) if part.is_file()), None)


def _sources_of_vrt(file: Path) -> list[str]:
    """Return the names that a VRT refers to, whatever kinds its sources are; none of other files."""
    with file.open("rb") as handle:
        if b"<VRTDataset" not in handle.read(4096):
            return []
        handle.seek(0)
        text = handle.read(_VRT_BYTES).decode("utf-8", "replace")
    found = []
    for _, attributes, value in _SOURCE.findall(text):
        name = html.unescape(value.strip())
        if not name:
            continue
        plain = not name.startswith("/vsi") and not _is_connection(name)
        if plain and (_RELATIVE.search(attributes) or not Path(name).is_absolute()):
            beside = file.parent / name
            name = str(beside) if _RELATIVE.search(attributes) or beside.exists() else name
        if not plain or Path(name).exists():
            found.append(name)
    return found
