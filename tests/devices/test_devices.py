from __future__ import annotations

import pytest
from qiskit.providers.fake_provider import GenericBackendV2

from qhybrid.devices import Device, list_devices, load_device
from qhybrid.errors import ConfigError


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
