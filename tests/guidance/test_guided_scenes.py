"""A frozen ViT beside scenes: what it sees, once a tile, in training, evaluation and maps alike."""

from __future__ import annotations

import json
import pickle
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import rasterio
import torch
from scene_runs import CLASSES, make_scene
from tiny_vits import TINY
from torch import nn

from qhybrid.config import DataConfig, Recipe, validated
from qhybrid.data.classes import ClassMap
from qhybrid.data.contract import InputContract
from qhybrid.data.contract_bands import BandInput
from qhybrid.data.raster import Window
from qhybrid.data.scene_datasets import open_dataset
from qhybrid.data.scenes import Scene
from qhybrid.data.statistics import BandStatistics, compute_statistics, first_contract
from qhybrid.errors import ConfigError
from qhybrid.evaluation import evaluate_run
from qhybrid.experiments.sweeps.training import recipe_key
from qhybrid.guidance import FrozenViT, Guidance, GuidanceOptions, SceneTokens, TokenCache
from qhybrid.inference.scene import iterate_probabilities
from qhybrid.inference.scene_model import window_probabilities
from qhybrid.models import build_model, check_begins, with_values
from qhybrid.training import load_run, train
from qhybrid.training.named_parts import named_parts

pytest.importorskip("transformers")

RANDOM = {"backbone": "random", "config": TINY, "tile": 32, "dim": 4, "heads": 2, "points": 2}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("guided")
    for number, split in enumerate(("train", "val", "test")):
        make_scene(folder / split, "a", 10 * number + 1, 40, 56)
        make_scene(folder / split, "b", 10 * number + 2, 37, 30)
    return folder


@pytest.fixture
def config():
    content = {"dataset": "geotiff_folder", "classes": CLASSES, "ignore_values": [99], "patch_size": 16}
    return DataConfig.model_validate({**content, "patches_per_epoch": 8})


@pytest.fixture
def looks(monkeypatch):
    """Count the images that pass the ViT."""
    seen = []
    maps = FrozenViT.maps

    def counted(self, image):
        seen.extend(image)
        return maps(self, image)

    monkeypatch.setattr(FrozenViT, "maps", counted)
    return seen


def guided(root, config, folder=None, keep=True, **keys):
    """Return guidance that sees by the training split, its scenes, and what gives their token maps."""
    options = validated(GuidanceOptions, {**RANDOM, **keys}, "model.guidance")
    scenes = open_dataset(config, root).scenes("train")
    statistics = compute_statistics(scenes, None, None)
    guidance = Guidance(options, [4, 4, 4, 4, 4], 3)
    guidance.see(statistics)
    cache = None if folder is None else TokenCache(folder)
    return guidance, scenes, SceneTokens(guidance, statistics, statistics.contract, keep=keep, cache=cache)


def expected_input(scene, rows, columns, low=0.0, high=255.0):
    """What the ViT gets of a part of a scene, by hand: [0, 1], then ImageNet's mean and deviation."""
    with rasterio.open(scene.image) as file:
        raw = file.read().astype(np.float64)
        empty = (file.read_masks() == 0).any(axis=0)
    values = (raw - np.reshape(low, (-1, 1, 1))) / np.reshape(np.subtract(high, low), (-1, 1, 1))
    mean, std = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    image = (values - np.reshape(mean, (3, 1, 1))) / np.reshape(std, (3, 1, 1))
    return torch.from_numpy(image[:, rows, columns]).float(), empty[rows, columns]


def test_the_vit_sees_bytes_as_it_was_trained_to(root, config, tmp_path):
    _, scenes, tokens = guided(root, config, tmp_path, tile=28)
    found = tokens._image(scenes[0], tokens._grid(scenes[0]).window(0, 1))
    expected, empty = expected_input(scenes[0], slice(0, 28), slice(28, 56))
    torch.testing.assert_close(found[:, ~empty], expected[:, ~empty], atol=1e-4, rtol=1e-4)


def test_bytes_that_a_recipe_scales_are_seen_as_bytes(root, config, tmp_path):
    plain = guided(root, config)[2]
    scaled = config.model_copy(update={"scale": 0.004})
    dataset = open_dataset(scaled, root)
    scenes = dataset.scenes("train")
    statistics = compute_statistics(scenes, contract=first_contract(dataset, scaled))
    guidance = Guidance(validated(GuidanceOptions, RANDOM, "model.guidance"), [4] * 5, 3)
    guidance.see(statistics)
    tokens = SceneTokens(guidance, statistics, statistics.contract, keep=False)
    window = tokens._grid(scenes[0]).window(0, 0)
    found, expected = tokens._image(scenes[0], window), plain._image(scenes[0], window)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_weights_to_start_from_do_not_say_how_the_vit_sees(root, config):
    before, new = guided(root, config)[0], guided(root, config, values="standardised")[0]
    expected = {name: one.clone() for name, one in new.named_buffers()}
    new.load_state_dict(before.state_dict())
    new.see(compute_statistics(open_dataset(config, root).scenes("train"), None, None))
    torch.testing.assert_close(dict(new.named_buffers()), expected)


def test_other_scalings(root, config, tmp_path):
    statistics = compute_statistics(open_dataset(config, root).scenes("train"), None, None)
    _, scenes, tokens = guided(root, config, tmp_path, values="percentiles")
    found = tokens._image(scenes[1], tokens._grid(scenes[1]).window(0, 0))
    expected, empty = expected_input(scenes[1], slice(0, 32), slice(0, 30), statistics.low, statistics.high)
    torch.testing.assert_close(found[:, ~empty], expected[:, ~empty], atol=1e-4, rtol=1e-4)
    plain = guided(root, config, tmp_path, values="standardised")[2]
    image = plain._image(scenes[1], tokens._grid(scenes[1]).window(0, 0))
    assert abs(image.mean()) < 1
    assert (image[:, empty] == 0).all()


def test_a_window_that_is_a_tile_has_its_map(root, config, tmp_path):
    """A scene of 40 x 56 pixels in one tile: 3 x 4 tokens, the rows resized from 40 to 42 pixels."""
    guidance, scenes, tokens = guided(root, config, tmp_path, tile=56)
    window = tokens._grid(scenes[0]).window(0, 0)
    expected = guidance.vit.maps(tokens._image(scenes[0], window)[None])[0]
    found = tokens(scenes[0], window)
    assert found.shape == (2, 16, 3, 4)
    torch.testing.assert_close(found.float(), expected.float(), atol=4e-3, rtol=4e-3)


def test_each_tile_passes_the_vit_once(root, config, tmp_path, looks):
    _, scenes, tokens = guided(root, config, tmp_path)
    done = []
    tokens.prepare(scenes, lambda *progress: done.append(progress))
    assert len(looks) == len(done) == 2 * 2 + 2 * 1
    assert done[-1] == (6, 6)
    again = guided(root, config, tmp_path)[2]
    pickled = pickle.loads(pickle.dumps(tokens))  # noqa: S301 - as a worker process gets it
    again.prepare(scenes)
    pickled.prepare(scenes)
    assert len(looks) == 6
    guided(root, config, tmp_path, layers=[0, 1])[2].prepare(scenes)
    assert len(looks) == 12


def test_a_gpu_is_given_back_before_training(root, config, tmp_path, monkeypatch):
    """Workers that find no tile on disk run the ViT on the processor, and may not touch a forked device."""
    guidance, scenes, tokens = guided(root, config, tmp_path)
    shape = guidance.options.maps, guidance.options.token_channels
    seen = []

    def maps(vit, image):
        seen.append(image.device.type)
        return torch.zeros(1, *shape, *vit.grid(*image.shape[-2:]), dtype=torch.float16)

    monkeypatch.setattr(FrozenViT, "maps", maps)
    for device, kept in (("cpu", True), ("meta", False)):
        guidance.vit._network = loaded = object()
        there = SceneTokens(
            guidance, tokens._statistics, tokens._contract, device=device, cache=TokenCache(tmp_path / device)
        )
        there.prepare(scenes)
        assert (guidance.vit._network is loaded) == kept
    assert seen == ["cpu"] * 6 + ["meta"] * 6


def test_changed_pixels_are_seen_anew(root, config, tmp_path, looks):
    shutil.copytree(root, tmp_path / "data")
    guided(tmp_path / "data", config, tmp_path / "tokens")[2].prepare(
        open_dataset(config, tmp_path / "data").scenes("train")
    )
    before = len(looks)
    options = guided(root, config, tmp_path / "tokens")
    with rasterio.open(tmp_path / "data" / "train" / "images" / "a.tif", "r+") as file:
        values = file.read()
        values[1, 5, 10] = 255 - values[1, 5, 10]
        file.write(values)
    scenes = open_dataset(config, tmp_path / "data").scenes("train")
    options[2].prepare(scenes)
    assert len(looks) == before + 1


def test_maps_are_not_kept_where_nobody_asks(root, config, tmp_path, looks):
    _, scenes, tokens = guided(root, config, tmp_path, keep=False)
    tokens.prepare(scenes)
    assert not list(tmp_path.rglob("*.safetensors"))
    _, scenes, tokens = guided(root, config, cache=False)
    assert not tokens.kept


def test_other_statistics_of_the_same_bytes_have_the_same_tiles(root, config, tmp_path, looks):
    """Folds differ in mean and deviation, which an image of bytes does not depend on where there are data."""
    scenes = open_dataset(config, root).scenes("train")
    options, images = validated(GuidanceOptions, RANDOM, "model.guidance"), []
    for some in (scenes, scenes[:1]):
        statistics = compute_statistics(some, None, None)
        guidance = Guidance(options, [4] * 5, 3)
        guidance.see(statistics)
        cache = TokenCache(tmp_path)
        tokens = SceneTokens(guidance, statistics, statistics.contract, cache=cache)
        grid = tokens._grid(scenes[0])
        images.append(tokens._image(scenes[0], grid.window(1, 1)))  # below the rows without data
        looks.clear()
        tokens._tile(scenes[0], grid, 1, 1, rows=1)
    assert torch.equal(*images)
    assert not looks
    expected, _ = expected_input(scenes[0], slice(8, 40), slice(24, 56))
    torch.testing.assert_close(images[0], expected, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("side", [16, 48, 64])
def test_each_tile_passes_the_vit_once_for_windows_of_any_size(root, config, looks, side):
    """Windows from left to right and from top to bottom, as `predict` reads them, and no room to spare."""
    guidance, _, _ = guided(root, config, tile=16)
    statistics = compute_statistics(open_dataset(config, root).scenes("train"), None, None)
    tokens = SceneTokens(guidance, statistics, statistics.contract, keep=False, cache=None, memory_mb=0)
    tokens._cache = None
    scene = Scene("a", root / "train" / "images" / "a.tif", None, "")
    for row in range(0, 40, 8):
        for column in range(0, 56, 8):
            tokens(scene, Window(row, column, side, side))
    assert len(looks) == 3 * 4


def test_damaged_files_are_computed_again(root, config, tmp_path, looks):
    _, scenes, tokens = guided(root, config, tmp_path)
    tokens.prepare(scenes)
    window = tokens._grid(scenes[0]).window(0, 0)
    before = tokens(scenes[0], window)
    for file in tmp_path.rglob("*.safetensors"):
        file.write_bytes(file.read_bytes()[:-1] + b"x")
    again = guided(root, config, tmp_path)[2]
    with pytest.warns(UserWarning, match="is damaged"):
        assert torch.equal(again(scenes[0], window), before)


def described(names, numbers=(1, 2, 3, 4)):
    bands = tuple(BandInput(number, name, dtype="uint16") for number, name in zip(numbers, names))
    many = len(bands)
    values = ((100.0,) * many, (20.0,) * many, (50.0,) * many, (150.0,) * many)
    return BandStatistics(tuple(numbers[:many]), *values, 10, contract=InputContract(bands))


@pytest.mark.parametrize(
    ("names", "bands", "places"),
    [
        (("B02", "B03", "B04", "B08"), ["B04", "B03", "B02"], [2, 1, 0]),
        (("B02", "B03", "B04", "B08"), ["b4", 2, "B02"], [2, 1, 0]),
        (("blue", "green", "red", "nir"), None, [2, 1, 0]),
        (("blue", "green", "red"), None, [2, 1, 0]),
        (("", "", ""), None, [0, 1, 2]),
        (("Band 1", "Band 2", "Band 3"), None, [0, 1, 2]),
        (("a", "b", "c", "d"), [4, 1, 1], [3, 0, 0]),
    ],
)
def test_bands_by_name_and_number(names, bands, places):
    guidance = Guidance(validated(GuidanceOptions, {**RANDOM, "bands": bands}, "x"), [4] * 5, len(names))
    guidance.see(described(names))
    assert guidance.bands.tolist() == places
    image = torch.randn(1, len(names), 28, 28)
    raw = image * 20 + 100
    low, high = 50, 150  # of 16 bits the percentiles
    mean, std = (torch.tensor(one)[:, None, None] for one in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    expected = ((raw[:, places] - low) / (high - low) - mean) / std
    torch.testing.assert_close(guidance.input_of(image), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("bands", "message"),
    [
        (None, r"takes 3 bands, but the model has 4, called 1 \(B02\), 2"),
        (["red", 1, 2], "names `red`, but"),
    ],
)
def test_unknown_bands_are_refused(bands, message):
    guidance = Guidance(validated(GuidanceOptions, {**RANDOM, "bands": bands}, "x"), [4] * 5, 4)
    with pytest.raises(ConfigError, match=message):
        guidance.see(described(("B02", "B03", "B04", "B08")))


@pytest.mark.parametrize("names", [("B02", "B03", "B04"), ("nir", "red", "green"), ("VV", "VH", "")])
def test_three_bands_that_are_called_otherwise_are_not_taken_for_colours(names):
    guidance = Guidance(validated(GuidanceOptions, RANDOM, "x"), [4] * 5, 3)
    with pytest.raises(ConfigError, match=r"`guidance.bands` is needed: .* red, green and blue.*\[1, 2, 3\]"):
        guidance.see(described(names))
    as_they_come = validated(GuidanceOptions, {**RANDOM, "bands": [1, 2, 3]}, "x")
    taken = Guidance(as_they_come, [4] * 5, 3)
    taken.see(described(names))
    assert taken.bands.tolist() == [0, 1, 2]


class Comparing(nn.Module):
    """Wants tokens that are the image itself on a coarser grid."""

    def forward(self, images, tokens=None):
        coarse = torch.nn.functional.avg_pool2d(images, 4)[:, None]
        torch.testing.assert_close(tokens, coarse, atol=1e-6, rtol=0)
        return torch.cat([images, -images], dim=1)


def test_orientations_turn_the_maps_with_the_windows():
    classes = ClassMap(("a", "b"), ("#000000", "#ffffff"), ((0,), (1,)))
    recipe = SimpleNamespace(training=SimpleNamespace(channels_last=False))
    run = SimpleNamespace(model=Comparing(), recipe=recipe, classes=classes)
    images = torch.randn(3, 1, 16, 16)
    tokens = torch.nn.functional.avg_pool2d(images, 4)[:, None]
    window_probabilities(run, list(images.numpy()), torch.device("cpu"), "x", 8, tokens)
    with pytest.raises(AssertionError):
        window_probabilities(run, list(images.numpy()), torch.device("cpu"), "x", 1, tokens.flip(-1))


def recipe_of(config, **model):
    section = {"name": "unet", "widths": [4, 4, 4, 4, 4], "guidance": RANDOM, **model}
    training = {"epochs": 1, "batch_size": 4, "progress": False}
    data = {**config.model_dump(mode="json"), "root": "."}
    return validated(Recipe, {"name": "guided", "data": data, "model": section, "training": training}, "r")


@pytest.mark.parametrize(
    "model", [{"name": "unet_vit_concat"}, {"guidance": RANDOM}], ids=["concat", "dmcaf"]
)
def test_training_evaluation_and_maps(root, config, tmp_path, looks, model, monkeypatch):
    monkeypatch.setenv("QHYBRID_CACHE", str(tmp_path / "cache"))
    folder = train(recipe_of(config, **model), root, tmp_path / "run")
    meta = json.loads((folder / "best" / "meta.json").read_text())["model"]
    assert meta["guidance"]["label"] == "random frozen ViT, not comparable"
    # The small image of the check, tiles of training and validation, windows of the pictures.
    tiles = [image for image in looks if image.shape[1] in (30, 32, 37)]
    assert len(tiles) == 12
    result = evaluate_run(folder, data_root=root)
    assert 0 <= result["miou"] <= 1
    looks.clear()
    run = load_run(folder)
    assert run.model.guidance.gain.tolist() != [1, 1, 1]
    scene = root / "test" / "images" / "a.tif"
    blocks = [block.probabilities for block in iterate_probabilities(run, scene)]
    assert len(looks) == 0  # evaluation has kept the tiles of this scene
    kept = [block.probabilities for block in iterate_probabilities(run, Scene("a", scene, None, ""))]
    for one, other in zip(blocks, kept, strict=True):
        assert np.array_equal(one, other, equal_nan=True)
    monkeypatch.setenv("QHYBRID_CACHE", str(tmp_path / "empty"))
    with_vit = [block.probabilities for block in iterate_probabilities(load_run(folder), scene)]
    assert len(looks) == 4
    for one, other in zip(blocks, with_vit, strict=True):
        assert np.array_equal(one, other, equal_nan=True)
    assert not list((tmp_path / "empty").rglob("*.safetensors"))
    image = torch.randn(1, 3, 16, 16)
    with torch.no_grad():
        other = torch.zeros_like(run.model.guidance.maps_of(image))
        assert not torch.equal(run.model(image), run.model(image, other))


def test_what_is_wrong_is_said_before_data_are_read(saved_vit, tmp_path):
    _, folder = saved_vit()
    check_begins({"name": "unet", "guidance": str(folder)})
    for file in folder.glob("*.safetensors"):
        file.unlink()
    with pytest.raises(ConfigError, match="must hold pretrained weights"):
        check_begins({"name": "unet", "guidance": str(folder)})


def test_whole_images_have_no_tiles():
    with pytest.raises(ConfigError, match="`model.guidance` is for data sets of scenes"):
        with_values({"name": "unet", "guidance": RANDOM}, "zero_to_one")
    assert with_values({"name": "unet", "guidance": "none"}, "zero_to_one")["guidance"] == "none"


def test_a_recipes_vit_is_part_of_its_identity(saved_vit, config):
    folders = [str(saved_vit(seed=seed, name=f"v{seed}")[1]) for seed in (0, 1)]
    recipes = [recipe_of(config, guidance={"backbone": one}) for one in folders]
    assert named_parts(recipes[0])["model.guidance"] != named_parts(recipes[1])["model.guidance"]
    assert "model.guidance" not in named_parts(recipe_of(config, guidance=None))
    assert len({recipe_key(one) for one in recipes}) == 2


def test_build_is_the_same_with_files_and_without(saved_vit):
    _, folder = saved_vit()
    base = {"name": "unet", "in_channels": 3, "num_classes": 2, "patch_size": 16, "widths": [4] * 5}
    model = build_model({**base, "guidance": {"backbone": str(folder), "dim": 4}})
    for file in folder.iterdir():
        file.unlink()
    again = build_model(model.config)
    assert again.config == model.config
    assert {n: v.shape for n, v in again.state_dict().items()} == {
        n: v.shape for n, v in model.state_dict().items()
    }
