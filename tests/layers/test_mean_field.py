"""The mean-field twin: the circuit itself without coupling, and its first derivatives there."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from qiskit.quantum_info import Statevector

from qhybrid.circuits import build_circuit
from qhybrid.config import TrainingConfig
from qhybrid.layers import QuantumLayer
from qhybrid.layers.mean_field import MeanField
from qhybrid.models import build_model
from qhybrid.training.optimizer import parameter_groups

CIRCUITS = {
    "hqf_local": {"grid": 2},
    "hqf_global": {"grid": 3},
    "hqf_directional": {"grid": 2},
    "hqf_qskip": {},
}


def couplings(spec):
    """Places of the weights that are angles of RZX."""
    weights = list(spec.weight_params)
    return sorted({weights.index(one.operation.params[0]) for one in spec.circuit.data if one.name == "rzx"})


def by_statevector(spec, inputs, weights):
    values = dict(zip((*spec.input_params, *spec.weight_params), (*inputs.tolist(), *weights.tolist())))
    state = Statevector(spec.circuit.assign_parameters(values))
    return np.array([state.expectation_value(one).real for one in spec.observables])


def pair(name, seed=0):
    torch.manual_seed(seed)
    spec = build_circuit(name, **CIRCUITS[name])
    twin = MeanField(spec).double()
    inputs = torch.rand(2, spec.num_inputs, dtype=torch.float64) * 4 - 2
    return spec, twin, inputs


@pytest.mark.parametrize("name", CIRCUITS)
def test_without_coupling_it_is_the_circuit(name):
    spec, twin, inputs = pair(name)
    with torch.no_grad():
        twin.weight[couplings(spec)] = 0
        found = twin(inputs)
    for row, values in zip(inputs, found, strict=True):
        np.testing.assert_allclose(values, by_statevector(spec, row, twin.weight.detach()), atol=1e-12)


@pytest.mark.parametrize("name", CIRCUITS)
def test_first_derivatives_without_coupling_are_those_of_the_circuit(name):
    spec, twin, inputs = pair(name, 1)
    with torch.no_grad():
        twin.weight[couplings(spec)] = 0
    found = torch.func.jacrev(lambda w: torch.func.functional_call(twin, {"weight": w}, (inputs[:1],))[0])(
        twin.weight.detach()
    )
    step = 1e-4
    for place in range(spec.num_weights):
        moved = [twin.weight.detach().clone() for _ in range(2)]
        moved[0][place] += step
        moved[1][place] -= step
        up, down = (by_statevector(spec, inputs[0], one) for one in moved)
        np.testing.assert_allclose(found[:, place], (up - down) / (2 * step), atol=1e-6)


def test_with_coupling_it_is_another_function_of_as_many_weights():
    spec, twin, inputs = pair("hqf_qskip", 2)
    found = twin(inputs)
    assert found.abs().max() <= 1
    circuit = np.array([by_statevector(spec, row, twin.weight.detach()) for row in inputs])
    assert np.abs(found.detach().numpy() - circuit).max() > 0.05
    assert twin.weight.numel() == QuantumLayer(spec).weight.numel()
    found.square().sum().backward()
    assert bool(twin.weight.grad.all())


def test_other_gates_and_observables_do_not_fit():
    assert not MeanField.fits(build_circuit("hq_unet_qcnn", grid=2))
    assert not MeanField.fits(build_circuit("qufex_filter1", num_qubits=4))
    assert all(MeanField.fits(build_circuit(name)) for name in CIRCUITS)


def test_it_is_the_twin_of_every_circuit_of_hqf_net():
    section = {"in_channels": 1, "num_classes": 2, "patch_size": 16, "widths": [2, 2, 2, 2, 4]}
    small = [{"name": name, "arguments": {"grid": 2}} for name in ("hqf_local", "hqf_global")]
    model = {"name": "hqf_net", **section, "qmoe": {"circuit": small}, "qskip": {"levels": [3]}}
    layers = ("bottleneck.core.hqf_local", "bottleneck.core.hqf_global", "skips.3.core")
    built = build_model({**model, "replace": dict.fromkeys(layers, "twin")})
    assert all(isinstance(built.get_submodule(one), MeanField) for one in layers)
    assert built.replaced["skips.3.core"] == "MeanField of 16 weights"
    config = TrainingConfig(quantum_learning_rate=0.5)
    (quantum,) = [group for group in parameter_groups(built, config) if group["lr"] == 0.5]
    assert {id(one) for one in quantum["params"]} == {id(built.get_submodule(one).weight) for one in layers}
