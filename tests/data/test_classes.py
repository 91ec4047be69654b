import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qhybrid.config import ClassConfig
from qhybrid.data.classes import IGNORE_INDEX, ClassMap
from qhybrid.errors import DataError


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
        ({"names": (), "colors": (), "values": ()}, "1 to 254 classes"),
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
