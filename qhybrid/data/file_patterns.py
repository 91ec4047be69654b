"""Which image belongs to which mask: folders, and patterns of file names with `{name}`, `*` and `**`."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from qhybrid.data.label_sources import is_vector_file, label_suffixes
from qhybrid.data.locations import GdalPath, gdal_name, join_location, list_files
from qhybrid.errors import ConfigError, DataError, DatasetNotFoundError

RASTER_SUFFIXES = (".tif", ".tiff", ".png", ".jp2", ".vrt", ".img", ".bmp", ".jpg", ".jpeg")
PICTURE_SUFFIXES = (".jpg", ".jpeg")
"""Beside a raster of the same name in another format they are previews of it."""

_TOKEN = re.compile(r"\{name\}|\*\*/|\*\*|\*")


@dataclass(frozen=True)
class FoundFile:
    """A file that a pattern matches.

    Attributes:
        path: The file.
        name: What stands for `{name}`, or the file's name without suffix.
        folder: Sub-folders that stand for `**`, each with a slash behind it.
    """

    path: Path
    name: str
    folder: str


def is_pattern(text: str) -> bool:
    """Return whether text is a pattern of file names rather than a folder or a file."""
    return "{name}" in text or "*" in text


def is_file_name(text: str) -> bool:
    """Return whether text names one file of rasters or polygons."""
    return not is_pattern(text) and Path(text).suffix.lower() in (*RASTER_SUFFIXES, *label_suffixes())


def check_pattern(text: str) -> None:
    """Check that a pattern says which image belongs to which mask.

    Raises:
        ValueError: If it has no `{name}`, or braces around another word.
    """
    if is_pattern(text) and "{name}" not in text:
        raise ValueError(f"pattern {text} must have {{name}} in it, which images and masks share")
    unknown = set(re.findall(r"\{[^}]*\}", text)) - {"{name}", "{split}"}
    if unknown and not text.startswith("/vsi"):
        raise ValueError(f"{sorted(unknown)[0]} stands for nothing: known are {{name}} and {{split}}")


def find_files(root: Path, pattern: str, remedy: str, labels: bool = False) -> list[FoundFile]:
    """Return the files of a folder or a pattern, sorted by path.

    Args:
        root: Folder that the pattern is below.
        pattern: A folder, of which all rasters are taken, or a pattern with `{name}`; `*` stands for any
            part of a file or folder name, `**` for any folders. Without a suffix any raster is meant.
        remedy: What to tell the user when the folder is missing.
        labels: Whether files of polygons are taken too.

    Raises:
        DatasetNotFoundError: If the folder is missing.
        DataError: If two files have the same name.
    """
    if not is_pattern(pattern):
        folder = join_location(root, pattern)
        files = [file for file in _children(folder, remedy) if _is_raster(file, labels)]
        return _unique([FoundFile(file, _one_spelling(file.stem), "") for file in files])
    start = pattern[: _TOKEN.search(pattern).start()].rpartition("/")[0]  # type: ignore[union-attr]
    folder = join_location(root, start) if start else root
    expression = _expression(pattern[len(start) :].lstrip("/"))
    found = []
    for file in list_files(folder, remedy):
        match = expression.fullmatch(_below(file, folder))
        if match and _is_raster(file, labels):
            parts = [value or "" for key, value in match.groupdict().items() if key != "name"]
            found.append(FoundFile(file, _one_spelling(match["name"]), _one_spelling("".join(parts))))
    return _unique(found)


def pair_files(
    images: Sequence[FoundFile], masks: Sequence[FoundFile], patterns: tuple[str, str]
) -> tuple[dict[str, tuple[Path, Path | None]], list[Path]]:
    """Pair images and masks of the same name, and of the same sub-folder where both patterns have `**`.

    A file that both patterns match belongs to the one that says more of it: of `{name}.png` and
    `{name}_gt.png` the second.

    Args:
        images: Files that the first pattern matches.
        masks: Files that the second one matches.
        patterns: Both.

    Returns:
        Image and mask (None where there is none) by name, in the order of the images, and the masks without
        an image.

    Raises:
        ConfigError: If both patterns say the same of a file.
        DataError: If two files have the same name.
    """
    shared = {file.path for file in images} & {file.path for file in masks}
    if shared:
        said = [len(_TOKEN.sub("", pattern)) if is_pattern(pattern) else 0 for pattern in patterns]
        if said[0] == said[1]:
            raise ConfigError(
                f"Keys `images` ({patterns[0]}) and `masks` ({patterns[1]}) of `data.options` must tell "
                f"files apart, but both match {min(map(str, shared))}."
            )
        if said[0] < said[1]:
            images = [file for file in images if file.path not in shared]
        else:
            masks = [file for file in masks if file.path not in shared]
    deep = all("**" in pattern for pattern in patterns)
    by_name = _by_name(masks, deep)
    pairs: dict[str, tuple[Path, Path | None]] = {}
    for name, path in _by_name(images, deep, all_folders=True).items():
        pairs[name] = (path, by_name.pop(name if deep else name.rpartition("/")[2], None))
    if not deep and len({name.rpartition("/")[2] for name in pairs}) < len(pairs):
        names = [name.rpartition("/")[2] for name in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(
            f"{patterns[0]}: names must differ, but several images are called {twice}. Fix: put `**/` into "
            "`masks` as well, so that sub-folders are compared too."
        )
    return {name.replace("/", "_"): pair for name, pair in pairs.items()}, list(by_name.values())


def _by_name(files: Iterable[FoundFile], deep: bool, all_folders: bool = False) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for file in files:
        name = file.folder + file.name if deep or all_folders else file.name
        if name in found:
            raise DataError(
                f"{found[name]} and {file.path}: names must differ, but both are {name}. Fix: remove one, or "
                "put `**/` into both patterns."
            )
        found[name] = file.path
    return found


def _one_spelling(name: str) -> str:
    """Write accented letters as one character: files from a Mac have an accent of its own behind them."""
    return unicodedata.normalize("NFC", name)


def _below(file: Path, folder: Path) -> str:
    """Return the name of a file from a folder on, with slashes."""
    if isinstance(file, GdalPath):
        return str(file)[len(gdal_name(folder).rstrip("/")) + 1 :]
    return file.relative_to(folder).as_posix()


def _children(folder: Path, remedy: str) -> list[Path]:
    if isinstance(folder, GdalPath):
        return [file for file in list_files(folder, remedy) if len(file.parts) == len(folder.parts) + 1]
    if not folder.is_dir():
        raise DatasetNotFoundError(f"{folder}: must be a folder of rasters, but is missing. {remedy}")
    return sorted(file for file in folder.iterdir() if not file.name.startswith("."))


def _is_raster(file: Path, labels: bool) -> bool:
    return file.suffix.lower() in (*RASTER_SUFFIXES, *(label_suffixes() if labels else ()))


def _unique(files: list[FoundFile]) -> list[FoundFile]:
    """Leave out previews and polygons beside rasters of the same name; two rasters are an error."""
    ranks = [_rank(file.path) for file in files]
    best: dict[str, int] = {}
    for file, rank in zip(files, ranks):
        best[file.folder + file.name] = min(rank, best.get(file.folder + file.name, rank))
    kept = [file for file, rank in zip(files, ranks) if rank == best[file.folder + file.name]]
    seen: dict[str, Path] = {}
    for file in kept:
        other = seen.setdefault(file.folder + file.name, file.path)
        if other != file.path:
            remedy = "remove one"
            if other.parent != file.path.parent:
                remedy += ", or write `**/` in both patterns in place of `*/`: it is compared too"
            raise DataError(
                f"{other} and {file.path}: names must differ without their suffix, but both are "
                f"{file.name}. Fix: {remedy}."
            )
    return kept


def _rank(file: Path) -> int:
    suffix = file.suffix.lower()
    return 2 if is_vector_file(file) else int(suffix in PICTURE_SUFFIXES)


def _expression(pattern: str) -> re.Pattern[str]:
    """Return the regular expression of a pattern of relative paths."""
    body, dot, suffix = pattern.rpartition(".")
    if not dot or "/" in suffix or "{" in suffix or "}" in suffix or suffix == "*":
        body, ending = (body if suffix == "*" and dot else pattern), r"\.[^./]+"
    else:
        ending = rf"(?i:\.{re.escape(suffix)})"
    text, position, folders, named = "", 0, 0, False
    for token in _TOKEN.finditer(body):
        text += re.escape(body[position : token.start()])
        position = token.end()
        if token[0] == "{name}":
            text += "(?P=name)" if named else "(?P<name>[^/]+)"
            named = True
        elif token[0] == "*":
            text += "[^/]*"
        else:
            text += rf"(?P<folder{folders}>(?:[^/]+/)*)" + ("" if token[0].endswith("/") else "[^/]*")
            folders += 1
    return re.compile(text + re.escape(body[position:]) + ending)
