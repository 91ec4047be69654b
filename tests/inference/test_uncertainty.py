"""Entropy and spread over draws, against values by hand and against maps drawn one by one."""

from dataclasses import replace

import numpy as np
import pytest
import rasterio
import torch

from qhybrid.circuits import build_circuit
from qhybrid.engines import make_engine
from qhybrid.engines.base import Engine
from qhybrid.errors import ConfigError, EngineError
from qhybrid.inference import MapOptions, iterate_probabilities, predict_scene, uncertainty_path, write_map
from qhybrid.inference.uncertainty import entropy, spread
from qhybrid.layers import QuantumLayer

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


def test_entropy_in_bits():
    p = np.array([[0.5, 1.0, 0.25, np.nan], [0.25, 0.0, 0.25, np.nan], [0.25, 0.0, 0.5, np.nan]], np.float32)
    found = entropy(p[:, None])
    np.testing.assert_allclose(found, [[1.5, 0.0, 1.5, np.nan]], atol=1e-6)
    np.testing.assert_allclose(entropy(np.full((8, 1, 1), 0.125, np.float32)), 3.0, atol=1e-6)


def test_spread_by_hand():
    # One pixel, four draws of three classes. Own classes: 0, 1, 0, 2; the mean is 0.4, 0.325, 0.275.
    draws = np.array(
        [[0.7, 0.2, 0.1], [0.2, 0.6, 0.2], [0.5, 0.3, 0.2], [0.2, 0.2, 0.6]], dtype=np.float32
    ).reshape(4, 3, 1, 1)
    found = spread(draws)
    first = np.array([0.7, 0.2, 0.5, 0.2])
    deviation = np.sqrt(((first - 0.4) ** 2).sum() / 3)
    np.testing.assert_allclose(found.ravel(), [deviation, 0.5], atol=1e-6)
    np.testing.assert_array_equal(spread(np.repeat(draws[:1], 4, axis=0)).ravel(), [0, 0])
    assert np.isnan(spread(np.full((2, 3, 1, 1), np.nan, np.float32))).all()


class Circuit(torch.nn.Module):
    """Class probabilities from one circuit a window, with a place of their own for each pixel."""

    def __init__(self):
        super().__init__()
        self.quantum = QuantumLayer(
            build_circuit("hq_unet_qcnn", grid=2), make_engine("exact", shots=20, seed=5)
        )
        with torch.no_grad():
            self.quantum.weight.copy_(torch.linspace(0, 2, self.quantum.weight.numel()))

    def forward(self, images):
        angles = images.mean(dim=(1, 2, 3))[:, None].expand(-1, 12) + torch.linspace(0, 1, 12)
        values = self.quantum(angles)[:, :3, None, None]
        return 0.3 * images[:, :1] + values * torch.tensor([1.0, -1.0, 2.0])[:, None, None]


@pytest.fixture
def noisy(run):
    return replace(run, model=Circuit().eval(), patch_size=16)


@pytest.fixture
def scene(write_raster):
    image = np.random.default_rng(4).integers(1, 256, (2, 40, 50), dtype=np.uint8)
    image[:, 30:, :20] = 0
    return write_raster(image, nodata=0)


def bands(path):
    with rasterio.open(path) as file:
        return file.read(), file.descriptions


def test_bands_of_draws(noisy, scene, tmp_path):
    wanted = MapOptions(uncertainty=True, probabilities=True, draws=6, seed=3)
    labels, probabilities, file = write_map(noisy, scene, tmp_path / "map.tif", options=wanted)
    assert file == uncertainty_path(labels) == tmp_path / "map_uncertainty.tif"
    found, names = bands(file)
    assert names == ("entropy", "winner_std", "disagreement")
    mean, _ = bands(probabilities)
    np.testing.assert_allclose(found[0], entropy(mean), atol=1e-6)

    blocks = list(iterate_probabilities(noisy, scene, draws=6, seed=3))
    draws = np.concatenate([block.draws for block in blocks], axis=2)
    np.testing.assert_allclose(mean, draws.mean(axis=0), atol=1e-6)
    np.testing.assert_array_equal(found[1:], spread(draws))
    valid = np.isfinite(mean).all(axis=0)
    assert (np.isfinite(found).all(axis=0) == valid).all()
    assert not valid[30:, :20].any()
    assert found[1][valid].min() > 0
    own = draws[:, :, valid].argmax(axis=1)
    votes = np.apply_along_axis(lambda column: np.bincount(column, minlength=3).max(), 0, own)
    np.testing.assert_allclose(found[2][valid], 1 - votes / 6, atol=1e-6)
    np.testing.assert_array_equal(bands(labels)[0][0][valid], mean[:, valid].argmax(axis=0))
    # The first draw is the map of that seed without draws.
    one = np.concatenate(
        [block.probabilities for block in iterate_probabilities(noisy, scene, seed=3)], axis=1
    )
    np.testing.assert_array_equal(one, draws[0])


def test_same_seed_same_bands_in_any_strips(noisy, scene, tmp_path):
    def made(name, **options):
        wanted = MapOptions(uncertainty=True, draws=3, **options)
        return write_map(noisy, scene, tmp_path / f"{name}.tif", options=wanted)[1].read_bytes()

    first = made("a", seed=1)
    assert made("b", seed=1) == first
    assert made("c", seed=2) != first


def test_draws_need_something_random(run, noisy, scene, tmp_path):
    exact = replace(noisy, model=Circuit())
    exact.model.quantum.engine = make_engine("exact")
    for model in (run, exact):
        with pytest.raises(ConfigError, match="--shots"):
            write_map(model, scene, tmp_path / "map.tif", options=MapOptions(draws=4))
    with pytest.raises(ConfigError, match="at least 2"):
        write_map(noisy, scene, tmp_path / "map.tif", options=MapOptions(draws=1))
    assert not list(tmp_path.glob("*map*"))


def test_engines_that_cannot_be_seeded_map_without_draws(noisy, scene, tmp_path, monkeypatch):
    monkeypatch.setattr(type(noisy.model.quantum.engine), "reseed", Engine.reseed)
    write_map(noisy, scene, tmp_path / "map.tif")
    with pytest.raises(EngineError, match="start its random numbers anew"):
        write_map(noisy, scene, tmp_path / "draws.tif", options=MapOptions(draws=2))


def test_entropy_alone_needs_no_draws(run, scene, tmp_path):
    _, file = write_map(run, scene, tmp_path / "map.tif", options=MapOptions(uncertainty=True))
    found, names = bands(file)
    assert names == ("entropy",)
    labels = predict_scene(run, scene)
    assert (np.isfinite(found[0]) == (labels != 255)).all()
    assert np.nanmax(found) <= np.log2(3) + 1e-6
