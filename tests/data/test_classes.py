import json
import re

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from qhybrid.config import ClassConfig, DataConfig, VectorConfig
from qhybrid.data.classes import IGNORE_INDEX, ClassMap
from qhybrid.errors import ConfigError, DataError


def class_map(*values, ignore=()):
    return ClassMap(
        names=tuple(f"class{i}" for i in range(len(values))),
        colors=("#010203",) * len(values),
        values=values,
        ignore_values=ignore,
    )


@settings(deadline=None)
@given(
    st.lists(st.integers(-70_000, 70_000), min_size=2, max_size=12, unique=True),
    st.sampled_from([np.int32, np.int64, np.float64]),
    st.integers(0, 2**32),
)
def test_encode_agrees_with_a_dictionary(values, dtype, seed):
    *known, ignored = values
    classes = class_map(*[(value,) for value in known], ignore=(ignored,))
    raw = np.random.default_rng(seed).choice(np.array(values), (5, 4))
    table = {value: index for index, value in enumerate(known)} | {ignored: IGNORE_INDEX}
    expected = np.vectorize(table.get)(raw)
    np.testing.assert_array_equal(classes.encode(raw.astype(dtype), "mask.tif"), expected)


@settings(deadline=None)
@given(st.lists(st.integers(0, 255), min_size=1, max_size=20, unique=True), st.integers(0, 2**32))
def test_decode_inverts_encode(values, seed):
    classes = class_map(*[(value,) for value in values])
    raw = np.random.default_rng(seed).choice(np.array(values, dtype=np.uint8), (6, 3))
    np.testing.assert_array_equal(classes.decode(classes.encode(raw, "mask.tif")), raw)


def test_merged_values_decode_to_the_first():
    classes = class_map((4, 5), (9,))
    np.testing.assert_array_equal(classes.encode(np.array([[4, 5, 9]]), "m"), [[0, 0, 1]])
    np.testing.assert_array_equal(classes.decode(np.array([[0, 0, 1, 255]])), [[4, 4, 9, 255]])
    assert class_map((4,), ignore=(0, 9)).decode(np.array([255])) == 0
    assert class_map((4000,)).decode(np.array([0, 255])).tolist() == [4000, 255]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32])
def test_unknown_values_name_file_values_and_remedy(dtype):
    with pytest.raises(DataError, match=r"some/mask.tif.* 6, 99 is not .*data\.ignore_values"):
        class_map((1,), (2,)).encode(np.array([[1, 2], [99, 6]], dtype=dtype), "some/mask.tif")


def test_values_far_apart_and_unknown():
    classes = class_map((0,), (2_000_000,))
    np.testing.assert_array_equal(classes.encode(np.array([[2_000_000, 0]]), "m"), [[1, 0]])
    for value in (-1, 7, 3_000_000):
        with pytest.raises(DataError, match=str(value)):
            classes.encode(np.array([[value]]), "m")


def test_nodata_is_ignored_unless_it_is_a_class():
    raw = np.array([[0, 1]], dtype=np.uint8)
    np.testing.assert_array_equal(class_map((1,)).encode(raw, "m", nodata=0), [[255, 0]])
    np.testing.assert_array_equal(class_map((0,), (1,)).encode(raw, "m", nodata=0), [[0, 1]])


def test_float_masks():
    classes = class_map((1,), (2,))
    np.testing.assert_array_equal(classes.encode(np.array([[1.0, np.nan, 2.0]]), "m"), [[0, 255, 1]])
    for bad in (1.5, np.inf):
        with pytest.raises(DataError, match="whole numbers"):
            classes.encode(np.array([[1.0, bad]]), "m")


def test_the_ignore_index_may_be_a_class_value():
    classes = class_map((0,), (255,))
    np.testing.assert_array_equal(classes.encode(np.array([[0, 255]], dtype=np.uint8), "m"), [[0, 1]])


def test_palette_dictionary_and_configuration():
    entries = [
        ClassConfig(name="a", values=(1, 2), color="#FF8000"),
        ClassConfig(name="b", values=(3,), color="#000010"),
    ]
    classes = ClassMap.from_config(entries, (9,))
    np.testing.assert_array_equal(classes.palette(), [[255, 128, 0], [0, 0, 16]])
    assert classes.palette().dtype == np.uint8
    assert ClassMap.from_dict(classes.to_dict()) == classes
    assert classes.num_classes == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"names": ("a",), "colors": (), "values": ((1,),)}, "as many names"),
        ({"names": (), "colors": (), "values": ()}, "1 to 254 classes.* Fix: `values`"),
        ({"names": ("a", "a"), "colors": ("#000000",) * 2, "values": ((1,), (2,))}, "must differ"),
        (
            {"names": ("a",), "colors": ("#000000",), "values": ((1,),), "ignore_values": (1,)},
            "more than one",
        ),
    ],
)
def test_impossible_maps_are_refused(arguments, message):
    with pytest.raises(DataError, match=message):
        ClassMap(**arguments)


@pytest.mark.parametrize("content", [{}, {"names": 3}, []])
def test_damaged_dictionaries_are_refused(content):
    with pytest.raises(DataError, match="Not a class map"):
        ClassMap.from_dict(content)


def test_ranges_hold_both_ends_and_open_ends_do_not_meet():
    soft = class_map(("0-127",), ("128-255",))
    raw = np.array([0, 1, 127, 128, 254, 255])
    for dtype in (np.uint8, np.int16, np.uint16, np.float32):
        np.testing.assert_array_equal(soft.encode(raw.astype(dtype), "m"), [0, 0, 0, 1, 1, 1])
    with pytest.raises(DataError, match=r"256 is not .*ranges"):
        soft.encode(np.array([256]), "m")
    half = class_map(("<0.5",), (">=0.5",))
    probabilities = np.array([0, 0.25, np.nextafter(np.float32(0.5), 0), 0.5, 1, np.nan], dtype=np.float32)
    np.testing.assert_array_equal(half.encode(probabilities, "m"), [0, 0, 0, 1, 1, 255])
    signed = class_map(("-10--1", 4), ("5-7", "9-9"))
    np.testing.assert_array_equal(signed.encode(np.array([-10, -1, 4, 5, 7, 9]), "m"), [0, 0, 0, 1, 1, 1])
    for value in (-11, 0, 8):
        with pytest.raises(DataError, match=f" {value} is not"):
            signed.encode(np.array([value]), "m")


def test_ignored_ranges_and_numbers_inside_a_range_of_their_class():
    classes = class_map((255, "200-255"), (0,), ignore=("1-199",))
    np.testing.assert_array_equal(classes.encode(np.array([0, 1, 199, 200, 255]), "m"), [1, 255, 255, 0, 0])
    np.testing.assert_array_equal(classes.decode(np.array([0, 1, 255])), [255, 0, 199])


@pytest.mark.parametrize(
    ("values", "nodata", "expected"),
    [
        (((0,), (1,)), -3.4028234663852886e38, [0, 1, 255]),  # GDAL's usual nodata of float rasters
        (((0,), (1,)), 0.5, [0, 1, 255]),
        (((0,), ("1-2",)), 2, [0, 1, 1]),  # a class has it
        ((("<0.5",), (">=0.5",)), -9999, [0, 1, 255]),  # open ranges do not name it
        ((("<0.5", -9999), (">=0.5",)), -9999, [0, 1, 0]),
    ],
)
def test_nodata_of_float_masks(values, nodata, expected):
    raw = np.array([0, 1, nodata], dtype=np.float32)
    np.testing.assert_array_equal(class_map(*values).encode(raw, "m", nodata=nodata), expected)


def test_nodata_of_integer_masks_in_an_open_range():
    raw = np.array([0, 200, -1], dtype=np.int16)
    np.testing.assert_array_equal(class_map(("<128",), (">=128",)).encode(raw, "m", nodata=-1), [0, 1, 255])


def rgb(*colors):
    """Return hex colours as bands of shape (3, n)."""
    return np.array([[int(color[i : i + 2], 16) for i in (1, 3, 5)] for color in colors], dtype=np.uint8).T


def test_colours_are_exact_unless_there_is_a_tolerance():
    classes = class_map(("#ffff00", "#ff8000"), ("#0000FF",), (7,), ignore=("#000000",))
    colors = ["#ffff00", "#ff8000", "#0000ff", "#000000", "#070707"]
    np.testing.assert_array_equal(classes.encode_colors(rgb(*colors), "m"), [0, 0, 1, 255, 2])
    bad = rgb("#ffff01", "#ffff01", "#0000ff", "#102030")
    with pytest.raises(DataError, match=r"mask.png: .*#ffff01: 2, #102030: 1 .*data\.color_tolerance"):
        classes.encode_colors(bad, "mask.png")


def test_the_tolerance_is_for_each_channel_and_the_nearest_colour_wins():
    entries = {"names": ("a", "b"), "colors": ("#000000",) * 2, "values": (("#640000",), ("#6e0000",))}
    classes = ClassMap(**entries, color_tolerance=6)
    # 0x64 = 100, 0x6e = 110: 105 is as near to both, so the first has it; 106 is nearer to the second.
    found = classes.encode_colors(rgb("#690000", "#6a0000", "#740606", "#5e0606"), "m")
    np.testing.assert_array_equal(found, [0, 1, 1, 0])
    for outside in ("#750000", "#640700"):
        with pytest.raises(DataError, match=outside):
            classes.encode_colors(rgb(outside), "m")
    swapped = ClassMap(**entries | {"values": entries["values"][::-1]}, color_tolerance=6)
    np.testing.assert_array_equal(swapped.encode_colors(rgb("#690000"), "m"), [0])


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32), st.integers(1, 255))
def test_the_nearest_colour_agrees_with_a_loop(seed, tolerance):
    generator = np.random.default_rng(seed)
    known = generator.choice(2**24, 5, replace=False)
    classes = ClassMap(
        tuple("abcde"), ("#000000",) * 5, tuple((f"#{c:06x}",) for c in known), color_tolerance=tolerance
    )
    colors = generator.integers(0, 256, (3, 40))
    expected = []
    for pixel in colors.T:
        apart = [np.abs(pixel - [c >> 16, c >> 8 & 255, c & 255]) for c in known]
        near = [(int((a**2).sum()), i) for i, a in enumerate(apart) if a.max() <= tolerance]
        expected.append(min(near)[1] if near else None)
    inside = np.array([index is not None for index in expected])
    found = classes.encode_colors(colors[:, inside].astype(np.uint8), "m")
    np.testing.assert_array_equal(found, [index for index in expected if index is not None])
    if not inside.all():
        with pytest.raises(DataError, match="every colour"):
            classes.encode_colors(colors.astype(np.uint8), "m")


def test_what_is_written_for_ranges_and_colours():
    soft = class_map(("0-127",), ("128-255",))
    np.testing.assert_array_equal(soft.decode(np.array([0, 1])), [0, 128])
    assert soft.decode(np.array([255])) == 256  # all of 0 to 255 are classes
    half = class_map(("<0.5",), (">=0.5",))
    np.testing.assert_array_equal(half.decode(np.array([0, 1])), [0, 1])
    with pytest.raises(DataError, match="both ends"):
        half.decode(np.array([255]))
    mixed = class_map(("#ff0000", 3), ("#00ff00", "5-9"))
    assert mixed.has_codes
    assert mixed.decode(np.array([0, 1, 255])).tolist() == [3, 5, 255]
    colours = class_map(("#ff0000",), (4,))
    assert not colours.has_codes
    with pytest.raises(DataError, match=r"class0 has colours or text alone. Fix: write class indices"):
        colours.decode(np.array([0]))


def test_ground_without_a_class_is_not_written_as_a_class():
    classes = class_map((0,), (255,))
    written = classes.decode(np.array([0, 1, 255]))
    assert written.tolist() == [0, 255, 254]
    assert written.dtype == np.uint8
    assert classes.no_class_code == 254


def test_masks_that_were_written_are_read_back_by_the_map_for_them():
    colours = class_map(("#ff0000",), (4,), ignore=("#000000",))
    assert colours.as_written().encode(np.array([0, 1]), "m").tolist() == [0, 1]
    plain = class_map((4, 5), (9,), ignore=(0,))
    assert plain.as_written() == plain


def test_dictionaries_of_whole_numbers_stay_what_they_were():
    assert class_map((1, 2), (3,), ignore=(9,)).to_dict() == {
        "names": ["class0", "class1"],
        "colors": ["#010203"] * 2,
        "values": [[1, 2], [3]],
        "ignore_values": [9],
    }
    full = ClassMap(
        ("a", "b"),
        ("#000000",) * 2,
        (("#ff0000", "0-7"), ("wood",)),
        color_tolerance=9,
        fit_masks=True,
        vector=VectorConfig(attribute="kind", background="a"),
    )
    assert ClassMap.from_dict(json.loads(json.dumps(full.to_dict()))) == full


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (("0-10",), (10,)),
        (("0-10",), ("10-20",)),
        (("<=3",), (-5,)),
        (("#0a0a0a",), (10,)),
        (("#0a0a0a",), ("5-15",)),
        (("#FF0000",), ("#ff0000",)),
        (("wood",), ("wood",)),
    ],
)
def test_values_of_two_classes_must_not_meet(first, second):
    with pytest.raises(DataError, match="more than one"):
        class_map(first, second)
    class_map(first, ("#123456", 99))


def test_a_recipe_without_classes_is_answered_with_an_example_that_works():
    with pytest.raises(ConfigError, match="data set geotiff_folder has no label map of its own") as caught:
        ClassMap.of_recipe(DataConfig(dataset="geotiff_folder"))
    (example,) = re.findall(r"classes: (\[.*\]);", str(caught.value))
    classes = ClassMap.of_recipe(DataConfig(dataset="geotiff_folder", classes=yaml.safe_load(example)))
    assert (classes.names, classes.colors, classes.values) == (("water",), ("#2f7ed8",), ((1,),))
