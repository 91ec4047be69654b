"""Files beside a map that were made with it, and do not belong to another one in its place."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

from qhybrid.data.polygons import read_description as described_polygons
from qhybrid.data.raster import raster_info
from qhybrid.data.raster_writer import read_tags
from qhybrid.inference.map_key import TAG
from qhybrid.inference.map_options import probabilities_path, uncertainty_path
from qhybrid.inference.preview import preview_path
from qhybrid.inference.preview import read_description as described_page

_HASH = re.compile("[0-9a-f]{64}")
POLYGON_SUFFIXES = {"gpkg": ".gpkg", "geojson": ".geojson"}
"""Names of the formats of polygons, and their suffixes."""


def described(file: Path) -> str:
    """Return what polygons or a page were told to keep of the map they show; empty if nothing."""
    return described_page(file) if file.suffix == ".html" else described_polygons(file)


def companions_of_another(output: Path, key: str, wanted: Collection[Path]) -> list[Path]:
    """Return the files beside a map that were made with an earlier one of its name.

    Files that qhybrid has not made, or not as parts of a map, are none of them.

    Args:
        output: The map that is to be made.
        key: Its hash; see `map_key`.
        wanted: The files that are to be made with it.
    """
    left = [file for file in companion_paths(output) if file not in wanted and file.is_file()]
    # What is no raster says of which map and settings together it is, not of which map.
    return [
        file
        for file in left
        if (_of_another(file, key) if file.suffix == output.suffix else _HASH.fullmatch(described(file)))
    ]


def companion_paths(output: Path) -> list[Path]:
    """Return all files that may be made with a map."""
    made = [output.with_suffix(suffix) for suffix in POLYGON_SUFFIXES.values()]
    return [probabilities_path(output), uncertainty_path(output), *made, preview_path(output)]


def _of_another(file: Path, key: str) -> bool:
    """Return whether a raster was made with another map; a map of classes is one of its own."""
    return read_tags(file).get(TAG, key) != key and raster_info(file).dtype.startswith("float")
