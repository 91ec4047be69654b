"""What Qiskit Machine Learning's own tests ask of its estimator gradients, asked of ours."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter, ParameterVector
from qiskit.circuit.library import RXXGate, RYYGate, RZXGate, RZZGate, efficient_su2, real_amplitudes
from qiskit.primitives import StatevectorEstimator
from qiskit.providers.fake_provider import GenericBackendV2
from qiskit.quantum_info import Operator, SparsePauliOp, Statevector
from qiskit.transpiler import generate_preset_pass_manager

from qhybrid.circuits import CircuitSpec
from qhybrid.engines import make_engine
from qhybrid.engines.faces import ExactEstimator, ExactEstimatorGradient
from qhybrid.errors import CircuitError, EngineError
from qhybrid.noise import NoiseProfile

Z = SparsePauliOp("Z")
HALF = np.sqrt(0.5)


def gradient_of(circuit, observable, values, parameters=None, gradient=None):
    face = gradient or ExactEstimatorGradient()
    chosen = None if parameters is None else [parameters]
    return face.run([circuit], [observable], [values], chosen).result().gradients[0]


def differences(circuit, observable, values, step=1e-6):
    """Central differences of Statevector's expectation value."""

    def value(row):
        return Statevector(circuit.assign_parameters(row)).expectation_value(observable).real

    shifts = step * np.eye(len(values))
    return [(value(values + shift) - value(values - shift)) / (2 * step) for shift in shifts]


def interferometer():
    a = Parameter("a")
    circuit = QuantumCircuit(1)
    circuit.h(0)
    circuit.p(a, 0)
    circuit.h(0)
    return circuit


@pytest.mark.parametrize(("angle", "expected"), [(np.pi / 4, -HALF), (0.0, 0.0), (np.pi / 2, -1.0)])
def test_phase(angle, expected):
    face = ExactEstimatorGradient()
    found = face.run(interferometer(), Z, [[angle]]).result()  # neither in a list
    np.testing.assert_allclose(found.gradients[0], [expected], atol=1e-12)
    for operator in (Operator(Z), SparsePauliOp(["Z", "I"], [1.0, 4.0])):
        np.testing.assert_allclose(gradient_of(interferometer(), operator, [angle]), [expected], atol=1e-12)


def test_u():
    circuit = QuantumCircuit(1)
    circuit.h(0)
    circuit.u(*(Parameter(name) for name in "abc"), 0)
    circuit.h(0)
    np.testing.assert_allclose(gradient_of(circuit, Z, [np.pi / 4, 0, 0]), [-HALF, 0, 0], atol=1e-12)
    found = gradient_of(circuit, Z, [np.pi / 4] * 3)
    np.testing.assert_allclose(found, [-0.35355339, -0.85355339, -0.85355339], atol=1e-8)


@pytest.mark.parametrize("angle", [np.pi / 4, np.pi / 2, 0.3])
def test_efficient_su2(angle):
    circuit, observable = efficient_su2(2, reps=1), SparsePauliOp("ZI")
    values = np.full(8, angle)
    expected = differences(circuit, observable, values)
    np.testing.assert_allclose(gradient_of(circuit, observable, values), expected, atol=1e-8)


@pytest.mark.parametrize("gate", [RXXGate, RYYGate, RZZGate, RZXGate])
def test_two_qubit_rotations(gate):
    circuit = QuantumCircuit(2)
    if gate is RZZGate:
        circuit.h([0, 1])
    circuit.append(gate(Parameter("a")), [0, 1])
    if gate is RZZGate:
        circuit.h([0, 1])
    for angle, expected in ((np.pi / 4, -HALF), (np.pi / 2, -1)):
        np.testing.assert_allclose(gradient_of(circuit, SparsePauliOp("ZI"), [angle]), [expected], atol=1e-12)


@pytest.mark.parametrize("angle", [np.pi / 4, np.pi / 2])
def test_expressions_of_parameters(angle):
    circuit = real_amplitudes(2, reps=1)
    p = list(circuit.parameters)
    circuit.rz(p[0].exp() + 2 * p[1], 0)
    circuit.rx(3.0 * p[0] + p[1].sin(), 1)
    circuit.u(p[0], p[1], p[3], 1)
    circuit.p(2 * p[0] + 1, 0)
    circuit.rxx(p[0] + 2, 0, 1)
    values, observable = np.full(4, angle), SparsePauliOp("ZI")
    expected = differences(circuit, observable, values)
    np.testing.assert_allclose(gradient_of(circuit, observable, values), expected, atol=1e-7)


def test_chosen_parameters_and_their_order():
    a, b, c = (Parameter(name) for name in "abc")
    circuit = QuantumCircuit(1)
    circuit.rx(a, 0)
    circuit.rz(b, 0)
    circuit.rx(c, 0)
    whole = dict(zip((a, b, c), [-0.35355339, 0.61237244, -0.61237244]))
    for chosen in ([a, b, c], [c, b, a], [a, c], [c, a]):
        found = gradient_of(circuit, Z, [np.pi / 4, np.pi / 2, np.pi / 3], chosen)
        np.testing.assert_allclose(found, [whole[parameter] for parameter in chosen], atol=1e-8)


def test_several_circuits_in_one_run():
    a, c = Parameter("a"), Parameter("c")
    one, two = QuantumCircuit(1), QuantumCircuit(1)
    one.rx(a, 0)
    two.rx(c, 0)
    two.ry(a, 0)
    values, quarter = [[np.pi / 4], [np.pi / 4] * 2, [np.pi / 4] * 2], [[a], [c], None]
    result = ExactEstimatorGradient().run([one, two, two], [Z] * 3, values, quarter).result()
    for found, expected in zip(result.gradients, ([-HALF], [-0.5], [-0.5, -0.5])):
        np.testing.assert_allclose(found, expected, atol=1e-12)
    assert [list(one["parameters"]) for one in result.metadata] == [[a], [c], [a, c]]


def test_arguments_that_do_not_fit():
    circuit = QuantumCircuit(1)
    circuit.rx(Parameter("a"), 0)
    face, values = ExactEstimatorGradient(), [[0.1], [0.2]]
    for arguments in (
        ([circuit], [Z], values),
        ([circuit] * 2, [Z] * 2, values, [list(circuit.parameters)]),
        ([circuit] * 2, [Z], values, [list(circuit.parameters)]),
        ([circuit], [Z], [[0.1, 0.2]]),
    ):
        with pytest.raises(ValueError):
            face.run(*arguments)
    with pytest.raises(EngineError, match="take no options"):
        face.run([circuit], [Z], values[:1], shots=10).result()
    with pytest.raises(EngineError, match="ExactEstimator, but is a StatevectorEstimator"):
        ExactEstimatorGradient(StatevectorEstimator())


def test_a_pass_manager_transpiles_first():
    """The layout is followed, and a parameter that the transpiler drops has a gradient of 0."""
    manager = generate_preset_pass_manager(2, GenericBackendV2(3, seed=123), seed_transpiler=0)
    x = [Parameter(name) for name in "abc"]
    circuit = QuantumCircuit(2)
    circuit.rx(x[1], 0)
    circuit.cx(0, 1)
    circuit.ry(x[0] * 2, 1)
    circuit.rz(x[2] - x[2], 0)
    circuit.rzz(x[2], 0, 1)
    observable, values = SparsePauliOp(["ZI", "XX"], [1.0, 0.5]), np.array([0.2, 0.5, -0.7])
    found = gradient_of(circuit, observable, values, gradient=ExactEstimatorGradient(pass_manager=manager))
    np.testing.assert_allclose(found, differences(circuit, observable, values), atol=1e-8)


def test_gradients_under_shots_are_the_exact_ones():
    estimator = ExactEstimator(make_engine("exact", shots=10, seed=0))
    found = gradient_of(interferometer(), Z, [0.4], gradient=ExactEstimatorGradient(estimator))
    np.testing.assert_allclose(found, [-np.sin(0.4)], atol=1e-12)


def test_final_measurements_change_no_diagonal_observable():
    circuit, values = interferometer(), [0.3]
    measured = circuit.copy()
    measured.measure_all()
    assert gradient_of(measured, Z, values) == pytest.approx(gradient_of(circuit, Z, values))
    found = ExactEstimator().run([(measured, Z, values)]).result()[0].data.evs
    assert found == pytest.approx(Statevector(circuit.assign_parameters(values)).expectation_value(Z).real)


def test_final_measurements_forbid_other_observables():
    """After a measurement <X> is 0, which is hardly what is asked."""
    measured = interferometer()
    measured.measure_all()
    with pytest.raises(CircuitError, match="Z and I on qubits that the circuit measures"):
        gradient_of(measured, SparsePauliOp("X"), [0.3])


UNUSED = [
    {"method": "network"},
    {"method": "statevector"},
    {"method": "statevector", "kernel": "torch"},
    {"method": "mps"},
    {"noise": NoiseProfile.depolarizing(p_1q=0.01, p_2q=0.02)},
    {"shots": 10, "seed": 1},
    {"shots": 10, "seed": 1, "method": "statevector", "kernel": "torch"},
]


@pytest.mark.parametrize("options", UNUSED, ids=str)
def test_an_argument_that_no_value_depends_on_has_gradient_zero(options):
    """The read-out's light cone holds no input: zeros for it in every method."""
    x, w = ParameterVector("x", 1), ParameterVector("w", 1)
    circuit = QuantumCircuit(2)
    circuit.ry(x[0], 0)
    circuit.ry(w[0], 1)
    for label, depends in (("ZI", "weights"), ("IZ", "inputs")):
        spec = CircuitSpec.from_circuit(circuit, list(x), list(w), [SparsePauliOp(label)])
        inputs = torch.tensor([[0.3], [0.4]], dtype=torch.float64, requires_grad=True)
        weights = torch.tensor([0.5], dtype=torch.float64, requires_grad=True)
        values = make_engine("exact", **options).expectations(spec, inputs, weights)
        used, unused = (weights, inputs) if depends == "weights" else (inputs, weights)
        (zero,) = torch.autograd.grad(values.sum(), unused, retain_graph=True)
        assert zero.shape == unused.shape
        assert zero.abs().max() < 1e-15
        (slope,) = torch.autograd.grad(values.sum(), used)
        if "noise" not in options:
            wanted = -2 * weights.sin() if depends == "weights" else -inputs.sin()
            torch.testing.assert_close(slope, wanted.detach())


def test_a_rate_that_no_value_depends_on_has_gradient_zero():
    circuit = QuantumCircuit(1)
    circuit.h(0)
    spec = CircuitSpec.from_circuit(circuit, [], [], [SparsePauliOp("X")])
    noise = NoiseProfile.depolarizing(p_1q=0.01, p_2q=0.02)
    rate = torch.tensor(0.02, dtype=torch.float64, requires_grad=True)
    none = torch.zeros(1, 0, dtype=torch.float64)
    values = make_engine("exact", noise=noise).expectations(spec, none, none[0], rates={"p_2q": rate})
    assert torch.autograd.grad(values.sum(), rate)[0].item() == 0.0
