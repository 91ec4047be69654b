"""Surrogates find what they can represent, and R^2 is what its formula says."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from qhybrid.circuits import build_circuit
from qhybrid.engines import make_engine
from qhybrid.evaluation.diagnosis.surrogates import explained, fit_surrogate, parts_of


def angles(count, inputs=3, seed=0):
    return 4 * torch.rand(count, inputs, generator=torch.Generator().manual_seed(seed)) - 2


def linear(x):
    return torch.stack([x @ torch.tensor([1.0, -2.0, 0.5]) + 3, x[:, 0]], dim=1)


def quadratic(x):
    return (x[:, :1] * x[:, 1:2] - 0.5 * x[:, 2:] ** 2 + x[:, :1]) + 1


def waves(x):
    return torch.cos(math.pi * x[:, :1]) * torch.sin(math.pi * x[:, 1:2]) + 0.3 * torch.cos(
        math.pi * x[:, 2:]
    )


CASES = {"linear": linear, "quadratic": quadratic, "fourier": waves}


@pytest.mark.parametrize("kind", CASES)
def test_each_finds_its_own_kind_of_function(kind):
    train, test = angles(200), angles(100, seed=1)
    found = fit_surrogate(kind, train, CASES[kind](train), torch.arange(200) % 5)
    assert explained(CASES[kind](test), found(test)) > 0.9999


def test_weaker_ones_do_not_find_what_they_cannot_represent():
    train, test = angles(200), angles(200, seed=1)
    parts = torch.arange(200) % 5
    by_lines = fit_surrogate("linear", train, quadratic(train), parts)(test)
    # The best a linear map can do, by least squares on very many points.
    many = angles(20_000, seed=2).double()
    ones = torch.cat([torch.ones(len(many), 1), many], dim=1).double()
    best = torch.linalg.lstsq(ones, quadratic(many)).solution
    expected = torch.cat([torch.ones(200, 1), test], dim=1).double() @ best
    assert explained(quadratic(test), by_lines) == pytest.approx(
        explained(quadratic(test), expected), abs=0.05
    )
    assert explained(waves(test), fit_surrogate("quadratic", train, waves(train), parts)(test)) < 0.6


def test_a_circuit_is_a_sum_of_waves():
    spec = build_circuit("hq_unet_qcnn", grid=2)
    weights = torch.linspace(-1, 1, spec.num_weights)
    train, test = angles(400, spec.num_inputs) / 2, angles(100, spec.num_inputs, 1) / 2
    engine = make_engine("exact")
    outputs = [engine.expectations(spec, part, weights) for part in (train, test)]
    found = fit_surrogate("fourier", train, outputs[0], torch.arange(400) % 5)
    assert explained(outputs[1], found(test)) > 0.85
    lines = fit_surrogate("linear", train, outputs[0], torch.arange(400) % 5)
    assert explained(outputs[1], lines(test)) < 0.7


def test_noise_is_not_learned():
    generator = torch.Generator().manual_seed(5)
    noise = torch.randn(300, 2, generator=generator)
    found = fit_surrogate("fourier", angles(150, 40), noise[:150], torch.arange(150) % 5)
    assert -0.2 < explained(noise[150:], found(angles(150, 40, 1))) < 0.1


def test_explained_variance_by_its_formula():
    truth, guess = np.random.default_rng(0).normal(size=(2, 30, 2))
    expected = 1 - ((truth - guess) ** 2).sum() / ((truth - truth.mean(axis=0)) ** 2).sum()
    assert explained(torch.tensor(truth), torch.tensor(guess)) == pytest.approx(expected)
    assert explained(torch.tensor(truth), torch.tensor(truth)) == 1
    assert math.isnan(explained(torch.full((5, 1), 0.3), torch.zeros(5, 1)))


def test_parts_keep_groups_together():
    groups = torch.tensor([7] * 10 + [2] * 6 + [9] * 6 + [4] * 3 + [5] * 2 + [6] * 2 + [1])
    parts = parts_of(groups)
    assert all(len(set(parts[groups == group].tolist())) == 1 for group in groups.unique())
    assert sorted(torch.bincount(parts).tolist()) == [4, 4, 6, 6, 10]
    assert parts_of(torch.tensor([1, 1, 2])).tolist() == [0, 0, 1]
