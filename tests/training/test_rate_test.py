"""The range test: a loss whose best rate is known, what stays untouched, scenes and images."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from qhybrid.cli.main import execute
from qhybrid.config import Recipe, validated
from qhybrid.errors import ConfigError, TrainingError
from qhybrid.training.rate_test import RateRamp, RateTest, find_rate, save_rate_test, smooth

IMAGES = {
    "name": "digits",
    "data": {"dataset": "digits"},
    "model": {"name": "cnn", "channels": [4]},
    "training": {"batch_size": 32, "progress": False, "learning_rate": 0.002},
}


def tiny(content, **model):
    content = content(learning_rate=0.004, quantum_learning_rate=0.02, schedule="constant")
    content["model"] |= model
    return validated(Recipe, content, "test")


def test_smoothed_losses_by_hand():
    assert smooth([2.0, 4.0]) == pytest.approx([2.0, (0.9 * 0.1 * 2 + 0.1 * 4) / (1 - 0.81)])


@pytest.mark.parametrize("noise", [0.0, 0.1])
@pytest.mark.parametrize("ran_away", [False, True])
def test_the_suggestion_is_where_a_known_curve_is_steepest(noise, ran_away):
    """A logistic fall of the loss over the logarithm of the rate is steepest at its centre, 1e-3."""
    rates = np.geomspace(1e-6, 1, 100)
    losses = 1 - 1 / (1 + np.exp(-2 * (np.log10(rates) + 3)))
    losses += np.where(rates > 0.1, (1e6 if ran_away else 3) * (np.log10(rates) + 1), 0)
    losses += noise * np.random.default_rng(0).standard_normal(100)
    found = RateTest.of(rates.tolist(), losses.tolist(), ran_away)
    assert math.log10(found.suggestion) == pytest.approx(-3, abs=0.6 if noise else 0.1)
    assert 0.015 < found.lowest < 0.2  # where half a window of steps begins to see the end


def test_losses_without_a_fall_give_no_suggestion():
    rates = np.geomspace(1e-6, 1, 50).tolist()
    with pytest.raises(TrainingError, match="fallen at no rate"):
        RateTest.of(rates, np.linspace(1, 2, 50).tolist(), False)
    with pytest.raises(TrainingError, match="at least 10 steps before the loss runs away, but has 4"):
        RateTest.of(rates[:4], [1.0, 2.0, 9.0, 99.0], True)


def test_groups_keep_the_proportions_of_their_rates(tiny_data, tiny_content, monkeypatch):
    """Each step's rates as the optimiser gets them: the circuit's is five times the others'."""
    seen, original = [], torch.optim.AdamW.step

    def step(self, closure=None):
        result = original(self, closure)
        seen.append([group["lr"] for group in self.param_groups])
        return result

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    found = find_rate(tiny(tiny_content), tiny_data, lowest=1e-5, highest=1e-1, steps=12)
    assert len(found.rates) == 12
    np.testing.assert_allclose([rates[0] for rates in seen[:11]], found.rates[:11])
    np.testing.assert_allclose([rates[2] / rates[0] for rates in seen], 5)


@pytest.mark.parametrize("kind", ["scenes", "images"])
def test_nothing_is_touched_and_a_second_test_finds_the_same(
    kind, tiny_data, tiny_content, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    recipe = tiny(tiny_content) if kind == "scenes" else validated(Recipe, IMAGES, "test")
    torch.manual_seed(1)
    before = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    first = find_rate(recipe, tiny_data, steps=30)
    assert torch.equal(before[0], torch.random.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()  # noqa: NPY002
    assert first == find_rate(recipe, tiny_data, steps=30)
    assert list(tmp_path.iterdir()) == []
    assert first.rates[0] == pytest.approx(1e-6)
    assert 1e-6 < first.suggestion < first.rates[-1]


def test_a_loss_that_runs_away_ends_the_test(tiny_data, tiny_content):
    recipe = tiny(tiny_content, name="unet", grid=None)
    del recipe.model["grid"]
    found = find_rate(recipe, tiny_data, lowest=1e-4, highest=1e6, steps=60)
    assert found.diverged
    assert len(found.rates) < 60
    assert found.suggestion < 1e2


def test_wrong_rates(tiny_data, tiny_content):
    for wrong in ({"lowest": 0.0}, {"lowest": 1.0, "highest": 0.1}, {"steps": 3}):
        with pytest.raises(ConfigError, match="must go up from a rate above 0 in at least 10 steps"):
            find_rate(tiny(tiny_content), tiny_data, **wrong)


def test_the_command_prints_and_draws(tmp_path, monkeypatch, capsys):
    from qhybrid.config import to_yaml

    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits.yaml").write_text(to_yaml(IMAGES))
    assert execute(["train", "digits.yaml", "--find-rate"]) == 0
    printed = capsys.readouterr().out
    assert "suggested learning rate: " in printed
    assert "(recipe: 0.002)" in printed
    (folder,) = (tmp_path / "runs" / "digits").iterdir()
    assert {file.name for file in folder.iterdir()} == {"rate_test.csv", "rate_test.png"}
    rows = (folder / "rate_test.csv").read_text().splitlines()
    assert rows[0] == "learning_rate,loss,smoothed_loss"
    assert execute(["train", "digits.yaml", "--find-rate", "--seeds", "0-1"]) == 2


def test_a_picture_of_a_test_that_ran_away(tmp_path):
    rates = np.geomspace(1e-6, 1, 50).tolist()
    losses = [*np.linspace(2, 1, 45).tolist(), 4.0, 50.0, 900.0, 1e6, 1e9]
    picture = save_rate_test(RateTest.of(rates, losses, True), tmp_path)
    assert picture.stat().st_size > 5000
    assert RateRamp(1e-3, 1e-1, 3, lambda *_: None).planned == pytest.approx([1e-3, 1e-2, 1e-1])


def test_test_scenes_that_cannot_be_read_do_not_matter(tmp_path, tiny_data, tiny_content):
    data = Path(shutil.copytree(tiny_data, tmp_path / "data"))
    (data / "tiny" / "test" / "images" / "d.tif").write_bytes(b"damaged")
    assert find_rate(tiny(tiny_content), data, lowest=1e-5, highest=1e-1, steps=12).losses
