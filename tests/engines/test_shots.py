from __future__ import annotations

import numpy as np
import pytest
import torch
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter
from qiskit.quantum_info import SparsePauliOp

from qhybrid.circuits import CircuitSpec, build_circuit
from qhybrid.engines import make_engine
from qhybrid.engines.shots.strings import measured_strings, product_string
from qhybrid.errors import EngineError
from qhybrid.noise import NoiseProfile

F64 = torch.float64


def bell(*labels):
    circuit = QuantumCircuit(2)
    circuit.h(0)
    circuit.cx(0, 1)
    return CircuitSpec.from_circuit(circuit, [], [], [SparsePauliOp(label) for label in labels])


def many(spec, repeats=4000, **options):
    """Estimates of the same circuit, many times over, shape (repeats, n_obs)."""
    engine = make_engine("exact", **options)
    return engine.expectations(
        spec, torch.zeros(repeats, spec.num_inputs, dtype=F64), torch.zeros(spec.num_weights)
    )


def test_strings_are_grouped_by_basis():
    found = measured_strings(
        [SparsePauliOp(["ZZ", "IZ", "II"], [1.0, 2.0, 3.0]), SparsePauliOp("XI"), SparsePauliOp("IZ")], 2
    )
    assert found.strings == (((0, 3), (1, 3)), ((0, 3),), ((1, 1),))
    assert found.bases == ((0, 1), (2,))
    np.testing.assert_array_equal(found.offsets, [3.0, 0.0, 0.0])
    np.testing.assert_array_equal(found.coefficients, [[1, 2, 0], [0, 0, 1], [0, 1, 0]])


def test_products_of_strings():
    assert product_string(((0, 3), (1, 3)), ((1, 3),)) == ((0, 3),)
    assert product_string(((0, 1),), ((2, 3),)) == ((0, 1), (2, 3))


@pytest.mark.parametrize("law", ["joint", "independent"])
def test_mean_and_variance_are_those_of_shots(law):
    x = Parameter("x")
    circuit = QuantumCircuit(1)
    circuit.ry(x, 0)
    spec = CircuitSpec.from_circuit(circuit, [x], [], SparsePauliOp("Z"))
    engine = make_engine("exact", shots=100, seed=1, shots_law=law)
    values = engine.expectations(spec, torch.full((20000, 1), 1.0, dtype=F64), torch.zeros(0))
    mean, variance = np.cos(1.0), np.sin(1.0) ** 2 / 100
    assert abs(values.mean().item() - mean) < 5 * (variance / 20000) ** 0.5
    assert values.var().item() == pytest.approx(variance, rel=0.05)


def test_joint_law_keeps_correlations_and_the_independent_one_does_not():
    spec = bell("IZ", "ZI")
    joint = many(spec, shots=64, seed=2, shots_law="joint")
    torch.testing.assert_close(joint[:, 0], joint[:, 1], atol=1e-6, rtol=0)
    apart = many(spec, shots=64, seed=2, shots_law="independent")
    assert abs(torch.corrcoef(apart.t())[0, 1].item()) < 0.1


def sign(label, outcome):
    """The value that a string of Z reads from an outcome, qubit 0 in the lowest bit."""
    return np.prod([1 - 2 * (outcome >> qubit & 1) for qubit in range(3) if label[2 - qubit] == "Z"])


def test_joint_law_agrees_with_the_law_of_bit_strings():
    """Covariances against the law of all measurement outcomes of a three-qubit state."""
    circuit = QuantumCircuit(3)
    for qubit, angle in enumerate((0.4, 1.1, 2.0)):
        circuit.ry(angle, qubit)
    circuit.cx(0, 1)
    circuit.cx(1, 2)
    labels = ["IIZ", "IZI", "ZII", "IZZ"]
    spec = CircuitSpec.from_circuit(circuit, [], [], [SparsePauliOp(label) for label in labels])
    drawn = many(spec, repeats=20000, shots=50, seed=3)
    from qiskit.quantum_info import Statevector

    probabilities = Statevector(circuit).probabilities()
    signs = np.array([[sign(label, outcome) for outcome in range(8)] for label in labels])
    mean = signs @ probabilities
    covariance = (signs * probabilities) @ signs.T - np.outer(mean, mean)
    np.testing.assert_allclose(drawn.mean(dim=0).numpy(), mean, atol=5 / (50 * 20000) ** 0.5)
    np.testing.assert_allclose(np.cov(drawn.numpy().T) * 50, covariance, atol=0.05)


def test_readout_noise_moves_the_mean_of_the_shots():
    profile = NoiseProfile(readout_p01=0.2, readout_p10=0.1)
    values = many(bell("ZZ", "IZ"), shots=1000, seed=4, noise=profile)
    # <ZZ> = 1 and <Z> = 0 before read-out: a = 0.7, b = 0.1
    expected = torch.tensor([0.7**2 + 0.1**2, 0.1], dtype=F64)
    torch.testing.assert_close(values.mean(dim=0), expected, atol=0.005, rtol=0)


def test_gradient_is_the_exact_one():
    spec = build_circuit("hq_unet_qcnn", grid=2)
    inputs = torch.linspace(-1, 1, 2 * spec.num_inputs, dtype=F64).reshape(2, -1)
    weights = torch.linspace(0, 1, spec.num_weights, dtype=F64).requires_grad_()
    direction = torch.linspace(1, 2, 2 * spec.num_observables, dtype=F64).reshape(2, -1)
    slopes = []
    for engine in (make_engine("exact"), make_engine("exact", shots=10, seed=0)):
        values = engine.expectations(spec, inputs, weights)
        slopes.append(torch.autograd.grad((values * direction).sum(), weights)[0])
    torch.testing.assert_close(slopes[0], slopes[1])


def test_seed_repeats_and_many_shots_approach_the_exact_value():
    spec = build_circuit("hq_unet_qcnn", grid=2)
    inputs, weights = torch.ones(3, spec.num_inputs), torch.ones(spec.num_weights)
    exact = make_engine("exact").expectations(spec, inputs, weights)
    first = make_engine("exact", shots=100, seed=7).expectations(spec, inputs, weights)
    assert torch.equal(first, make_engine("exact", shots=100, seed=7).expectations(spec, inputs, weights))
    assert not torch.equal(first, make_engine("exact", shots=100, seed=8).expectations(spec, inputs, weights))
    engine = make_engine("exact", shots=10**8, seed=7)
    torch.testing.assert_close(engine.expectations(spec, inputs, weights), exact, atol=1e-3, rtol=0)
    assert not torch.equal(
        engine.expectations(spec, inputs, weights), engine.expectations(spec, inputs, weights)
    )


def test_constants_have_no_shot_noise():
    spec = CircuitSpec.from_circuit(
        QuantumCircuit(1), [], [], [SparsePauliOp(["I", "Z"], [2.0, 0.5]), SparsePauliOp("I")]
    )
    values = many(spec, repeats=3, shots=1, seed=0)
    torch.testing.assert_close(values, torch.tensor([[2.5, 1.0]] * 3, dtype=F64))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shots": 0}, "at least 1"),
        ({"shots": 5, "shots_law": "both"}, "joint, independent"),
        ({"seed": 5}, "need `shots`"),
        ({"shots_law": "joint"}, "need `shots`"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(EngineError, match=message):
        make_engine("exact", **options)
