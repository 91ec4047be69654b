"""What map files say of their values: number types, nodata, names, colours."""

import numpy as np
import pytest
import rasterio
from rasterio.shutil import copy

from qhybrid.data.classes import ClassMap
from qhybrid.data.map_bands import class_bands, code_table
from qhybrid.data.raster import raster_info
from qhybrid.data.raster_writer import MapWriter
from qhybrid.errors import ConfigError


def classes(*values, ignored=()):
    names = tuple(f"c{index}" for index in range(len(values)))
    colors = tuple(f"#{40 * index:02x}0000" for index in range(len(values)))
    return ClassMap(names, colors, tuple((value,) for value in values), tuple(ignored))


@pytest.mark.parametrize(
    ("values", "ignored", "dtype", "nodata"),
    [
        ((0, 1), (), "uint8", 255),
        ((0, 255), (), "uint8", 254),
        ((1, 255), (), "uint8", 0),
        ((1, 2), (7,), "uint8", 7),
        ((1, 2), (-1,), "uint8", 255),
        ((-1, 3), (), "int16", 255),
        ((0, 1000), (), "uint16", 255),
        ((0, 255, 300), (), "uint16", 65535),
        ((-5, 70_000), (), "int32", 255),
        ((0, 255, 100_000), (), "int32", 2**31 - 1),
        (("0-127", "128-255"), (), "uint16", 65535),  # neither of a byte is free
        (("7-20", 0), (), "uint8", 255),
        (("<0", ">=1"), (), "int16", 0),
    ],
)
def test_codes_choose_the_smallest_type_and_a_free_nodata(values, ignored, dtype, nodata):
    bands = class_bands(classes(*values, ignored=ignored), codes=True)
    assert (bands.dtype, bands.nodata) == (dtype, nodata)
    table = code_table(bands)
    assert table.dtype == dtype
    lowest = {"0-127": 0, "128-255": 128, "7-20": 7, "<0": -1, ">=1": 1}
    assert table[: len(values)].tolist() == [lowest.get(value, value) for value in values]
    assert (table[len(values) :] == nodata).all()


def test_all_values_of_a_byte_are_taken():
    # 254 classes is the most that a class map has, so that a byte always has a free value.
    bands = class_bands(classes(*(value for value in range(256) if value not in (3, 200))), codes=True)
    assert (bands.dtype, bands.nodata) == ("uint8", 200)


@pytest.mark.parametrize(
    ("values", "codes", "dtype", "nodata"),
    [
        (("0-127", "128-255"), [0, 128], "uint16", 65535),  # 255 would be read as the second class
        (("0-127", "200-254"), [0, 200], "uint8", 255),
        (("<0.5", ">=0.5"), [0, 1], "uint8", 255),  # what is said to be nodata is not in an open range
    ],
)
def test_codes_of_ranges_are_read_as_the_same_classes(values, codes, dtype, nodata):
    known = classes(*values)
    bands = class_bands(known, codes=True)
    assert (bands.dtype, bands.nodata) == (dtype, nodata)
    written = code_table(bands)[[0, 1, 255]]
    assert written.tolist() == [*codes, nodata]
    np.testing.assert_array_equal(known.encode(written, "map", nodata=bands.nodata), [0, 1, 255])


def test_nodata_is_no_further_value_of_a_class():
    several = ClassMap(("a", "b"), ("#000000", "#ffffff"), ((1, 255), (2, 0)))
    assert class_bands(several, codes=True).nodata == 254


def test_values_beyond_32_bits_are_refused():
    with pytest.raises(ConfigError, match=r"32-bit integers.* reach from 0 to 5000000000"):
        class_bands(classes(0, 5_000_000_000), codes=True)


def test_colours_cannot_be_codes():
    coloured = ClassMap(("a", "b"), ("#000000", "#ffffff"), (("#ff0000",), (2,)))
    with pytest.raises(ConfigError, match=r"class a has '#ff0000'.*--codes"):
        class_bands(coloured, codes=True)


def test_gdal_reads_names_and_colours_of_codes(tmp_path, make_raster):
    like = raster_info(make_raster(tmp_path / "scene.tif", np.ones((1, 4, 5), np.uint8)))
    known = classes(-5, 70_000)
    bands = class_bands(known, codes=True)
    with MapWriter(tmp_path / "map.tif", like, known, bands=bands) as writer:
        writer.write(code_table(bands)[np.array([[0, 1, 0, 1, 255]] * 4)], 0)
    with rasterio.open(tmp_path / "map.tif") as file:
        assert file.read(1)[0].tolist() == [-5, 70_000, -5, 70_000, 255]
        assert file.tags()["CLASS_70000"] == "c1"
    copy(tmp_path / "map.tif", tmp_path / "map.vrt", driver="VRT")
    # GDAL's own VRT driver copies what it takes for the attribute table of a band.
    assert "<F>70000</F>\n      <F>c1</F>\n      <F>40</F>" in (tmp_path / "map.vrt").read_text().replace(
        "        ", "      "
    )
