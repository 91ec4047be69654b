"""A map as one HTML page: over a basemap, with legend and opacity.

The page holds the picture and its own small viewer. Nothing but the basemap's tiles is fetched from the
network; without it the map is shown on plain ground.
"""

from __future__ import annotations

import base64
import re
from importlib.resources import files
from pathlib import Path

import jinja2

from qhybrid.data.map_bands import MapBands
from qhybrid.data.map_picture import map_picture
from qhybrid.data.raster import raster_info
from qhybrid.workspace import write_text

BASES = (
    {
        "name": "Satellite",
        "url": "https://server.arcgisonline.com/ArcGIS/rest/services/World_Imagery/MapServer/tile/{z}/{y}/{x}",
        "zoom": 19,
        "thanks": "Basemap: Esri, Maxar, Earthstar Geographics, and the GIS user community",
    },
    {
        "name": "Streets",
        "url": "https://basemaps.cartocdn.com/light_all/{z}/{x}/{y}.png",
        "zoom": 20,
        "thanks": "Basemap: OpenStreetMap contributors, CARTO",
    },
    {"name": "None", "url": "", "zoom": 0, "thanks": ""},
)
"""Basemaps to choose from; `url` with the numbers of a tile in braces."""


def preview_path(output: str | Path) -> Path:
    """Return where the page of a map goes: `<stem>.html` beside it."""
    return Path(output).with_suffix(".html")


def read_description(path: Path) -> str:
    """Return the text that `write_preview` was told to keep; empty if the file has none."""
    with path.open(encoding="utf-8", errors="replace") as file:
        found = re.search(r'<meta name="description" content="([0-9a-z ]*)">', file.read(2000))
    return found[1] if found else ""


def write_preview(map_file: str | Path, output: str | Path, bands: MapBands, description: str = "") -> Path:
    """Write the page of a map of classes.

    Args:
        map_file: The map. One without coordinate system becomes a picture without basemap.
        output: The HTML file; an existing one is replaced.
        bands: Values, names and colours of the classes.
        description: Small letters and digits to keep in the page; see `read_description`.

    Returns:
        The page.

    Raises:
        DataError: If the map cannot be read.
        WorkspaceError: If the page cannot be written.
    """
    picture = map_picture(map_file, bands)
    info = raster_info(map_file)
    template = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(
        files("qhybrid.inference").joinpath("preview.html").read_text(encoding="utf-8")
    )
    page = template.render(
        title=Path(map_file).stem,
        description=description,
        picture=base64.b64encode(picture.png).decode(),
        classes=[(name, "#{:02x}{:02x}{:02x}".format(*colour)) for _, name, colour in bands.values],
        bounds=picture.bounds,
        width=picture.width,
        height=picture.height,
        step_x=info.width / picture.width,
        step_y=info.height / picture.height,
        bases=BASES,
    )
    return write_text(output, page)
