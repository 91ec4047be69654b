"""Random circuits and slow, obviously right references for the engines' tests."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from qiskit import QuantumCircuit
from qiskit.circuit import ParameterVector
from qiskit.circuit import library as lib
from qiskit.quantum_info import DensityMatrix, SparsePauliOp, Statevector, SuperOp
from qiskit_aer.noise import depolarizing_error, thermal_relaxation_error

from qhybrid.circuits import CircuitSpec
from qhybrid.engines.noise.readout import noisy_observable

CONSTANT_GATES = [
    (1, lib.HGate), (1, lib.XGate), (1, lib.YGate), (1, lib.ZGate), (1, lib.SGate), (1, lib.SdgGate),
    (1, lib.TGate), (1, lib.TdgGate), (1, lib.SXGate), (1, lib.SXdgGate), (1, lib.IGate), (2, lib.CXGate),
    (2, lib.CYGate),
    (2, lib.CZGate), (2, lib.CHGate), (2, lib.CSGate), (2, lib.CSXGate), (2, lib.SwapGate),
    (2, lib.iSwapGate), (2, lib.ECRGate), (2, lib.DCXGate), (3, lib.CCXGate), (3, lib.CCZGate),
    (3, lib.CSwapGate), (3, lib.RCCXGate),
]  # fmt: skip
ANGLE_GATES = [
    (1, 1, lib.RXGate), (1, 1, lib.RYGate), (1, 1, lib.RZGate), (1, 1, lib.PhaseGate), (1, 1, lib.U1Gate),
    (1, 2, lib.RGate), (1, 2, lib.U2Gate), (1, 3, lib.UGate), (1, 3, lib.U3Gate), (2, 1, lib.RXXGate),
    (2, 1, lib.RYYGate), (2, 1, lib.RZZGate), (2, 1, lib.RZXGate), (2, 1, lib.CRXGate), (2, 1, lib.CRYGate),
    (2, 1, lib.CRZGate), (2, 1, lib.CPhaseGate), (2, 4, lib.CUGate), (2, 3, lib.CU3Gate),
    (2, 2, lib.XXPlusYYGate), (2, 2, lib.XXMinusYYGate),
]  # fmt: skip


@st.composite
def specs(draw: st.DrawFn, max_qubits: int = 5, max_gates: int = 14, flat: bool = False) -> CircuitSpec:
    """A random circuit with inputs, weights and Pauli-sum observables, some of each possibly unused."""
    qubits = draw(st.integers(1, max_qubits))
    inputs = ParameterVector("x", draw(st.integers(0, 4)))
    weights = ParameterVector("w", draw(st.integers(0, 3)))
    circuit = QuantumCircuit(qubits)
    for _ in range(draw(st.integers(0, max_gates))):
        append_random_gate(draw, circuit, [*inputs, *weights], flat)
    observables = draw(st.lists(pauli_sums(qubits), min_size=1, max_size=4))
    return CircuitSpec.from_circuit(circuit, list(inputs), list(weights), observables)


def append_random_gate(draw: st.DrawFn, circuit: QuantumCircuit, parameters: list, flat: bool) -> None:
    places = draw(st.permutations(range(circuit.num_qubits)))
    if draw(st.integers(0, 9)) == 0:
        circuit.barrier()
    if draw(st.booleans()):
        choices = [gate for gate in CONSTANT_GATES if gate[0] <= min(circuit.num_qubits, 2 if flat else 3)]
        size, gate = draw(st.sampled_from(choices))
        circuit.append(gate(), places[:size])
        return
    choices = [
        gate
        for gate in ANGLE_GATES
        if gate[0] <= circuit.num_qubits and (not flat or gate[2] in FLAT_ROTATIONS)
    ]
    size, count, gate = draw(st.sampled_from(choices))
    circuit.append(gate(*(draw(angles(parameters)) for _ in range(count))), places[:size])


FLAT_ROTATIONS = (lib.RXGate, lib.RYGate, lib.RZGate, lib.RXXGate, lib.RYYGate, lib.RZZGate, lib.RZXGate)


@st.composite
def angles(draw: st.DrawFn, parameters: list) -> object:
    """A number, a parameter, or an affine or general expression of one or two parameters."""
    number = draw(st.floats(-4.0, 4.0).map(lambda value: round(value, 3)))
    if not parameters:
        return number
    first, second = draw(st.sampled_from(parameters)), draw(st.sampled_from(parameters))
    kind = draw(st.integers(0, 6))
    forms = [number, first, first, 2 * first + number, first - second, (np.pi - first) * (np.pi - second)]
    return forms[kind] if kind < 6 else (first.sin() + number) * second.exp() / 3


@st.composite
def pauli_sums(draw: st.DrawFn, qubits: int) -> SparsePauliOp:
    """Up to three Pauli strings with real coefficients, identities included."""
    labels = st.text("IXYZ", min_size=qubits, max_size=qubits)
    terms = draw(st.lists(st.tuples(labels, st.floats(-2, 2)), min_size=1, max_size=3))
    return SparsePauliOp([label for label, _ in terms], [coefficient for _, coefficient in terms])


def bound(spec: CircuitSpec, inputs: np.ndarray, weights: np.ndarray) -> QuantumCircuit:
    """The circuit with numbers for its parameters."""
    values = dict(zip(spec.input_params, inputs)) | dict(zip(spec.weight_params, weights))
    return spec.circuit.assign_parameters({p: float(values[p]) for p in spec.circuit.parameters})


def statevector_values(spec: CircuitSpec, inputs: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Expectation values from Qiskit's Statevector, shape (B, n_obs)."""
    rows = []
    for row in inputs:
        state = Statevector(bound(spec, row, weights))
        rows.append([state.expectation_value(observable).real for observable in spec.observables])
    return np.array(rows).reshape(len(inputs), spec.num_observables)


def density_values(state: DensityMatrix, spec: CircuitSpec) -> np.ndarray:
    """Expectation values of a density matrix, shape (n_obs,)."""
    return np.array([state.expectation_value(observable).real for observable in spec.observables])


def density_reference(spec, inputs, weights, profile):
    """Gate by gate with Qiskit's own channels and DensityMatrix."""
    rows = []
    for row in inputs.numpy():
        state = DensityMatrix.from_label("0" * spec.num_qubits)
        circuit = bound(spec, row, weights.numpy())
        for instruction in circuit.data:
            name, qubits = instruction.operation.name, [circuit.find_bit(q).index for q in instruction.qubits]
            if name in ("barrier", "id"):
                continue
            state = state.evolve(instruction.operation, qubits)
            error = profile.gate_error(name, tuple(qubits))
            state = state.evolve(SuperOp(depolarizing_error(error.p, len(qubits))), qubits)
            for qubit, decay in zip(qubits, error.relaxations):
                if decay is not None:
                    channel = thermal_relaxation_error(decay.t1_us, decay.t2_us, decay.ns / 1000)
                    state = state.evolve(SuperOp(channel), [qubit])
        rows.append([state.expectation_value(noisy_observable(o, profile)).real for o in spec.observables])
    return np.array(rows)
