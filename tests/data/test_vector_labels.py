"""Polygons as labels: GeoJSON, GeoPackage and Shapefile, drawn on the grids of images."""

import os

import numpy as np
import pyogrio
import pytest
import shapely
from rasterio.warp import transform as transform_points
from shapely.geometry import GeometryCollection, LineString, MultiPolygon, Point, Polygon, box

from qhybrid.config import ClassConfig, DataConfig, VectorConfig, validated
from qhybrid.data import open_dataset
from qhybrid.data.classes import ClassMap
from qhybrid.data.pairs import MaskReader, check_pair
from qhybrid.data.raster import raster_info
from qhybrid.data.scenes import Scene, SceneReader
from qhybrid.data.statistics import compute_statistics
from qhybrid.data.vector_files import open_layer
from qhybrid.errors import ConfigError, DataError

KIND = VectorConfig(attribute="kind")
CLASSES = ClassMap(
    ("ground", "wood", "water"), ("#000000",) * 3, ((), ("wood", "Forest"), ("water",)), ("cloud",)
)


def with_vector(classes=CLASSES, **keys):
    return ClassMap(
        classes.names,
        classes.colors,
        classes.values,
        classes.ignore_values,
        vector=VectorConfig(**({"attribute": "kind"} if "polygons" not in keys else {}) | keys),
    )


def write_vector(path, geometries, crs="EPSG:2180", layer=None, append=False, **fields):
    """Write features with attributes; the format is that of the suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pyogrio.raw.write(
        str(path),
        np.array([None if g is None else shapely.to_wkb(g) for g in geometries], dtype=object),
        [
            np.asarray(values, dtype=object if isinstance(values[0], str) else None)
            for values in fields.values()
        ],
        list(fields),
        layer=layer,
        crs=crs,
        geometry_type="Unknown" if path.suffix != ".shp" else "Polygon",
        append=append,
    )
    return path


@pytest.fixture
def image(tmp_path, make_raster):
    """60 x 80 pixels of 0.5 m; x from 1000 to 1040, y from 1970 to 2000."""
    return make_raster(tmp_path / "i.tif", np.ones((60, 80), np.uint8), origin=(1000.0, 2000.0))


def read_all(path, classes, image):
    info = raster_info(image)
    height, width = info.shape
    check_pair(image, path, classes)
    reader = MaskReader(path, classes, like=info)
    whole = reader.read((0, 0, height, width))
    assert whole.dtype == np.uint8
    for row in range(-5, height, 23):
        for col in range(-7, width, 31):
            part = reader.read((row, col, 23, 31))
            inner = whole[max(row, 0) : row + 23, max(col, 0) : col + 31]
            top, left = max(-row, 0), max(-col, 0)
            np.testing.assert_array_equal(
                part[top : top + inner.shape[0], left : left + inner.shape[1]], inner
            )
    return whole


def centres(image, crs):
    """Return the coordinates of all pixel centres in a CRS."""
    info = raster_info(image)
    x, y = np.meshgrid(np.arange(info.width) + 0.5, np.arange(info.height) + 0.5)
    x, y = info.transform * (x, y)
    found = transform_points(info.crs, crs, x.ravel().tolist(), y.ravel().tolist())
    return [np.reshape(values, x.shape) for values in found]


@pytest.mark.parametrize("name", ["l.geojson", "l.gpkg", "l.shp", "l.fgb"])
@pytest.mark.parametrize("background", [None, "ground"])
def test_rectangles_are_drawn_exactly(tmp_path, image, name, background):
    wood, water = box(1002, 1980, 1012, 1990), box(1012, 1980, 1020, 1984.5)
    path = write_vector(tmp_path / name, [wood, water], kind=["wood", "water"])
    found = read_all(path, with_vector(background=background), image)
    expected = np.full((60, 80), 255 if background is None else 0)
    expected[20:40, 4:24] = 1
    expected[31:40, 24:40] = 2
    np.testing.assert_array_equal(found, expected)


def test_areas_of_a_disc_and_of_a_ring(tmp_path, make_raster):
    image = make_raster(tmp_path / "i.tif", np.ones((400, 400), np.uint8), origin=(0.0, 400.0), pixel=1.0)
    disc = Point(130, 200).buffer(100, quad_segs=200)
    ring = Point(300, 200).buffer(60, quad_segs=200).difference(Point(300, 200).buffer(30, quad_segs=200))
    path = write_vector(tmp_path / "l.gpkg", [disc, ring], kind=["wood", "water"])
    found = read_all(path, with_vector(background="ground"), image)
    # The ring is later and paints over the disc; where they overlap the disc loses its part.
    assert (found == 2).sum() == pytest.approx(np.pi * (60**2 - 30**2), rel=0.005)
    assert (found == 1).sum() == pytest.approx(disc.difference(ring).area, rel=0.005)


@pytest.mark.parametrize("name", ["l.geojson", "l.gpkg", "l.shp"])
def test_pixel_centres_decide(tmp_path, image, name):
    generator = np.random.default_rng(0)
    polygons = [
        shapely.MultiPoint(generator.uniform([980, 1950], [1060, 2020], (4, 2))).convex_hull
        for _ in range(400)
    ]
    kinds = generator.choice(["wood", "water", "cloud"], 400)
    path = write_vector(tmp_path / name, polygons, kind=kinds.astype(object).tolist())
    x, y = centres(image, "EPSG:2180")
    expected = np.full(x.shape, 255)
    for polygon, kind in zip(polygons, kinds):
        expected[shapely.contains_xy(polygon, x, y)] = {"wood": 1, "water": 2, "cloud": 255}[kind]
    np.testing.assert_array_equal(read_all(path, with_vector(), image), expected)


@pytest.mark.parametrize(
    ("image_crs", "origin", "shape", "pixel", "crs"),
    [
        ("EPSG:32633", (400_000.0, 6_850_000.0), (300, 300), 1000.0, "EPSG:4326"),
        ("EPSG:4326", (16.0, 60.5), (60, 80), 0.005, "EPSG:32633"),
        ("EPSG:32633", (600_000.0, 6_650_000.0), (60, 80), 0.25, "EPSG:3857"),
    ],
)
def test_polygons_in_another_crs(tmp_path, make_raster, image_crs, origin, shape, pixel, crs):
    """Edges are straight in the CRS of the polygons and long: in the first case they bend by 3 pixels."""
    ones = np.ones(shape, np.uint8)
    image = make_raster(tmp_path / "i.tif", ones, crs=image_crs, origin=origin, pixel=pixel)
    x, y = centres(image, crs)
    wide, high = np.ptp(x), np.ptp(y)
    west, south = x.min(), y.min()
    large = box(west - 3 * wide, south + 0.5 * high, west + 3 * wide, south + 3 * high)
    corners = [(0.2, -0.5), (4, 0.1), (0.5, 0.4)]
    slanted = Polygon([(west + across * wide, south + up * high) for across, up in corners])
    path = write_vector(tmp_path / "l.gpkg", [large, slanted], crs=crs, kind=["wood", "water"])
    expected = np.zeros(x.shape, int)
    expected[shapely.contains_xy(large, x, y)] = 1
    expected[shapely.contains_xy(slanted, x, y)] = 2
    found = read_all(path, with_vector(background="ground"), image)
    assert min(np.bincount(expected.ravel(), minlength=3)) > 100
    # Within a piece an edge still bends, far below a pixel: few centres lie so near to it.
    assert (found != expected).mean() < 3e-4


@pytest.mark.parametrize("west", [-180.02, 179.98])
def test_an_image_across_the_180th_meridian(tmp_path, make_raster, west):
    """Longitudes of images go below -180 or above 180; those of the polygons stay between."""
    image = make_raster(
        tmp_path / "i.tif", np.ones((10, 40), np.uint8), crs="EPSG:4326", origin=(west, 10.0), pixel=0.001
    )
    polygons = [box(179.985, 0, 180, 20), box(-180, 0, -179.99, 20)]
    path = write_vector(tmp_path / "l.gpkg", polygons, crs="EPSG:4326", kind=["wood", "water"])
    found = read_all(path, with_vector(background="ground"), image)
    expected = [0] * 5 + [1] * 15 + [2] * 10 + [0] * 10
    np.testing.assert_array_equal(found, [expected] * 10)


@pytest.mark.parametrize(("crs", "sign"), [("EPSG:3413", 1), ("EPSG:3031", -1)])
@pytest.mark.parametrize("west", [-180, 0])
def test_an_image_with_a_pole(tmp_path, make_raster, crs, sign, west):
    """The outline of such an image does not go around what is in it, in longitudes and latitudes."""
    image = make_raster(
        tmp_path / "i.tif", np.ones((32, 30), np.uint8), crs=crs, origin=(-16e4, 15e4), pixel=1e4
    )
    x, y = np.meshgrid(-155e3 + 1e4 * np.arange(30), 145e3 - 1e4 * np.arange(32))
    found = transform_points(crs, "EPSG:4326", x.ravel().tolist(), y.ravel().tolist())
    lon, lat = (np.reshape(values, x.shape) for values in found)

    def ring(latitude, left=west, right=west + 360):
        low, high = sorted((sign * latitude, sign * 90))
        return box(left, low, right, high)

    polygons = [ring(80), ring(80, 10, 100), ring(89.5)]
    path = write_vector(tmp_path / "l.gpkg", polygons, crs="EPSG:4326", kind=["wood", "water", "cloud"])
    expected = np.where((lon > 10) & (lon < 100), 2, 1)
    expected[np.abs(lat) > 89.5] = 255
    found = read_all(path, with_vector(background="ground"), image)
    assert (expected == 255).sum() > 80
    assert (found != expected).sum() <= 4  # centres that the ring at 89.5 degrees passes closely


def test_values_of_attributes(tmp_path, image):
    strips = [box(1000 + 5 * i, 1970, 1005 + 5 * i, 2000) for i in range(4)]
    classes = ClassMap(("a", "b"), ("#000000",) * 2, ((1, "7"), ("2-5",)), (9,), vector=KIND)
    for number, kinds in enumerate(([1, 3, 9, 5], [1.0, 3.5, np.nan, 4.0], ["1", "7", None, "2-5"])):
        path = write_vector(tmp_path / f"{number}.gpkg", strips, kind=kinds)
        found = read_all(path, classes, image)[0, 5:40:10]
        expected = [[0, 1, 255, 1], [0, 1, 255, 1], [0, 0, 255, 1]][number]
        np.testing.assert_array_equal(found, expected)


def test_unknown_values_are_counted(tmp_path, image):
    strips = [box(1000 + 5 * i, 1970, 1005 + 5 * i, 2000) for i in range(4)]
    path = write_vector(tmp_path / "l.gpkg", strips, kind=["wood", "Wood", "Wood", "sea"])
    with pytest.raises(DataError, match=r"l.gpkg.*kind .*'Wood': 2, 'sea': 1.*wood: \['wood', 'Forest'\]"):
        read_all(path, with_vector(), image)


def test_all_polygons_of_one_class(tmp_path, image):
    path = write_vector(tmp_path / "l.geojson", [box(1000, 1990, 1040, 2000)], name=["x"])
    found = read_all(path, with_vector(polygons="wood", background="water"), image)
    assert (found[:20] == 1).all()
    assert (found[20:] == 2).all()


def test_parts_holes_and_features_without_geometry(tmp_path, image):
    whole = box(1000, 1970, 1040, 2000)
    parts = MultiPolygon([box(1000, 1970, 1010, 1980), box(1030, 1990, 1040, 2000)])
    path = write_vector(tmp_path / "l.gpkg", [whole - parts, parts, None], kind=["wood", "water", "wood"])
    found = read_all(path, with_vector(), image)
    expected = np.ones((60, 80), int)
    expected[40:, :20] = expected[:20, 60:] = 2
    np.testing.assert_array_equal(found, expected)


def test_outlines_that_cross_themselves_and_collections(tmp_path, image):
    """The outline reaches over the image's edges: two triangles that meet in a point."""
    crossing = Polygon([(990, 1965), (1030, 1995), (1030, 1965), (990, 1995)])
    collection = GeometryCollection([box(1000, 1990, 1005, 2000)])
    path = write_vector(tmp_path / "l.gpkg", [crossing, collection], kind=["wood", "water"])
    x, y = centres(image, "EPSG:2180")
    across, up = x - 1010, (y - 1980) * 4 / 3
    expected = np.where((np.abs(across) > np.abs(up)) & (np.abs(across) < 20), 1, 0)
    expected[:20, :10] = 2
    np.testing.assert_array_equal(read_all(path, with_vector(background="ground"), image), expected)


def test_layers_are_chosen_by_name(tmp_path, image):
    path = write_vector(tmp_path / "l.gpkg", [box(1000, 1970, 1040, 2000)], layer="fields", kind=["wood"])
    write_vector(path, [box(1000, 1970, 1040, 2000)], layer="lakes", append=True, kind=["water"])
    with pytest.raises(DataError, match=r"data\.vector\.layer` .* is absent.*fields, lakes"):
        check_pair(image, path, with_vector())
    with pytest.raises(DataError, match=r"is 'lake'.*fields, lakes.*Did you mean `?lakes"):
        check_pair(image, path, with_vector(layer="lake"))
    assert (read_all(path, with_vector(layer="lakes"), image) == 2).all()


def test_tables_without_geometry_are_no_layers(tmp_path, image):
    path = write_vector(tmp_path / "l.gpkg", [box(1000, 1970, 1040, 2000)], layer="fields", kind=["wood"])
    pyogrio.raw.write(
        str(path),
        None,
        [np.array(["x"], object)],
        ["style"],
        layer="layer_styles",
        append=True,
        crs=None,
        geometry_type=None,
    )
    assert (read_all(path, with_vector(), image) == 1).all()


def test_what_is_missing_is_named(tmp_path, image):
    path = write_vector(tmp_path / "l.gpkg", [box(1000, 1970, 1040, 2000)], kind=["wood"], area=[3])
    with pytest.raises(DataError, match=r"'knd' is none. There are: kind, area.*kind"):
        check_pair(image, path, with_vector(attribute="knd"))
    with pytest.raises(DataError, match=r"l.gpkg: `data\.vector` .*There are: kind, area"):
        check_pair(image, path, CLASSES)
    with pytest.raises(DataError, match=r"no.gpkg: must be a vector file, but is missing"):
        check_pair(image, tmp_path / "no.gpkg", with_vector())
    (tmp_path / "bad.gpkg").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"bad.gpkg: cannot be opened"):
        check_pair(image, tmp_path / "bad.gpkg", with_vector())


def test_lines_and_images_without_coordinates_are_refused(tmp_path, image, make_raster):
    path = write_vector(tmp_path / "l.gpkg", [LineString([(1000, 1970), (1040, 2000)])], kind=["wood"])
    with pytest.raises(DataError, match=r"must be polygons.*LineString: 1"):
        read_all(path, with_vector(), image)
    plain = make_raster(tmp_path / "plain.png", np.ones((4, 4), np.uint8), crs=None)
    with pytest.raises(DataError, match=r"plain.png has none"):
        check_pair(plain, path, with_vector())


@pytest.mark.parametrize("crs", ["EPSG:2180", "EPSG:4326"])
def test_polygons_that_lie_elsewhere_are_refused(tmp_path, image, crs):
    path = write_vector(tmp_path / "l.gpkg", [box(20, 50, 21, 51)], crs=crs, kind=["wood"])
    with pytest.raises(DataError, match=r"l.gpkg.*\(20, 50, 21, 51\).*i.tif in \(1000, 1970, 1040, 2000\)"):
        check_pair(image, path, with_vector(background="ground"))


def test_files_without_polygons_are_background_if_that_has_a_class(tmp_path, image):
    path = tmp_path / "l.geojson"
    path.write_text('{"type": "FeatureCollection", "features": []}')
    classes = with_vector(polygons="wood")
    with pytest.raises(DataError, match=r"must have polygons.*data\.vector\.background"):
        check_pair(image, path, classes)
    assert (read_all(path, with_vector(polygons="wood", background="ground"), image) == 0).all()
    # Such a file has no attributes either.
    assert (read_all(path, with_vector(background="ground"), image) == 0).all()


@pytest.mark.parametrize("name", ["l.geojson", "l.gpkg"])
def test_a_file_that_changes_is_read_again(tmp_path, image, name):
    path = write_vector(tmp_path / name, [box(1000, 1970, 1040, 2000)], kind=["wood"])
    assert (read_all(path, with_vector(), image) == 1).all()
    path.unlink()
    write_vector(path, [box(1000, 1970, 1040, 2000)], kind=["water"])
    os.utime(path, (1, 1))
    assert (read_all(path, with_vector(), image) == 2).all()


def test_a_file_rewritten_with_equal_size_and_time_is_another_one(tmp_path):
    path = write_vector(tmp_path / "l.geojson", [box(1000, 1970, 1040, 2000)], kind=["wood"])
    before, times = open_layer(path, None, "layer"), path.stat()
    assert before.read("kind", before.bounds)[1].tolist() == ["wood"]
    path.write_text(path.read_text().replace("wood", "sand"))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    after = open_layer(path, None, "layer")
    assert path.stat().st_size == times.st_size
    assert after.read("kind", before.bounds)[1].tolist() == ["sand"]


def test_one_file_serves_many_scenes(tmp_path, make_raster):
    path = write_vector(tmp_path / "l.gpkg", [box(0, 0, 30, 10), box(30, 0, 80, 10)], kind=["wood", "water"])
    images = [
        make_raster(tmp_path / f"{i}.tif", np.ones((10, 20), np.uint8), origin=(20.0 * i, 10.0), pixel=1.0)
        for i in range(3)
    ]
    scenes = [Scene(str(i), image, path, str(i)) for i, image in enumerate(images)]
    assert compute_statistics(scenes, classes=with_vector()).pixels_per_class == (0, 300, 300)
    reader = SceneReader(scenes[0], with_vector())
    assert (reader.read_labels((0, 0, 10, 20)) == 1).all()
    reader.move_to(scenes[1])
    np.testing.assert_array_equal(reader.read_labels((3, 8, 1, 4)), [[1, 1, 2, 2]])


@pytest.mark.parametrize("masks", ["labels.gpkg", "{split}/masks"])
def test_a_folder_data_set_with_polygons(tmp_path, make_raster, masks):
    for row, split in enumerate(("train", "val", "test")):
        origin = (1000.0, 2000.0 - 30 * row)
        make_raster(tmp_path / "d" / split / "images" / "a.tif", np.ones((20, 20), np.uint8), origin=origin)
        square = box(1000, 1995 - 30 * row, 1010, 2000 - 30 * row)
        path = tmp_path / "d" / (masks if masks.endswith("gpkg") else f"{split}/masks/a.geojson")
        write_vector(path, [square], append=path.exists(), kind=["wood"])
    config = DataConfig(
        dataset="geotiff_folder",
        root="d",
        options={"masks": masks},
        classes=[
            ClassConfig(name="ground", color="#000000"),
            ClassConfig(name="wood", values=("wood",), color="#00ff00"),
        ],
        vector={"attribute": "kind", "background": "ground"},
    )
    dataset = open_dataset(config, tmp_path)
    for split in ("train", "val", "test"):
        statistics = compute_statistics(dataset.scenes(split), classes=dataset.classes)
        assert statistics.pixels_per_class == (200, 200)


@pytest.mark.parametrize(
    ("vector", "message"),
    [
        ({"attribute": "kind", "polygons": "wood"}, "either"),
        ({"background": "ground"}, "either"),
        ({"polygons": "woods"}, "names class 'woods'"),
        ({"attribute": "kind"}, r"classes\.0\.values"),
    ],
)
def test_impossible_keys_are_refused(vector, message):
    classes = [{"name": "ground", "color": "#000000"}, {"name": "wood", "values": ["w"], "color": "#00ff00"}]
    with pytest.raises(ConfigError, match=message):
        validated(DataConfig, {"dataset": "x", "classes": classes, "vector": vector}, "data")
