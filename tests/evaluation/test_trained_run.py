"""A run that was really trained: evaluated, and mapped, from its folder alone."""

import rasterio

from qhybrid.config import Recipe
from qhybrid.evaluation import evaluate_baselines, evaluate_run
from qhybrid.inference import write_map
from qhybrid.training import load_run, train


def test_train_evaluate_predict(scenes_root, data_config, tmp_path):
    recipe = Recipe.model_validate(
        {
            "name": "trained",
            "data": {**data_config.model_dump(), "patches_per_epoch": 64},
            "model": {"name": "unet", "widths": (8, 8, 8, 8, 8)},
            "training": {"epochs": 4, "batch_size": 8, "learning_rate": 0.02, "progress": False},
        }
    )
    folder = train(recipe, scenes_root, tmp_path / "run")
    metrics = evaluate_run(folder, data_root=scenes_root)
    baselines = evaluate_baselines(folder, data_root=scenes_root)
    assert metrics["miou"] > baselines["majority_class"].miou + 0.1
    image = scenes_root / "test" / "images" / "a.tif"
    (output,) = write_map(load_run(folder), image, tmp_path / "map.tif")
    with rasterio.open(output) as written, rasterio.open(image) as scene:
        assert (written.crs, written.transform, written.shape) == (scene.crs, scene.transform, scene.shape)
        assert (written.read(1)[:3] == 255).all()
