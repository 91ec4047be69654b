"""Models of other people's code: what an entry says, which keys the data fill in, and what is refused."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from qhybrid.config import StrictModel
from qhybrid.data.images.dataset import Task
from qhybrid.errors import ConfigError, PluginError
from qhybrid.models import MODELS, build_model, check_task, complete_model, register_model, resolve_model
from qhybrid.models.registry import ModelEntry


class PixelOptions(StrictModel):
    """Keys of the test's model, which takes images of any size."""

    in_channels: int
    num_classes: int
    scale: float = 1.0


def build_pixels(options, engine):
    return nn.Conv2d(options.in_channels, options.num_classes, 1)


ENTRY = ModelEntry(PixelOptions, build_pixels, "One layer", frozenset[Task](["segmentation"]))


@pytest.fixture(autouse=True)
def pixels():
    with MODELS.temporarily("pixels", ENTRY):
        yield


def test_it_is_a_model_like_any_other():
    section = complete_model({"name": "pixels", "scale": 2.0}, 4, 3, (20, 30))
    assert section == {"name": "pixels", "in_channels": 4, "num_classes": 3, "scale": 2.0}
    assert build_model(section)(torch.rand(1, 4, 20, 30)).shape == (1, 3, 20, 30)
    with pytest.raises(ConfigError, match=r"`scal` is unknown\. Did you mean `scale`"):
        resolve_model({**section, "scal": 1})


def test_near_names():
    with pytest.raises(ConfigError, match=r"model: model 'pixel' is unknown.*Did you mean `pixels`"):
        check_task("pixel", "segmentation", "x")


@pytest.mark.parametrize(
    ("name", "size", "expected"),
    [
        ("pixels", (16, 32), {}),
        ("unet", (32, 32), {"patch_size": 32}),
        ("unet", (32, 48), {"image_size": [32, 48]}),
        ("qu_net", (32, 32), {"image_size": [32, 32]}),
        ("cnn", (8, 9), {"image_size": [8, 9]}),
    ],
)
def test_keys_that_the_data_decide(name, size, expected):
    found = MODELS.get(name).data_keys(3, 2, size)
    assert found == {"in_channels": 3, "num_classes": 2, **expected}
    kind = {(): "any", ("patch_size",): "patch_size", ("image_size",): "image_size"}[tuple(expected)]
    assert MODELS.get(name).size == ("patch_size" if name == "unet" else kind)


def test_a_model_of_squares_alone():
    class Squares(PixelOptions):
        patch_size: int

    with (
        MODELS.temporarily("squares", ModelEntry(Squares, build_pixels, "", ENTRY.tasks)),
        pytest.raises(ConfigError, match=r"must be square .*, but are 16 x 32\. Fix: choose a model with"),
    ):
        complete_model({"name": "squares"}, 3, 2, (16, 32))


def test_a_model_may_do_both():
    both = ModelEntry(PixelOptions, build_pixels, "", frozenset[Task](["segmentation", "classification"]))
    with MODELS.temporarily("both", both):
        check_task("both", "segmentation", "x")
        check_task("both", "classification", "x")
        with pytest.raises(ConfigError, match=r"choose one of both, cnn, hybrid_cnn"):
            check_task("pixels", "classification", "x")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("unet", PixelOptions, build_pixels, "", "segmentation"), "already named `unet`"),
        (
            ("other", PixelOptions, build_pixels, "", "detection"),
            "`task` of model `other` must be one",
        ),
        (("other", PixelOptions, build_pixels, "", ()), "`task` of model `other` must be one"),
        (
            ("other", dict, build_pixels, "", "segmentation"),
            "must be a subclass of qhybrid",
        ),
    ],
)
def test_entries_that_cannot_be(arguments, message):
    with pytest.raises(PluginError, match=message):
        register_model(*arguments)
    assert "other" not in MODELS
