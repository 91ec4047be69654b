"""QuFeX bottleneck: against a loop over patches, one engine call a filter, gradients; and its stand-in."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from counting_engine import CountingEngine

from qhybrid.circuits import build_circuit
from qhybrid.errors import ConfigError
from qhybrid.layers import PairwiseFilter, QuantumLayer, QuFeXBottleneck


def bottleneck(patch=(2, 2), maps=1, filters=2, engine=None):
    size = patch[0] * patch[1] * maps
    specs = [build_circuit(f"qufex_filter{number + 1}", num_qubits=size) for number in range(filters)]
    return QuFeXBottleneck([QuantumLayer(spec, engine) for spec in specs], patch, maps)


@pytest.mark.parametrize(("patch", "maps"), [((2, 2), 1), ((3, 2), 1), ((2, 2), 2), ((2, 1), 3)])
def test_equals_a_loop_over_patches(patch, maps):
    torch.manual_seed(0)
    layer = bottleneck(patch, maps)
    features = torch.randn(2, 2 * maps, 2 * patch[0], 3 * patch[1], dtype=torch.float64)
    expected = []
    for core in layer.filters:
        result = features.clone()
        for b in range(2):
            for g in range(0, 2 * maps, maps):
                for r in range(0, features.shape[2], patch[0]):
                    for c in range(0, features.shape[3], patch[1]):
                        place = (b, slice(g, g + maps), slice(r, r + patch[0]), slice(c, c + patch[1]))
                        values = [
                            features[b, g + m, r + i, c + j]
                            for i in range(patch[0])
                            for j in range(patch[1])
                            for m in range(maps)
                        ]
                        out = core(torch.stack(values)[None])[0].reshape(*patch, maps)
                        result[place] += out.permute(2, 0, 1)
        expected.append(result)
    torch.testing.assert_close(layer(features), torch.cat(expected, 1), atol=1e-10, rtol=0)


def test_one_engine_call_a_filter():
    engine = CountingEngine()
    bottleneck(engine=engine)(torch.randn(3, 8, 6, 8))
    assert engine.batches == [3 * 96, 3 * 96]


def test_gradients_reach_features_and_angles():
    torch.manual_seed(1)
    layer = bottleneck().double()
    features = torch.randn(1, 1, 2, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layer, (features,))
    layer(features).square().sum().backward()
    assert all(core.weight.grad.abs().min() > 0 for core in layer.filters)


def test_half_precision_features_keep_their_dtype():
    features = torch.randn(1, 1, 2, 2)
    layer = bottleneck()
    with torch.autocast("cpu", torch.bfloat16):
        found = layer(features.bfloat16())
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), layer(features), atol=0.05, rtol=0.05)


def test_patches_that_do_not_tile():
    with pytest.raises(ConfigError, match="Patches of 2 x 2 must tile"):
        bottleneck()(torch.zeros(1, 1, 3, 2))


@pytest.mark.parametrize(("patch", "maps"), [((0, 2), 1), ((2, 0), 1), ((2, 2), 0), ((-1, 2), 2)])
def test_patches_without_values(patch, maps):
    with pytest.raises(ConfigError, match="at least 1 pixel each way and 1 map"):
        QuFeXBottleneck([], patch, maps)


@pytest.mark.parametrize("name", ["qcnn", "qufex_filter1"])
def test_circuits_that_do_not_fit_the_patch(name):
    spec = build_circuit(name, num_qubits=4) if name != "qcnn" else build_circuit(name)
    with pytest.raises(ConfigError, match=f"`{name}` must have one input and one observable for each of the"):
        QuFeXBottleneck([QuantumLayer(spec)], (2, 2), 2)


@pytest.mark.parametrize("size", [4, 5, 6, 8, 12])
def test_stand_in_against_a_loop(size):
    torch.manual_seed(size)
    layer = PairwiseFilter(size)
    rows = torch.randn(3, size)
    half, quarter = size // 2, size // 4
    first = [(2 * i, 2 * i + 1) for i in range(half)] + [(2 * i - 1, 2 * i) for i in range(1, half)]
    second = [(4 * i, 4 * i + 2) for i in range(quarter)] + [(4 * i - 2, 4 * i) for i in range(1, quarter)]
    values = np.cos(np.pi * rows.numpy())
    weight = layer.weight.detach().numpy()
    for pairs, (other, own) in ((first, weight[:2]), (second, weight[2:])):
        for a, b in pairs:
            values[:, b] = np.tanh(other * values[:, a] + own * values[:, b])
    np.testing.assert_allclose(layer(rows).detach().numpy(), values, atol=1e-5)
    layer(rows).sum().backward()
    assert layer.weight.grad.abs().min() > 0


def test_stand_in_has_the_circuits_shape():
    spec = build_circuit("qufex_filter1", num_qubits=6)
    layer = PairwiseFilter(6)
    assert sum(parameter.numel() for parameter in layer.parameters()) == spec.num_weights
    assert layer(torch.zeros(2, spec.num_inputs)).shape == (2, spec.num_observables)
    assert list(layer.state_dict()) == ["weight"]
