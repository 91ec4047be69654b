"""A run's own meta.json says of which kind it is, whatever its data set is called."""

from __future__ import annotations

import pytest

from qhybrid.errors import CheckpointError
from qhybrid.evaluation import load_trained
from qhybrid.training.images.run import LoadedImageRun
from qhybrid.training.run_folder import LoadedRun


def rename_data(folder, name):
    recipe = folder / "recipe.yaml"
    text = recipe.read_text()
    lines = [f"  dataset: {name}" if line.startswith("  dataset:") else line for line in text.splitlines()]
    recipe.write_text("\n".join(lines) + "\n")


def test_the_kind_is_that_of_meta_and_not_of_the_data(make_image_run, run_folder):
    images = make_image_run("images")
    rename_data(images, "geotiff_folder")
    rename_data(run_folder, "mnist")
    assert isinstance(load_trained(images), LoadedImageRun)
    assert isinstance(load_trained(run_folder), LoadedRun)


def test_runs_with_last_weights_alone(make_image_run):
    folder = make_image_run()
    (folder / "best").rename(folder / "last")
    assert load_trained(folder, "best").which == "last"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"kind": "videos"}', "key `kind` must be `images`"),
        ("{", "is damaged"),
        ("[]", "is damaged"),
    ],
)
def test_damaged_and_unknown_meta(make_image_run, content, message):
    folder = make_image_run()
    (folder / "best" / "meta.json").write_text(content)
    with pytest.raises(CheckpointError, match=message):
        load_trained(folder)


def test_folders_without_weights(make_image_run, tmp_path):
    folder = make_image_run()
    (folder / "best" / "meta.json").unlink()
    with pytest.raises(CheckpointError, match="let training complete at least one epoch"):
        load_trained(folder)
    with pytest.raises(CheckpointError, match="not a run folder"):
        load_trained(tmp_path)
