"""What stands in a circuit's place: values by hand, numbers of weights, shapes, gradients."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from qhybrid.layers.controls import (
    FourierFeatures,
    HashedLayer,
    NeighbourMeans,
    RawProducts,
    SmallMLP,
    ZeroFilter,
)

SIZES = st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(0, 60))


def trained(module):
    return sum(part.numel() for part in module.parameters() if part.requires_grad)


def test_zeros_have_the_shape_that_was_asked_for():
    values = torch.rand(2, 3, 4)
    assert ZeroFilter()(values).shape == (2, 3, 4)
    assert ZeroFilter(5)(values).shape == (2, 3, 5)
    assert not ZeroFilter(5)(values).any()


def test_means_of_neighbours_by_hand():
    values = torch.tensor([[1.0, 3.0, 5.0]])
    assert NeighbourMeans(3, 3)(values) is values
    assert NeighbourMeans(3, 1)(values).tolist() == [[3.0]]
    # Inputs 0 to 1 and 1 to 2.
    assert NeighbourMeans(3, 2)(values).tolist() == [[2.0, 4.0]]
    assert NeighbourMeans(3, 6)(values).tolist() == [[1.0, 1.0, 3.0, 3.0, 5.0, 5.0]]


@given(st.integers(1, 12), st.integers(1, 12))
def test_means_of_neighbours_are_those_of_the_formula(inputs, outputs):
    values = torch.arange(2 * inputs, dtype=torch.float64).reshape(2, inputs) ** 2
    found = NeighbourMeans(inputs, outputs)(values)
    for k in range(outputs):
        first, last = k * inputs // outputs, math.ceil((k + 1) * inputs / outputs)
        assert found[:, k].numpy() == pytest.approx(values[:, first:last].mean(dim=1).numpy())


def test_products_by_hand():
    found = RawProducts(3)(torch.tensor([[[2.0, 3.0, 5.0]]]))
    assert found.tolist() == [[[2, 3, 5, 6, 10, 15]]]
    assert RawProducts(4).outputs == 10
    assert RawProducts(1)(torch.ones(2, 1)).shape == (2, 1)


@given(SIZES)
def test_no_layer_has_more_weights_than_the_circuit_where_that_is_possible(sizes):
    inputs, outputs, weights = sizes
    assert trained(HashedLayer(inputs, outputs, weights)) == min(weights, inputs * outputs)
    assert trained(FourierFeatures(inputs, outputs, weights)) <= weights
    if weights:
        # One hidden unit more or less is further from the number of weights.
        found, step = trained(SmallMLP(inputs, outputs, weights)), inputs + outputs + 1
        least = inputs + 1 + 2 * outputs
        assert found == least or abs(found - weights) <= step / 2


@given(SIZES)
def test_all_map_any_leading_dimensions_and_say_what_they_are(sizes):
    inputs, outputs, weights = sizes
    for kind in (SmallMLP, FourierFeatures, HashedLayer):
        layer = kind(inputs, outputs, weights)
        assert layer(torch.rand(2, 3, inputs)).shape == (2, 3, outputs)
        assert str(inputs) in layer.words or str(outputs) in layer.words or "features" in layer.words


def test_every_weight_of_a_hashed_layer_has_a_gradient_and_places_are_spread():
    layer = HashedLayer(48, 32, 8)
    layer(torch.rand(5, 48)).sum().backward()
    assert (layer.weight.grad != 0).all()
    chosen, signs = layer.get_buffer("chosen"), layer.get_buffer("signs")
    assert torch.bincount(chosen.flatten()).tolist() == [192] * 8
    assert abs(float(signs.sign().mean())) < 0.1
    rows = {tuple(row.tolist()) for row in chosen}
    assert len(rows) == 32  # no two outputs share their weights alike


def test_hashed_layer_against_numpy():
    layer = HashedLayer(3, 2, 4).double()
    values = torch.rand(5, 3, dtype=torch.float64)
    weight = layer.weight.detach().numpy()
    chosen, signs = layer.get_buffer("chosen").numpy(), layer.get_buffer("signs").double().numpy()
    assert np.allclose(abs(signs), 1 / math.sqrt(3))
    expected = np.tanh(values.numpy() @ (weight[chosen] * signs).T)
    assert layer(values).detach().numpy() == pytest.approx(expected)


def test_fourier_features_against_numpy_in_their_three_forms():
    values = torch.rand(4, 3, dtype=torch.float64)
    for weights, trained_numbers in ((1, 0), (3, 2), (9, 8)):
        torch.manual_seed(0)
        layer = FourierFeatures(3, 2, weights).double()
        assert trained(layer) == trained_numbers
        frequencies, phases = (layer.get_buffer(name).numpy() for name in ("frequencies", "phases"))
        expected = np.cos(values.numpy() @ frequencies.T + phases)
        if weights == 3:
            expected = expected * layer.weight.detach().numpy()
        if weights == 9:
            expected = expected @ layer.weight.detach().numpy().T
        assert layer(values).detach().numpy() == pytest.approx(expected)


def test_features_give_the_kernel_that_is_said():
    """Mean of 2 cos(w x + b) cos(w y + b) over features is exp(-|x - y|^2 / n)."""
    torch.manual_seed(0)
    layer = FourierFeatures(3, 20_000, 0).double()
    x, y = torch.tensor([0.2, -0.4, 1.0]).double(), torch.tensor([0.5, 0.3, 0.1]).double()
    kernel = 2 * float((layer(x[None]) * layer(y[None])).mean())
    assert kernel == pytest.approx(math.exp(-float(((x - y) ** 2).sum()) / 3), abs=0.03)
