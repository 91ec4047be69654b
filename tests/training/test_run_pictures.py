"""Trainings, and the diagnosis of one, draw their pictures; elsewhere in the tests these are empty."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from matplotlib.image import imread

from qhybrid.config import Recipe, validated
from qhybrid.evaluation.diagnosis.diagnose import diagnose_run
from qhybrid.training import train

pytestmark = pytest.mark.pictures


def drawn(file):
    """Return the number of colours of a picture, and check that it has a size that one can look at."""
    pixels = imread(file)
    assert min(pixels.shape[:2]) > 200
    return len(np.unique(pixels.reshape(-1, pixels.shape[-1]), axis=0))


@pytest.fixture(autouse=True)
def _no_picture_is_lost():
    """Pictures that fail are warned of, since a run is whole without them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="The pictures of .* could not be drawn")
        yield


def test_of_scenes(tiny_data, tmp_path, tiny_content):
    recipe = validated(Recipe, tiny_content(epochs=1), "tiny.yaml")
    run = train(recipe, tiny_data, tmp_path / "run")
    assert drawn(run / "curves.png") > 10
    assert drawn(run / "samples.png") > 10
    found = diagnose_run(run, data_root=tiny_data, samples=4)
    (picture,) = found.folder.glob("*.png")
    assert drawn(picture) > 10


def test_of_classified_images(tmp_path):
    content = {
        "name": "digits",
        "data": {"dataset": "digits", "options": {"classes": [3, 5]}},
        "model": {"name": "cnn"},
        "training": {"epochs": 1, "progress": False},
    }
    run = train(validated(Recipe, content, "digits.yaml"), tmp_path, tmp_path / "run")
    assert drawn(run / "curves.png") > 10
