"""Pictures of every usual kind become arrays of one form."""

import warnings

import numpy as np
import pytest
from PIL import Image

from qhybrid.data.images.pictures import (
    list_pictures,
    read_mask,
    read_picture,
    stack_masks,
    stack_pairs,
    stack_pictures,
)
from qhybrid.errors import DataError

RAMP = (np.arange(48).reshape(6, 8) * 5).astype(np.uint8)


def save(path, array, mode=None):
    picture = Image.fromarray(array)
    (picture.convert(mode) if mode else picture).save(path)
    return path


def test_grey_values_are_divided_by_255(tmp_path):
    found = read_picture(save(tmp_path / "a.png", RAMP), 1)
    assert found.shape == (1, 6, 8)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found[0], RAMP.astype(np.float32) / np.float32(255))


def test_colour_comes_as_red_green_blue(tmp_path):
    colours = np.zeros((4, 4, 3), np.uint8)
    colours[..., 0], colours[..., 2] = 255, 51
    found = read_picture(save(tmp_path / "a.bmp", colours), 3)
    assert found[:, 0, 0].tolist() == pytest.approx([1.0, 0.0, 0.2])
    opaque = np.dstack([colours, np.full((4, 4), 9, np.uint8)])
    np.testing.assert_array_equal(read_picture(save(tmp_path / "b.png", opaque), 3), found)


def test_grey_pictures_serve_as_colour(tmp_path):
    found = read_picture(save(tmp_path / "a.png", RAMP), 3)
    assert np.array_equal(found[0], found[2])


def test_palette_and_one_bit_pictures_are_not_read_as_indices(tmp_path):
    black_and_white = np.where(RAMP > 100, 255, 0).astype(np.uint8)
    for name, mode in (("p.png", "P"), ("one.png", "1")):
        file = save(tmp_path / name, black_and_white, mode)
        np.testing.assert_array_equal(read_picture(file, 1)[0], black_and_white / 255)
        np.testing.assert_array_equal(read_mask(file), black_and_white > 0)


def test_sixteen_bit_pictures_keep_their_range(tmp_path):
    values = np.array([[0, 65535], [32768, 257]], np.uint16)
    found = read_picture(save(tmp_path / "a.png", values), 1)
    np.testing.assert_allclose(found[0], values / 65535, atol=1e-6)


def test_pictures_of_floating_point_lie_from_0_to_1(tmp_path):
    values = np.array([[0, 1], [0.25, 0.5]], np.float32)
    np.testing.assert_array_equal(read_picture(save(tmp_path / "a.tif", values), 1)[0], values)
    for wrong in (values * 255, -values, values * np.nan):
        with pytest.raises(DataError, match=r"b\.tif: values of floating point must lie from 0 to 1"):
            read_picture(save(tmp_path / "b.tif", wrong), 1)


@pytest.mark.parametrize("value", [1, 38, 128, 255])
def test_masks_of_black_and_any_other_value(tmp_path, value):
    inside = RAMP > 100
    for name, array in (
        ("grey.png", inside * value),
        ("colour.png", np.dstack([inside * value, inside * 0, inside * 0])),
        ("sixteen.png", (inside * value).astype(np.uint16)),
    ):
        kept = array if array.dtype == np.uint16 else array.astype(np.uint8)
        np.testing.assert_array_equal(read_mask(save(tmp_path / name, kept)), inside)
    assert read_mask(save(tmp_path / "empty.png", np.zeros((4, 4), np.uint8))).max() == 0


def test_masks_of_several_values_are_cut_at_half_brightness(tmp_path):
    np.testing.assert_array_equal(read_mask(save(tmp_path / "a.png", RAMP)), RAMP > 127)
    with pytest.raises(DataError, match=r"b\.png: a mask must be black and one other value.*up to 3"):
        read_mask(save(tmp_path / "b.png", RAMP // 60))


def test_a_mask_has_the_pixels_of_its_image(tmp_path):
    image, mask = save(tmp_path / "a.png", RAMP), save(tmp_path / "m.png", RAMP.T.copy())
    with pytest.raises(DataError, match=r"m\.png: must have the 6 x 8 pixels of .*a\.png, but has 8 x 6"):
        stack_pairs([(image, mask)], 1, (4, 4))
    with pytest.raises(DataError, match="no pictures in this split"):
        stack_pairs([], 1, (4, 4))


def test_resizing(tmp_path):
    file = save(tmp_path / "a.png", np.full((6, 8), 100, np.uint8))
    np.testing.assert_allclose(read_picture(file, 1, (3, 4)), np.full((1, 3, 4), 100 / 255), atol=1e-6)
    mask = save(tmp_path / "m.png", np.repeat([[0, 255]], 4, axis=0).astype(np.uint8).repeat(2, axis=1))
    assert np.unique(read_mask(mask, (8, 8))).tolist() == [0, 1]


def test_damaged_pictures_are_named(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64)).astype(np.uint8)
    file = save(tmp_path / "a.png", noise)
    file.write_bytes(file.read_bytes()[:2000])
    with pytest.raises(DataError, match=r"a\.png: is not a readable picture, or truncated"):
        read_picture(file, 1)
    file.write_text("no picture")
    with pytest.raises(DataError, match=r"a\.png: is not a readable picture"):
        read_mask(file)
    with pytest.raises(DataError, match=r"b\.png: this picture belongs to the data set, but is missing"):
        read_mask(tmp_path / "b.png")


def test_all_damaged_pictures_of_a_split_are_named(tmp_path):
    files = [save(tmp_path / f"{name}.png", RAMP) for name in "abc"]
    files[0].write_text("no picture")
    files[2].unlink()
    for stack in (lambda: stack_pictures(files, 1), lambda: stack_masks(files)):
        with pytest.raises(
            DataError, match=r"a\.png: is not a readable(?s:.*)c\.png: .*is missing"
        ) as caught:
            stack()
        assert "b.png" not in str(caught.value)


def test_stacks_need_one_size(tmp_path):
    files = [save(tmp_path / "a.png", RAMP), save(tmp_path / "b.png", RAMP[:4])]
    with pytest.raises(DataError, match=r"b\.png: must have the 6 x 8 pixels .* but has 4 x 8"):
        stack_pictures(files, 1)
    assert stack_pictures(files, 1, (4, 4)).shape == (2, 1, 4, 4)
    assert stack_masks(files, (4, 4)).shape == (2, 4, 4)


def test_only_pictures_are_listed(tmp_path):
    for name in ("b.png", "a.JPG", ".hidden.png", "index.csv"):
        (tmp_path / name).touch()
    assert [file.name for file in list_pictures(tmp_path)] == ["a.JPG", "b.png"]


def test_twelve_bits_in_sixteen_are_warned_of(tmp_path):
    """As cameras and scanners write them: everything would be nearly black, without a word."""
    dark = save(tmp_path / "dark.png", np.array([[0, 4095], [12, 257]], np.uint16))
    with pytest.warns(UserWarning, match="dark.png: no value of 1 pictures of 16 bit is above 4095"):
        stack_pictures([dark], 1)
    with pytest.warns(UserWarning, match="dark.png: no value of 1 pictures of 16 bit is above 4095"):
        stack_pictures([save(tmp_path / "white.png", np.full((2, 2), 255, np.uint8)), dark], 1)
    bright = save(tmp_path / "bright.png", np.array([[0, 4096], [12, 257]], np.uint16))
    grey = save(tmp_path / "grey.png", np.full((2, 2), 3, np.uint8))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        stack_pictures([dark, bright], 1)
        stack_pictures([grey], 1)


def test_pages_that_are_not_read_are_warned_of(tmp_path):
    pages = [Image.fromarray(RAMP), Image.fromarray(RAMP)]
    pages[0].save(tmp_path / "two.tif", save_all=True, append_images=pages[1:])
    with pytest.warns(UserWarning, match="two.tif: has several pages, of which only the first is read"):
        stack_pictures([save(tmp_path / "one.png", RAMP), tmp_path / "two.tif"], 1)


def test_pictures_that_are_shown_turned_are_warned_of(tmp_path):
    """A mask drawn upside down fits the pixels of a picture that EXIF turns by 180 degrees."""
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.fromarray(RAMP).save(tmp_path / "turned.png", exif=exif)
    mask = save(tmp_path / "mask.png", np.where(RAMP > 100, 255, 0).astype(np.uint8))
    with pytest.warns(UserWarning, match="turned.png: EXIF says that it is to be shown mirrored or turned"):
        stack_pairs([(tmp_path / "turned.png", mask)], 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        stack_pairs([(tmp_path / "turned.png", tmp_path / "turned.png")], 1)
