"""Polygons of a map: GeoPackage or GeoJSON, one feature a connected area of one class.

Areas are connected through the sides of pixels. Outlines are simplified as a coverage (Visvalingam-Whyatt):
a border between two areas is changed once, for both, so that neighbours never gap or overlap. The map is
read in pieces of rows, each with at most `MAX_PIXELS` pixels and about `MAX_EDGES` pixel sides between areas
(some 350 MB at most); a map above that has polygons that end at a horizontal line.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import rasterio
import shapely
import shapely.affinity
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.errors import NotGeoreferencedWarning
from rasterio.features import shapes
from rasterio.warp import transform as transform_coordinates

from qhybrid.data.map_bands import MapBands
from qhybrid.data.raster import RasterInfo, raster_info
from qhybrid.data.raster_file import GDAL_ERRORS
from qhybrid.data.raster_writer import CACHE_MB
from qhybrid.errors import ConfigError, DataError, WorkspaceError
from qhybrid.workspace import atomic_path

DRIVERS = {".gpkg": "GPKG", ".geojson": "GeoJSON", ".json": "GeoJSON"}
MAX_PIXELS = 50_000_000
MAX_EDGES = 700_000
_STEP = 256
_EARTH = 6.37e6
"""Radius of the earth in metres."""
# A GeoPackage notes when it was written; a fixed date keeps equal maps equal files.
_DATE = {"OGR_CURRENT_DATE": "1970-01-01T00:00:00.000Z"}

Geometries = NDArray[Any]


def check_polygons(output: str | Path, simplify: float = 1.0, min_area: float = 0.0) -> Path:
    """Return the path of a file of polygons.

    Raises:
        ConfigError: If its suffix is unknown, or a number is below 0.
    """
    path = Path(output)
    if path.suffix.lower() not in DRIVERS:
        raise ConfigError(f"A file of polygons must end in {', '.join(DRIVERS)}, but is {path}.")
    if not simplify >= 0 or not min_area >= 0:
        raise ConfigError(
            f"Tolerance and least area of polygons must be at least 0, but are {simplify} pixels and "
            f"{min_area} square metres."
        )
    return path


def check_polygon_scene(info: RasterInfo, min_area: float = 0.0) -> None:
    """Check that a scene's map can be turned into polygons.

    Raises:
        DataError: If it is not on a regular grid, or areas are asked for that it does not have.
    """
    if info.irregular is not None:
        raise DataError(
            f"{info.path}: polygons need a map on a regular grid, but {info.irregular} place this one. Fix: "
            "warp the scene first (gdalwarp -t_srs EPSG:... in.tif out.tif), then map it."
        )
    if min_area > 0 and not info.georeferenced:
        raise DataError(
            f"{info.path}: a least area in square metres needs a map with a coordinate system, but this one "
            "has none. Fix: leave it away."
        )


def write_polygons(
    map_file: str | Path,
    output: str | Path,
    bands: MapBands,
    *,
    simplify: float = 1.0,
    min_area: float = 0.0,
    description: str = "",
) -> Path:
    """Turn a map of classes into polygons.

    Fields: `class` (name), `index` (number of the class), `value` (on the map), `pixels` (of the area) and
    `area_m2` (of these pixels, on the ellipsoid; empty without coordinate system). Both are counted before
    simplification, so that their sums are those of the map.

    Args:
        map_file: The map.
        output: A .gpkg or .geojson file; an existing one is replaced. A GeoPackage has the coordinate system
            of the map, a GeoJSON longitude and latitude, as RFC 7946 wants it; polygons of a map without
            one are in the coordinates of its transform, or in columns and rows of pixels, with a warning.
        bands: What the values of the map mean.
        simplify: Tolerance in pixels: corners that span triangles smaller than its square vanish. 0 keeps the
            sides of pixels.
        min_area: Areas smaller than this are left out, in square metres; a hole remains in their place.
        description: Text to keep in the file; see `read_description`.

    Returns:
        The file.

    Raises:
        ConfigError: If an argument is out of range.
        DataError: If the map is not on a regular grid, or cannot be read.
        WorkspaceError: If the file cannot be written.
    """
    target = check_polygons(output, simplify, min_area)
    info = raster_info(map_file)
    check_polygon_scene(info, min_area)
    if not info.georeferenced:
        unit = "columns and rows of pixels" if info.transform.is_identity else "the map's own coordinates"
        warnings.warn(
            f"{info.path}: the map has no coordinate system; its polygons are in {unit}, and their areas are "
            "unknown. Programs take the coordinates of a GeoJSON for degrees; a GeoPackage says that they "
            "are not.",
            stacklevel=2,
        )
    parts = []
    for row, labels in _pieces(info, bands):
        polygons, values, pixels, areas = _piece(info, bands, simplify, row, labels)
        kept = ~(areas < min_area)
        parts.append((shapely.to_wkb(polygons[kept]), values[kept], pixels[kept], areas[kept]))
    columns = [np.concatenate(column) for column in zip(*parts)]
    _write(target, info, bands, columns, description)
    return target


def read_description(path: Path) -> str:
    """Return the text that `write_polygons` was told to keep; empty if the file has none."""
    try:
        return str((pyogrio.read_info(path)["layer_metadata"] or {}).get("DESCRIPTION", ""))
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError):
        return ""


def _pieces(info: RasterInfo, bands: MapBands) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield (first row, values) of pieces of the map that are small enough to be worked on in memory."""
    rows: list[NDArray[Any]] = []
    first, edges = 0, 0
    try:
        with warnings.catch_warnings(), rasterio.Env(GDAL_CACHEMAX=CACHE_MB):
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(info.path) as file:
                step = max(min(_STEP, MAX_PIXELS // info.width), 1)
                for row in range(0, info.height, step):
                    window = rasterio.windows.Window(0, row, info.width, min(step, info.height - row))
                    values = file.read(1, window=window)
                    found = int((values[:, 1:] != values[:, :-1]).sum() + (values[1:] != values[:-1]).sum())
                    full = (row - first + len(values)) * info.width > MAX_PIXELS
                    if rows and (full or edges + found > MAX_EDGES):
                        yield first, np.concatenate(rows)
                        rows, first, edges = [], row, 0
                    rows.append(values)
                    edges += found
    except GDAL_ERRORS as error:
        raise DataError(f"{info.path}: cannot be read ({error}). Fix: map the scene again.") from error
    yield first, np.concatenate(rows)


def _piece(
    info: RasterInfo, bands: MapBands, simplify: float, row: int, labels: NDArray[Any]
) -> tuple[Geometries, NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Return polygons in the map's coordinates, their values on the map, their pixels and ground areas."""
    found = [
        (shapely.geometry.shape(outline), value)
        for outline, value in shapes(labels, mask=labels != bands.nodata, connectivity=4)
    ]
    polygons = np.array([polygon for polygon, _ in found], dtype=object)
    values = np.array([value for _, value in found], dtype=np.int64)
    pixels = np.rint(shapely.area(polygons)).astype(np.int64)
    strange = set(np.unique(values).tolist()) - {value for value, _, _ in bands.values}
    if strange:
        raise DataError(
            f"{info.path}: the values of a map must be those of its classes, but {sorted(strange)[:10]} are "
            "not. Fix: say whether the map holds indices or mask values (--codes)."
        )
    a, b, c, d, e, f = info.transform[:6]

    def place(points: NDArray[np.float64]) -> NDArray[np.float64]:
        cols, rows = points[:, 0], points[:, 1] + row
        return np.stack([a * cols + b * rows + c, d * cols + e * rows + f], axis=1)

    placed = shapely.transform(polygons, place)
    areas = ground_areas(placed, info) if info.georeferenced else np.full(len(polygons), np.nan)
    if simplify > 0 and len(polygons):
        # A corner of one outline on the side of another must be a vertex of both.
        placed = shapely.transform(
            shapely.coverage_simplify(shapely.segmentize(polygons, 1.0), simplify), place
        )
    return placed, values, pixels, areas


def ground_areas(polygons: Geometries, info: RasterInfo) -> NDArray[np.float64]:
    """Return the areas of polygons on the ellipsoid in square metres, shape (n,).

    Corners are projected to an equal-area system: around the raster's centre (Lambert azimuthal), or
    cylindrical for one in degrees, whose pixel sides are then straight lines. Planar areas in the raster's
    own system would be wrong: by 1 / cos^2(latitude) in web maps.

    Args:
        polygons: In the raster's coordinates.
        info: The raster, with coordinate system.

    Raises:
        DataError: If its coordinate system cannot be related to the earth.
    """
    x, y = info.corners().mean(axis=0)
    try:
        (lon,), (lat,) = transform_coordinates(info.crs, CRS.from_epsg(4326), [x], [y])
        kind = "cea" if info.crs.is_geographic else "laea"
        centre = f"+lat_ts={lat}" if kind == "cea" else f"+lat_0={lat}"
        equal = CRS.from_string(f"+proj={kind} {centre} +lon_0={lon} +datum=WGS84 +units=m")

        def moved(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
            return np.stack(
                [np.asarray(axis) for axis in transform_coordinates(info.crs, equal, x, y)[:2]], axis=1
            )

        def project(points: NDArray[np.float64]) -> NDArray[np.float64]:
            if kind == "laea":
                return moved(points[:, 0], points[:, 1])
            # Longitudes are straight lines, and beyond half a turn from the centre they would be wrapped.
            (west, _), (east, _) = moved(np.array([x - 1, x + 1]), np.array([y, y]))
            along = (points[:, 0] - x) * (east - west) / 2
            return np.stack([along, moved(np.full(len(points), x), points[:, 1])[:, 1]], axis=1)

        projected = shapely.transform(polygons, project)
    except GDAL_ERRORS as error:
        raise DataError(
            f"{info.path}: areas need a coordinate system on the earth, but: {error}. Fix: correct the "
            "scene's coordinate system."
        ) from error
    return np.asarray(shapely.area(projected), dtype=np.float64)


def _with_points_between(polygons: Geometries, info: RasterInfo) -> Geometries:
    """Return polygons (as WKB) with points on sides that would bend away in another system.

    A straight side of length L on a map bends by at most about L^2 / (8 R) between longitude and latitude, up
    to 85 degrees north some ten times that. Kept below a tenth of a pixel; both sides of a border alike.
    """
    size = info.pixel_size
    if size is None or info.crs.is_geographic:
        return polygons
    pixel = float(np.sqrt(abs(info.transform.determinant)))
    longest = np.sqrt(0.1 * 8 * _EARTH * size / 10) / size * pixel
    return np.asarray(shapely.to_wkb(shapely.segmentize(shapely.from_wkb(polygons), longest)))


def _from_the_west(polygons: Geometries, info: RasterInfo) -> Geometries:
    """Return polygons (as WKB) in degrees that begin between -180 and 180: GDAL cuts them at 180, not at 360.

    Longitudes of scenes may go from 0 to 360 and beyond.
    """
    if not info.crs.is_geographic or not len(polygons):
        return polygons
    shapes_in_degrees = shapely.from_wkb(polygons)
    turns = np.floor((shapely.bounds(shapes_in_degrees)[:, 0] + 180) / 360)
    if not turns.any():
        return polygons
    moved = [shapely.affinity.translate(one, -360 * turn) for one, turn in zip(shapes_in_degrees, turns)]
    return np.asarray(shapely.to_wkb(np.array(moved, dtype=object)))


def _write(
    target: Path,
    info: RasterInfo,
    bands: MapBands,
    found: list[NDArray[Any]],
    description: str,
) -> None:
    """Write polygons (as WKB), their values on the map, pixels and areas."""
    polygons, values, pixels, areas = found
    numbers = np.array([value for value, _, _ in bands.values], dtype=np.int64)
    order = np.argsort(numbers)
    index = order[np.searchsorted(numbers, values, sorter=order)]
    names = np.array([name for _, name, _ in bands.values], dtype=object)
    columns = {
        "class": names[index],
        "index": index.astype(np.int32),
        "value": values,
        "pixels": pixels,
        "area_m2": np.nan_to_num(areas),
    }
    unknown = [None] * (len(columns) - 1) + [np.isnan(areas)]
    driver = DRIVERS[target.suffix.lower()]
    layer_options = {"DESCRIPTION": description} if description else {}
    if driver == "GeoJSON" and info.georeferenced:
        polygons = _from_the_west(_with_points_between(polygons, info), info)
        fine = info.pixel_size is not None and info.pixel_size < 1
        layer_options |= {"RFC7946": "YES", "COORDINATE_PRECISION": "9" if fine else "7"}
    pyogrio.set_gdal_config_options(_DATE)
    try:
        with atomic_path(target) as temporary:
            temporary.unlink()
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="'crs' was not provided")
                pyogrio.raw.write(
                    temporary,
                    polygons,
                    list(columns.values()),
                    list(columns),
                    field_mask=unknown,
                    layer=target.stem,
                    driver=driver,
                    geometry_type="Polygon",
                    layer_options=layer_options or None,
                    crs=info.crs.to_wkt() if info.georeferenced else None,
                )
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError) as error:
        raise WorkspaceError(f"{target}: cannot be written ({error}). Fix: free disk space.") from error
    finally:
        pyogrio.set_gdal_config_options(dict.fromkeys(_DATE))
