"""A small data set on disk, and run folders of models that were not trained."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio
import torch
from rasterio.transform import from_origin

from qhybrid.config import DataConfig, Recipe
from qhybrid.data.classes import ClassMap
from qhybrid.data.scene_datasets import open_dataset
from qhybrid.data.statistics import compute_statistics
from qhybrid.models import build_model, resolve_model
from qhybrid.training.run_folder import FORMAT, Meta, save_weights, write_recipe

CLASSES = [
    {"name": "field", "values": [10], "color": "#e0c050"},
    {"name": "forest", "values": [20], "color": "#207020"},
    {"name": "road", "values": [30], "color": "#808080"},
]
MEANS = np.array([[60, 60, 150], [60, 150, 60], [160, 160, 60]])
SPREADS = np.array([45, 30, 20])


def write(path, values, **profile):
    path.parent.mkdir(parents=True, exist_ok=True)
    count, height, width = values.shape
    size = {"count": count, "height": height, "width": width, "dtype": values.dtype}
    with rasterio.open(path, "w", driver="GTiff", crs="EPSG:2180", **size, **profile) as target:
        target.write(values)


def make_scene(folder, name, seed, height, width):
    """Blobs of three classes whose colours overlap; some pixels without data, some without label."""
    rng = np.random.default_rng(seed)
    coarse = rng.choice(3, (height // 8 + 1, width // 8 + 1), p=[0.6, 0.3, 0.1])
    labels = np.kron(coarse, np.ones((8, 8), dtype=int))[:height, :width]
    noise = SPREADS[labels] * rng.normal(size=(3, height, width))
    image = np.clip(MEANS[:, labels] + noise, 1, 255).astype(np.uint8)
    mask = np.array([10, 20, 30], dtype=np.uint8)[labels]
    image[:, :3] = 0
    mask[:, -4:] = 99
    transform = from_origin(1000 * seed, 0, 0.5, 0.5)
    write(folder / "images" / f"{name}.tif", image, nodata=0, transform=transform)
    write(folder / "masks" / f"{name}.tif", mask[None], transform=transform)


@pytest.fixture(scope="session")
def scenes_root(tmp_path_factory):
    root = tmp_path_factory.mktemp("scenes")
    for number, split in enumerate(("train", "val", "test")):
        make_scene(root / split, "a", 10 * number + 1, 40, 56)
        make_scene(root / split, "b", 10 * number + 2, 37, 30)
    return root


@pytest.fixture(scope="session")
def data_config():
    return DataConfig.model_validate(
        {"dataset": "geotiff_folder", "classes": CLASSES, "ignore_values": [99], "patch_size": 16}
    )


@pytest.fixture
def make_run(tmp_path, scenes_root, data_config):
    """Write a run folder; weights are random but fixed."""

    def make(folder="run", engine="exact", **model):
        root = tmp_path / folder
        section = {"in_channels": 3, "num_classes": 3, "patch_size": 16, "widths": (4, 4, 4, 4, 4), **model}
        recipe = Recipe.model_validate(
            {"name": "tiny", "data": data_config, "model": section, "engine": {"kind": engine}}
        )
        dataset = open_dataset(data_config, scenes_root)
        statistics = compute_statistics(dataset.scenes("train"), None, dataset.classes)
        with torch.random.fork_rng():
            torch.manual_seed(5)
            network = build_model(section)
        meta = Meta(
            format=FORMAT,
            model=resolve_model(section),
            classes=ClassMap.to_dict(dataset.classes),
            statistics=statistics.to_dict(),
            bands=statistics.bands,
            patch_size=16,
            epoch=3,
            step=30,
            metrics={},
            qhybrid="0",
            input=statistics.contract.to_dict(),
        )
        write_recipe(root, recipe)
        save_weights(root, "best", network, meta)
        return root

    return make


@pytest.fixture
def run_folder(make_run):
    return make_run(name="unet")
