"""Which scenes are meant by files, folders, patterns and addresses, and where their maps go."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from qhybrid.data.file_patterns import RASTER_SUFFIXES
from qhybrid.data.locations import GdalPath, as_folder, as_location, gdal_name, list_files
from qhybrid.errors import ConfigError, DataError
from qhybrid.inference.map_options import MapOptions, map_files
from qhybrid.inference.products import Products

_ARCHIVES = (".zip", ".tar", ".tgz", ".gz", ".7z", ".rar")


def means_several(given: str | Path) -> bool:
    """Return whether a folder, an archive or a pattern is meant, not one scene."""
    place = as_folder(as_location(given))
    if isinstance(place, GdalPath):
        return _is_archive(place)
    return place.is_dir() or (glob.has_magic(str(place)) and not place.exists())


def find_scenes(given: Sequence[str | Path], leave_out: Path | None = None) -> tuple[Path, ...]:
    """Return the scenes that are meant, sorted, each once.

    Args:
        given: Files, URLs and `/vsi...` names; folders (their rasters, not those of folders in them) and
            archives (all their rasters); patterns such as `scenes/**/*.tif`.
        leave_out: A folder whose files no pattern means: that of the maps.

    Raises:
        DataError: If a folder, an archive or a pattern has no rasters.
    """
    found: dict[Path, None] = {}
    for one in given:
        place, outside = as_folder(as_location(one)), None
        if not means_several(one):
            found[place] = None
            continue
        files: Iterable[Path]
        if isinstance(place, GdalPath):
            files = list_files(place, "Fix: check the path.")
        elif place.is_dir():
            files = () if _in_work(place) else place.iterdir()
        else:
            outside = leave_out
            files = _matching(place)
        rasters = sorted(file for file in files if _is_raster(file, outside))
        if not rasters:
            raise DataError(
                f"{one}: must hold scenes ({', '.join(RASTER_SUFFIXES)}), but has none. Fix: check the path."
            )
        found.update(dict.fromkeys(rasters))
    return tuple(found)


def _matching(pattern: Path) -> list[Path]:
    """Return the files that a pattern means; what is hidden where it has signs is not meant."""
    first = next(index for index, part in enumerate(pattern.parts) if glob.has_magic(part))
    base = Path(*pattern.parts[:first])
    found = base.glob(str(Path(*pattern.parts[first:])))
    return [file for file in found if not any(p.startswith(".") for p in file.relative_to(base).parts)]


def _is_archive(place: Path) -> bool:
    return place.suffix.lower() in _ARCHIVES and _plain(place).suffix.lower() not in RASTER_SUFFIXES


def _in_work(folder: Path) -> bool:
    """Return whether a folder is that of a map in work."""
    return folder.name.startswith(".") and folder.suffix == ".part"


def _is_raster(file: Path, leave_out: Path | None) -> bool:
    if leave_out is not None and leave_out.absolute() in file.absolute().parents:
        return False
    if file.name.startswith(".") or file.suffix.lower() not in RASTER_SUFFIXES:
        return False
    return isinstance(file, GdalPath) or file.is_file()


def _plain(scene: Path) -> PurePosixPath:
    """Return a name of GDAL's as a path: without the query of an address, which may hold a key."""
    return PurePosixPath(gdal_name(scene).partition("?")[0])


def _relative_places(scenes: Sequence[Path]) -> dict[Path, PurePosixPath]:
    """Return each scene below the folder that all have in common: of files, and of GDAL's names."""
    found: dict[Path, PurePosixPath] = {}
    for local in (True, False):
        some = {
            scene: PurePosixPath(scene.absolute()) if local else _plain(scene)
            for scene in scenes
            if isinstance(scene, GdalPath) is not local
        }
        if some:
            above = os.path.commonpath([place.parent for place in some.values()])
            found |= {scene: place.relative_to(above) for scene, place in some.items()}
    return found


def map_places(
    scenes: Sequence[Path], folder: str | Path, options: MapOptions, products: Products
) -> dict[Path, Path]:
    """Return where the map of each scene goes: `<name>.tif`, in sub-folders where the scenes are in some.

    Raises:
        ConfigError: If two maps would have one name, or a map that of a scene.
    """
    names = _relative_places(scenes)
    places = {scene: Path(folder, names[scene].with_suffix(".tif")) for scene in scenes}
    taken = {scene.absolute(): scene for scene in scenes if not isinstance(scene, GdalPath)}
    for scene, place in places.items():
        for file in (*map_files(place, options), *products.files(place)):
            other = taken.setdefault(file.absolute(), scene)
            if other is not scene or file.absolute() == scene.absolute():
                raise ConfigError(
                    f"{file} is to be written for scene {scene}, but belongs to {other}. Fix: choose another "
                    "folder, or map one of them by itself."
                )
    return places
