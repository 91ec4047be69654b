"""Qubits that wait: explicit delays, and the schedule of `idle: scheduled`."""

from __future__ import annotations

import math

import pytest
import torch
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter
from qiskit.quantum_info import SparsePauliOp

from qhybrid.circuits import CircuitSpec
from qhybrid.devices import load_device
from qhybrid.engines import make_engine
from qhybrid.engines.noise.waiting import scheduled
from qhybrid.errors import CircuitError
from qhybrid.noise import NoiseProfile

PROFILE = NoiseProfile(t1_us=10, t2_us=8, gate_1q_ns=100, gate_2q_ns=400, gates={"rz": {"ns": 0}})
ENGINES = (("exact", {}), ("aer", {"method": "density_matrix"}))


def value(circuit, letters, profile, kind="exact", **options):
    spec = CircuitSpec.from_circuit(circuit, [], [], SparsePauliOp(letters))
    inputs = torch.zeros(1, 0, dtype=torch.float64)
    return make_engine(kind, noise=profile, **options).expectations(spec, inputs, torch.zeros(0)).item()


@pytest.mark.parametrize(("kind", "options"), ENGINES)
def test_explicit_delays_relax(kind, options):
    circuit = QuantumCircuit(1)
    circuit.x(0)
    circuit.delay(2, 0, unit="us")
    circuit.delay(300, 0, unit="ns")
    excited = math.exp(-(0.1 + 2.3) / 10)
    assert value(circuit, "Z", PROFILE, kind, **options) == pytest.approx(1 - 2 * excited, abs=1e-12)


def test_delays_without_relaxation_are_nothing():
    circuit = QuantumCircuit(1)
    circuit.x(0)
    circuit.delay(5, 0, unit="dt")
    assert value(circuit, "Z", NoiseProfile(p_1q=0.1)) == pytest.approx(-0.9)


def test_delays_in_clock_units_are_refused_under_relaxation():
    circuit = QuantumCircuit(1)
    circuit.delay(5, 0, unit="dt")
    with pytest.raises(CircuitError, match="5 dt"):
        value(circuit, "Z", PROFILE)


@pytest.mark.parametrize(("kind", "options"), ENGINES)
def test_a_profile_may_say_what_a_clock_takes(kind, options):
    circuit = QuantumCircuit(1)
    circuit.x(0)
    circuit.delay(500, 0, unit="dt")
    clocked = PROFILE.model_copy(update={"dt_ns": 4.0})
    assert clocked.fingerprint != PROFILE.fingerprint
    assert value(circuit, "Z", clocked, kind, **options) == pytest.approx(
        1 - 2 * math.exp(-2.1 / 10), abs=1e-12
    )


@pytest.mark.parametrize("engine", ["exact", "aer"])
def test_delays_are_routed_with_their_length(engine):
    """Qiskit's transpiler writes them in steps of the device's clock."""
    circuit = QuantumCircuit(1)
    circuit.x(0)
    found = []
    for delay in (None, (10, "us"), (10_000, "ns")):
        waiting = circuit.copy()
        if delay is not None:
            waiting.delay(delay[0], 0, unit=delay[1])
        spec = CircuitSpec.from_circuit(waiting, [], [], SparsePauliOp("Z"))
        options = {"method": "density_matrix"} if engine == "aer" else {}
        routed = make_engine("routed", backend="fake_manila", engine=engine, options=options, trials=1)
        qubit = routed._mapping.route(spec).qubits[0]
        nothing = torch.zeros(0, dtype=torch.float64)
        found.append((routed.expectations(spec, nothing.reshape(1, 0), nothing).item(), qubit))
    (at_once, place), *later = found
    device = load_device("fake_manila").qubits[place]
    kept, slope = math.exp(-10 / device.t1_us), 1 - device.readout_p01 - device.readout_p10
    for one, qubit in later:
        assert qubit == place
        assert one - at_once == pytest.approx(
            (1 - kept) * (slope + device.readout_p01 - device.readout_p10 - at_once)
        )


def test_a_schedule_is_late_and_fills_every_gap():
    circuit = QuantumCircuit(3)
    circuit.x(0)
    circuit.x(2)
    circuit.rz(0.2, 2)
    circuit.cx(0, 1)
    circuit.x(1)
    found = [
        (one.operation.name, one.operation.duration, [circuit.find_bit(q).index for q in one.qubits])
        for one in scheduled(circuit, PROFILE).data
        if one.operation.name == "delay"
    ]
    # Qubit 2 is excited as late as possible: it does not wait. Qubit 0 waits for the gate on qubit 1.
    assert found == [("delay", 100.0, [0])]


def test_barriers_hold_qubits_back():
    circuit = QuantumCircuit(2)
    circuit.x(0)
    circuit.barrier()
    circuit.x(1)
    circuit.x(1)
    waits = [
        one.operation.duration for one in scheduled(circuit, PROFILE).data if one.operation.name == "delay"
    ]
    assert waits == [200.0]


@pytest.mark.parametrize(("kind", "options"), ENGINES)
def test_closed_form_of_waiting(kind, options):
    circuit = QuantumCircuit(2)
    circuit.x(0)
    circuit.barrier()
    circuit.x(1)
    circuit.x(1)
    waiting = PROFILE.model_copy(update={"idle": "scheduled"})
    still, late = math.exp(-0.1 / 10), math.exp(-0.3 / 10)
    assert value(circuit, "IZ", PROFILE, kind, **options) == pytest.approx(1 - 2 * still, abs=1e-12)
    assert value(circuit, "IZ", waiting, kind, **options) == pytest.approx(1 - 2 * late, abs=1e-12)


def test_gradients_pass_through_schedules():
    x = Parameter("x")
    circuit = QuantumCircuit(2)
    circuit.rx(x, 0)
    circuit.barrier()
    circuit.x(1)
    spec = CircuitSpec.from_circuit(circuit, [x], [], SparsePauliOp("IZ"))
    inputs = torch.tensor([[0.4]], dtype=torch.float64, requires_grad=True)
    engine = make_engine("exact", noise=PROFILE.model_copy(update={"idle": "scheduled"}))
    engine.expectations(spec, inputs, torch.zeros(0, dtype=torch.float64)).sum().backward()
    assert inputs.grad.item() == pytest.approx(-math.exp(-0.2 / 10) * math.sin(0.4), abs=1e-12)


def test_identities_are_noisy_only_where_listed():
    circuit = QuantumCircuit(1)
    circuit.x(0)
    circuit.id(0)
    assert value(circuit, "Z", NoiseProfile(p_1q=0.1)) == pytest.approx(-0.9)
    for kind, options in ENGINES:
        listed = NoiseProfile(p_1q=0.1, gates={"id": {}})
        assert value(circuit, "Z", listed, kind, **options) == pytest.approx(-0.81)
