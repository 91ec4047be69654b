"""A trained model maps a scene as it comes: the right map, in whatever encoding, or an error."""

import json
import shutil
import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from rasterio.enums import ColorInterp
from rasterio.transform import from_origin
from torch import nn
from typer.testing import CliRunner

from qhybrid.cli.main import app
from qhybrid.config import Recipe
from qhybrid.data.classes import ClassMap
from qhybrid.data.scene_datasets import open_dataset
from qhybrid.data.scenes import Scene
from qhybrid.data.statistics import BandStatistics, compute_statistics
from qhybrid.errors import CheckpointError, ConfigError, DataError
from qhybrid.evaluation import evaluate_run
from qhybrid.evaluation.scoring import score_scenes
from qhybrid.inference import predict_scene, read_as, write_map
from qhybrid.training import load_run, train
from qhybrid.training.run_folder import META
from qhybrid.training.scenes.data_module import SceneDataModule

OLD = Path(__file__).parent / "old_run"
NAMES = ("Red", "Green", "Infrared")
SIDE = 64
CLASSES = [
    {"name": "dark", "values": [0], "color": "#000000"},
    {"name": "bright", "values": [1], "color": "#ffffff"},
    {"name": "green", "values": [2], "color": "#00ff00"},
]


def write(path, values, names=NAMES, nodata=None, pixel=1.0, scales=None, offsets=None, east=0.0):
    path.parent.mkdir(parents=True, exist_ok=True)
    count, height, width = values.shape
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        count=count,
        height=height,
        width=width,
        dtype=values.dtype.name,
        crs="EPSG:2180",
        transform=from_origin(east, 1000.0, pixel, pixel),
        nodata=nodata,
    ) as file:
        file.write(values)
        file.colorinterp = [ColorInterp.undefined] * count if count < 4 else file.colorinterp
        if names is not None:
            file.descriptions = names
        if scales is not None:
            file.scales = scales
        if offsets is not None:
            file.offsets = offsets
    return path


def ground(seed):
    """Blocks of three classes that differ in all bands, and where they are."""
    rng = np.random.default_rng(seed)
    truth = np.kron(rng.integers(0, 3, (8, 8)), np.ones((8, 8), int)).astype(np.uint8)
    colors = np.array([[40, 120, 180], [60, 60, 200], [150, 90, 30]])  # band by class
    image = colors[:, truth] + rng.integers(-8, 9, (3, SIDE, SIDE))
    return image.astype(np.uint8), truth


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("as_they_come")
    for seed, split in enumerate(("train", "val", "test")):
        image, truth = ground(seed)
        write(root / "set" / split / "images" / "a.tif", image, east=1000.0 * seed)
        write(root / "set" / split / "masks" / "a.tif", truth[None], None, east=1000.0 * seed)
    return root


def recipe(**data):
    section = {"dataset": "geotiff_folder", "root": "set", "classes": CLASSES, "patch_size": 16}
    return Recipe.model_validate(
        {
            "name": "as_they_come",
            "seed": 1,
            "data": {**section, "patches_per_epoch": 8, **data},
            "model": {"name": "unet", "widths": [2, 2, 2, 2, 2]},
            "training": {"epochs": 1, "batch_size": 8, "progress": False},
        }
    )


@dataclass(frozen=True)
class PixelRun:
    """A model that gives each pixel the class whose mean colour is nearest, with what a loaded run has."""

    statistics: BandStatistics
    model: nn.Module
    recipe: Recipe
    classes: ClassMap
    bands: tuple[int, ...] = (1, 2, 3)
    patch_size: int = 16
    any_size: bool = True


@pytest.fixture
def run(data):
    chosen = recipe()
    dataset = open_dataset(chosen.data, data)
    statistics = compute_statistics(dataset.scenes("train"), None, dataset.classes)
    image, truth = ground(0)
    standard = statistics.standardise(image, np.ones((SIDE, SIDE), bool))
    means = torch.from_numpy(np.stack([standard[:, truth == k].mean(axis=1) for k in range(3)]))
    model = nn.Conv2d(3, 3, 1)
    with torch.no_grad():  # the nearest mean m has the largest m x - m m / 2
        model.weight.copy_(means[:, :, None, None])
        model.bias.copy_(-(means**2).sum(dim=1) / 2)
    return PixelRun(statistics, model, chosen, dataset.classes)


@pytest.fixture
def right(run, data):
    """The map of the test scene as it is, which is right nearly everywhere."""
    labels = predict_scene(run, data / "set/test/images/a.tif")
    assert (labels == ground(2)[1]).mean() > 0.99
    return labels


@pytest.fixture(scope="module")
def folder(data, tmp_path_factory):
    """A run that was trained for a moment."""
    return train(recipe(), data, tmp_path_factory.mktemp("runs") / "run")


def moved(image):
    """In the opposite order, and 1000 larger with an offset that says so."""
    return image[::-1].astype(np.int16) + 1000, {"names": NAMES[::-1], "offsets": [-1000.0] * 3}


WAYS = {
    "int16": lambda x: (x.astype(np.int16), {}),
    "float64": lambda x: (x.astype(np.float64), {}),
    "another order": lambda x: (x[::-1], {"names": NAMES[::-1]}),
    "more bands": lambda x: (x[[0, 0, 1, 2]], {"names": ("Thermal", *NAMES)}),
    "other case": lambda x: (x, {"names": ("RED", " green", "infra red")}),
    "no names": lambda x: (x, {"names": None}),
    "x 257 with a scale": lambda x: (x.astype(np.uint16) * 257, {"scales": [1 / 257] * 3}),
    "offset": lambda x: (x.astype(np.int16) + 1000, {"offsets": [-1000.0] * 3}),
    "order and offset": lambda x: (
        x[::-1].astype(np.int16) + 1000,
        {"names": NAMES[::-1], "offsets": [-1000.0] * 3},
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_the_same_map_from_other_encodings(run, right, tmp_path, way):
    values, options = WAYS[way](ground(2)[0])
    path = write(tmp_path / "scene.tif", values, **options)
    np.testing.assert_array_equal(predict_scene(run, path), right)


REFUSED = {
    "x 257": lambda x: (x.astype(np.uint16) * 257, {}),
    "x 16": lambda x: (x.astype(np.uint16) * 16, {}),
    "0 to 1": lambda x: (x.astype(np.float32) / 255, {}),
    "contradicting names": lambda x: (x, {"names": ("Infrared", "Red", "Blue")}),
    "too few": lambda x: (x[:2], {"names": None}),
    "too many": lambda x: (x[[0, 1, 2, 2]].astype(np.int16), {"names": None}),
}


@pytest.mark.parametrize("way", REFUSED)
def test_no_map_from_what_the_model_does_not_know(run, tmp_path, way):
    values, options = REFUSED[way](ground(2)[0])
    path = write(tmp_path / "scene.tif", values, **options)
    with pytest.raises(DataError, match=r"scene\.tif.*Fix: "):
        predict_scene(run, path)
    with pytest.raises(DataError, match=r"scene\.tif"):
        write_map(run, path, tmp_path / "map.tif")
    assert not (tmp_path / "map.tif").exists()


def test_what_the_user_says_converts(run, right, tmp_path):
    image = ground(2)[0]
    wide = write(tmp_path / "wide.tif", image.astype(np.uint16) * 257)
    np.testing.assert_array_equal(predict_scene(read_as(run, scale=1 / 257), wide), right)
    swapped = write(tmp_path / "swapped.tif", image[::-1], ("Infrared", "Red", "Blue"))
    np.testing.assert_array_equal(predict_scene(read_as(run, bands=(3, 2, 1)), swapped), right)
    with pytest.warns(UserWarning, match="values must be encoded"):  # on purpose, but not in silence
        predict_scene(read_as(run, scale=1), wide)
    with pytest.raises(ConfigError, match="`scale` must be a number above 0"):
        read_as(run, scale=0)


def test_the_command_line_takes_bands_and_a_factor(folder, data, tmp_path):
    image, right = ground(2)[0], predict_scene(load_run(folder), data / "set/test/images/a.tif")
    path = write(tmp_path / "odd.tif", image[::-1].astype(np.uint16) * 257, ("a", "b", "c"))
    arguments = ["predict", str(folder), str(path), "-o", str(tmp_path / "map.tif")]
    refused = CliRunner().invoke(app, arguments)
    assert isinstance(refused.exception, DataError)
    done = CliRunner().invoke(app, [*arguments, "--bands", "3,2,1", "--scale", "1/257"])
    assert done.exit_code == 0, done.output
    with rasterio.open(tmp_path / "map.tif") as written:
        np.testing.assert_array_equal(written.read(1), right)
    for wrong in (
        ["--bands", "0,1,2"],
        ["--bands", "a"],
        ["--scale", "0"],
        ["--scale", "1/0"],
        ["--scale", "x"],
    ):
        assert CliRunner().invoke(app, [*arguments, *wrong]).exit_code == 2


def test_evaluate_takes_bands_and_leaves_the_plain_result_alone(folder, data, tmp_path):
    root = shutil.copytree(data, tmp_path / "data")
    plain = evaluate_run(folder, "test", data_root=data, output=tmp_path / "plain")
    write(root / "set/test/images/a.tif", ground(2)[0][::-1], ("a", "b", "c"), east=2000.0)
    arguments = ["evaluate", str(folder), "--data-root", str(root)]
    assert isinstance(CliRunner().invoke(app, arguments).exception, DataError)
    with pytest.warns(UserWarning, match="differs from the data that the run was trained with"):
        done = CliRunner().invoke(app, [*arguments, "--bands", "3, 2,1"])
    assert done.exit_code == 0, done.output
    (written,) = (folder / "evaluation").glob("on-data-*-test-exact-read-as-3_2_1/metrics.json")
    assert json.loads(written.read_text())["metrics"]["miou"] == pytest.approx(plain["miou"])
    assert not (folder / "evaluation" / "test-exact" / "metrics.json").exists()


def test_nodata_of_each_band_of_a_vrt(run, right, tmp_path):
    image, nodata = ground(2)[0].astype(np.uint16), (0, 65535, 65534)
    empty = np.zeros((SIDE, SIDE), bool)
    empty[20:30, 10:40] = True
    bands = ""
    for number, value in enumerate(nodata, start=1):
        stored = np.where(empty, value, image[number - 1]).astype(np.uint16)
        write(tmp_path / f"b{number}.tif", stored[None], (NAMES[number - 1],))
        bands += (
            f'<VRTRasterBand dataType="UInt16" band="{number}"><Description>{NAMES[number - 1]}</Description>'
            f"<NoDataValue>{value}</NoDataValue><SimpleSource>"
            f'<SourceFilename relativeToVRT="1">b{number}.tif</SourceFilename><SourceBand>1</SourceBand>'
            "</SimpleSource></VRTRasterBand>"
        )
    path = tmp_path / "scene.vrt"
    path.write_text(
        f'<VRTDataset rasterXSize="{SIDE}" rasterYSize="{SIDE}"><SRS>EPSG:2180</SRS>'
        f"<GeoTransform>0, 1, 0, 1000, 0, -1</GeoTransform>{bands}</VRTDataset>"
    )
    plain = write(tmp_path / "plain.tif", np.where(empty, 0, image).astype(np.uint16), nodata=0)
    found = predict_scene(run, path)
    np.testing.assert_array_equal(found == 255, empty)
    np.testing.assert_array_equal(found, predict_scene(run, plain))


def test_evaluation_reads_scenes_for_the_model_too(run, data, tmp_path):
    """The test split of a run, rewritten in another order and encoding, has the same score, or none."""
    truth = data / "set/test/masks/a.tif"
    image = ground(2)[0]
    expected = score_scenes(run, [Scene("a", data / "set/test/images/a.tif", truth, "")])[0].compute().matrix
    moved = write(
        tmp_path / "m.tif",
        image[::-1].astype(np.int16) + 1000,
        NAMES[::-1],
        offsets=[-1000.0] * 3,
        east=2000.0,
    )
    found = score_scenes(run, [Scene("a", moved, truth, "")])[0].compute().matrix
    np.testing.assert_array_equal(found, expected)
    wide = write(tmp_path / "w.tif", image.astype(np.uint16) * 257, east=2000.0)
    with pytest.raises(DataError, match="values must be encoded"):
        score_scenes(run, [Scene("a", wide, truth, "")])
    scaled = score_scenes(read_as(run, scale=1 / 257), [Scene("a", wide, truth, "")])[0].compute().matrix
    np.testing.assert_array_equal(scaled, expected)


def test_a_mixed_training_set_learns_from_one_encoding(tmp_path):
    """One of two training scenes in another order and with an offset: patches are those of plain scenes."""
    plain, mixed = tmp_path / "plain", tmp_path / "mixed"
    for root in (plain, mixed):
        for seed, (split, name) in enumerate([("train", "a"), ("train", "b"), ("val", "a")]):
            image, truth = ground(seed)
            options = {}
            if root == mixed and name == "b":
                image, options = moved(image)
            write(root / "set" / split / "images" / f"{name}.tif", image, east=1000.0 * seed, **options)
            write(root / "set" / split / "masks" / f"{name}.tif", truth[None], None, east=1000.0 * seed)
    first, second = (SceneDataModule(recipe(), root) for root in (plain, mixed))
    np.testing.assert_allclose(second.statistics.mean, first.statistics.mean, rtol=1e-6)
    for one, other in zip(first.train_dataloader(), second.train_dataloader(), strict=True):
        np.testing.assert_array_equal(other["mask"], one["mask"])
        np.testing.assert_allclose(other["image"], one["image"], atol=1e-5)


def test_a_validation_scene_in_another_encoding_shows_before_training(tmp_path):
    for seed, (split, factor) in enumerate((("train", 1), ("val", 257))):
        image, truth = ground(seed)
        write(tmp_path / "set" / split / "images/a.tif", image.astype(np.uint16) * factor, east=1000.0 * seed)
        write(tmp_path / "set" / split / "masks/a.tif", truth[None], None, east=1000.0 * seed)
    with pytest.raises(DataError, match=r"val.images.a\.tif: values must be encoded"):
        train(recipe(), tmp_path, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_maps_lie_on_the_resampled_grid(run, right, data, tmp_path):
    """Trained at 1 m a pixel: a scene of 0.5 m is mapped at 1 m, where `data.resolution` says so."""
    contract = run.statistics.contract.with_options(resolution=1.0)
    run = replace(run, statistics=replace(run.statistics, contract=contract))
    image, truth = ground(2)
    fine = write(tmp_path / "fine.tif", image.repeat(2, axis=1).repeat(2, axis=2), pixel=0.5)
    (output,) = write_map(run, fine, tmp_path / "map.tif")
    with rasterio.open(output) as written:
        assert tuple(written.transform)[:6] == (1.0, 0.0, 0.0, 0.0, -1.0, 1000.0)
        np.testing.assert_array_equal(written.read(1), right)
    mask = write(tmp_path / "mask.tif", truth[None].repeat(2, axis=1).repeat(2, axis=2), None, pixel=0.5)
    found = score_scenes(run, [Scene("a", fine, mask, "")])[0].compute().matrix
    plain = Scene("b", data / "set/test/images/a.tif", data / "set/test/masks/a.tif", "")
    np.testing.assert_array_equal(found, score_scenes(run, [plain])[0].compute().matrix)


def test_the_run_keeps_what_it_was_trained_on(folder):
    kept = json.loads((folder / "last" / META).read_text())["input"]
    assert [band["name"] for band in kept["bands"]] == list(NAMES)
    assert {band["dtype"] for band in kept["bands"]} == {"uint8"}
    assert kept["pixel_size_m"] == 1.0
    assert kept["known"]
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        run = load_run(folder, "last")
    assert run.statistics.contract.to_dict() == kept


def test_a_damaged_contract_is_no_unknown_one(folder, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    meta = json.loads((copy / "last" / META).read_text())
    meta["input"] = {"bands": []}
    (copy / "last" / META).write_text(json.dumps(meta))
    with pytest.raises((DataError, CheckpointError), match="`input` is damaged"):
        load_run(copy, "last")


# A run of before there was a contract


def old_scene(path):
    """Write a scene like those that the old run was trained on; return its true classes."""
    rng = np.random.default_rng(3)
    mask = np.zeros((48, 48), np.uint8)
    mask[:, int(rng.integers(16, 24)) :] = 7
    image = (40 + 20 * mask + rng.integers(0, 30, (2, 48, 48))).astype(np.uint8)
    write(path, image, None)
    return image, mask > 0


def test_a_run_of_an_earlier_version_is_used_with_one_warning(tmp_path):
    scene = tmp_path / "d.tif"
    _, truth = old_scene(scene)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always", UserWarning)
        run = load_run(OLD)
        labels = predict_scene(run, scene)
    said = [str(one.message) for one in seen if one.category is UserWarning]
    assert len(said) == 1
    assert "earlier version" in said[0]
    assert "old_run" in said[0]
    assert not run.statistics.contract.known
    assert (labels == truth).mean() > 0.995
    expected = np.load(OLD / "map.npy")  # as the version that trained it mapped the scene
    assert (labels == expected).mean() > 0.999


@pytest.mark.parametrize("factor", [257, 16, 1 / 255])
def test_a_run_of_an_earlier_version_still_judges_values(tmp_path, factor):
    image, _ = old_scene(tmp_path / "d.tif")
    dtype = np.uint16 if factor > 1 else np.float32
    other = write(tmp_path / "other.tif", (image * float(factor)).astype(dtype), None)
    run = load_run(OLD)
    with pytest.raises(DataError, match="values must be encoded"):
        predict_scene(run, other)
    expected = predict_scene(run, tmp_path / "d.tif")
    np.testing.assert_array_equal(predict_scene(read_as(run, scale=1 / factor), other), expected)
