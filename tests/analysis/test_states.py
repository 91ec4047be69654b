"""State vectors, expressibility and entanglement against Qiskit and known states."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from analysis_cases import dense, ghz, idle, product, qiskit_state, turn, w_state
from qiskit import QuantumCircuit
from qiskit.circuit import ParameterVector
from qiskit.quantum_info import DensityMatrix, partial_trace, random_statevector

from qhybrid.analysis import states
from qhybrid.analysis.estimates import Estimate, NotComputed
from qhybrid.analysis.expressibility import (
    BINS,
    divergence_of,
    entangling_capability,
    expressibility_of,
)
from qhybrid.analysis.parameters import Settings
from qhybrid.analysis.states import StateVectors
from qhybrid.circuits import CircuitSpec, build_circuit


def states_of(spec):
    own = Settings(spec)
    return own, StateVectors(own.lowered, own.count)


def same_up_to_phase(first, second):
    return abs(abs(np.vdot(first, second)) - 1) < 1e-10


def qubit_order(amplitudes, qubits):
    """Qiskit's amplitudes with qubit 0 as the most significant bit."""
    return amplitudes.reshape((2,) * qubits).transpose(range(qubits)[::-1]).reshape(-1)


@pytest.mark.parametrize("at_once", [1, 96, states.CHUNK_AMPLITUDES])  # one gate, a few, or all
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("hq_unet_qcnn", {"grid": 2}),
        ("hq_unet_qcnn", {"grid": 3}),
        ("qcnn", {"num_qubits": 4}),
        ("qcq_classifier", {"num_qubits": 3}),
        ("qufex_filter1", {}),
    ],
)
def test_states_are_qiskits(name, arguments, at_once, monkeypatch):
    """However many gates' matrices are made at a time."""
    monkeypatch.setattr(states, "CHUNK_AMPLITUDES", at_once)
    spec = build_circuit(name, **arguments)
    own, vectors = states_of(spec)
    rows = own.draw(3, "test")
    for row, found in zip(rows.numpy(), vectors(rows).numpy()):
        expected = qubit_order(qiskit_state(spec, row), spec.num_qubits)
        assert same_up_to_phase(found, expected)


def test_states_of_large_gates_and_swaps_are_qiskits():
    x = ParameterVector("x", 2)
    circuit = QuantumCircuit(4)
    circuit.h(range(4))
    circuit.ccx(2, 0, 3)
    circuit.swap(0, 3)
    circuit.rzx(x[0], 3, 1)
    circuit.rx(2 * x[1] + 0.1, 3)
    circuit.rzx(x[1], 1, 3)
    circuit.cswap(3, 1, 0)
    spec = CircuitSpec.from_circuit(circuit, list(x), [], "ZIIZ")
    own, states = states_of(spec)
    rows = own.draw(2, "test")
    for row, found in zip(rows.numpy(), states(rows).numpy()):
        expected = qiskit_state(spec, row).reshape((2,) * 4).transpose(3, 2, 1, 0)
        # Wires keep their number where a swap exchanges qubits.
        at = [own.lowered.wire_of.index(wire) for wire in range(4)]
        assert same_up_to_phase(found, expected.transpose(at).reshape(-1))


def test_qubits_without_gates_are_left_out():
    circuit = QuantumCircuit(20)
    x = ParameterVector("x", 1)
    circuit.ry(x[0], 7)
    circuit.cx(7, 11)
    _, states = states_of(CircuitSpec.from_circuit(circuit, list(x), [], "I" * 12 + "Z" + "I" * 7))
    assert states.wires == (7, 11)
    found = states(torch.tensor([[math.pi / 3]], dtype=torch.float64))[0].abs().square()
    torch.testing.assert_close(found, torch.tensor([0.75, 0, 0, 0.25], dtype=torch.float64))


def test_an_idle_qubit_is_as_far_from_haar_as_can_be():
    own, states = states_of(idle())
    found = expressibility_of(own, states, 1, 100)
    assert found.divergence.value == pytest.approx(math.log(75))
    assert found.divergence.value == pytest.approx(4.317, abs=5e-4)
    assert divergence_of(np.ones(50), 8).divergence.value == pytest.approx(math.log(75))
    assert found.largest == pytest.approx(math.log(75))


def test_qubits_without_gates_count():
    """One RY and two idle qubits: the fidelities are those of one qubit, Haar's those of three."""
    w = ParameterVector("w", 1)
    circuit = QuantumCircuit(3)
    circuit.ry(w[0], 1)
    own, states = states_of(CircuitSpec.from_circuit(circuit, [], list(w), "IZI"))
    found = expressibility_of(own, states, 3, 400)
    alone, single = states_of(product(1))
    assert found.measured == expressibility_of(alone, single, 1, 400).measured
    assert found.divergence.value > 1
    empty = CircuitSpec.from_circuit(QuantumCircuit(1), [], [], "Z")
    assert expressibility_of(*states_of(empty), 1, 50).divergence.value == pytest.approx(math.log(75))


def test_one_ry_against_the_arcsine_law():
    """F = cos^2 of a uniform angle: the arcsine law, whose divergence from the uniform one is ln 4/pi."""
    edges = np.linspace(0, 1, BINS + 1)
    shares = np.diff(2 / math.pi * np.arcsin(np.sqrt(edges)))
    expected = float((shares * np.log(shares * BINS)).sum())
    assert expected == pytest.approx(0.196, abs=6e-4)
    fine = np.diff(2 / math.pi * np.arcsin(np.sqrt(np.linspace(0, 1, 2_000_001))))
    assert float((fine * np.log(fine * 2_000_000)).sum()) == pytest.approx(math.log(4 / math.pi), abs=1e-3)
    found = expressibility_of(*states_of(product(1)), 1, 20_000)
    assert found.divergence.samples == 20_000
    assert abs(found.divergence.value - found.bias - expected) < 4 * found.divergence.error
    assert found.divergence.error < 0.01
    # The same by quantiles in place of draws: no noise at all.
    quantiles = np.cos(math.pi * (np.arange(200_000) + 0.5) / 400_000) ** 2
    assert divergence_of(quantiles, 1).divergence.value == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("qubits", [1, 3, 5, 6, 9, 40])
def test_haar_random_states_are_at_the_bias(qubits):
    """F of Haar's law itself, by its inverse: P(F <= f) = 1 - (1 - f)^(N - 1)."""
    uniform = np.random.default_rng(0).random(20_000)
    fidelities = -np.expm1(np.log(uniform) / (2.0**qubits - 1))
    found = divergence_of(fidelities, qubits)
    assert sum(found.haar) == pytest.approx(1)
    assert abs(found.divergence.value - found.bias) < 4 * found.divergence.error
    if qubits in (1, 6, 9, 40):  # equally wide bins of tiny probability stay empty
        assert found.bias == pytest.approx(74 / 40_000, rel=0.01)


@pytest.mark.parametrize(("qubits", "pairs"), [(1, 100), (4, 100), (5, 1000), (7, 60)])
def test_the_bias_is_the_mean_of_haar_random_samples(qubits, pairs):
    """Also where most bins stay empty, or few pairs fall into each: (bins - 1) / (2 M) is wrong there."""
    random = np.random.default_rng(3)
    found = [
        divergence_of(-np.expm1(np.log(random.random(pairs)) / (2.0**qubits - 1)), qubits) for _ in range(300)
    ]
    values = [one.divergence.value for one in found]
    assert abs(np.mean(values) - found[0].bias) < 4 * np.std(values) / math.sqrt(300)
    assert found[0].bias != pytest.approx(74 / (2 * pairs), rel=0.1)


def test_fidelities_of_random_states_follow_haar():
    """Qiskit's random states rather than the law."""
    pairs = [
        abs(np.vdot(random_statevector(64, seed=2 * i).data, random_statevector(64, seed=2 * i + 1).data))
        ** 2
        for i in range(600)
    ]
    found = divergence_of(np.array(pairs), 6)
    assert found.bins == "equal Haar probability"
    assert abs(found.divergence.value - found.bias) < 4 * found.divergence.error


def test_the_error_of_a_divergence_is_its_scatter():
    random = np.random.default_rng(1)
    values, errors = [], []
    for _ in range(200):
        found = divergence_of(random.random(1000) ** 2, 1)
        values.append(found.divergence.value)
        errors.append(found.divergence.error)
    assert np.std(values) == pytest.approx(np.mean(errors), rel=0.25)


def test_weights_alone_leave_the_inputs_of_a_pair_equal():
    own, states = states_of(turn(math.pi, 2, "rz"))
    found = expressibility_of(own, states, 1, 300, weights_only=True)
    assert found.drawn == "weights"
    assert expressibility_of(own, states, 1, 300).drawn == "inputs and weights"
    # RY(pi x) RZ(w) RY(pi x): states that differ in w alone are nearer to each other than any.
    both = expressibility_of(own, states, 1, 300)
    assert found.divergence.value > both.divergence.value


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (product(4), 0.0),
        (ghz(2), 1.0),
        (ghz(5), 1.0),
        (w_state(2), 1.0),
        (w_state(3), 8 / 9),
        (w_state(6), 20 / 36),
    ],
    ids=["product", "ghz2", "ghz5", "w2", "w3", "w6"],
)
def test_entanglement_of_known_states(spec, expected):
    found = entangling_capability(Settings(spec), 50)
    assert isinstance(found, Estimate)
    assert found.value == pytest.approx(expected, abs=1e-12)
    assert found.error == pytest.approx(0.0, abs=1e-12)


def test_entanglement_of_a_deep_circuit_is_that_of_random_states():
    found = entangling_capability(Settings(dense(4, 6)), 400)
    assert abs(found.value - 14 / 17) < 4 * found.error + 0.01
    assert found.samples == 400


def test_entanglement_by_reduced_density_matrices():
    spec = build_circuit("hq_unet_qcnn", grid=2)
    own = Settings(spec)
    rows = own.draw(20, "entanglement").numpy()
    purities = [
        np.mean(
            [
                partial_trace(DensityMatrix(qiskit_state(spec, row)), [q for q in range(4) if q != k])
                .purity()
                .real
                for k in range(4)
            ]
        )
        for row in rows
    ]
    found = entangling_capability(own, 20)
    assert found.value == pytest.approx(2 * (1 - np.mean(purities)), abs=1e-10)
    assert found.error == pytest.approx(2 * np.std(purities, ddof=1) / math.sqrt(20), abs=1e-10)


def test_one_qubit_has_no_entanglement_to_speak_of():
    found = entangling_capability(Settings(turn()), 10)
    assert isinstance(found, NotComputed)
    assert "one qubit" in str(found)
