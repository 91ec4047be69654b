from __future__ import annotations

import pytest
from qiskit import QuantumCircuit
from qiskit.circuit import Measure, Parameter
from qiskit.circuit.library import CXGate, RZGate, SXGate
from qiskit.providers.fake_provider import GenericBackendV2
from qiskit.transpiler import InstructionProperties, QubitProperties, Target

from qhybrid.circuits import CircuitSpec
from qhybrid.devices import Device, list_devices, load_device
from qhybrid.errors import CircuitError, ConfigError
from qhybrid.noise import NoiseProfile


def test_names_of_fake_backends():
    names = list_devices()
    assert {"fake_torino", "fake_fez", "fake_nighthawk", "fake_manila"} <= set(names)
    assert all(name.startswith("fake_") for name in names)


@pytest.mark.parametrize("name", ["fake_manila", "FakeManilaV2", "FakeManila", "fake-manila"])
def test_names_are_accepted_in_every_spelling(name):
    assert load_device(name).name == "fake_manila"


def test_values_are_those_of_the_backends_report():
    from qiskit_ibm_runtime.fake_provider import FakeManilaV2

    device, report = load_device("fake_manila"), FakeManilaV2().properties()
    assert device.num_qubits == 5
    assert device.date == "2024-05-27"
    assert device.source.startswith("FakeManilaV2 of qiskit-ibm-runtime ")
    assert device.basis_gates == ("cx", "id", "rz", "sx", "x")
    for qubit, found in enumerate(device.qubits):
        assert found.t1_us == pytest.approx(1e6 * report.t1(qubit))
        assert found.t2_us == pytest.approx(1e6 * report.t2(qubit))
        assert found.readout_p01 == report.qubit_property(qubit, "prob_meas0_prep1")[0]
        assert found.readout_p10 == report.qubit_property(qubit, "prob_meas1_prep0")[0]
        assert found.readout_error == report.readout_error(qubit)
    (gate,) = [gate for gate in device.gates if gate.name == "cx" and gate.qubits == (0, 1)]
    assert gate.error == report.gate_error("cx", [0, 1])
    assert gate.ns == pytest.approx(1e9 * report.gate_length("cx", [0, 1]))
    assert not device.dead_edges


def test_dead_edges_of_a_snapshot():
    device = load_device("fake_torino")
    assert (15, 19) in device.dead_edges
    assert len(device.dead_edges) == 22


def test_what_a_snapshot_says_of_itself_belongs_to_the_source():
    assert "not typical error values" in load_device("fake_nighthawk").source


def test_any_backend_with_a_target():
    device = Device.from_backend(GenericBackendV2(3, seed=1))
    assert device.num_qubits == 3
    assert device.date == ""
    assert device.source.startswith("backend generic")
    assert device.qubits[0].readout_p01 == device.qubits[0].readout_error


@pytest.mark.parametrize(("name", "similar"), [("fake_trino", "fake_torino"), ("FakeFess", "fake_fez")])
def test_unknown_names_get_suggestions(name, similar):
    with pytest.raises(ConfigError, match=f"none has that name.*{similar}"):
        load_device(name)


def test_things_without_target_are_refused():
    with pytest.raises(ConfigError, match="BackendV2"):
        Device.from_backend(object())


def target(**changed):
    """A line of three qubits, with other properties of some instructions."""
    found = Target(num_qubits=3, qubit_properties=changed.pop("qubits", [QubitProperties(1e-4, 1e-4)] * 3))
    places = {"sx": [(0,), (1,), (2,)], "cx": [(0, 1), (1, 2)], "measure": [(0,), (1,), (2,)]}
    gates = {"sx": SXGate(), "cx": CXGate(), "measure": Measure()}
    for name, gate in gates.items():
        usual = dict.fromkeys(places[name], InstructionProperties(3e-7, 0.01))
        found.add_instruction(gate, {**usual, **changed.get(name, {})})
    found.add_instruction(
        RZGate(Parameter("t")), {(qubit,): InstructionProperties(0.0, 0.0) for qubit in range(3)}
    )
    return found


def device(**changed):
    class Backend(GenericBackendV2):
        target = target(**changed)

    return Device.from_backend(Backend(3))


def test_what_a_calibration_never_gives_is_told():
    nowhere = {(qubit,): InstructionProperties(3e-7, None) for qubit in range(3)}
    assert device().silent == ()
    with pytest.warns(UserWarning, match=r"gives no errors of sx at all"):
        assert NoiseProfile.from_backend(device(sx=nowhere)).gate_error("sx", (0,)).p == 0


def test_a_read_out_that_could_not_be_calibrated_reads_nothing():
    """An error of 1 stands for that; 1 and 1 would be a perfect read-out of the other value."""
    profile = NoiseProfile.from_backend(device(measure={(1,): InstructionProperties(1e-6, 1.0)}))
    assert [profile.readout(qubit) for qubit in range(3)] == [(0.01, 0.01), (0.5, 0.5), (0.01, 0.01)]


def test_a_device_without_enough_qubits_in_order_is_refused():
    circuit = QuantumCircuit(2)
    circuit.sx(0)
    circuit.cx(0, 1)
    spec = CircuitSpec.from_circuit(circuit, [], [], ["ZZ"])
    dead = {(qubit,): InstructionProperties(3e-7, 1.0) for qubit in (0, 1)}
    with pytest.raises(CircuitError, match=r"uses 2 qubits, and of the target's 3 only 1"):
        spec.transpile(device(sx=dead))
    apart = {(1,): InstructionProperties(3e-7, 1.0)}
    with pytest.raises(CircuitError, match="cannot be mapped"):
        spec.transpile(device(sx=apart))
