"""One scene in many encodings: each is read as the numbers that the model knows, or it is refused."""

import json
import warnings
from contextlib import contextmanager

import numpy as np
import pytest
import rasterio
from rasterio.enums import ColorInterp, Resampling
from rasterio.transform import from_origin
from rasterio.vrt import WarpedVRT

from qhybrid.config import ClassConfig, DataConfig
from qhybrid.data.classes import ClassMap
from qhybrid.data.contract import InputContract, ReadOptions
from qhybrid.data.contract_reading import ImageReader
from qhybrid.data.footprints import footprint
from qhybrid.data.pairs import check_pair
from qhybrid.data.patches import GridPatches
from qhybrid.data.raster import RasterReader, Window, raster_info
from qhybrid.data.scenes import Scene, SceneReader
from qhybrid.data.statistics import compute_statistics, contract_of
from qhybrid.data.tiling import tile_scene
from qhybrid.errors import DataError

CLASSES = ClassMap(("a", "b"), ("#000000", "#ffffff"), ((1,), (2,)))
HEIGHT, WIDTH = 70, 50


def picture(seed=0, low=20, high=220):
    """Three bands of 8 bits that differ in mean and contrast, smooth as pictures are."""
    rng = np.random.default_rng(seed)
    coarse = rng.normal(size=(3, HEIGHT // 10 + 1, WIDTH // 10 + 1))
    fine = np.kron(coarse, np.ones((10, 10)))[:, :HEIGHT, :WIDTH] + 0.2 * rng.normal(size=(3, HEIGHT, WIDTH))
    means, spreads = np.array([70, 110, 150])[:, None, None], np.array([20, 25, 30])[:, None, None]
    return (means + spreads * fine).clip(low, high).astype(np.uint8)


BASE = picture()


def name_bands(path, descriptions=None, colors=None, scales=None, offsets=None):
    with rasterio.open(path, "r+") as file:
        if descriptions is not None:
            file.descriptions = descriptions
        if colors is not None:
            file.colorinterp = [ColorInterp[color] for color in colors]
        if scales is not None:
            file.scales = scales
        if offsets is not None:
            file.offsets = offsets
    return path


@contextmanager
def no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        yield


@pytest.fixture
def scene(tmp_path, make_raster):
    """Return a function that writes a scene with what a file can say of its bands."""
    count = iter(range(1000))

    def write(values, descriptions=None, colors=None, scales=None, offsets=None, **profile):
        path = make_raster(tmp_path / f"scene{next(count)}.tif", values, **profile)
        return name_bands(path, descriptions, colors, scales, offsets)

    return write


def contract_from(paths, bands=None, **options):
    """Return the contract of a model that was trained on some images."""
    scenes = [Scene(str(number), path, None, str(number)) for number, path in enumerate(paths)]
    first = InputContract.of_scene(paths[0], bands, ReadOptions(**options))
    return compute_statistics(scenes, contract=first).contract


def read(path, contract):
    reader = ImageReader(path, contract.reading(path))
    data, valid = reader.read(Window(0, 0, *reader.info.shape))
    reader.close()
    return data, valid


def test_the_contract_says_what_was_trained_on_and_survives_json(scene):
    names = ("Red", "Green", "Near infrared")
    path = scene(BASE.astype(np.uint16) * 10, names, scales=[1e-4] * 3, offsets=[-0.1] * 3, nodata=65535)
    contract = contract_from([path])
    again = InputContract.from_dict(json.loads(json.dumps(contract.to_dict())), contract.options)
    assert again == contract
    band = again.bands[1]
    assert (band.number, band.name, band.dtype, band.scale, band.offset, band.nodata) == (
        *(2, "Green", "uint16"),
        *(1e-4, -0.1, 65535.0),
    )
    assert band.mean == pytest.approx(BASE[1].mean() * 10)
    assert (band.low, band.high) == pytest.approx(np.percentile(BASE[1] * 10.0, (0.5, 99.5)), abs=10)
    assert again.pixel_size == pytest.approx(0.5)
    with pytest.raises(DataError, match="Not an input contract"):
        InputContract.from_dict({"bands": [{}]}, contract.options)


# A1: number type and range


@pytest.mark.parametrize(("trained", "there"), [("minisblack", "miniswhite"), ("miniswhite", "minisblack")])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_a_file_whose_0_is_white_is_read_as_training_was(scene, trained, there, dtype):
    grey = BASE[:1].astype(dtype)
    largest = np.iinfo(dtype).max
    contract = contract_from([scene(grey, photometric=trained)])
    again = InputContract.from_dict(json.loads(json.dumps(contract.to_dict())), contract.options)
    assert again == contract
    black, white = (
        scene(largest - grey, photometric=there, nodata=int(largest - grey.max())),
        scene(grey, photometric=trained),
    )
    with no_warning():
        np.testing.assert_array_equal(read(white, again)[0], grey)
        data, valid = read(black, again)
    np.testing.assert_array_equal(valid, grey[0] < grey.max())  # nodata is a number of the file
    np.testing.assert_array_equal(data[:, valid], grey[:, valid])


def test_files_with_black_and_white_0_in_one_training_set_and_with_scale_and_offset(scene):
    grey = BASE[:1].astype(np.uint16) * 4
    paths = [scene(grey), scene(65535 - grey, photometric="miniswhite")]
    contract = contract_from(paths)
    assert contract.bands[0].mean == pytest.approx(grey.mean())
    assert "inverted" not in contract.to_dict()["bands"][0]
    scaled = [scene(grey, scales=[0.1], offsets=[-2]), scene(65535 - grey * 2, photometric="miniswhite")]
    name_bands(scaled[1], scales=[0.05], offsets=[-2])
    np.testing.assert_allclose(read(scaled[1], contract_from(scaled[:1]))[0], grey, rtol=1e-6)


@pytest.mark.parametrize("bits", [1, 4])
def test_numbers_of_a_few_bits_are_inverted_within_them(scene, bits):
    """GDAL gives files of one bit a colour table, which says the same."""
    top = 2**bits - 1
    few = (BASE[:1] // (256 // (top + 1))).astype(np.uint8)
    first = scene(few, nbits=bits)
    contract = contract_from([first])
    expected = few if bits > 1 else np.repeat(255 * few, 3, axis=0)
    np.testing.assert_array_equal(read(first, contract)[0], expected)
    other = scene(top - few, nbits=bits, photometric="miniswhite")
    np.testing.assert_array_equal(read(other, contract)[0], expected)


def test_where_it_is_not_known_whether_0_was_white_that_is_said(scene):
    grey = scene(BASE[:1], photometric="miniswhite")
    earlier = contract_from([grey]).to_dict()
    del earlier["bands"][0]["inverted"]
    contract = InputContract.from_dict(earlier, ReadOptions())
    assert contract.to_dict() == earlier  # identities of earlier runs stay
    for one in (contract, contract_from([scene(BASE[:1])]).with_options(scale=1)):
        with pytest.warns(UserWarning, match="0 is white in it .*perhaps black; its numbers are taken as"):
            np.testing.assert_array_equal(read(grey, one)[0], BASE[:1])


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "float32", "float64"])
def test_other_types_with_equal_values_pass_without_a_word(scene, dtype):
    contract = contract_from([scene(BASE)])
    with no_warning():
        data, _ = read(scene(BASE.astype(dtype)), contract)
    np.testing.assert_array_equal(data, BASE)


REENCODED = {
    "uint16 x 257": (lambda x: x.astype(np.uint16) * 257, "1/257"),
    "uint16 x 256": (lambda x: x.astype(np.uint16) * 256, "1/256"),
    "uint16 x 16": (lambda x: x.astype(np.uint16) * 16, "1/16"),
    "uint16 x 4": (lambda x: x.astype(np.uint16) * 4, "1/4"),
    "0 to 1": (lambda x: x.astype(np.float32) / 255, "255"),
    "-1 to 1": (lambda x: x.astype(np.float32) / 127.5 - 1, None),
    "standardised": (lambda x: ((x - x.mean()) / x.std()).astype(np.float32), None),
    "int8": (lambda x: (x.astype(np.int16) - 128).astype(np.int8), None),
    "per cent": (lambda x: (x / 255).astype(np.float64) * 100 * 255, "1/100"),
}


@pytest.mark.parametrize("kind", REENCODED)
def test_another_encoding_is_refused_with_the_factor_that_converts_it(scene, kind):
    encode, factor = REENCODED[kind]
    contract = contract_from([scene(BASE)])
    other = scene(encode(BASE))
    with pytest.raises(
        DataError, match=r"values must be encoded as those of the training scenes.*Fix: "
    ) as error:
        contract.reading(other)
    if factor is None:
        assert "no factor alone converts them" in str(error.value)
        return
    number = eval(factor)
    assert f"`--scale {factor}`" in str(error.value) or factor == "1/256"
    with no_warning():
        data, _ = read(other, contract.with_options(scale=number))
    np.testing.assert_allclose(data, BASE, rtol=1e-6)
    assert data.dtype == np.float32


@pytest.mark.parametrize("kind", ["uint16 x 257", "uint16 x 16", "0 to 1"])
def test_the_other_way_round_is_refused_too(scene, kind):
    contract = contract_from([scene(REENCODED[kind][0](BASE))])
    with pytest.raises(DataError, match="values must be encoded"):
        contract.reading(scene(BASE))


def test_floats_of_both_ranges_are_told_apart(scene):
    small, large = scene((BASE / 255).astype(np.float32)), scene(BASE.astype(np.float32))
    for trained, other in ((small, large), (large, small)):
        with pytest.raises(DataError, match="times as large"):
            contract_from([trained]).reading(other)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("light", ["dark", "cloudy", "black"])
def test_a_scene_in_other_light_is_read_with_a_loud_warning(scene, dtype, light):
    trained = BASE if dtype == "uint8" else BASE.astype(dtype) * 10
    values = {
        "dark": (trained // 8 if dtype != "float32" else trained / 8),
        "cloudy": (240 - trained // 20 if dtype == "uint8" else trained * 0 + 9000),
        "black": trained * 0,
    }[light].astype(dtype)
    contract = contract_from([scene(trained)])
    with pytest.warns(UserWarning, match=r"far from those of training: band \d .* a distance of \d"):
        data, _ = read(scene(values), contract)
    np.testing.assert_array_equal(data, values)
    with no_warning():
        read(scene(values), contract.with_options(shift_warning=0))


def test_the_distance_of_a_scene_is_that_of_mean_and_contrast(scene):
    rng = np.random.default_rng(0)
    trained = rng.normal(100, 20, (1, 90, 90))
    contract = contract_from([scene(trained.astype(np.float32))])
    darker = scene((trained * 0.5).astype(np.float32))  # sqrt(2.5^2 + log(2)^2) = 2.59
    with pytest.warns(
        UserWarning, match=r"50 \+- 10\S* here, and 100.* \+- 20.*distance of 2.6, and .* is 2"
    ):
        contract.reading(darker)
    flat = scene(np.full((1, 90, 90), 100, np.float32))  # log(6) = 1.79
    with no_warning():
        contract.reading(flat)
        contract.with_options(shift_warning=2.7).reading(darker)
    with pytest.warns(UserWarning, match="distance of 1.8"):
        contract.with_options(shift_warning=1.7).reading(flat)


def test_a_training_set_of_two_encodings_is_refused(scene):
    first, second = scene(BASE), scene(picture(1).astype(np.uint16) * 257)
    with pytest.raises(DataError, match=rf"{second.name}: values must be encoded"):
        contract_from([first, second])


def test_a_factor_of_1_takes_numbers_as_they_are(scene):
    config = DataConfig(dataset="none", scale=1)
    paths = [scene(BASE.astype(np.uint16)), scene(BASE.astype(np.uint16) * 257, scales=[1 / 257] * 3)]
    first = InputContract.of_scene(paths[0], None, ReadOptions.of(config))
    with pytest.warns(UserWarning, match="values must be encoded"):
        statistics = compute_statistics([Scene(str(path), path, None, "") for path in paths], contract=first)
    np.testing.assert_allclose(statistics.mean, BASE.mean(axis=(1, 2)) * 129)


def test_a_few_bright_things_are_no_other_encoding(scene):
    """Radar: most of the ground is as dark as elsewhere, roofs are hundreds of times brighter."""
    rng = np.random.default_rng(0)
    water = rng.exponential(0.01, (1, HEIGHT, WIDTH)).astype(np.float32)
    town = np.where(rng.random((1, HEIGHT, WIDTH)) < 0.01, 20.0, water * 5).astype(np.float32)
    with no_warning():
        contract_from([scene(water), scene(town)])


def test_a_training_set_of_two_types_is_one_set(scene):
    other = picture(1)
    statistics = compute_statistics(
        [Scene(str(n), path, None, "") for n, path in enumerate([scene(BASE), scene(other.astype(np.int16))])]
    )
    both = np.concatenate([BASE.reshape(3, -1), other.reshape(3, -1)], axis=1)
    np.testing.assert_allclose(statistics.mean, both.mean(axis=1), rtol=1e-12)
    np.testing.assert_allclose(statistics.std, both.std(axis=1), rtol=1e-12)


def test_the_factor_of_a_recipe_is_that_of_its_scenes(scene):
    contract = contract_from([scene(BASE.astype(np.uint16) * 257)], scale=1 / 257)
    np.testing.assert_allclose([b.mean for b in contract.bands], BASE.mean(axis=(1, 2)), rtol=1e-6)
    other = picture(3)
    np.testing.assert_allclose(read(scene(other.astype(np.uint16) * 257), contract)[0], other, rtol=1e-6)
    with pytest.raises(DataError, match="values must be encoded"):  # it was not meant for these
        contract.reading(scene(other))
    np.testing.assert_allclose(read(scene(other), contract.with_options(scale=1))[0], other)


@pytest.mark.parametrize("dtype", ["uint16", "int16", "float32"])
@pytest.mark.parametrize(("trained", "other"), [(1, 4), (1, 16), (16, 1), (4, 64)])
def test_one_factor_of_all_bands_is_an_encoding_within_a_type_too(scene, dtype, trained, other):
    """12 bits beside 8 bits: every band is as many times larger, in mean, contrast and extremes."""
    contract = contract_from([scene((BASE.astype(np.int32) * trained).astype(dtype))])
    path = scene((picture(1).astype(np.int32) * other).astype(dtype))
    with pytest.raises(DataError, match="times as large"):
        contract.reading(path)
    data, _ = read(path, contract.with_options(scale=trained / other))
    np.testing.assert_allclose(data, picture(1) * float(trained), rtol=1e-6)


def test_a_training_set_of_two_factors_in_one_type_is_refused(scene):
    paths = [scene(BASE.astype(np.uint16)), scene(picture(1).astype(np.uint16) * 16)]
    for order in (paths, paths[::-1]):
        with pytest.raises(DataError, match=r"mean, contrast and largest values of all bands"):
            contract_from(order)


@pytest.mark.parametrize("low_sun", [1 / 6, 1 / 2, 2.5])
def test_light_is_no_encoding(scene, low_sun):
    contract = contract_from([scene(BASE.astype(np.uint16) * 16)])
    contract.with_options(shift_warning=0).reading(scene((picture(1) * 16 * low_sun).astype(np.uint16)))


def test_numbers_of_the_other_sign_are_refused(scene):
    fractions = (BASE / 255).astype(np.float32)
    decibels = (10 * np.log10(fractions) - 5).astype(np.float32)
    standard = ((picture(1) / 255 - 0.45) / 0.22).astype(np.float32)
    for trained, other, where in (
        (fractions, standard, "below"),
        (fractions, decibels / 10, "below"),
        (fractions[:1], decibels[:1] / 10, "below"),
        (decibels, BASE.astype(np.float32) / 10, "above"),
    ):
        with pytest.raises(DataError, match=f"they are {where} 0 in all bands, and in training in none"):
            contract_from([scene(trained)]).reading(scene(other))
    dark = fractions - np.float32(0.08)  # an atmosphere that was subtracted too much
    with pytest.warns(UserWarning, match=r"its values are -0\.08 against"):
        contract_from([scene(fractions)]).with_options(shift_warning=0).reading(scene(dark))


@pytest.mark.parametrize(
    ("trained", "other", "why"),
    [
        (
            BASE,
            (BASE / 2.55).astype(np.uint8),
            r"are 0\.3\d+ times .* in all bands: .*`--scale 2\.\d+`",
        ),
        (
            BASE.astype(np.float32),
            (BASE / 2.55).astype(np.float32),
            r"are 0\.39\d* times .* in all bands",
        ),
        (BASE[:1], (BASE[:1] / 2.55).astype(np.uint8), r"are 0\.3\d+ times those of training: other light"),
        (BASE[:1] // 3, BASE[:1], r"are 3\S* times those of training: .*`--scale 0\.3\d+` would convert"),
        (
            BASE.astype(np.uint16),
            BASE.astype(np.uint16) * 3,
            r"are 3 times .*`--scale 0\.333`",
        ),
        (
            (BASE[:1] / 255).astype("f4"),
            ((BASE[:1] - 70.0) / 40).astype("f4"),
            "below 0, and in training none",
        ),
    ],
)
def test_what_may_be_another_encoding_within_a_type_is_warned_of(scene, trained, other, why):
    """Per cent for 8 bits and the like: dusk can be as dark, so that it is no error."""
    trained, other = (
        values.astype("float32" if values.dtype == "float64" else values.dtype) for values in (trained, other)
    )
    contract = contract_from([scene(trained)])
    with pytest.warns(UserWarning, match=why):
        contract.reading(scene(other))
    with no_warning():
        contract.with_options(shift_warning=0).reading(scene(other))
        contract.reading(scene(trained))


def test_fractions_for_a_standardised_set_are_refused(scene):
    def standardised(values):
        return ((values - [[[70]], [[110]], [[150]]]) / [[[20]], [[25]], [[30]]]).astype(np.float32)

    contract = contract_from([scene(standardised(BASE))])
    with pytest.raises(DataError, match="between 0 and 1 in all bands, and in training as far below 0"):
        contract.reading(scene((picture(1) / 255).astype(np.float32)))
    with no_warning():
        contract.reading(scene(standardised(picture(1))))
        even = 0.5 + standardised(picture(1)) / 20  # a meadow: of little contrast, but not dark
        contract.with_options(shift_warning=0).reading(scene(even))


@pytest.mark.parametrize("factor", [16, 257])
def test_a_factor_that_fits_closely_is_enough_of_one_band(scene, factor):
    trained = (BASE[:1] // 2 + 1).astype(np.uint16)
    contract = contract_from([scene(trained * factor)])
    with pytest.raises(DataError, match="times as large"):
        contract.reading(scene(trained))


def test_an_offset_that_no_file_says_is_warned_of(scene):
    numbers = BASE.astype(np.uint16) * 12
    contract = contract_from([scene(numbers)])
    with pytest.warns(UserWarning, match=r"its values are \+1000 against those of training in all bands"):
        contract.reading(scene(numbers + 1000))
    with pytest.warns(UserWarning, match=r"its values are -1000 against"):
        contract_from([scene(numbers + 1000)]).reading(scene(numbers))
    with no_warning():
        contract.reading(scene(picture(5).astype(np.uint16) * 12))


def test_a_scene_much_further_than_those_before_is_warned_of_after_many(scene):
    contract = contract_from([scene(BASE)])
    dark, light = [scene(BASE // 4) for _ in range(8)], scene(255 - BASE)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        for path in dark:
            contract.reading(path)
        contract.reading(light)
    texts = [str(one.message) for one in caught if "far from those of training" in str(one.message)]
    assert [text.split(":")[0] for text in texts] == [*map(str, dark[:5]), str(light)]


# A2: band order and names

RGB, BGR = ("red", "green", "blue"), ("blue", "green", "red")
SAY_NOTHING = [(None, None, None), ("Band 1", "band_2", "Layer 3"), ("1", "2", "3"), ("same", "same", "same")]


@pytest.mark.parametrize(
    "other", [("Blue", " GREEN ", "red"), ("B", "g", "R"), ("blue", "Green", "Red", "Haze")]
)
def test_bands_are_reordered_by_their_descriptions(scene, other):
    contract = contract_from([scene(BASE, ("Red", "Green", "Blue"))])
    more = np.concatenate([BASE[::-1], BASE[:1] * 0 + 9])[: len(other)]
    np.testing.assert_array_equal(read(scene(more, other), contract)[0], BASE)


def test_bands_of_sentinel_2_by_their_numbers(scene):
    contract = contract_from([scene(BASE.astype(np.uint16), ("B04", "B03", "B02"))])
    same = scene(BASE[::-1].astype(np.uint16), ("B2", "B3", "B4"))
    np.testing.assert_array_equal(read(same, contract)[0], BASE)
    assert contract.reading(scene(BASE.astype(np.uint16), ("b4", "b3", "b2"))).bands == (1, 2, 3)


def test_bands_are_reordered_by_their_colours(scene):
    contract = contract_from([scene(BASE, colors=RGB)])
    np.testing.assert_array_equal(read(scene(BASE[::-1], colors=BGR), contract)[0], BASE)
    trained = contract_from([scene(BASE[::-1].astype(np.uint16), colors=BGR)])
    np.testing.assert_array_equal(read(scene(BASE.astype(np.uint16), colors=RGB), trained)[0], BASE[::-1])


@pytest.mark.parametrize("names", SAY_NOTHING)
def test_names_on_one_side_alone_say_nothing(scene, names):
    named = scene(BASE, ("nir", "red", "green"))
    plain = scene(BASE, names)
    for trained, other in ((named, plain), (plain, named), (plain, plain)):
        with no_warning():
            assert contract_from([trained]).reading(other).bands == (1, 2, 3)


def test_numbered_bands_in_another_order_are_put_in_order(scene):
    contract = contract_from([scene(BASE, ("Band 1", "Band 2", "Band 3"))])
    np.testing.assert_array_equal(read(scene(BASE[::-1], ("Band 3", "Band 2", "Band 1")), contract)[0], BASE)
    assert contract.reading(scene(BASE, ("Band 0", "Band 1", "Band 2"))).bands == (1, 2, 3)
    assert contract.reading(scene(BASE, ("Band 2", "Band 3", "Band 4"))).bands == (1, 2, 3)


@pytest.mark.parametrize(
    ("trained", "other"),
    [
        (("red", "green", "blue"), ("nir", "red", "green")),
        (("red", "green", "blue"), ("red", None, "green")),
        (("B4", "B3", "B2"), ("swir", "nir", "vegetation")),
        (("red", "green", None), (None, "green", "red")),
        (("red", "red", "blue"), ("blue", "red", "red")),
        (("blue", "green", "red"), (None, None, None)),  # which GDAL calls red, green and blue
        ((None, None, None), ("blue", "green", "red")),
    ],
)
def test_names_that_contradict_are_refused_with_the_remedy(scene, trained, other):
    contract = contract_from([scene(BASE, trained)])
    path = scene(BASE, other)
    with pytest.raises(DataError, match=r"by name.*`--bands` \(1,2,3"):
        contract.reading(path)
    assert contract.with_options(bands=(3, 1, 2)).reading(path).bands == (3, 1, 2)
    for wrong in ((1, 2), (1, 2, 4), (0, 1, 2)):
        with pytest.raises(DataError, match=r"`--bands` must be 3 band number\(s\) from 1 to 3"):
            contract.with_options(bands=wrong).reading(path)


def test_more_bands_in_an_order_that_only_a_default_tells_are_refused(scene):
    four = np.concatenate([BASE, BASE[:1]])
    contract = contract_from([scene(BASE)])
    assert contract.reading(scene(four, ("red", "green", "blue", "nir"))).bands == (1, 2, 3)
    with pytest.raises(DataError, match="are called blue, green, red"):
        contract.reading(scene(four, ("blue", "green", "red", "nir")))
    five = np.concatenate([four, BASE[:1]])
    with pytest.raises(DataError, match="but the scene has 5 band"):
        contract.reading(scene(five, ("blue", "green", "red", "nir", "swir")))


def test_a_training_set_in_two_orders_has_the_order_of_its_first_scene(scene):
    other = picture(4)
    paths = [scene(BASE, ("red", "green", "blue")), scene(other[::-1], ("blue", "green", "red"))]
    contract = contract_from(paths)
    expected = (BASE.mean(axis=(1, 2)) + other.mean(axis=(1, 2))) / 2
    np.testing.assert_allclose([band.mean for band in contract.bands], expected)
    np.testing.assert_array_equal(read(paths[1], contract)[0], other)
    with pytest.raises(DataError, match="by name"):
        contract_from([paths[0], scene(other, ("nir", "green", "red"))])


def test_bands_of_the_recipe_number_those_of_the_first_scene(scene):
    names = ("red", "green", "blue")
    contract = contract_from([scene(BASE, names), scene(BASE[::-1], names[::-1])], bands=(3, 1))
    assert [band.name for band in contract.bands] == ["blue", "red"]
    np.testing.assert_array_equal(
        read(scene(BASE[[1, 2, 0]], ("green", "blue", "red")), contract)[0], BASE[[2, 0]]
    )


def test_an_infrared_band_that_gdal_calls_alpha_is_data(scene):
    four = np.concatenate([BASE, BASE[:1] // 2 + 60])
    trained = scene(four, colors=("red", "green", "blue", "nir"))
    plain = scene(four)
    assert raster_info(plain).alpha == (4,)
    contract = contract_from([trained])
    data, valid = read(plain, contract)
    np.testing.assert_array_equal(data, four)
    assert valid.all()
    masked = scene(np.concatenate([BASE, np.full((1, HEIGHT, WIDTH), 255, np.uint8)]))
    with pytest.raises(DataError, match="band 4 must be data .* it is a mask"):
        contract.reading(masked)


# A3: scale and offset


def test_sentinel_2_before_and_since_baseline_04_00(scene):
    """Since then numbers are 1000 larger, with an offset of -1000, or of -0.1 after a scale of 0.0001."""
    old, other = BASE.astype(np.uint16) * 12, picture(5).astype(np.uint16) * 12
    before = contract_from([scene(old)])
    since = contract_from([scene(old + 1000, offsets=[-1000.0] * 3)])
    for offsets, scales in ([-1000.0] * 3, None), ([-0.1] * 3, [1e-4] * 3):
        new = scene(other + 1000, offsets=offsets, scales=scales)
        np.testing.assert_allclose(read(new, before)[0], other, rtol=1e-6)
    np.testing.assert_array_equal(read(scene(other + 1000, offsets=[-1000.0] * 3), since)[0], other + 1000)
    np.testing.assert_allclose(read(scene(other), since)[0], other + 1000, rtol=1e-6)
    said = contract_from([scene(old + 1000, scales=[1e-4] * 3, offsets=[-0.1] * 3)])
    np.testing.assert_allclose(read(scene(other, scales=[1e-4] * 3), said)[0], other + 1000, rtol=1e-6)


def test_a_training_set_of_both_baselines_is_in_the_numbers_of_its_first_scene(scene):
    old, new = BASE.astype(np.uint16) * 12, picture(5).astype(np.uint16) * 12
    paths = [scene(old), scene(new + 1000, offsets=[-1000.0] * 3)]
    contract = contract_from(paths)
    expected = (old.mean(axis=(1, 2)) + new.mean(axis=(1, 2))) / 2
    np.testing.assert_allclose([band.mean for band in contract.bands], expected, rtol=1e-6)
    reversed_contract = contract_from(paths[::-1])
    np.testing.assert_allclose([b.mean for b in reversed_contract.bands], expected + 1000, rtol=1e-6)


@pytest.mark.parametrize("factor", [257, 16])
def test_a_scale_in_the_file_converts(scene, factor):
    contract = contract_from([scene(BASE)])
    path = scene(BASE.astype(np.uint16) * factor, scales=[1 / factor] * 3)
    with no_warning():
        data, _ = read(path, contract)
    np.testing.assert_array_equal(data, BASE)
    assert data.dtype == np.float32
    floats = scene((BASE / 255).astype(np.float32), scales=[255.0] * 3)
    np.testing.assert_allclose(read(floats, contract)[0], BASE, rtol=1e-6)


@pytest.mark.parametrize(
    "said", [{"scales": [np.inf] * 3}, {"scales": [1, np.nan, 1]}, {"offsets": [0, 0, np.nan]}]
)
def test_a_scale_or_offset_that_is_no_number_is_refused(scene, said):
    contract, path = contract_from([scene(BASE)]), scene(BASE, **said)
    with pytest.raises(DataError, match="scales of bands must be numbers above 0, and offsets numbers"):
        contract.reading(path)
    with pytest.raises(DataError, match="scales of bands must be numbers above 0, and offsets numbers"):
        contract_from([path])


def test_scale_and_offset_of_each_band(scene):
    gains, shifts = np.array([2.0, 4.0, 0.5]), np.array([-10.0, 0.0, 20.0])
    stored = (BASE - shifts[:, None, None]) / gains[:, None, None]
    path = scene(stored.astype(np.float64), scales=gains.tolist(), offsets=shifts.tolist())
    np.testing.assert_allclose(read(path, contract_from([scene(BASE)]))[0], BASE, rtol=1e-6)


def test_equal_scales_leave_numbers_as_they_are(scene):
    files = [
        scene(part.astype(np.uint16), scales=[1e-4] * 3, offsets=[-0.1] * 3) for part in (BASE, picture(6))
    ]
    contract = contract_from(files[:1])
    data, _ = read(files[1], contract)
    assert data.dtype == np.uint16
    np.testing.assert_array_equal(data, picture(6))


def test_a_file_that_has_lost_its_offset_is_judged_by_its_values(scene):
    numbers = BASE.astype(np.uint16) * 12
    contract = contract_from([scene(numbers + 1000, offsets=[-1000.0] * 3)])
    with pytest.warns(UserWarning, match="fit those of training as they are"):
        np.testing.assert_array_equal(read(scene(numbers + 1000), contract)[0], numbers + 1000)
    lost = contract_from([scene(numbers + 1000)])
    with pytest.warns(UserWarning, match="fit those of training as they are"):
        data, _ = read(scene(numbers + 1000, offsets=[-1000.0] * 3), lost)
    np.testing.assert_array_equal(data, numbers + 1000)
    with pytest.raises(DataError, match="scale and offset must be known"):
        contract.reading(scene(numbers + 500))  # half way: either may be meant


# A4: nodata of each band


def vrt(folder, sources, types, nodata, name="mosaic.vrt"):
    """Write a VRT of single bands."""
    with rasterio.open(sources[0]) as first:
        size, crs, transform = (first.width, first.height), first.crs.to_wkt(), first.transform.to_gdal()
    bands = "".join(
        f'<VRTRasterBand dataType="{kind}" band="{number}">'
        + (f"<NoDataValue>{value}</NoDataValue>" if value is not None else "")
        + f'<SimpleSource><SourceFilename relativeToVRT="1">{source.name}</SourceFilename>'
        "<SourceBand>1</SourceBand></SimpleSource></VRTRasterBand>"
        for number, (source, kind, value) in enumerate(zip(sources, types, nodata), start=1)
    )
    path = folder / name
    path.write_text(
        f'<VRTDataset rasterXSize="{size[0]}" rasterYSize="{size[1]}"><SRS>{crs}</SRS>'
        f"<GeoTransform>{', '.join(map(str, transform))}</GeoTransform>{bands}</VRTDataset>"
    )
    return path


def test_each_band_has_its_own_nodata(tmp_path, scene):
    values = BASE.astype(np.uint16)
    hole = np.zeros((HEIGHT, WIDTH), bool)
    hole[5:20, 8:30] = True
    nodata = (0, 65535, 65534)
    stored = np.where(hole, np.array(nodata)[:, None, None], values).astype(np.uint16)
    stored[0, 40, 40] = 0  # dark red, no hole
    path = vrt(tmp_path, [scene(band) for band in stored], ["UInt16"] * 3, nodata)
    contract = contract_from([path])
    data, valid = read(path, contract)
    np.testing.assert_array_equal(valid, ~hole)
    with rasterio.open(path) as file:
        np.testing.assert_array_equal(valid, file.dataset_mask() > 0)
    expected = np.where(hole, 0, stored)[:, ~hole]
    np.testing.assert_array_equal(data[:, ~hole], expected)
    np.testing.assert_allclose([band.mean for band in contract.bands], expected.mean(axis=1))
    assert [band.nodata for band in contract.bands] == list(nodata)


def test_mixed_types_of_a_vrt_are_read_in_one_that_holds_them(tmp_path, scene):
    wide = BASE[1].astype(np.uint16) * 100
    wide[3, 3] = 65535
    sources = [scene(BASE[0]), scene(wide)]
    path = vrt(tmp_path, sources, ["Byte", "UInt16"], (None, None))
    data, valid = read(path, contract_from([path]))
    assert data.dtype == np.uint16
    np.testing.assert_array_equal(data, [BASE[0], wide])
    assert valid.all()
    assert RasterReader(path, [1]).read((0, 0, 3, 3))[0].dtype == np.uint8
    both = vrt(tmp_path, sources, ["Byte", "UInt16"], (None, 65535), "one.vrt")
    assert read(both, contract_from([both]))[1].all()  # the first band has data everywhere, as GDAL says too
    signed = vrt(
        tmp_path,
        [scene(BASE[0]), scene(wide.astype(np.float32))],
        ["Byte", "Float32"],
        (None, 65535),
        "s.vrt",
    )
    assert not read(signed, contract_from([signed]))[1][3, 3]


def test_sidecar_masks_are_masks(tmp_path, scene):
    mask = np.full((HEIGHT, WIDTH), 255, np.uint8)
    mask[10:, :9] = 0
    path = scene(BASE)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(path, "r+") as file:
        file.write_mask(mask)
    assert path.with_name(f"{path.name}.msk").exists()
    np.testing.assert_array_equal(read(path, contract_from([path]))[1], mask > 0)
    plain = scene(np.where(mask, BASE, 0).astype(np.uint8))
    plain.with_name(f"{plain.name}.aux.xml").write_text(
        "<PAMDataset>"
        + "".join(
            f'<PAMRasterBand band="{b}"><NoDataValue>0</NoDataValue></PAMRasterBand>' for b in (1, 2, 3)
        )
        + "</PAMDataset>"
    )
    np.testing.assert_array_equal(read(plain, contract_from([plain]))[1], mask > 0)


# A5: colour tables and pixel sizes


def palette_file(path, numbers, table):
    with rasterio.open(
        *(path, "w"),
        driver="PNG" if path.suffix == ".png" else "GTiff",
        height=numbers.shape[0],
        width=numbers.shape[1],
        count=1,
        dtype="uint8",
    ) as file:
        file.write_colormap(1, table)
        file.write(numbers, 1)
    return path


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_a_colour_table_is_expanded(tmp_path, scene, suffix):
    rng = np.random.default_rng(2)
    colors = rng.integers(0, 255, (16, 3)).astype(np.uint8)
    numbers = rng.integers(0, 16, (HEIGHT, WIDTH)).astype(np.uint8)
    table = {n: (*map(int, color), 0 if n == 3 else 255) for n, color in enumerate(colors)}
    path = palette_file(tmp_path / f"palette{suffix}", numbers, table)
    expected = colors[numbers].transpose(2, 0, 1)
    contract = contract_from([scene(expected, crs=None)])
    data, valid = read(path, contract)
    transparent = numbers == 3 if suffix == ".png" else np.zeros_like(numbers, bool)  # TIFF keeps no alpha
    np.testing.assert_array_equal(valid, ~transparent)
    np.testing.assert_array_equal(data[:, valid], expected[:, valid])
    np.testing.assert_array_equal(read(path, contract_from([path]))[0][:, valid], expected[:, valid])
    # Masks are numbers of classes.
    np.testing.assert_array_equal(
        RasterReader(path, alpha_is_mask=True, nodata=float("nan")).read((0, 0, 5, 5))[0],
        numbers[None, :5, :5],
    )


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_a_grey_colour_table_is_one_band(tmp_path):
    path = palette_file(tmp_path / "grey.tif", BASE[0], {n: (n, n, n, 255) for n in range(256)})
    data, _ = read(path, contract_from([path]))
    np.testing.assert_array_equal(data, BASE[:1])


@pytest.mark.parametrize(
    ("crs", "origin", "pixel", "metres"),
    [
        ("EPSG:2180", (500_000.0, 500_000.0), 0.5, 0.5),
        ("EPSG:4326", (20.0, 60.0), 0.001, 111.3195 * 0.5**0.5),
        ("EPSG:3857", (2_226_390.0, 8_399_738.0), 2.0, 1.0),  # at 60 degrees north: half as large
        ("EPSG:2263", (980_000.0, 200_000.0), 10.0, 3.048006),  # US feet
    ],
)
def test_pixel_size_in_metres(scene, crs, origin, pixel, metres):
    path = scene(np.ones((1, 4, 4), np.uint8), crs=crs, origin=origin, pixel=pixel)
    assert raster_info(path).pixel_size == pytest.approx(metres, rel=1e-3)
    assert raster_info(scene(np.ones((1, 4, 4), np.uint8), crs=None)).pixel_size is None


def test_a_file_that_has_lost_its_nodata_is_warned_of(scene):
    """A border that training left out would be mapped as ground, without a word."""
    border = BASE.copy()
    border[:, :7] = 0
    contract = contract_from([scene(border, nodata=0), scene(picture(1), nodata=0)])
    with pytest.warns(UserWarning, match=r"10 % of its pixels are 0 in all bands.*gdal_edit.py -a_nodata 0"):
        contract.reading(scene(border))
    with no_warning():
        contract.reading(scene(border, nodata=0))
        contract.reading(scene(BASE))
        contract.with_options(nodata=0).reading(scene(border))
        contract_from([scene(border)]).reading(scene(border))


@pytest.mark.parametrize("factor", [4, 8, 16])
def test_more_bits_have_the_factor_of_their_number(scene, factor):
    """10, 11 (as of many satellites) and 12 bits in files of 16."""
    contract = contract_from([scene(BASE), scene(picture(1))])
    with pytest.raises(DataError, match=rf"`--scale 1/{factor}` perhaps"):
        contract.reading(scene(picture(2).astype(np.uint16) * factor))


LOCAL = 'LOCAL_CS["site",UNIT["foot",0.3048],AXIS["east",EAST],AXIS["north",NORTH]]'


def test_coordinate_systems_that_are_not_of_a_map(tmp_path, scene, make_raster):
    """A site's own system has pixels of a size, but no place on the earth; a geocentric one has neither."""
    path = scene(np.ones((1, 4, 4), np.uint8), crs=LOCAL, pixel=10)
    assert raster_info(path).pixel_size == pytest.approx(3.048)
    assert footprint(raster_info(path)).cap is None
    assert raster_info(scene(np.ones((1, 4, 4), np.uint8), crs="EPSG:4978")).pixel_size is None
    there = make_raster(tmp_path / "there.tif", np.ones((1, 4, 4), np.uint8))
    with pytest.raises(DataError, match="must be in one CRS, but theirs cannot be compared"):
        check_pair(path, there)


@pytest.mark.parametrize("pixel", [0.2, 0.9])
def test_other_pixel_sizes_are_warned_of(scene, pixel):
    contract, plain = contract_from([scene(BASE)]), scene(picture(1), crs=None)
    with pytest.warns(UserWarning, match=rf"its pixels are {pixel} m wide, but .* 0.5 m.*`data.resolution`"):
        contract.reading(scene(picture(1), pixel=pixel))
    with no_warning():
        contract.reading(scene(picture(1), pixel=0.6))
        contract.reading(plain)


def test_resampled_to_coarser_pixels_is_the_mean_of_blocks(tmp_path, scene, make_raster):
    contract = contract_from([scene(BASE)], resolution=1.0)
    assert contract.pixel_size == 1.0
    means = BASE.reshape(3, HEIGHT // 2, 2, WIDTH // 2, 2).mean(axis=(2, 4))
    path = scene(BASE)
    data, valid = read(path, contract)
    assert valid.all()
    assert data.dtype == np.uint8
    np.testing.assert_allclose(data, means, atol=0.501)
    floats, _ = read(scene(BASE.astype(np.float32)), contract)
    np.testing.assert_allclose(floats, means, rtol=1e-6)
    # Any window is the part of the whole, and the grid covers the same ground.
    reader = ImageReader(path, contract.reading(path))
    np.testing.assert_array_equal(reader.read(Window(3, 4, 7, 9))[0], data[:, 3:10, 4:13])
    assert reader.info.shape == (35, 25)
    assert tuple(reader.info.transform)[:6] == (1.0, 0, 500_000, 0, -1.0, 500_000)
    labels = np.random.default_rng(0).integers(1, 3, (HEIGHT, WIDTH)).astype(np.uint8)
    mask = make_raster(tmp_path / "mask.tif", labels)
    whole = SceneReader(Scene("a", path, mask, ""), CLASSES, contract)
    assert whole.shape == (35, 25)
    np.testing.assert_array_equal(whole.read_labels((2, 3, 5, 6)), labels[1::2, 1::2][2:7, 3:9] - 1)
    part = SceneReader(Scene("b", path, mask, "", Window(20, 10, 30, 20)), CLASSES, contract)
    np.testing.assert_array_equal(part.read((0, 0, *part.shape))[0], data[:, 10:25, 5:15])


@pytest.mark.parametrize("resolution", [0.25, 0.31, 0.8, 1.7])
def test_resampled_as_gdal_does(scene, resolution):
    path = scene(BASE.astype(np.float32))
    contract = contract_from([path], resolution=resolution)
    data, _ = read(path, contract)
    height, width = data.shape[1:]
    transform = from_origin(500_000, 500_000, WIDTH * 0.5 / width, HEIGHT * 0.5 / height)
    method = Resampling.average if resolution > 0.5 else Resampling.bilinear
    with (
        rasterio.open(path) as file,
        WarpedVRT(file, transform=transform, width=width, height=height, resampling=method) as warped,
    ):
        expected = warped.read()
    inner = np.s_[:, 3:-3, 3:-3]  # GDAL takes the edges otherwise
    np.testing.assert_allclose(data[inner], expected[inner], atol=0.6 if resolution > 0.5 else 0.05)


def test_pixels_without_data_do_not_count_in_the_mean(scene):
    values = np.full((1, 4, 6), 100, np.int16)
    values[0, 0, 0] = -1  # one of four
    values[0, 2:, 2:4] = -1  # all of four
    values[0, 0:2, 4] = -1  # two of four
    values[0, 3, 0], values[0, 3, 1], values[0, 2, 0] = -1, -1, -1  # three of four
    path = scene(values, nodata=-1)
    data, valid = read(path, contract_from([path], resolution=1.0))
    assert valid.tolist() == [[True, True, True], [False, False, True]]
    assert (data[0][valid] == 100).all()


def test_resampling_needs_to_know_how_large_pixels_are(scene):
    with pytest.raises(DataError, match="`data.resolution` needs images that say how large"):
        contract_from([scene(BASE, crs=None)], resolution=1.0)


def test_resampling_says_what_to_do_with_ground_control_points(scene):
    points = [rasterio.control.GroundControlPoint(r, c, c, -r) for r in (0, HEIGHT) for c in (0, WIDTH)]
    path = scene(BASE, crs=None)
    with rasterio.open(path, "r+") as file:
        file.gcps = points, rasterio.CRS.from_epsg(2180)
    with pytest.raises(DataError, match=r"has ground control points alone. Fix: warp it to a grid"):
        contract_from([scene(BASE)], resolution=1.0).reading(path)


# One contract, everywhere


def test_patches_see_what_the_contract_reads(tmp_path, scene, make_raster):
    """Reordered, converted, of another type: each patch is that of the plain scene."""
    mask = make_raster(tmp_path / "mask.tif", np.ones((HEIGHT, WIDTH), np.uint8))
    names = ("red", "green", "blue")
    plain = scene(BASE, names)
    others = [scene(BASE[::-1], names[::-1]), scene(BASE.astype(np.uint16) * 16, names, scales=[1 / 16] * 3)]
    statistics = compute_statistics([Scene("p", plain, mask, "")], None, CLASSES)
    config = DataConfig(dataset="none", patch_size=32)

    def patches(path):
        grid = GridPatches([Scene("x", path, mask, "")], CLASSES, statistics, config)
        return np.stack([grid[index]["image"].numpy() for index in range(len(grid))])

    for other in others:
        np.testing.assert_allclose(patches(other), patches(plain), atol=1e-6)
    with pytest.raises(DataError, match="values must be encoded"):
        patches(scene(BASE.astype(np.uint16) * 257, names))


def test_tiles_are_cut_from_what_the_contract_reads(tmp_path, scene, make_raster):
    mask = make_raster(tmp_path / "mask.tif", np.ones((HEIGHT, WIDTH), np.uint8))
    names = ("red", "green", "blue")
    contract = contract_from([scene(BASE, names)])
    other = Scene("o", scene(BASE[::-1], names[::-1]), mask, "")
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    tile_scene(other, tmp_path / "images", tmp_path / "masks", CLASSES, size=64, contract=contract)
    with rasterio.open(tmp_path / "images" / "o_0.png") as tile:
        np.testing.assert_array_equal(tile.read([1, 2, 3])[:, :64, :50], BASE[:, :64])


def test_a_scene_with_hardly_any_data_is_judged_by_what_there_is(scene):
    contract = contract_from([scene(BASE)])
    values = np.zeros((3, 900, 900), np.uint16)
    values[:, 101:104, 203:206] = BASE[:, :3, :3].astype(np.uint16) * 257
    with pytest.raises(DataError, match="values must be encoded"):
        contract.reading(scene(values, nodata=0))


def test_a_file_is_looked_at_once_and_again_when_it_has_changed(scene, monkeypatch):
    contract = contract_from([scene(BASE)])
    path = scene(picture(1))
    contract.reading(path)
    calls = []
    original = InputContract._match
    monkeypatch.setattr(
        InputContract, "_match", lambda self, image: calls.append(image) or original(self, image)
    )
    contract.reading(path)
    assert calls == []
    with rasterio.open(path, "r+") as file:
        file.descriptions = ("x", "y", "z")
    contract.reading(path)
    assert calls == [path]


def test_without_a_contract_values_alone_are_judged(scene):
    statistics = compute_statistics([Scene("p", scene(BASE), None, "")])
    config = DataConfig(
        dataset="none", nodata=7, classes=(ClassConfig(name="a", values=(1,), color="#000000"),)
    )
    object.__setattr__(statistics, "contract", None)
    contract = contract_of(statistics, config)
    assert not contract.known
    assert contract.options.nodata == 7
    assert contract.reading(scene(BASE[::-1], ("blue", "green", "red"))).bands == (1, 2, 3)
    for kind in ("uint16 x 257", "uint16 x 16", "0 to 1"):
        with pytest.raises(DataError, match="values must be encoded"):
            contract.reading(scene(REENCODED[kind][0](BASE)))
    with pytest.warns(UserWarning, match="scale and offset are not used"):
        contract.reading(scene(BASE, scales=[2.0] * 3))
