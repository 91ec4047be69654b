import time

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.rpc import RPC
from rasterio.transform import from_origin
from rasterio.warp import transform as transform_points

from qhybrid.data.footprints import Footprint, footprint, footprints, trusted
from qhybrid.data.overlaps import overlap_groups, overlapping, unrelated
from qhybrid.data.raster import Window, raster_info

LON_LAT = CRS.from_epsg(4326)
LOCAL = CRS.from_wkt('LOCAL_CS["a building site",UNIT["metre",1]]')


def place(crs, x, y, width, height, angle=0.0):
    """Return the footprint of a raster whose first corner is (x, y)."""
    pixels = Affine.translation(x, y) * Affine.rotation(angle) * Affine.scale(width, -height)
    corners = np.array([pixels * corner for corner in ((0, 0), (1, 0), (1, 1), (0, 1))])
    return Footprint(None, Window(0, 0, 1, 1), CRS.from_user_input(crs), corners)


def around(crs, lon, lat, size, angle=0.0):
    """Return the footprint of a raster of `size` metres with its first corner near a point."""
    x, y = transform_points(LON_LAT, CRS.from_user_input(crs), [lon], [lat])
    return place(crs, x[0], y[0], size, size, angle)


def overlap(first, second):
    found = bool(list(overlapping([first, second])))
    assert bool(list(overlapping([second, first]))) is found
    return found


def brute_force(first, second, samples=40):
    """Return whether points inside the first lie in the second, through the second's own coordinates."""
    fractions = (np.arange(samples) + 0.5) / samples
    columns, rows = (part.ravel() for part in np.meshgrid(fractions, fractions))
    points = first.points(columns, rows)
    if first.crs != second.crs:
        points = np.stack(transform_points(first.crs, second.crs, *points.T.tolist()), axis=1)
    edges = np.stack([second.corners[1] - second.corners[0], second.corners[3] - second.corners[0]], axis=1)
    world = (
        360
        if second.crs.is_geographic
        else 2 * 20037508.342789244
        if second.crs == CRS.from_epsg(3857)
        else 0
    )
    turns = (-world, 0, world) if world else (0,)
    inside = [np.linalg.solve(edges, (points + [turn, 0] - second.corners[0]).T) for turn in turns]
    return int(sum(((part > 0) & (part < 1)).all(axis=0).sum() for part in inside))


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        # Longitudes beyond 180, and below -180, are the same ground as those on the other side.
        (place(4326, 179.0, 1.0, 2.0, 1.0), place(4326, -181.0, 1.0, 2.0, 1.0), True),
        (place(4326, 179.0, 1.0, 2.0, 1.0), place(4326, -180.0, 1.0, 1.0, 1.0), True),
        (place(4326, 179.0, 1.0, 1.0, 1.0), place(4326, -180.0, 1.0, 1.0, 1.0), False),
        (place(4326, 0.0, 90.0, 360.0, 180.0), place(4326, -10.0, 5.0, 5.0, 5.0), True),
        (place(4326, -180.0, 90.0, 360.0, 180.0), place(4326, 181.0, 5.0, 5.0, 5.0), True),
        # UTM zones 60 and 1 meet at the antimeridian.
        (around(32660, 179.99, -16.5, 5000.0), around(32601, -179.98, -16.5, 5000.0), True),
        (around(32760, 179.9, -16.5, 5000.0), around(32701, -179.98, -16.5, 5000.0), False),
        (around(32701, -179.99, -16.5, 5000.0), place(4326, 179.9, -16.4, 0.2, 0.2), True),
        (around(32701, -179.99, -16.5, 5000.0), place(4326, -180.1, -16.4, 0.2, 0.2), True),
        (around(32701, -179.99, -16.5, 5000.0), place(4326, 179.9, -16.4, 0.09, 0.2), False),
        # Neighbouring zones.
        (around(32633, 17.99, 50.0, 3000.0), around(32634, 18.0, 50.0, 3000.0), True),
        (around(32633, 17.9, 50.0, 3000.0), around(32634, 18.0, 50.0, 3000.0), False),
        # Web Mercator beyond its world: -180 + 1 degree is 180 + 1 degree.
        (place(3857, 20037508.34 - 1e5, 0, 3e5, 1e5), place(3857, -20037508.34, 0, 1e5, 1e5), True),
        (place(3857, 20037508.34 - 3e5, 0, 2e5, 1e5), place(3857, -20037508.34, 0, 1e5, 1e5), False),
        # At the pole all longitudes meet.
        (place(3413, -5e4, 5e4, 1e5, 1e5), place(4326, 100.0, 90.0, 20.0, 0.3), True),
        (place(3413, 1e5, 5e4, 1e5, 1e5), place(4326, 0.0, 89.9, 300.0, 0.3), False),
        # A raster of the whole world, and one small scene in another CRS.
        (place(4326, -180.0, 90.0, 360.0, 180.0), around(32760, 179.99, -16.5, 5000.0), True),
        (place(4326, -180.0, 0.0, 360.0, 90.0), around(32652, 127.0, 36.0, 5000.0), False),
        # Boxes overlap, the rotated rasters do not.
        (place(32652, 0, 0, 1000, 1000, 45), place(32652, 800, -800, 1000, 1000, 45), False),
        (place(32652, 0, 0, 1000, 1000, 45), place(32652, 300, -300, 1000, 1000, 45), True),
        (place(32652, 0, 0, 1000, 1000, 45), place(32652, 1150, 690, 200, 200), False),
    ],
)
def test_known_overlaps(first, second, expected):
    assert overlap(first, second) is expected


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_overlaps_are_those_of_points(data):
    """Scenes of some kilometres around one place, in CRS of every kind, against a test by points."""
    lon, lat = data.draw(st.sampled_from([(180.0, -16.5), (18.0, 50.0), (-60.0, 70.0), (180.0, 65.0)]))
    zone = int((lon + 180) // 6) % 60
    south = 100 if lat < 0 else 0
    systems = [32601 + south + zone, 32601 + south + (zone - 1) % 60, 4326, 3857]
    scenes = []
    for _ in range(2):
        crs = data.draw(st.sampled_from(systems))
        east = lon + data.draw(st.floats(-0.1, 0.1)) + data.draw(st.sampled_from([0, -360]))
        north = lat + data.draw(st.floats(-0.05, 0.05))
        size = data.draw(st.floats(1000, 9000))
        angle = data.draw(st.sampled_from([0.0, 0.0, 10.0, 45.0, 200.0]))
        if crs == 4326:
            scenes.append(place(crs, east, north, size / 111e3, size / 111e3, angle))
        else:
            scenes.append(around(crs, (east + 180) % 360 - 180, north, size, angle))
    shared = brute_force(*scenes), brute_force(scenes[1], scenes[0])
    assume(max(shared) > 3 or max(shared) == 0)  # a few points are within the rounding of either way
    if max(shared):
        assert overlap(*scenes)
    else:  # points may miss a sliver between them
        assert not overlap(*scenes) or brute_force(*scenes, 400) + brute_force(*scenes[::-1], 400)


def test_neighbours_in_a_grid_touch_and_do_not_overlap():
    tiles = [place(32652, 300_000 + 5120 * i, 4e6 - 5120 * j, 5120, 5120) for i in range(4) for j in range(4)]
    degrees = [place(4326, 179 + 0.1 * i, 0.1 * j, 0.1, 0.1) for i in range(20) for j in range(2)]
    assert overlap_groups([*tiles, *degrees]) == list(range(56))


def test_a_rotated_file(tmp_path, make_raster):
    turned = Affine.translation(500_000, 500_000) * Affine.rotation(30) * Affine.scale(0.5, -0.5)
    file = make_raster(tmp_path / "a.tif", np.ones((8, 8), np.uint8), crs=None)
    with rasterio.open(file, "r+") as handle:
        handle.crs, handle.transform = CRS.from_epsg(2180), turned
    found = footprint(raster_info(file))
    assert not found.upright
    np.testing.assert_allclose(found.corners[1], [500_000 + 4 * np.cos(np.pi / 6), 500_002])


def test_files_that_control_points_place(tmp_path, make_raster):
    """They lie where a file with the transform of the same points lies."""

    def placed(name, east, how_many=4):
        pixels = from_origin(500_000 + east, 500_000, 0.5, 0.5)
        corners = [(row, col) for row in (0, 30) for col in (0, 20)][:how_many]
        points = [GroundControlPoint(row, col, *(pixels * (col, row))) for row, col in corners]
        path = make_raster(tmp_path / f"{name}.tif", np.zeros((30, 20), np.uint8), crs=None)
        with rasterio.open(path, "r+") as file:
            file.gcps = points, CRS.from_epsg(2180)
        return footprint(raster_info(path))

    plain = footprint(raster_info(make_raster(tmp_path / "plain.tif", np.zeros((30, 20), np.uint8))))
    near, far = placed("near", 5), placed("far", 11)
    np.testing.assert_allclose(near.corners, plain.corners + [5, 0], atol=1e-6)
    assert overlap(near, plain)
    assert not overlap(far, plain)
    assert overlap(near, far)
    assert not placed("few", 0, 2).placed


def test_files_that_rational_polynomials_place(tmp_path, make_raster):
    """Longitude is 20 + (column - 50) / 500, latitude 50 - (row - 50) / 500."""

    def placed(name, lon):
        ones, zeros = [1.0] + [0.0] * 19, [0.0] * 20
        model = RPC(
            height_off=0,
            height_scale=100,
            lat_off=50,
            lat_scale=0.1,
            long_off=lon,
            long_scale=0.1,
            line_off=50,
            line_scale=50,
            samp_off=50,
            samp_scale=50,
            line_num_coeff=[*zeros[:2], -1.0, *zeros[3:]],
            line_den_coeff=ones,
            samp_num_coeff=[zeros[0], 1.0, *zeros[2:]],
            samp_den_coeff=ones,
            err_bias=None,
            err_rand=None,
        )
        path = make_raster(tmp_path / f"{name}.tif", np.zeros((100, 100), np.uint8), crs=None)
        with rasterio.open(path, "r+") as file:
            file.rpcs = model
        return footprint(raster_info(path))

    first = placed("first", 20)
    half_a_pixel = 0.0011
    np.testing.assert_allclose(first.corners[[0, 2]], [[19.9, 50.1], [20.1, 49.9]], atol=half_a_pixel)
    assert overlap(first, placed("second", 20.15))
    assert not overlap(first, placed("third", 20.25))
    assert overlap(first, around("EPSG:2180", 20.05, 50.05, 100))


def test_windows_of_one_file_are_compared_by_pixels(tmp_path, make_raster):
    file = make_raster(tmp_path / "a.png", np.ones((40, 40), np.uint8), crs=None)
    (tmp_path / "b.png").symlink_to(file)
    windows = [(0, 0, 20, 20), (0, 20, 20, 20), (19, 19, 5, 5), (30, 30, 10, 10)]
    places = [footprint(raster_info(file), Window(*window)) for window in windows]
    places.append(footprint(raster_info(tmp_path / "b.png"), Window(35, 35, 1, 1)))
    assert sorted(overlapping(places)) == [(0, 2), (1, 2), (3, 4)]


def test_transforms_without_a_crs(tmp_path, make_raster):
    """Coordinates are compared as they are; where all files start at one point they say nothing."""

    def loose(name, x):
        profile = {"driver": "GTiff", "height": 8, "width": 8, "count": 1, "dtype": "uint8"}
        with rasterio.open(
            tmp_path / name, "w", transform=from_origin(x, 500.0, 0.5, 0.5), **profile
        ) as file:
            file.write(np.ones((1, 8, 8), np.uint8))
        return tmp_path / name

    files = [loose("a.tif", 100.0), loose("b.tif", 102.0), loose("c.tif", 200.0)]
    assert overlap_groups(footprints(files)) == [0, 0, 2]
    placed = make_raster(tmp_path / "d.tif", np.ones((8, 8), np.uint8), origin=(202.0, 500.0))
    assert overlap_groups(footprints([*files, placed])) == [0, 0, 2, 2]
    same = footprints([loose("e.tif", 0.0), loose("f.tif", 0.0)])
    assert [one.placed for one in same] == [False, False]
    assert overlap_groups(same) == [0, 1]
    assert trusted([]) == []


def test_a_crs_that_cannot_be_related():
    site = place(LOCAL, 0, 0, 10, 10)
    assert unrelated([site, place(LOCAL, 5, 5, 10, 10)]) == []
    assert overlap(site, place(LOCAL, 5, 5, 10, 10))
    assert unrelated([place(32652, 0, 0, 9, 9), site]) == [site]
    assert not overlap(place(32652, 0, 0, 9, 9), site)


def test_two_thousand_tiles_take_a_second():
    start = time.perf_counter()
    tiles = [place(32652, 512 * i, 512 * j, 512, 512) for i in range(50) for j in range(40)]
    assert list(overlapping(tiles)) == []
    assert time.perf_counter() - start < 3
