from __future__ import annotations

import engine_cases as cases
import numpy as np
import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter, ParameterVector
from qiskit.quantum_info import SparsePauliOp
from qiskit_aer import AerSimulator

from qhybrid.circuits import CircuitSpec, build_circuit
from qhybrid.engines import make_engine
from qhybrid.errors import EngineError
from qhybrid.noise import NoiseProfile

F64 = torch.float64


@settings(deadline=None, max_examples=4, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(spec=cases.specs(max_qubits=4, max_gates=8), seed=st.integers(0, 99))
def test_random_circuits_agree_with_the_exact_engine_in_value_and_gradient(spec, seed):
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(2, spec.num_inputs, dtype=F64, generator=generator, requires_grad=True)
    weights = torch.randn(spec.num_weights, dtype=F64, generator=generator, requires_grad=True)
    aer = make_engine("aer").expectations(spec, inputs, weights)
    exact = make_engine("exact").expectations(spec, inputs, weights)
    torch.testing.assert_close(aer, exact, atol=1e-9, rtol=0)
    direction = torch.linspace(1, 2, aer.numel(), dtype=F64).reshape(aer.shape)
    for a, b in zip(
        torch.autograd.grad(
            (aer * direction).sum(), [inputs, weights], materialize_grads=True, allow_unused=True
        ),
        torch.autograd.grad(
            (exact * direction).sum(), [inputs, weights], materialize_grads=True, allow_unused=True
        ),
    ):
        torch.testing.assert_close(a, b, atol=1e-8, rtol=1e-8)


@pytest.mark.parametrize("method", ["statevector", "density_matrix", "matrix_product_state"])
def test_methods_agree_on_hq_unet(method):
    spec = build_circuit("hq_unet_qcnn", grid=2)
    inputs = torch.linspace(-1, 1, 2 * spec.num_inputs, dtype=F64).reshape(2, -1)
    weights = torch.linspace(0, 1, spec.num_weights, dtype=F64)
    values = make_engine("aer", method=method).expectations(spec, inputs, weights)
    reference = cases.statevector_values(spec, inputs.numpy(), weights.numpy())
    np.testing.assert_allclose(values.numpy(), reference, atol=1e-9)


def test_only_wanted_gradients_are_executed(monkeypatch):
    spec = build_circuit("hq_unet_qcnn", grid=2)
    engine = make_engine("aer")
    executed = []
    original = AerSimulator.run

    def counted(simulator, circuits, parameter_binds, **options):
        (values,) = parameter_binds
        executed.append(len(next(iter(values.values()))))
        return original(simulator, circuits, parameter_binds=parameter_binds, **options)

    monkeypatch.setattr(AerSimulator, "run", counted)
    inputs = torch.zeros(3, spec.num_inputs, dtype=F64)
    weights = torch.zeros(spec.num_weights, dtype=F64, requires_grad=True)
    engine.expectations(spec, inputs, weights).sum().backward()
    occurrences_of_weights = 4 * 4  # four filters on the 2 x 2 grid, four angles each
    assert executed == [3, 2 * occurrences_of_weights * 3]


def test_circuit_without_parameters_and_empty_batch():
    circuit = QuantumCircuit(2)
    circuit.h(0)
    circuit.cx(0, 1)
    spec = CircuitSpec.from_circuit(circuit, [], [], [SparsePauliOp("ZZ"), SparsePauliOp("IZ")])
    values = make_engine("aer").expectations(spec, torch.zeros(3, 0), torch.zeros(0))
    torch.testing.assert_close(values, torch.tensor([[1.0, 0.0]] * 3), atol=1e-6, rtol=0)
    assert make_engine("aer").expectations(spec, torch.zeros(0, 0), torch.zeros(0)).shape == (0, 2)


def test_unused_parameters_have_zero_gradient():
    x, w = Parameter("x"), ParameterVector("w", 2)
    circuit = QuantumCircuit(1)
    circuit.rx(w[1], 0)
    spec = CircuitSpec.from_circuit(circuit, [x], list(w), SparsePauliOp("Z"))
    inputs = torch.ones(2, 1, dtype=F64, requires_grad=True)
    weights = torch.ones(2, dtype=F64, requires_grad=True)
    values = make_engine("aer").expectations(spec, inputs, weights)
    slopes = torch.autograd.grad(values.sum(), [inputs, weights], allow_unused=True, materialize_grads=True)
    torch.testing.assert_close(slopes[0], torch.zeros(2, 1, dtype=F64))
    torch.testing.assert_close(slopes[1], torch.tensor([0.0, -2 * np.sin(1.0)], dtype=F64))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "guess"}, "statevector, density_matrix"),
        ({"device": "cuda"}, "`device`"),
        ({"dtype": torch.int8}, "dtype"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(EngineError, match=message):
        make_engine("aer", **options)


def test_a_state_that_does_not_fit_is_refused_with_its_size():
    spec = CircuitSpec.from_circuit(QuantumCircuit(24), [], [], SparsePauliOp("Z" * 24))
    with pytest.raises(EngineError, match=r"density_matrix.*24 qubits.*MiB.*exact"):
        make_engine("aer", method="density_matrix").expectations(spec, torch.zeros(1, 0), torch.zeros(0))


@pytest.mark.parametrize("method", ["statevector", "density_matrix", "matrix_product_state"])
@pytest.mark.parametrize(
    "noise", [None, NoiseProfile(p_1q=0.05, p_2q=0.1, readout_p01=0.1, readout_p10=0.02)]
)
def test_shots_scatter_around_the_exact_value(method, noise):
    spec = build_circuit("hq_unet_qcnn", grid=2)
    inputs = torch.linspace(-1, 1, 2 * spec.num_inputs, dtype=F64).reshape(2, -1)
    weights = torch.linspace(0, 1, spec.num_weights, dtype=F64)
    exact = make_engine("exact", noise=noise).expectations(spec, inputs, weights)
    engine = make_engine("aer", method=method, noise=noise, shots=500, seed=3)
    values = engine.expectations(spec, inputs, weights)
    assert (values - exact).abs().max() < 5 / 500**0.5
    again = make_engine("aer", method=method, noise=noise, shots=500, seed=3)
    assert torch.equal(values, again.expectations(spec, inputs, weights))
    assert not torch.equal(values, engine.expectations(spec, inputs, weights))


def test_shots_of_sums_constants_and_shared_bases():
    circuit = QuantumCircuit(2)
    circuit.h(0)
    circuit.cx(0, 1)
    observables = [
        SparsePauliOp(["II", "ZZ", "XX"], [2.0, 1.0, 0.5]),
        SparsePauliOp("IZ"),
        SparsePauliOp("ZI"),
    ]
    spec = CircuitSpec.from_circuit(circuit, [], [], observables)
    values = make_engine("aer", shots=100, seed=0).expectations(
        spec, torch.zeros(4, 0, dtype=F64), torch.zeros(0)
    )
    torch.testing.assert_close(values[:, 0], torch.full((4,), 3.5, dtype=F64))
    assert torch.equal(values[:, 1], values[:, 2])
    assert len(set(values[:, 1].tolist())) > 1


def test_wide_strings_under_uneven_read_out_errors_are_refused_with_their_number():
    """Z on n qubits becomes 2^n strings if p01 and p10 differ, and one if they do not."""
    circuit = QuantumCircuit(14)
    circuit.h(0)
    spec = CircuitSpec.from_circuit(circuit, [], [], ["Z" * 14, "I" * 13 + "X"])
    inputs, weights = torch.zeros(1, 0, dtype=F64), torch.zeros(0, dtype=F64)
    uneven = NoiseProfile(readout_p01=0.02, readout_p10=0.05)
    for options in ({"method": "density_matrix"}, {"method": "statevector", "trajectories": 10}):
        engine = make_engine("aer", noise=uneven, **options)
        with pytest.raises(EngineError, match=r"at most 8,192 .* but become 16,386.*make_engine\('exact'"):
            engine.expectations(spec, inputs, weights)
    even = NoiseProfile(readout_p01=0.04, readout_p10=0.04)
    engine = make_engine("aer", noise=even, method="statevector", trajectories=1, seed=0)
    values = engine.expectations(spec, inputs, weights)
    # H of the first qubit: <Z> is 0 and <X> is 1, read with 1 - p01 - p10.
    torch.testing.assert_close(values, torch.tensor([[0.0, 1 - 0.08]], dtype=F64), atol=1e-9, rtol=0)
