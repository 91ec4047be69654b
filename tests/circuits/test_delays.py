"""Delays are found, and left out, wherever a circuit has them."""

from __future__ import annotations

import pytest
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter
from qiskit.quantum_info import Operator, SparsePauliOp

from qhybrid.circuits import CircuitSpec, save_circuit
from qhybrid.circuits.delays import delays_in, has_delays, without_delays
from qhybrid.devices import load_device
from qhybrid.errors import CircuitError
from qhybrid.hardware.circuits.preparation import prepare_circuit
from qhybrid.hardware.plan.plan_files import load_circuits
from qhybrid.hardware.plan.plan_files import save_circuit as save_planned
from qhybrid.hardware.settings import HardwareSettings


def waiting(angle=0.4) -> QuantumCircuit:
    """Gates, one of which waits within a part of it."""
    part = QuantumCircuit(2, name="part")
    part.ry(angle, 1)
    part.delay(1.5, 0, "us")
    outer = QuantumCircuit(2, name="outer")
    outer.append(part.to_instruction(), [1, 0])
    outer.cx(0, 1)
    circuit = QuantumCircuit(3)
    circuit.h(0)
    circuit.delay(20, 2, "dt")
    circuit.append(outer.to_instruction(), [2, 0])
    circuit.rzz(0.3, 0, 1)
    return circuit


def test_those_within_gates_are_found():
    assert [(one.duration, one.unit) for one in delays_in(waiting())] == [(20, "dt"), (1.5, "us")]
    plain = QuantumCircuit(1)
    plain.h(0)
    assert not has_delays(plain)
    assert without_delays(plain) is plain


def test_what_is_left_does_the_same():
    expected = QuantumCircuit(3)
    expected.h(0)
    expected.ry(0.4, 2)
    expected.cx(2, 0)
    expected.rzz(0.3, 0, 1)
    found = without_delays(waiting())
    assert not has_delays(found)
    assert Operator(found).equiv(Operator(expected))


def test_parameters_within_gates_stay():
    angle = Parameter("w")
    found = without_delays(waiting(angle))
    assert set(found.parameters) == {angle}
    assert Operator(found.assign_parameters([0.4])).equiv(Operator(without_delays(waiting())))


def test_a_gate_that_waits_cannot_be_saved_as_qpy(tmp_path):
    spec = CircuitSpec.from_circuit(waiting(), [], [], ["ZII"])
    with pytest.raises(CircuitError, match="delays in us, but QPY keeps no units"):
        save_circuit(spec, "waits", tmp_path)


@pytest.mark.filterwarnings("ignore:Circuit .* has delays")
def test_a_plan_of_gates_that_wait_can_be_opened(tmp_path):
    """A time of 1.5 us would be 1.5 steps of the clock in its files, which no reader takes."""
    spec = CircuitSpec.from_circuit(waiting(), [], [], [SparsePauliOp("ZZZ")])
    settings = HardwareSettings(backend="fake_manila", layouts=1, copies=1)
    prepared = prepare_circuit("key", spec, load_device("fake_manila"), None, settings)
    save_planned(tmp_path, spec, prepared)
    bound, _ = load_circuits(tmp_path, settings, None)
    assert Operator(bound["key"].circuit).equiv(Operator(without_delays(spec.circuit)))
