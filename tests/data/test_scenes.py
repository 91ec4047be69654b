import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from qhybrid.data.classes import ClassMap
from qhybrid.data.contract import InputContract
from qhybrid.data.raster import Window
from qhybrid.data.scenes import Scene, SceneReader, check_pairs
from qhybrid.errors import DataError

CLASSES = ClassMap(("a", "b"), ("#000000", "#ffffff"), ((1,), (2,)))


@pytest.fixture(scope="module")
def pair(tmp_path_factory, make_raster):
    folder = tmp_path_factory.mktemp("scenes")
    random = np.random.default_rng(0)
    image = random.integers(1, 255, (3, 40, 50)).astype(np.uint8)
    mask = random.integers(1, 3, (40, 50)).astype(np.uint8)
    return make_raster(folder / "image.tif", image), make_raster(folder / "mask.tif", mask), image, mask


@settings(max_examples=40, deadline=None)
@given(st.integers(-30, 30), st.integers(-30, 30), st.integers(1, 40), st.integers(1, 40))
def test_a_part_of_a_raster_never_shows_its_neighbours(pair, row, col, height, width):
    image_path, mask_path, image, mask = pair
    origin = Window(10, 20, 16, 12)
    reader = SceneReader(Scene("part", image_path, mask_path, "here", origin), CLASSES)
    assert reader.shape == (16, 12)
    pad = 80
    part = np.pad(image[:, 10:26, 20:32], ((0, 0), (pad, pad), (pad, pad)))
    labels = np.pad(mask[10:26, 20:32] - 1, pad, constant_values=255)
    inside = np.pad(np.ones((16, 12), dtype=bool), pad)
    view = np.s_[row + pad : row + pad + height, col + pad : col + pad + width]
    data, valid = reader.read((row, col, height, width))
    np.testing.assert_array_equal(data, part[:, *view])
    np.testing.assert_array_equal(valid, inside[view])
    np.testing.assert_array_equal(reader.read_labels((row, col, height, width)), labels[view])
    reader.close()


def test_transform_of_a_part(pair):
    reader = SceneReader(Scene("part", pair[0], None, "here", Window(10, 20, 16, 12)))
    assert tuple(reader.transform)[:6] == (0.5, 0, 500_000 + 20 * 0.5, 0, -0.5, 500_000 - 10 * 0.5)
    assert reader.transform_of(Window(2, 1, 5, 5)).c == 500_000 + 21 * 0.5


def test_moving_on_reads_the_other_scene(pair, tmp_path, make_raster):
    other_image = make_raster(tmp_path / "i.tif", np.full((3, 8, 8), 9, np.uint8))
    other_mask = make_raster(tmp_path / "m.tif", np.full((8, 8), 2, np.uint8))
    reader = SceneReader(
        Scene("a", pair[0], pair[1], "a", Window(0, 0, 5, 5)), CLASSES, InputContract.of_scene(pair[0], [3])
    )
    handle = reader.image
    reader.move_to(Scene("b", pair[0], pair[1], "b", Window(5, 5, 5, 5)))
    assert reader.image is handle
    np.testing.assert_array_equal(reader.read((0, 0, 5, 5))[0], pair[2][2:, 5:10, 5:10])
    reader.move_to(Scene("c", other_image, other_mask, "c"))
    assert reader.shape == (8, 8)
    assert (reader.read((0, 0, 8, 8))[0] == 9).all()
    assert (reader.read_labels((0, 0, 8, 8)) == 1).all()
    reader.move_to(Scene("d", other_image, None, "d"))
    with pytest.raises(DataError, match=r"i.tif: labels are needed, but scene d has no mask"):
        reader.read_labels((0, 0, 1, 1))


def test_scenes_must_lie_in_their_files(pair):
    for window in (Window(30, 0, 16, 12), Window(0, 45, 4, 6), Window(-1, 0, 4, 4)):
        with pytest.raises(DataError, match=r"image.tif: scene x is window .* 40 x 50"):
            SceneReader(Scene("x", pair[0], pair[1], "x", window), CLASSES)


def save_picture(path, shape=(40, 50), orientation=None, pages=1, thumbnail=False):
    """Write a picture with an orientation of EXIF, or a TIFF of pages, with a smaller one perhaps."""
    found = [Image.fromarray(np.full(shape, number + 1, np.uint8)) for number in range(pages)]
    found += [Image.fromarray(np.ones((4, 5), np.uint8))] if thumbnail else []
    more = {"save_all": True, "append_images": found[1:]} if len(found) > 1 else {}
    if orientation is not None:
        exif = Image.Exif()
        exif[0x112] = orientation
        more["exif"] = exif
    found[0].save(path, **more)
    return path


def test_images_that_are_shown_otherwise_than_their_masks_are_warned_of(tmp_path):
    """Labels that were drawn on the picture as it is shown would be upside down, without a word."""
    mask = save_picture(tmp_path / "mask.png")
    turned = [save_picture(tmp_path / f"{n}.jpg", orientation=3) for n in range(2)]
    with pytest.warns(UserWarning, match=r"0.jpg: EXIF .*orientation 3.*auto-orient.*\(2 images are so.\)"):
        check_pairs([Scene(image.stem, image, mask, "") for image in turned], CLASSES)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        upright = save_picture(tmp_path / "up.jpg", orientation=1)
        check_pairs([Scene("a", upright, mask, ""), Scene("b", turned[0], None, "")], CLASSES)
        check_pairs([Scene("c", turned[0], save_picture(tmp_path / "m.jpg", orientation=3), "")], CLASSES)
    sideways = save_picture(tmp_path / "side.jpg", (50, 40), orientation=6)
    with pytest.raises(DataError, match=r"same size.* EXIF says that .*side.jpg is to be shown turned"):
        check_pairs([Scene("d", sideways, mask, "")], CLASSES)


def test_pages_that_nobody_reads_are_warned_of(tmp_path):
    stack, plain = save_picture(tmp_path / "stack.tif", pages=3), save_picture(tmp_path / "plain.tif")
    contract = InputContract.of_scene(plain)
    with pytest.warns(UserWarning, match=r"stack.tif: it has 3 pages .*GTIFF_DIR:2:stack.tif"):
        contract.reading(stack)
    with pytest.warns(UserWarning, match=r"stack.tif: it has 3 pages"):
        InputContract.of_scene(stack)
    with pytest.warns(UserWarning, match=r"stack.tif: it has 3 pages"):
        check_pairs([Scene("a", plain, stack, "")], CLASSES)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        InputContract.of_scene(save_picture(tmp_path / "small.tif", thumbnail=True))
