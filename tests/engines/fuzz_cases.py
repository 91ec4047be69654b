"""Random circuits of any kind of operation, each with what it does written down beside it.

Every part is made twice from the same draw: once for the circuit, with free angles and names that lie, and
once with numbers as a clean circuit of Qiskit's own gates and matrices. Nothing of the package is used for
the second one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Any

import channel_cases as cases
import numpy as np
from hypothesis import strategies as st
from qiskit import QuantumCircuit
from qiskit.circuit import AnnotatedOperation, Gate, InverseModifier, Parameter, PowerModifier
from qiskit.circuit import library as lib
from qiskit.quantum_info import Operator, SparsePauliOp, random_unitary
from qiskit.transpiler import generate_preset_pass_manager

X, Y, W = Parameter("x"), Parameter("y"), Parameter("w")
NAMES = """
    id barrier delay swap rx rzx x cx u z h measure reset initialize kraus unitary pauli global_phase if_else
    for_loop box mcx save_state ccx cphase mine annotated PauliEvolution diagonal multiplexer own_x
""".split()  # noqa: SIM905 - a list of names is read more easily so
LABELS = [None, "delay 5", "after cx", "part of a gate", "x", "id", "barrier", "delay", "listed"]
CONSTANT = [
    lib.HGate, lib.XGate, lib.SGate, lib.TdgGate, lib.SXGate, lib.CXGate, lib.CYGate, lib.CHGate,
    lib.SwapGate, lib.iSwapGate, lib.ECRGate, lib.DCXGate, lib.CSXGate, lib.CSdgGate,
]  # fmt: skip
ANGLES = [
    (lib.RXGate, 1), (lib.RYGate, 1), (lib.RZGate, 1), (lib.PhaseGate, 1), (lib.U1Gate, 1), (lib.RGate, 2),
    (lib.U2Gate, 2), (lib.UGate, 3), (lib.U3Gate, 3), (lib.RXXGate, 1), (lib.RYYGate, 1), (lib.RZZGate, 1),
    (lib.RZXGate, 1), (lib.CRXGate, 1), (lib.CRYGate, 1), (lib.CRZGate, 1), (lib.CPhaseGate, 1),
    (lib.CUGate, 4), (lib.XXPlusYYGate, 2), (lib.XXMinusYYGate, 2),
]  # fmt: skip

Values = dict[str, Any]
Form = Callable[[Values], Any]
FREE: Values = {"x": X, "y": Y, "w": W}


@dataclass
class Part:
    """An operation.

    Attributes:
        size: Qubits.
        make: From angles to the operation of the circuit.
        clean: From numbers to the same thing in Qiskit's own gates and matrices.
        whole: Whether its noise follows it once, as it is written; else it is taken apart first.
        gates: From numbers to standard gates, where noise follows these and `clean` is a matrix.
    """

    size: int
    make: Callable[[Values], Any]
    clean: Callable[[Values], QuantumCircuit]
    whole: bool = False
    gates: Callable[[Values], QuantumCircuit] | None = None

    def taken_apart(self, values: Values) -> QuantumCircuit:
        """Return the gates that noise follows."""
        return (self.gates or self.clean)(values)


@dataclass
class Case:
    """A circuit: a list of (part, qubits, how it is wrapped), and what is read."""

    num_qubits: int
    steps: list[tuple[Part, list[int], str]]
    observables: list[SparsePauliOp]
    values: Values
    prepared: np.ndarray | None = None

    def circuit(self) -> QuantumCircuit:
        """Return the circuit with free parameters."""
        result = QuantumCircuit(self.num_qubits)
        result.reset(0)
        if self.prepared is not None:
            result.initialize(self.prepared, 0)
        for part, qubits, wrapping in self.steps:
            if wrapping == "box":
                with result.box():
                    result.append(part.make(FREE), qubits)
            elif wrapping == "loop":
                with result.for_loop(range(2)):
                    result.append(part.make(FREE), qubits)
            else:
                result.append(part.make(FREE), qubits)
        return result

    def clean(self, gates: bool = False) -> list[tuple[QuantumCircuit, list[int], bool]]:
        """Return what happens, in order: (clean circuit, its qubits, whether noise follows it once).

        With `gates` matrices are the gates that noise follows.
        """
        happens = []
        if self.prepared is not None:
            happens.append((opened(lib.StatePreparation(self.prepared)), [0], False))
        for part, qubits, wrapping in self.steps:
            make = part.taken_apart if gates else part.clean
            one = (make(self.values), qubits, part.whole)
            happens += [one, one] if wrapping == "loop" else [one]
        return happens


def numbers(value: Any) -> Any:
    return float(value)


def sine(value: Any) -> Any:
    return value.sin() if hasattr(value, "sin") and not isinstance(value, float) else math.sin(value)


@st.composite
def forms(draw: st.DrawFn) -> Form:
    """An angle: a number, a parameter, or an expression of one or two."""
    number = draw(st.integers(-30, 30)) / 10
    first, second = draw(st.sampled_from("xyw")), draw(st.sampled_from("xyw"))
    return draw(
        st.sampled_from(
            [
                lambda v: number,
                lambda v: v[first],
                lambda v: 2 * v[first] + number,
                lambda v: v[first] - v[second],
                lambda v: (np.pi - v[first]) * (np.pi - v[second]),
                lambda v: sine(v[first]) + v[second] / 3,
                lambda v: number * v[first] ** 2,
            ]
        )
    )


def alone(operation: Any) -> QuantumCircuit:
    circuit = QuantumCircuit(operation.num_qubits)
    circuit.append(operation, circuit.qubits)
    return circuit


def opened(gate: Gate) -> QuantumCircuit:
    """Return a gate of Qiskit's in standard gates."""
    known = {*lib.get_standard_gate_name_mapping(), "unitary"}
    result = alone(gate)
    while composite := [name for name in result.count_ops() if name not in known]:
        result = result.decompose(composite)
    return result


@st.composite
def standard(draw: st.DrawFn, room: int) -> Part:
    if draw(st.booleans()):
        gate = draw(st.sampled_from([one for one in CONSTANT if one().num_qubits <= room]))
        label = draw(st.sampled_from(LABELS))
        return Part(gate().num_qubits, lambda v: gate(label=label), lambda v: alone(gate()), whole=True)
    fits = [one for one in ANGLES if one[0](*[0.1] * one[1]).num_qubits <= room]
    gate, count = draw(st.sampled_from(fits))
    chosen = [draw(forms()) for _ in range(count)]
    size = gate(*[0.1] * count).num_qubits
    return Part(
        size,
        lambda v: gate(*(form(v) for form in chosen)),
        lambda v: alone(gate(*(float(form(v)) for form in chosen))),
        whole=True,
    )


@st.composite
def matrices(draw: st.DrawFn, room: int) -> Part:
    size = draw(st.integers(1, min(room, 2)))
    matrix = random_unitary(2**size, seed=draw(st.integers(0, 999))).data
    label = draw(st.sampled_from(LABELS))
    return Part(
        size,
        lambda v: lib.UnitaryGate(matrix, label=label),
        lambda v: alone(lib.UnitaryGate(matrix, label=label)),
        whole=True,
    )


class OnlyAMatrix(Gate):
    """A gate of a user that has a matrix alone."""

    def __init__(self, name: str, matrix: np.ndarray) -> None:
        super().__init__(name, int(math.log2(len(matrix))), [])
        self.matrix = matrix

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        """Return the matrix."""
        return self.matrix


@st.composite
def own_matrices(draw: st.DrawFn, room: int) -> Part:
    inner = draw(matrices(room))
    name = draw(st.sampled_from(NAMES))
    matrix = Operator(inner.clean({})).data
    return Part(inner.size, lambda v: OnlyAMatrix(name, matrix), lambda v: alone(lib.UnitaryGate(matrix)))


@st.composite
def own(draw: st.DrawFn, room: int, depth: int = 1) -> Part:
    """A gate of a user under any name, with gates of users inside."""
    size = draw(st.integers(1, room))
    name = draw(st.sampled_from(NAMES))
    phase = draw(st.sampled_from([0.0, 0.7]))
    inside = []
    for _ in range(draw(st.integers(1, 3))):
        kinds = [standard(size), own(size, depth - 1)] if depth else [standard(size)]
        part = draw(st.one_of(kinds))
        inside.append((part, draw(st.permutations(range(size)))[: part.size]))

    def make(values: Values) -> Gate:
        definition = QuantumCircuit(size, global_phase=phase)
        for part, qubits in inside:
            definition.append(part.make(values), qubits)
        gate = Gate(name, size, list(definition.parameters))
        gate.definition = definition
        return gate

    def clean(values: Values) -> QuantumCircuit:
        result = QuantumCircuit(size, global_phase=phase)
        for part, qubits in inside:
            result.compose(part.clean(values), qubits, inplace=True)
        return result

    return Part(size, make, clean)


@st.composite
def modified(draw: st.DrawFn, room: int) -> Part:
    """A control, an inverse or a power of a user's gate, of a standard gate or of an evolution."""
    kind = draw(st.sampled_from(["control", "inverse", "power"] if room > 1 else ["inverse", "power"]))
    base = draw(st.one_of(own(room - (kind == "control")), evolutions(room - (kind == "control"))))
    state = draw(st.integers(0, 1))
    annotated = draw(st.booleans())

    def make(values: Values) -> Any:
        gate = base.make(values)
        if kind == "control":
            try:
                return gate.control(1, ctrl_state=state, annotated=annotated)
            except Exception:  # Qiskit itself falls over names that lie
                return gate.control(1, ctrl_state=state, annotated=True)
        return AnnotatedOperation(gate, [InverseModifier() if kind == "inverse" else PowerModifier(2)])

    def clean(values: Values) -> QuantumCircuit:
        matrix = Operator(base.clean(values)).data
        if kind == "inverse":
            return alone(lib.UnitaryGate(matrix.conj().T))
        if kind == "power":
            return alone(lib.UnitaryGate(matrix @ matrix))
        whole = np.eye(2 * len(matrix), dtype=complex)
        places = np.arange(len(matrix)) * 2 + state
        whole[np.ix_(places, places)] = matrix
        return alone(lib.UnitaryGate(whole))

    def gates(values: Values) -> QuantumCircuit:
        inside = base.taken_apart(values)
        if kind == "inverse":
            return inside.inverse()
        if kind == "power":
            return inside.compose(inside)
        evolution = base.gates is not None  # Qiskit controls it in a way of its own
        gate = base.make(values) if evolution else inside.to_gate()
        return opened(gate.control(1, ctrl_state=state, annotated=False))

    return Part(base.size + (kind == "control"), make, clean, gates=gates)


PAULI = {"I": np.eye(2), "X": np.array([[0, 1], [1, 0]]), "Y": np.array([[0, -1j], [1j, 0]]),
         "Z": np.diag([1, -1])}  # fmt: skip


def pauli_string(label: str) -> np.ndarray:
    result = np.eye(1)
    for letter in label:
        result = np.kron(result, PAULI[letter])
    return result


@st.composite
def evolutions(draw: st.DrawFn, room: int) -> Part:
    """The product formula: exp(-i t c P) for one term after the other."""
    size = draw(st.integers(1, room))
    text = st.text("IXYZ", min_size=size, max_size=size)
    labels = draw(st.lists(text, min_size=1, max_size=3, unique=True))
    factors = [draw(st.integers(-15, 15)) / 10 for _ in labels]
    form = draw(forms().filter(lambda one: str(one(FREE)) != "0"))  # Qiskit fails at a time of x - x

    def clean(values: Values) -> QuantumCircuit:
        result = QuantumCircuit(size)
        for label, factor in zip(labels, factors):
            angle, string = float(form(values)) * factor, pauli_string(label)
            matrix = np.cos(angle) * np.eye(2**size) - 1j * np.sin(angle) * string
            result.append(lib.UnitaryGate(matrix), range(size))
        return result

    operator = SparsePauliOp(labels, factors)
    return Part(
        size,
        lambda v: lib.PauliEvolutionGate(operator, form(v)),
        clean,
        gates=lambda v: opened(lib.PauliEvolutionGate(operator, float(form(v)))),
    )


@st.composite
def paulis(draw: st.DrawFn, room: int) -> Part:
    label = draw(st.text("IXYZ", min_size=1, max_size=room))

    def clean(values: Values) -> QuantumCircuit:
        result = QuantumCircuit(len(label))
        for place, letter in enumerate(reversed(label)):
            if letter != "I":
                getattr(result, letter.lower())(place)
        return result

    return Part(len(label), lambda v: lib.PauliGate(label), clean)


KINDS = [standard, standard, own, own, modified, evolutions, matrices, own_matrices, paulis]


@st.composite
def circuits(draw: st.DrawFn) -> Case:
    """A random circuit on up to three qubits with up to five operations."""
    size = draw(st.integers(1, 3))
    steps = []
    for _ in range(draw(st.integers(1, 5))):
        kind = draw(
            st.sampled_from(
                [standard, standard, own, own, modified, evolutions, matrices, own_matrices, paulis]
            )
        )
        part = draw(kind(size))
        qubits = draw(st.permutations(range(size)))[: part.size]
        steps.append((part, qubits, draw(st.sampled_from(["", "", "", "box", "loop"]))))
    strings = st.tuples(st.text("IXYZ", min_size=size, max_size=size), st.integers(-20, 20))
    observables = [
        SparsePauliOp([label for label, _ in one], [factor / 10 for _, factor in one])
        for one in draw(st.lists(st.lists(strings, min_size=1, max_size=3), min_size=1, max_size=3))
    ]
    values = {name: draw(st.integers(-30, 30)) / 10 for name in "xyw"}
    start = draw(st.sampled_from([None, None, np.array([0.6, 0.8]), np.array([1, 1j]) / np.sqrt(2)]))
    return Case(size, steps, observables, values, start)


def exact_values(case: Case) -> np.ndarray:
    """Return the expectation values from matrices, shape (n_obs,)."""
    state = np.zeros(2**case.num_qubits, dtype=complex)
    state[0] = 1
    for clean, qubits, _ in case.clean():
        state = cases.embedded(Operator(clean).data, list(qubits), case.num_qubits) @ state
    return np.array([(state.conj() @ one.to_matrix() @ state).real for one in case.observables])


def noisy_values(case: Case, profile: Any) -> np.ndarray:
    """Return the expectation values from Kraus operators by hand, noisy read-outs too, shape (n_obs,)."""
    rho = np.zeros((2**case.num_qubits,) * 2, dtype=complex)
    rho[0, 0] = 1
    manager = generate_preset_pass_manager(0, basis_gates=list(profile.basis))
    for clean, qubits, whole in case.clean(gates=True):
        parts = clean if whole else manager.run(clean)
        for one in parts.data:
            places = [qubits[parts.find_bit(bit).index] for bit in one.qubits]
            name, matrix = noise_name(one.operation, profile), Operator(one.operation).data
            rho = noisy_gate(rho, name, matrix, places, profile)
    means = []
    for observable in case.observables:
        terms = zip(observable.paulis.to_labels(), observable.coeffs.real)
        means.append(sum(factor * read(rho, label, profile) for label, factor in terms))
    return np.array(means)


def noise_name(gate: Any, profile: Any) -> str:
    """Return the name that noise goes by: a matrix's label if the profile lists it for gates of its size."""
    known = lib.get_standard_gate_name_mapping().get(gate.label)
    fits = gate.label in profile.gates and (known is None or known.num_qubits == gate.num_qubits)
    return gate.label if gate.name == "unitary" and fits else gate.name


def noisy_gate(rho: np.ndarray, name: str, matrix: np.ndarray, qubits: list[int], profile: Any) -> np.ndarray:
    """Return the state after a gate, depolarizing noise of its name or size, and the profile's channels."""
    rho = cases.apply([matrix], rho, qubits)
    listed = profile.gates.get(name)
    p = listed.p if listed is not None else (profile.p_1q if len(qubits) == 1 else profile.p_2q)
    strings = [pauli_string("".join(letters)) for letters in product("IXYZ", repeat=len(qubits))]
    mixed = sum(cases.apply([one], rho, qubits) for one in strings) / 4 ** len(qubits)
    rho = (1 - p) * rho + p * mixed
    for site in profile.channels:
        if len(qubits) in site.channel.sizes:
            rho = cases.apply(site.channel.kraus(len(qubits)), rho, qubits)
        elif 1 in site.channel.sizes:
            for qubit in qubits:
                rho = cases.apply(site.channel.kraus(1), rho, [qubit])
    return rho


def read(rho: np.ndarray, label: str, profile: Any) -> float:
    """Return what reading a Pauli string gives: noisy rotations to Z, then faulty measurements."""
    size = len(label)
    total = np.eye(2**size, dtype=complex)
    for qubit, letter in enumerate(reversed(label)):
        if letter == "I":
            continue
        gates = {"X": [lib.HGate()], "Y": [lib.SdgGate(), lib.HGate()], "Z": []}[letter]
        for gate in gates:
            rho = noisy_gate(rho, gate.name, gate.to_matrix(), [qubit], profile)
        p01, p10 = profile.readout_p01, profile.readout_p10
        total = total @ cases.embedded(np.diag([1 - 2 * p10, -1 + 2 * p01]), [qubit], size)
    return float(np.trace(total @ rho).real)
