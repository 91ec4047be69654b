"""A run is judged on other data under a name of its own; its official result is never replaced."""

from __future__ import annotations

import hashlib
import json
import shutil

import numpy as np
import pytest
import rasterio
import yaml
from image_runs import recipe_content
from scene_runs import CLASSES

from qhybrid.config import DataConfig, Recipe
from qhybrid.data.identity import scenes_identity
from qhybrid.data.scene_datasets import open_dataset
from qhybrid.errors import ConfigError, DataError, DatasetNotFoundError, WorkspaceError
from qhybrid.evaluation import evaluate_run
from qhybrid.report.sources import read_run
from qhybrid.training.data_record import DataRecord, write_record


@pytest.fixture
def other(scenes_root, tmp_path):
    """A copy of the data set with other test masks."""
    root = shutil.copytree(scenes_root, tmp_path / "korea")
    for file in (root / "test" / "masks").iterdir():
        rewrite(file, lambda values: np.where(values == 30, 10, np.where(values == 10, 30, values)))
    return root


def rewrite(file, how):
    with rasterio.open(file, "r+") as target:
        target.write(how(target.read()).astype(np.uint8))


def written(run, name="test-exact"):
    return json.loads((run / "evaluation" / name / "metrics.json").read_text())


def recipe_of(root, classes, **data):
    section = {
        "dataset": "geotiff_folder",
        "root": str(root),
        "classes": classes,
        "ignore_values": [99],
        **data,
    }
    return Recipe.model_validate({"name": "other_set", "data": section, "model": {"name": "unet"}})


def test_metrics_say_which_data_they_are_of(run_folder, scenes_root, data_config):
    evaluate_run(run_folder, data_root=scenes_root)
    content = written(run_folder)
    scenes = open_dataset(data_config, scenes_root).scenes("test")
    parts = [
        [scene.id, *(hashlib.sha256(file.read_bytes()).hexdigest() for file in (scene.image, scene.mask))]
        for scene in scenes
    ]
    text = json.dumps([[name, image, None, mask] for name, image, mask in parts])
    assert content["data_hash"] == hashlib.sha256(text.encode()).hexdigest()
    assert (content["data_root"], content["on"]) == (str(scenes_root), None)
    assert "input" in content


def test_a_folder_with_the_layout_of_the_run(run_folder, scenes_root, other):
    official = evaluate_run(run_folder, data_root=scenes_root)
    before = (run_folder / "evaluation" / "test-exact" / "metrics.json").read_bytes()
    found = evaluate_run(run_folder, data_root=scenes_root, on=other)
    assert (found.on, found.folder.name) == ("korea", "on-korea-test-exact")
    # Fields and roads have changed places in the truth.
    matrix = np.array(written(run_folder)["confusion"])
    assert written(run_folder, "on-korea-test-exact")["confusion"] == matrix[[2, 1, 0]].tolist()
    assert found["accuracy"] != official["accuracy"]
    assert (run_folder / "evaluation" / "test-exact" / "metrics.json").read_bytes() == before
    assert written(run_folder, "on-korea-test-exact")["data_root"] == str(other)
    # The report keeps them apart.
    source = read_run(run_folder)
    assert (set(source.evaluations), set(source.other_data)) == ({"test-exact"}, {"on-korea-test-exact"})


def test_a_folder_of_images_and_masks(run_folder, scenes_root, other, tmp_path):
    plain = tmp_path / "plain"
    shutil.copytree(other / "test", plain)
    found = evaluate_run(run_folder, data_root=scenes_root, on=plain)
    same = evaluate_run(run_folder, data_root=scenes_root, on=other)
    assert found.metrics == same.metrics
    next((plain / "masks").iterdir()).unlink()
    with pytest.raises(DataError, match="each image must have a mask of the same name"):
        evaluate_run(run_folder, data_root=scenes_root, on=plain)
    with pytest.raises(DataError, match="must be laid out as the run's data set"):
        evaluate_run(run_folder, data_root=scenes_root, on=tmp_path / "plain" / "images")


def test_all_scenes_of_a_folder_that_the_run_would_split(make_run, scenes_root, data_config, tmp_path):
    """None of them has been seen in training."""
    run = make_run(name="unet")
    text = (run / "recipe.yaml").read_text()
    options = (
        "options: {images: images, masks: masks, split: {fractions: {train: 0.5, val: 0.25, test: 0.25}}}\n"
    )
    assert "  options: {}\n" in text
    (run / "recipe.yaml").write_text(text.replace("options: {}\n", options, 1))
    folder = shutil.copytree(scenes_root / "train", tmp_path / "far")
    for kind in ("images", "masks"):
        shutil.copy(scenes_root / "val" / kind / "a.tif", folder / kind / "c.tif")
        shutil.copy(scenes_root / "test" / kind / "a.tif", folder / kind / "d.tif")
    evaluate_run(run, data_root=scenes_root, on=folder)
    assert sorted(written(run, "on-far-test-exact")["scenes"]) == ["a", "b", "c", "d"]


def test_classes_of_a_recipe_are_matched_by_name(run_folder, scenes_root, tmp_path):
    official = evaluate_run(run_folder, data_root=scenes_root)
    root = shutil.copytree(scenes_root, tmp_path / "coded")
    for file in (root / "test" / "masks").iterdir():
        rewrite(file, lambda values: np.select([values == 10, values == 20, values == 30], [3, 1, 2], 99))
    field, forest, road = ({**one, "values": [value]} for one, value in zip(CLASSES, (3, 1, 2)))
    recipe = recipe_of(root, [forest, road, field])
    found = evaluate_run(run_folder, data_root=scenes_root, on=recipe)
    assert found.folder.name == "on-other_set-test-exact"
    assert found.metrics == official.metrics
    # A class that the recipe lacks has no pixels; one that the model lacks is refused.
    fewer = recipe_of(root, [forest, field], ignore_values=[2, 99])
    assert evaluate_run(run_folder, data_root=scenes_root, on=fewer).counts.support[2] == 0
    renamed = recipe_of(root, [{**forest, "name": "forests"}, road, field])
    with pytest.raises(ConfigError, match=r"forests is not\. Did you mean `forest`\?"):
        evaluate_run(run_folder, data_root=scenes_root, on=renamed)


def test_what_is_given_with_the_command_counts_more_than_the_recipe(run_folder, scenes_root):
    recipe = recipe_of(scenes_root, CLASSES, bands=[3, 1, 2])
    found = evaluate_run(run_folder, data_root=scenes_root, on=recipe, bands=(2, 1, 3), scale=1.0)
    said = json.loads((found.folder / "metrics.json").read_text())["input"]
    assert (said["read_with"]["bands"], said["read_with"]["scale"]) == ([2, 1, 3], 1.0)


def test_other_data_at_the_data_root_do_not_replace_the_result(run_folder, scenes_root, other):
    evaluate_run(run_folder, data_root=scenes_root)
    before = written(run_folder)
    with pytest.warns(UserWarning, match="The official result stays"):
        found = evaluate_run(run_folder, data_root=other)
    assert (
        found.folder.name == f"on-korea-{written(run_folder, found.folder.name)['data_hash'][:8]}-test-exact"
    )
    assert written(run_folder) == before
    # The same data elsewhere are the run's own.
    moved = shutil.copytree(scenes_root, other.parent / "moved")
    assert evaluate_run(run_folder, data_root=moved).folder.name == "test-exact"


def test_what_training_noted_decides_before_any_evaluation(run_folder, scenes_root, other, data_config):
    identity = scenes_identity(open_dataset(data_config, scenes_root).scenes("test"))
    record = {"format": 1, "data_root": "x", "splits": {"test": {"hash": identity.hash, "files": {}}}}
    (run_folder / "data.json").write_text(json.dumps(record))
    with pytest.warns(UserWarning, match="The official result stays"):
        assert evaluate_run(run_folder, data_root=other).on is not None
    assert not (run_folder / "evaluation" / "test-exact").exists()
    assert evaluate_run(run_folder, data_root=scenes_root).on is None


def test_two_folders_of_one_name_do_not_share_results(run_folder, scenes_root, other):
    evaluate_run(run_folder, data_root=scenes_root, on=other)
    first = written(run_folder, "on-korea-test-exact")
    second = shutil.copytree(scenes_root, other.parent / "second" / "korea")
    found = evaluate_run(run_folder, data_root=scenes_root, on=second)
    assert found.folder.name.startswith("on-korea-")
    assert found.folder.name != "on-korea-test-exact"
    assert written(run_folder, "on-korea-test-exact") == first
    assert evaluate_run(run_folder, data_root=scenes_root, on=second).folder == found.folder


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("test-exact", {"scale": 1.0}),
        ("test-exact", {"split": "val"}),
        ("on-korea-test-exact", {}),
    ],
)
def test_no_result_takes_the_place_of_another_one(run_folder, scenes_root, tmp_path, name, given):
    for folder in (run_folder, shutil.copytree(run_folder, tmp_path / "copy")):
        with pytest.raises(WorkspaceError, match="must not stand where"):
            evaluate_run(run_folder, data_root=scenes_root, output=folder / "evaluation" / name, **given)
    assert not (run_folder / "evaluation" / name).exists()
    own = run_folder / "evaluation" / "test-exact"
    assert evaluate_run(run_folder, data_root=scenes_root, output=own).folder == own
    with pytest.raises(WorkspaceError, match="must not stand where"):  # of another run
        evaluate_run(tmp_path / "copy", data_root=scenes_root, output=own)


def test_data_read_in_another_way_are_no_official_result(run_folder, scenes_root):
    plain = evaluate_run(run_folder, data_root=scenes_root)
    scaled = evaluate_run(run_folder, data_root=scenes_root, scale=1.0, bands=(1, 2, 3))
    assert scaled["miou"] == plain["miou"]
    assert written(run_folder, scaled.folder.name)["read_as"] == {"bands": [1, 2, 3], "scale": 1.0}
    found = read_run(run_folder)
    assert list(found.evaluations) == ["test-exact"]
    assert list(found.other_data) == ["test-exact-read-as-1_2_3_x1"]


def test_what_makes_no_sense_is_refused(run_folder, scenes_root, other, tmp_path):
    with pytest.raises(ConfigError, match="baselines"):
        evaluate_run(run_folder, data_root=scenes_root, on=other, baselines=True)
    with pytest.raises(ConfigError, match="this is neither"):
        evaluate_run(run_folder, data_root=scenes_root, on=tmp_path / "nowhere")
    with pytest.raises(WorkspaceError, match="must not stand where official"):
        evaluate_run(
            run_folder, data_root=scenes_root, on=other, output=run_folder / "evaluation" / "test-exact"
        )
    with pytest.raises(ConfigError, match=r"must name the 3 band\(s\)"):
        evaluate_run(run_folder, data_root=scenes_root, on=recipe_of(other, CLASSES, bands=[1, 2]))


def test_whole_images(make_image_run, mnist_root, tmp_path):
    run = make_image_run()
    official = evaluate_run(run, data_root=mnist_root)
    content = recipe_content()
    content["data"]["options"]["classes"] = [5, 3]  # the same images with the numbers of classes exchanged
    found = evaluate_run(run, data_root=mnist_root, on=Recipe.model_validate(content))
    assert found.metrics == pytest.approx(official.metrics)
    assert written(run, "on-tiny_qcq-test-exact")["data"]["options"]["classes"] == [5, 3]
    folder = shutil.copytree(mnist_root / "mnist", tmp_path / "mine")
    assert evaluate_run(run, data_root=tmp_path, on=folder).metrics == official.metrics
    digits = DataConfig.model_validate({"dataset": "digits", "options": {"classes": [3, 5]}})
    content["data"] = digits.model_dump()
    with pytest.raises(ConfigError, match="images must be as the model was trained on"):
        evaluate_run(run, data_root=mnist_root, on=Recipe.model_validate(content))


def test_a_data_set_that_reads_no_files_says_nothing_of_a_folder(make_run, other, tmp_path):
    """Otherwise generated scenes would be judged under the folder's name."""
    run = make_run(name="unet")
    content = yaml.safe_load((run / "recipe.yaml").read_text())
    content["data"] |= {"dataset": "synthetic", "options": {"size": 64}}
    (run / "recipe.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(DataError, match="data set synthetic does not read images from a folder"):
        evaluate_run(run, on=other / "test" / "images")
    evaluate_run(run, on=other / "test")
    assert written(run, "on-test-test-exact")["scenes"] == ["a", "b"]


def test_digits_say_nothing_of_a_folder(make_image_run, mnist_root):
    run = make_image_run()
    content = yaml.safe_load((run / "recipe.yaml").read_text())
    content["data"] |= {"dataset": "digits", "options": {"classes": [3, 5]}}
    (run / "recipe.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(ConfigError, match="data set digits is the same whatever the folder holds"):
        evaluate_run(run, on=mnist_root)


def test_a_missing_data_root_is_named(run_folder, scenes_root, tmp_path):
    write_record(run_folder, DataRecord(str(scenes_root)))
    with pytest.raises(DatasetNotFoundError, match=f"trained with --data-root {scenes_root}"):
        evaluate_run(run_folder, data_root=tmp_path / "elsewhere")
    (run_folder / "data.json").unlink()
    with pytest.raises(DatasetNotFoundError) as found:
        evaluate_run(run_folder, data_root=tmp_path / "elsewhere")
    assert "trained with" not in str(found.value)
