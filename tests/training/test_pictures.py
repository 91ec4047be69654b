"""Pictures: their pixels mean what the legend says, and odd input gives a clear error."""

import matplotlib.image
import numpy as np
import pytest
import torch

from qhybrid.data.classes import ClassMap
from qhybrid.errors import DataError
from qhybrid.training.pictures import (
    draw_learning_curves,
    draw_samples,
    draw_scene_map,
    paint_classes,
    paint_errors,
    stretch,
)
from qhybrid.training.showing import error_color

CLASSES = ClassMap(("field", "forest"), ("#e0c050", "#207020"), ((0,), (1,)))
GREY = [0xB3 / 255] * 3


def test_stretch_uses_percentiles_of_each_band():
    image = np.stack(
        [np.arange(101.0).reshape(1, 101), np.arange(101.0).reshape(1, 101) * 1000 + 7, np.zeros((1, 101))]
    )
    (colors,) = stretch([image], low=10, high=90)
    np.testing.assert_allclose(colors[0, :, 0], np.clip((np.arange(101) - 10) / 80, 0, 1))
    np.testing.assert_allclose(colors[..., 1], colors[..., 0])
    assert (colors[..., 2] == 0).all()


def test_stretch_of_one_band_is_grey_and_missing_pixels_too():
    (colors,) = stretch([np.array([[[1.0, 2.0, np.nan, np.inf]]], dtype=np.float32)])
    np.testing.assert_allclose(colors[0], [[0, 0, 0], [1, 1, 1], GREY, GREY])
    (nothing,) = stretch([np.full((4, 2, 2), np.nan)])
    np.testing.assert_allclose(nothing, np.broadcast_to(GREY, (2, 2, 3)))


def test_images_are_stretched_one_by_one():
    dark, bright = stretch([np.array([[[0.0, 1.0]]]), np.array([[[200.0, 900.0]]])])
    np.testing.assert_array_equal(dark, bright)
    assert (dark.min(), dark.max()) == (0, 1)


def test_paint_classes_and_errors():
    labels = np.array([[0, 1, 255]], dtype=np.uint8)
    np.testing.assert_allclose(paint_classes(labels, CLASSES)[0, 1], np.array([0x20, 0x70, 0x20]) / 255)
    np.testing.assert_allclose(paint_classes(labels, CLASSES)[0, 2], GREY)
    errors = paint_errors(labels, np.array([[0, 0, 1]]))
    np.testing.assert_allclose(errors[0, 0], [1, 1, 1])
    np.testing.assert_allclose(errors[0, 1], np.array([0xD7, 0x19, 0x1C]) / 255)
    np.testing.assert_allclose(errors[0, 2], GREY)
    blue = paint_errors(labels, np.array([[0, 0, 1]]), "#0000ff")
    np.testing.assert_allclose(blue[0, 1], [0, 0, 1])


@pytest.mark.parametrize("bands", [1, 2, 3, 5])
def test_draw_samples_of_any_bands_and_tensors(tmp_path, bands):
    images = torch.randn(2, bands, 8, 8)
    labels = torch.zeros(2, 8, 8, dtype=torch.int64)
    output = draw_samples(images, labels, labels, CLASSES, tmp_path / "samples.png", titles=["one", "two"])
    height, width, _ = matplotlib.image.imread(output).shape
    assert width > 1000
    assert height > 500
    assert [path.name for path in tmp_path.iterdir()] == ["samples.png"]


@pytest.mark.parametrize("shape", [(40, 60), (300, 7), (7, 300)])
def test_a_scene_map_shows_wrong_pixels_in_a_colour_of_their_own(tmp_path, shape):
    red = ClassMap(("field", "forest"), ("#d7191c", "#207020"), ((0,), (1,)))
    truth = np.zeros(shape, dtype=np.uint8)
    image = np.random.default_rng(0).normal(size=(2, *shape))
    output = draw_scene_map(image, truth, 1 - truth, red, tmp_path / "map.png", "a scene")
    pixels = (matplotlib.image.imread(output)[..., :3] * 255).round().astype(int)
    found = {tuple(color) for color in pixels.reshape(-1, 3)}
    wrong = tuple(int(error_color(red.colors)[place : place + 2], 16) for place in (1, 3, 5))
    assert wrong in found
    assert wrong not in {tuple(color) for color in red.palette()}
    # Each class fills a panel, and nothing is stretched out of shape.
    assert {tuple(color) for color in red.palette()} <= found


def test_draw_samples_needs_samples(tmp_path):
    with pytest.raises(DataError, match="have 0, 0 and 0"):
        draw_samples([], [], [], CLASSES, tmp_path / "samples.png")
    with pytest.raises(DataError, match="have 1, 2 and 1"):
        draw_samples(
            np.ones((1, 1, 2, 2)), np.ones((2, 2, 2)), np.ones((1, 2, 2)), CLASSES, tmp_path / "s.png"
        )
    assert not list(tmp_path.iterdir())


def test_learning_curves(tmp_path):
    table = tmp_path / "metrics.csv"
    table.write_text(
        "epoch,step,train_loss,val_loss,val_miou,val_accuracy,iou_road,learning_rate,note\n"
        "1,10,1.5,,,,,0.001,x\n1,20,1.2,1.3,0.2,0.6,0.1,0.0009,y\n2,30,0.9,1.0,0.4,0.8,,0.0005,z\n"
    )
    output = draw_learning_curves(table, tmp_path / "curves.png")
    assert matplotlib.image.imread(output).ndim == 3


def test_learning_curves_of_one_epoch_with_one_column(tmp_path):
    table = tmp_path / "metrics.csv"
    table.write_text("epoch,train_loss\n1,0.5\n")
    assert draw_learning_curves(table, tmp_path / "curves.png").is_file()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot be read"),
        ("", "cannot be read"),
        ("step,train_loss\n1,2\n", "column `epoch`"),
        ("epoch,train_loss\n", "at least one row"),
        ("epoch,speed\n1,2\n", "loss, IoU or accuracy"),
    ],
)
def test_learning_curves_of_bad_tables(tmp_path, text, message):
    table = tmp_path / "metrics.csv"
    if text is not None:
        table.write_text(text)
    with pytest.raises(DataError, match=message):
        draw_learning_curves(table, tmp_path / "curves.png")
    assert not (tmp_path / "curves.png").exists()
