"""The classical classifier against its formula, and against what it stands for."""

from __future__ import annotations

import math

import pytest
import torch

from qhybrid.circuits import build_circuit
from qhybrid.layers import LayeredClassifier, QuantumLayer


def test_value_by_hand():
    layer = LayeredClassifier(reps=1)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[0.5, 2.0], [1.5, 9.0]]))
    x, y = 0.3, -0.7
    first, second = math.tanh(0.5 * (x + y)), math.tanh(2.0 * (x - y))
    expected = math.tanh(1.5 * (first + second))
    assert layer(torch.tensor([[x, y]])).item() == pytest.approx(expected, abs=1e-6)


def test_gradients():
    layer = LayeredClassifier(reps=2).double()
    assert torch.autograd.gradcheck(layer, (torch.randn(3, 2, dtype=torch.float64, requires_grad=True),))


@pytest.mark.parametrize("reps", [0, 1, 2, 3])
def test_as_many_weights_as_the_circuit_and_the_last_of_both_is_idle(reps):
    torch.manual_seed(reps)
    twin, circuit = LayeredClassifier(reps), QuantumLayer(build_circuit("qcq_classifier", reps=reps))
    for layer in (twin, circuit):
        assert layer.weight.numel() == 2 * (reps + 1)
        value = layer(torch.rand(4, 2))
        assert value.shape == (4, 1)
        assert value.abs().max() <= 1
        value.square().sum().backward()
        idle = layer.weight.grad.flatten().abs() < 1e-6
        assert idle.tolist() == [False] * (2 * reps + 1) + [True]
