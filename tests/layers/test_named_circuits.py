"""Every named circuit on the engines: exact against Aer, without noise and with it."""

from __future__ import annotations

import pytest
import torch

from qhybrid.circuits import build_circuit, list_circuits
from qhybrid.engines import make_engine
from qhybrid.layers import QuantumLayer
from qhybrid.noise import NoiseProfile

SMALL = {
    "hq_unet_qcnn": {"grid": 2},
    "hqf_directional": {"grid": 2},
    "hqf_global": {"grid": 2},
    "hqf_local": {"grid": 2},
    "hqf_qskip": {},
    "qcnn": {"num_qubits": 4},
    "qcq_classifier": {},
    "qcq_filter": {"filter": "random_layers", "layers": 2},
    "qufex_filter1": {"num_qubits": 5},
    "qufex_filter2": {"num_qubits": 4},
}


@pytest.mark.parametrize("name", list_circuits())
@pytest.mark.parametrize("noisy", [False, True])
def test_exact_equals_aer(name, noisy):
    torch.manual_seed(0)
    spec = build_circuit(name, **SMALL[name])
    noise = NoiseProfile.depolarizing(p_1q=0.01, p_2q=0.02) if noisy else None
    layer = QuantumLayer(spec, make_engine("exact", noise=noise))
    inputs = torch.rand(3, spec.num_inputs, dtype=torch.float64)
    with torch.no_grad():
        exact = layer(inputs)
        layer.engine = make_engine("aer", noise=noise, method="density_matrix")
        torch.testing.assert_close(layer(inputs), exact, atol=1e-6, rtol=0)
    assert exact.abs().max() > 0.01


def test_layer_without_weights_has_nothing_to_train():
    layer = QuantumLayer(build_circuit("qcq_filter"))
    assert layer.weight.shape == (0,)
    assert not layer.weight.requires_grad
    inputs = torch.rand(2, 4, requires_grad=True)
    layer(inputs).sum().backward()
    assert inputs.grad.abs().min() > 0
