"""SeasoNet: its tables, and bands of 10 and 20 m on one grid, on a tiny copy of the layout."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio

from qhybrid.config import DataConfig
from qhybrid.data.scene_datasets import open_dataset
from qhybrid.data.scenes import SceneReader
from qhybrid.data.seasonet import FILES, SEASONET_CLASSES
from qhybrid.data.statistics import compute_statistics
from qhybrid.errors import DataError, DatasetNotFoundError, EmptySplitError

SIDES = {"10m_RGB": (12, 10.0), "10m_IR": (12, 10.0), "20m": (6, 20.0), "60m": (2, 60.0)}
PATCHES = [
    ("Spring", 1, "train"), ("Spring", 2, "train"), ("Summer", 1, "train"), ("Snow", 1, "train"),
    ("Spring", 1, "val"), ("Spring", 1, "test"),
]  # fmt: skip


@pytest.fixture
def seasonet(tmp_path, make_raster):
    random = np.random.default_rng(0)
    rows, splits = [], {"train": [], "val": [], "test": []}
    for number, (season, grid, split) in enumerate(PATCHES):
        name = f"32UMC_20180418T10302{number}"
        path = f"{season.lower()}/grid{grid}/{name}"
        origin = (500_000.0 + 1000 * number, 5_500_000.0)
        for kind, (side, pixel) in SIDES.items():
            values = random.integers(1, 4000, (len(FILES[kind]), side, side), dtype=np.uint16)
            file = tmp_path / "seasonet" / path / f"{name}_{kind}.tif"
            make_raster(file, values, crs="EPSG:32632", origin=origin, pixel=pixel)
        labels = random.integers(1, 34, (12, 12), dtype=np.uint8)
        file = tmp_path / "seasonet" / path / f"{name}_labels.tif"
        make_raster(file, labels, crs="EPSG:32632", origin=origin, pixel=10.0)
        rows.append(f"{number},{path},{season},{grid},{50 + number},{8 + number}")
        splits[split].append(number)
    header = "Index,Path,Season,Grid,Latitude,Longitude"
    (tmp_path / "seasonet" / "meta.csv").write_text("\n".join([header, *rows]) + "\n")
    (tmp_path / "seasonet" / "splits").mkdir()
    for split, numbers in splits.items():
        (tmp_path / "seasonet" / "splits" / f"{split}.csv").write_text("".join(f"{n}\n" for n in numbers))
    return tmp_path


def opened(root, **options):
    content = {"dataset": "seasonet", "root": "seasonet", "patch_size": 16, "options": options}
    return open_dataset(DataConfig.model_validate(content), root)


def test_splits_seasons_and_grids(seasonet):
    def names(split="train", **options):
        return [
            scene.id.split("/")[0] + scene.id.split("/")[1][-1]
            for scene in opened(seasonet, **options).scenes(split)
        ]

    assert names() == ["spring1", "summer1", "snow1"]
    assert names(grids=[1, 2]) == ["spring1", "spring2", "summer1", "snow1"]
    assert names(seasons=["Summer"]) == ["summer1"]
    assert names(limit=2) == ["spring1", "summer1"]
    assert names("val") == names("test") == ["spring1"]
    with pytest.raises(EmptySplitError, match="none of these seasons and grids"):
        names("val", seasons=["Snow"])
    assert opened(seasonet).scenes("val")[0].location == "54, 12"


def test_bands_of_10_and_20_m_are_on_one_grid_with_their_names(seasonet):
    dataset = opened(seasonet)
    scene = dataset.scenes("train")[0]
    reader = SceneReader(scene, dataset.classes)
    image, valid = reader.read((0, 0, 12, 12))
    assert image.shape == (10, 12, 12)
    assert valid.all()
    folder = seasonet / "seasonet" / scene.id
    with rasterio.open(folder / f"{folder.name}_10m_RGB.tif") as file:
        assert np.array_equal(image[:3], file.read())
    with rasterio.open(folder / f"{folder.name}_20m.tif") as file:
        coarse = file.read()
    means = image[4:].reshape(6, 6, 2, 6, 2).mean(axis=(2, 4))
    inner = (slice(None), slice(1, -1), slice(1, -1))
    # Interpolation keeps the mean near each pixel; all bands but nearest ones would be worse than this.
    assert np.corrcoef(means[inner].ravel(), coarse[inner].ravel())[0, 1] > 0.9
    nearest = opened(seasonet, resampling="nearest").scenes("train")[0]
    found = SceneReader(nearest, None).read((0, 0, 12, 12))[0]
    assert np.array_equal(found[4:], coarse.repeat(2, axis=1).repeat(2, axis=2))
    with rasterio.open(folder / f"{folder.name}_labels.tif") as file:
        assert np.array_equal(reader.read_labels((0, 0, 12, 12)), file.read(1) - 1)
    statistics = compute_statistics(dataset.scenes("train"))
    names = [band.name for band in statistics.contract.bands]
    assert names == ["B04", "B03", "B02", "B08", "B05", "B06", "B07", "B8A", "B11", "B12"]


def test_classes_are_the_33_of_corine():
    assert len(SEASONET_CLASSES) == 33
    assert [one.values for one in SEASONET_CLASSES] == [(number,) for number in range(1, 34)]
    by_name = {one.name: one for one in SEASONET_CLASSES}
    assert by_name["vineyard"].values == (13,)
    assert by_name["sea_ocean"].values == (33,)
    assert len({one.color for one in SEASONET_CLASSES}) == 33


def test_what_is_missing_is_named(seasonet):
    dataset = opened(seasonet)
    name = dataset.scenes("val")[0].id.split("/")[-1]
    file = seasonet / "seasonet" / "spring" / "grid1" / name / f"{name}_20m.tif"
    file.unlink()
    with pytest.raises(DatasetNotFoundError, match=r"_20m.tif: is missing.*archive of season Spring"):
        opened(seasonet).scenes("val")
    assert len(opened(seasonet, files=["10m_RGB"]).scenes("val")) == 1
    (seasonet / "seasonet" / "splits" / "val.csv").write_text("99\n")
    with pytest.raises(DataError, match="places of rows of meta.csv, from 0 to 5, but holds 99 to 99"):
        opened(seasonet).scenes("val")
    (seasonet / "seasonet" / "meta.csv").write_text("Index,Path\n0,x\n")
    with pytest.raises(DataError, match="has no Season"):
        opened(seasonet).scenes("train")
    (seasonet / "seasonet" / "meta.csv").unlink()
    with pytest.raises(DatasetNotFoundError, match=r"must be SeasoNet's table.*zenodo"):
        opened(seasonet).scenes("train")
