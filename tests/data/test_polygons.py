"""Polygons of maps: analytic areas, neighbours without gaps, coordinates, and what is left out."""

import json

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from rasterio.control import GroundControlPoint
from rasterio.warp import transform as warp

from qhybrid.data import polygons as polygons_module
from qhybrid.data.classes import ClassMap
from qhybrid.data.map_bands import class_bands
from qhybrid.data.polygons import read_description, write_polygons
from qhybrid.errors import ConfigError, DataError

CLASSES = ClassMap(
    ("field", "wood", "water", "road"),
    ("#c8b060", "#206020", "#2040c0", "#505050"),
    ((10,), (20,), (30,), (40,)),
)
BANDS = class_bands(CLASSES)
# WGS 84: semi-major axis and eccentricity, for areas between parallels on the ellipsoid.
A, E2 = 6378137.0, 0.0066943799901413165

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


@pytest.fixture
def make_map(tmp_path, make_raster):
    def make(labels, **grid):
        return make_raster(tmp_path / "map.tif", np.asarray(labels, np.uint8), nodata=255, **grid)

    return make


def read(path):
    meta, _, shapes, columns = pyogrio.raw.read(path)
    return meta, shapely.from_wkb(shapes), dict(zip(meta["fields"], columns))


def corners():
    """Three classes that meet at a point, an island, and a corner without data."""
    labels = np.zeros((20, 20), np.uint8)
    labels[10:, :10], labels[10:, 10:], labels[3:5, 3:5], labels[:2, :2] = 1, 2, 3, 255
    return labels


def test_fields_and_coordinates(make_map, tmp_path):
    path = make_map(corners(), crs="EPSG:32633", origin=(500_000, 5_000_000), pixel=10)
    meta, shapes, fields = read(write_polygons(path, tmp_path / "p.gpkg", BANDS))
    assert meta["crs"] == "EPSG:32633"
    found = dict(zip(fields["class"], zip(fields["index"], fields["value"], fields["pixels"])))
    assert found == {"road": (3, 3, 4), "field": (0, 0, 192), "wood": (1, 1, 100), "water": (2, 2, 100)}
    places = dict(zip(fields["class"], shapes))
    assert places["wood"].equals(shapely.box(500_000, 4_999_800, 500_100, 4_999_900))
    assert places["field"].area == 19_200
    assert shapely.coverage_is_valid(shapes)
    # On the central meridian of UTM lengths are 0.9996 of those on the ground.
    np.testing.assert_allclose(fields["area_m2"], fields["pixels"] * 100 / 0.9996**2, rtol=1e-5)


@pytest.mark.parametrize("pixel", [0.02, 10, 3000])
def test_geojson_is_in_longitude_and_latitude(make_map, tmp_path, pixel):
    """By RFC 7946, which allows nothing else; programs for web maps look at no `crs`."""
    path = make_map(corners(), crs="EPSG:32633", origin=(600_000, 6_000_000), pixel=pixel)
    write_polygons(path, tmp_path / "p.geojson", BANDS, simplify=0.5)
    content = json.loads((tmp_path / "p.geojson").read_text())
    assert "crs" not in content
    classes = [one["properties"]["class"] for one in content["features"]]
    shapes = [shapely.geometry.shape(one["geometry"]) for one in content["features"]]
    back = [shapely.transform(one, in_utm) for one in shapes]
    left, top = 600_000, 6_000_000
    wood = shapely.box(left, top - 20 * pixel, left + 10 * pixel, top - 10 * pixel)
    found = back[classes.index("wood")]
    assert found.symmetric_difference(wood).area < 0.01 * wood.area
    # No corner is further than a tenth of a pixel from where it is, and no side bends by more.
    assert found.hausdorff_distance(wood) < 0.1 * pixel
    straight = shapely.segmentize(np.array(shapes), 1e-4 if pixel < 1000 else 0.01)
    fine = shapely.transform(straight[classes.index("wood")], in_utm)
    assert fine.hausdorff_distance(wood) < 0.1 * pixel
    areas = shapely.area(back)
    assert areas.sum() == pytest.approx(396 * pixel**2, rel=1e-3)
    assert shapely.union_all(back, grid_size=0.01 * pixel).area == pytest.approx(areas.sum(), rel=1e-4)


def in_utm(points):
    x, y = warp("EPSG:4326", "EPSG:32633", points[:, 0], points[:, 1])
    return np.stack([x, y], axis=1)


def test_a_map_across_the_antimeridian(make_map, tmp_path):
    path = make_map(np.zeros((10, 10)), crs="EPSG:32601", origin=(166_600, 500_000), pixel=100)
    _, shapes, fields = read(write_polygons(path, tmp_path / "p.geojson", BANDS))
    west, south, east, north = shapely.total_bounds(shapes)
    assert (west, east) == (-180, 180)
    assert max(one.bounds[2] - one.bounds[0] for one in shapely.get_parts(shapes)) < 0.01
    assert (south, north) == (pytest.approx(4.51, abs=0.02), pytest.approx(4.52, abs=0.02))
    assert fields["pixels"].tolist() == [100]


def parallel_area(lat):
    """Area between the equator and a parallel on the ellipsoid, over one radian of longitude."""
    e, s = np.sqrt(E2), np.sin(np.radians(lat))
    return A**2 * (1 - E2) / 2 * (s / (1 - E2 * s * s) + np.arctanh(e * s) / e)


def test_areas_in_degrees_are_those_of_the_ellipsoid(make_map, tmp_path):
    path = make_map(np.zeros((1, 1)), crs="EPSG:4326", origin=(10, 61), pixel=1)
    _, _, fields = read(write_polygons(path, tmp_path / "p.gpkg", BANDS))
    expected = np.radians(1) * (parallel_area(61) - parallel_area(60))
    assert fields["area_m2"][0] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("west", [-180.0, -30.0, 0.0, 345.0])
def test_areas_of_the_whole_turn(make_map, tmp_path, west):
    """No area is lost at 180 degrees from the centre, nor in a GeoJSON at 360 degrees."""
    labels = np.repeat([[0] * 18 + [1] * 18], 8, axis=0)
    path = make_map(labels, crs="EPSG:4326", origin=(west, 40), pixel=10)
    _, _, fields = read(write_polygons(path, tmp_path / "p.gpkg", BANDS))
    expected = np.pi * (parallel_area(40) - parallel_area(-40))
    np.testing.assert_allclose(fields["area_m2"], [expected] * 2, rtol=1e-9)
    _, shapes, _ = read(write_polygons(path, tmp_path / "p.geojson", BANDS, simplify=0))
    assert [round(shape.area) for shape in shapes] == [180 * 80] * 2
    left, _, right, _ = shapely.total_bounds(shapes)
    assert (round(left), round(right)) == (-180, 180)


def test_areas_in_web_mercator_are_not_planar(make_map, tmp_path):
    y = 8_399_737.889818357  # 60 degrees north
    path = make_map(np.zeros((10, 10)), crs="EPSG:3857", origin=(0, y + 5 * 10), pixel=10)
    _, _, fields = read(write_polygons(path, tmp_path / "p.gpkg", BANDS))
    lat = np.degrees(2 * np.arctan(np.exp((y + np.array([-50, 50])) / A)) - np.pi / 2)
    expected = 100 / A * (parallel_area(lat[1]) - parallel_area(lat[0]))
    assert fields["area_m2"][0] == pytest.approx(expected, rel=1e-6)
    assert fields["area_m2"][0] < 0.26 * 100**2


def blobs():
    rows, cols = np.mgrid[:80, :90]
    waves = [
        np.sin(rows / a + k) + np.cos(cols / b - k) for k, (a, b) in enumerate([(9, 7), (5, 11), (8, 6)])
    ]
    labels = np.argmax(waves, axis=0)
    labels[60:, 70:] = 255
    return labels


@pytest.mark.parametrize("simplify", [0.0, 1.0, 3.0])
def test_simplified_neighbours_neither_gap_nor_overlap(make_map, tmp_path, simplify):
    path = make_map(blobs(), crs="EPSG:32633", origin=(500_000, 5_000_000), pixel=10)
    _, shapes, fields = read(write_polygons(path, tmp_path / "p.gpkg", BANDS, simplify=simplify))
    assert shapely.is_valid(shapes).all()
    covered = (blobs() != 255).sum() * 100
    assert shapely.union_all(shapes).area == pytest.approx(covered, rel=1e-9)
    assert shapely.area(shapes).sum() == pytest.approx(covered, rel=1e-9)
    assert fields["pixels"].sum() * 100 == covered
    if simplify:
        assert shapely.coverage_is_valid(shapes)
        raw = read(write_polygons(path, tmp_path / "raw.gpkg", BANDS, simplify=0))[1]
        assert shapely.get_num_coordinates(shapes).sum() < 0.7 * shapely.get_num_coordinates(raw).sum()


def test_small_areas_are_left_out(make_map, tmp_path):
    path = make_map(corners(), crs="EPSG:32633", origin=(500_000, 5_000_000), pixel=10)
    _, _, fields = read(write_polygons(path, tmp_path / "p.gpkg", BANDS, min_area=500))
    assert sorted(fields["class"]) == ["field", "water", "wood"]
    with pytest.raises(ConfigError, match="at least 0"):
        write_polygons(path, tmp_path / "p.gpkg", BANDS, min_area=-1)


def test_large_maps_are_cut_into_pieces_of_rows(make_map, tmp_path, monkeypatch):
    path = make_map(blobs(), crs="EPSG:32633", origin=(500_000, 5_000_000), pixel=10)
    whole = read(write_polygons(path, tmp_path / "whole.gpkg", BANDS))
    monkeypatch.setattr(polygons_module, "MAX_PIXELS", 90 * 25)
    monkeypatch.setattr(polygons_module, "_STEP", 10)
    _, shapes, fields = read(write_polygons(path, tmp_path / "cut.gpkg", BANDS))
    assert len(shapes) > len(whole[1])
    bounds = shapely.bounds(shapes)
    assert (bounds[:, 3] - bounds[:, 1]).max() <= 250
    for name in CLASSES.names:
        one, other = (found["pixels"][found["class"] == name].sum() for found in (fields, whole[2]))
        assert one == other
    assert shapely.union_all(shapes).area == pytest.approx((blobs() != 255).sum() * 100, rel=1e-9)


def test_values_are_codes_where_the_map_has_them(make_map, tmp_path):
    path = make_map(np.array([[10, 30], [10, 255]]), crs="EPSG:32633")
    _, _, fields = read(write_polygons(path, tmp_path / "p.gpkg", class_bands(CLASSES, codes=True)))
    found = set(zip(fields["class"], fields["index"], fields["value"]))
    assert found == {("field", 0, 10), ("water", 2, 30)}
    with pytest.raises(DataError, match=r"but \[10, 30\] are not"):
        write_polygons(path, tmp_path / "p.gpkg", BANDS)


def test_without_coordinates(make_map, tmp_path):
    path = make_map(corners(), crs=None)
    with pytest.warns(UserWarning, match="columns and rows of pixels"):
        write_polygons(path, tmp_path / "p.geojson", BANDS)
    features = json.loads((tmp_path / "p.geojson").read_text())["features"]
    assert all(feature["properties"]["area_m2"] is None for feature in features)
    _, shapes, fields = read(tmp_path / "p.geojson")
    assert dict(zip(fields["class"], shapes))["wood"].equals(shapely.box(0, 10, 10, 20))
    with pytest.raises(DataError, match="least area"):
        write_polygons(path, tmp_path / "q.gpkg", BANDS, min_area=5)


def test_a_transform_without_coordinate_system_places_polygons(make_map, tmp_path):
    path = make_map(corners(), crs=None)
    with rasterio.open(path, "r+") as file:
        file.transform = rasterio.transform.from_origin(1000, 2000, 10, 10)
    with pytest.warns(UserWarning, match="the map's own coordinates"):
        write_polygons(path, tmp_path / "p.gpkg", BANDS)
    _, shapes, fields = read(tmp_path / "p.gpkg")
    wood = dict(zip(fields["class"], shapes))["wood"]
    assert wood.equals(shapely.box(1000, 1800, 1100, 1900))  # where the map itself lies
    assert fields["pixels"].sum() == 396


def test_maps_off_the_grid_are_refused(make_map, tmp_path):
    path = make_map(corners(), crs=None)
    with rasterio.open(path, "r+") as file:
        points = [GroundControlPoint(r, c, 10 + c / 100, 50 - r / 100) for r in (0, 20) for c in (0, 20)]
        file.gcps = (points, "EPSG:4326")
    with pytest.raises(DataError, match="gdalwarp"):
        write_polygons(path, tmp_path / "p.gpkg", BANDS)
    assert not (tmp_path / "p.gpkg").exists()


@pytest.mark.parametrize("suffix", [".gpkg", ".geojson"])
def test_equal_maps_give_equal_files(make_map, tmp_path, suffix):
    path = make_map(blobs(), crs="EPSG:32633")
    target = tmp_path / f"p{suffix}"
    contents = set()
    for _ in range(2):
        write_polygons(path, target, BANDS, description="a b")
        contents.add(target.read_bytes())
    assert len(contents) == 1
    assert read_description(target) == "a b"
    assert read_description(path) == ""
    assert sorted(file.name for file in tmp_path.iterdir()) == ["map.tif", target.name]


def test_a_map_without_data_has_no_polygons(make_map, tmp_path):
    path = make_map(np.full((5, 6), 255), crs="EPSG:32633")
    _, shapes, _ = read(write_polygons(path, tmp_path / "p.gpkg", BANDS))
    assert len(shapes) == 0


def test_other_suffixes_are_refused(make_map, tmp_path):
    with pytest.raises(ConfigError, match=r"\.gpkg, \.geojson"):
        write_polygons(make_map(corners()), tmp_path / "p.shp", BANDS)
