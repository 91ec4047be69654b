"""Boxes, loops, resets and `initialize` are taken apart; what is not unitary stays refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from qiskit import QuantumCircuit, qpy
from qiskit.circuit import Gate, Parameter
from qiskit.quantum_info import SparsePauliOp, Statevector

from qhybrid.circuits import CircuitSpec
from qhybrid.circuits.blocks import without_blocks
from qhybrid.circuits.program import read_program
from qhybrid.engines import make_engine
from qhybrid.errors import CircuitError
from qhybrid.noise import NoiseProfile

F64 = torch.float64
OBSERVABLES = [SparsePauliOp(label) for label in ("IZ", "ZI", "XY", "ZX")]


def values(circuit, kind, inputs=(), noise=None, **options):
    spec = CircuitSpec.from_circuit(circuit, list(circuit.parameters), [], OBSERVABLES)
    engine = make_engine(kind, noise=noise, **options)
    return engine.expectations(spec, torch.tensor([inputs], dtype=F64), torch.zeros(0, dtype=F64))[0]


def check(circuit, flat, inputs=()):
    """The same as a circuit without blocks, on both engines, with noise, and as Statevector has it."""
    state = Statevector(flat.assign_parameters(inputs))
    expected = [state.expectation_value(one).real for one in OBSERVABLES]
    noise = NoiseProfile.depolarizing(p_1q=0.05, p_2q=0.1)
    for kind, options in (("exact", {}), ("aer", {"method": "density_matrix"})):
        np.testing.assert_allclose(values(circuit, kind, inputs, **options), expected, atol=1e-9)
        found = [values(one, kind, inputs, noise, **options) for one in (circuit, flat)]
        torch.testing.assert_close(*found, atol=1e-9, rtol=0)


def test_boxes_and_loops_in_each_other():
    i, j, angle = Parameter("i"), Parameter("j"), Parameter("a")
    circuit, flat = QuantumCircuit(2), QuantumCircuit(2)
    with circuit.box():
        circuit.h(1)
        with circuit.for_loop(range(1, 3), i):
            circuit.ry(0.2 * i, 0)
            with circuit.for_loop((0, 5, 2), j):
                circuit.rx(i * j * angle, 1)
            circuit.cx(0, 1)
    flat.h(1)
    for first in (1, 2):
        flat.ry(0.2 * first, 0)
        for second in (0, 5, 2):
            flat.rx(first * second * angle, 1)
        flat.cx(0, 1)
    check(circuit, flat, [0.3])


def test_loops_without_a_parameter_and_over_nothing():
    circuit, flat = QuantumCircuit(2), QuantumCircuit(2)
    with circuit.for_loop(range(3)):
        circuit.rx(0.3, 0)
    with circuit.for_loop(range(0), Parameter("i")):
        circuit.x(1)
    for _ in range(3):
        flat.rx(0.3, 0)
    check(circuit, flat)


@pytest.mark.filterwarnings("ignore:.*taken apart")
def test_a_reset_within_an_instruction():
    inner = QuantumCircuit(2, name="inner")
    inner.reset(0)
    inner.initialize([0.6, 0.8], 0)
    inner.crx(0.4, 0, 1)
    circuit, flat = QuantumCircuit(2), QuantumCircuit(2)
    circuit.append(inner.to_instruction(), [1, 0])
    flat.prepare_state([0.6, 0.8], 1)
    flat.crx(0.4, 1, 0)
    check(circuit, flat)


@pytest.mark.filterwarnings("ignore:.*taken apart")
@pytest.mark.parametrize("state", [[0.6, 0.8j], "1", 1])
def test_initialize_and_reset_of_fresh_qubits(state):
    circuit, flat = QuantumCircuit(2), QuantumCircuit(2)
    circuit.x(0)
    circuit.barrier()
    circuit.reset(1)
    circuit.initialize(state, 1)
    circuit.cry(0.7, 1, 0)
    flat.x(0)
    flat.prepare_state(state, 1)
    flat.cry(0.7, 1, 0)
    check(circuit, flat)


def used(append):
    circuit = QuantumCircuit(2, 1)
    circuit.h(0)
    append(circuit)
    return circuit


def named_barrier(circuit):
    """A gate that is called like a barrier uses its qubit."""
    gate = Gate("barrier", 1, [])
    gate.definition = QuantumCircuit(1)
    circuit.append(gate, [1])
    circuit.reset(1)


def branch(circuit):
    with circuit.if_test((0, 1)):
        circuit.x(0)


def loop_with(operation):
    def append(circuit):
        with circuit.for_loop(range(2)):
            circuit.x(1)
            operation(circuit)

    return append


@pytest.mark.parametrize(
    ("append", "message"),
    [
        (lambda c: c.reset(0), "unitary, but instruction 1 is `reset`"),
        (lambda c: c.initialize([0, 1], 0), "after other gates on them"),
        (lambda c: c.measure(0, 0), "is `measure`"),
        (named_barrier, "is `reset`"),
        (branch, "is `if_else`"),
        (loop_with(lambda c: c.reset(1)), "is `reset`"),
        (loop_with(branch), "a `for_loop` holds `if_else`"),
        (loop_with(lambda c: c.break_loop()), "a `for_loop` holds `break_loop`"),
    ],
)
@pytest.mark.parametrize("kind", ["exact", "aer"])
def test_what_is_not_unitary_is_refused(kind, append, message):
    with pytest.raises(CircuitError, match=message):
        values(used(append), kind)


def test_the_duration_of_a_box_is_said_to_be_unused():
    circuit = QuantumCircuit(2)
    with circuit.box(duration=100, unit="ns"):
        circuit.x(0)
    with pytest.warns(UserWarning, match=r"duration of a box \(100.0 ns\) is not used"):
        without_blocks(circuit)


def test_circuits_without_blocks_stay_the_same_object():
    circuit = QuantumCircuit(1)
    circuit.h(0)
    assert without_blocks(circuit) is circuit


def test_files_with_blocks(tmp_path):
    circuit = QuantumCircuit(1, 1)
    circuit.reset(0)
    with circuit.for_loop(range(3)):
        circuit.t(0)
    circuit.measure(0, 0)
    file = tmp_path / "circuit.qpy"
    with file.open("wb") as handle:
        qpy.dump(circuit, handle)
    assert read_program("qpy", file.read_bytes(), "f").count_ops() == {"t": 3}
    text = 'OPENQASM 2.0;\ninclude "qelib1.inc";\nqreg q[1];\nreset q[0];\nh q[0];\n'
    assert read_program("qasm2", text, "f").count_ops() == {"h": 1}
