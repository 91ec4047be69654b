"""Nothing assumes one vendor: other gates, results, prices and names of devices come in with a service."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from other_vendor import SECONDS_A_SHOT, GarnetRules, GarnetService, Vendor, garnet, open_garnet
from plan_cases import map_workload, quick
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter
from qiskit.circuit.library import UGate
from qiskit.quantum_info import Operator

from qhybrid.errors import HardwareError
from qhybrid.hardware.circuits.native import NativeGates
from qhybrid.hardware.jobs.opening import open_plan
from qhybrid.hardware.jobs.outcome import write_outcome
from qhybrid.hardware.plan.planning import make_plan
from qhybrid.hardware.pub_results import BITS_FORMAT, bits_text, read_neutral
from qhybrid.hardware.service_kinds import (
    CHOICES,
    SERVICES,
    is_paid,
    list_service_devices,
    register_service,
    service_name,
)

PACKAGE = Path(__file__).resolve().parents[2] / "qhybrid"
SHOTS = 2000


@pytest.fixture
def vendor():
    room = Vendor()
    with SERVICES.restored():
        register_service(
            "garnet",
            lambda settings, folder: GarnetService(room),
            open_garnet,
            description="a test's",
            devices=("garnet_*",),
            rules=GarnetRules(),
        )
        yield room


@pytest.fixture(scope="module")
def workload():
    return map_workload(2)


def test_a_plan_on_the_device_of_another_vendor(vendor, workload, tmp_path):
    folder = make_plan(workload, quick(backend="garnet_5", shots=SHOTS), tmp_path)
    content = json.loads((folder / "plan.json").read_text())
    assert content["settings"]["service"] == "garnet"
    points, bases = 2, 2
    (one,) = content["rounds"]
    assert one["executions"] == points * bases * SHOTS
    assert content["qpu_seconds"] == pytest.approx(one["executions"] * SECONDS_A_SHOT)
    vendor.held = True
    with open_plan(folder, lambda *_: workload) as execution:
        assert execution.submit() == 1
        assert execution.collect(wait=False) is None
        assert execution.status()["in_flight"] == 1
    assert vendor.gates == {"r", "cz", "barrier", "measure"}
    vendor.held = False
    with open_plan(folder, lambda *_: workload) as execution:
        found = write_outcome(execution, execution.collect())
    assert found["status"]["qpu_seconds_billed"] == pytest.approx(content["qpu_seconds"])
    # Noise of some per cent that the read-out correction cannot undo; a wrong bit order or sign would be 1.
    assert found["observable_deviation_rms"] < 0.1


def test_its_jobs_are_cancelled(vendor, workload, tmp_path):
    folder = make_plan(workload, quick(backend="garnet_5", shots=50), tmp_path)
    vendor.held = True
    with open_plan(folder, lambda *_: workload) as execution:
        execution.submit()
        assert execution.cancel() == 1
        assert execution.status()["chunks"] == {"cancelled": 1}
    assert [job["state"] for job in vendor.jobs.values()] == ["cancelled"]


def test_a_damaged_result_of_its_form_is_not_used(vendor, workload, tmp_path, monkeypatch):
    folder = make_plan(workload, quick(backend="garnet_5", shots=50), tmp_path)
    monkeypatch.setattr(GarnetService, "result_text", lambda *_: '{"vendor": "other"}')
    with open_plan(folder, lambda *_: workload) as execution:
        execution.submit()
        with pytest.raises(HardwareError, match="says of no request that it belongs to it"):
            execution.collect()
        assert not execution.ledger.results()


def test_devices_belong_to_services(vendor):
    assert service_name("garnet_20") == "garnet"
    assert service_name("fake_garnet") == "local"
    assert service_name("ibm_torino") == "ibm"
    assert service_name("whatever") == "ibm"
    assert is_paid("garnet_20")
    assert SERVICES.get("garnet").rules.is_whole_instance("team-1")
    assert SERVICES.get("ibm").rules.is_whole_instance("crn:v1:a")
    assert not SERVICES.get("ibm").rules.is_whole_instance("my-instance")
    register_service("second", lambda settings, folder: GarnetService(vendor), devices=("garnet_*",))
    with pytest.raises(HardwareError, match="services garnet and second have a device `garnet_20`"):
        service_name("garnet_20")
    assert service_name("garnet_20", "second") == "second"


def test_devices_of_all_accounts_are_listed(vendor, monkeypatch):
    """A service without an account is no reason not to list the devices of another one."""
    monkeypatch.setattr(GarnetRules, "devices", lambda self: ["garnet_5"])
    ibm = type(SERVICES.get("ibm").rules)

    def refuse(self):
        raise HardwareError("no account")

    monkeypatch.setattr(ibm, "devices", refuse)
    assert list_service_devices() == ["garnet_5"]
    monkeypatch.setattr(GarnetRules, "devices", lambda self: [])
    with pytest.raises(HardwareError, match="no account"):
        list_service_devices()


def test_settings_that_a_service_does_not_know_are_refused(vendor, workload, tmp_path):
    with pytest.raises(HardwareError, match="`use_fractional_gates` must be one that the service of garnet"):
        make_plan(workload, quick(backend="garnet_5", use_fractional_gates=True), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_two_rotations_make_a_u():
    values = np.random.default_rng(5).uniform(-4, 4, (20, 3))
    parameters = [Parameter(name) for name in "abc"]
    circuit = QuantumCircuit(1)
    circuit.append(UGate(*parameters), [0])
    opened = NativeGates(garnet().basis_gates).open_rotations(circuit)
    assert dict(opened.count_ops()) == {"r": 2}
    for row in values:
        pair = [one.assign_parameters(dict(zip(parameters, row))) for one in (circuit, opened)]
        assert Operator(pair[0]).equiv(Operator(pair[1]))


@pytest.mark.parametrize("names", [("cz", "r"), ("cz", "id", "rz", "sx", "x"), ("cx", "rx", "ry"), None])
def test_ones_are_prepared_by_any_gates(names):
    circuit = NativeGates(names).ones(2)
    assert set(circuit.count_ops()) <= set(names or ("x",))
    assert abs(Operator(circuit).data[3, 0]) == pytest.approx(1)


@pytest.mark.parametrize("shape", [(1, 5, 3), (4, 7, 2), (2, 1, 1), (0, 3, 2)])
def test_bits_survive_their_text(shape):
    bits = np.random.default_rng(1).random(shape) < 0.5
    (found,) = read_neutral(bits_text([bits], "mark"))
    assert found.shape == shape
    assert (found == bits).all()
    cut = json.loads(bits_text([bits]))
    cut["pubs"][0]["shape"][1] += 16
    if bits.size:
        with pytest.raises(ValueError, match="bytes came back"):
            read_neutral(json.dumps(cut))
    assert read_neutral(json.dumps({"format": f"{BITS_FORMAT}0", "pubs": []})) is None


OUTSIDE = {
    "hardware/service_kinds.py": "the table of services",
    "devices/fakes.py": "the snapshots that come with the client",
    "api/doctor.py": "looks whether an account is there",
    "training/provenance.py": "versions of packages",
    "__init__.py": "what the package is for",
}


def test_one_folder_alone_knows_the_vendor():
    """Imports, names and words; elsewhere a sentence may name the vendor only where a reason stands here."""
    known = {str(file.relative_to(PACKAGE)): file.read_text() for file in PACKAGE.rglob("*.py")}
    inside = "hardware/services/ibm/"
    found = {
        name
        for name, text in known.items()
        if not name.startswith(inside) and re.search(r"ibm|\bcrn\b", text, re.IGNORECASE)
    }
    assert found <= set(OUTSIDE)
    imports = re.compile(
        r"^\s*(from|import) (qiskit_ibm|ibm_|qhybrid\.hardware\.services\.ibm)", re.MULTILINE
    )
    importing = {name for name, text in known.items() if imports.search(text) and not name.startswith(inside)}
    assert importing == {"devices/fakes.py", "api/doctor.py"}


ASKED = {
    "mitigation.measure_twirling": {"mitigation": "standard"},
    "mitigation.gate_twirling": {"mitigation": "strong"},
    "private": {"private": True},
    "rep_delay_us": {"rep_delay_us": 10.0},
    "mode=session": {"mode": "session"},
}


def test_noise_is_raised_by_services_that_say_what_is_learned(vendor, workload, tmp_path, monkeypatch):
    settings = quick(backend="garnet_5", shots=50, mitigation="pea")
    with pytest.raises(HardwareError, match=r"mitigation\.pea"):
        make_plan(workload, settings, tmp_path)
    monkeypatch.setattr(GarnetRules, "offers", frozenset(CHOICES))
    with pytest.raises(HardwareError, match="must say with `noise_work` what is learned"):
        make_plan(workload, settings, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ASKED)
def test_what_it_does_not_do_is_refused(name, vendor, workload, tmp_path, monkeypatch):
    """It would be left out silently: results kept that are private, read-outs corrected as twirled."""
    settings = quick(backend="garnet_5", shots=50, **ASKED[name])
    with pytest.raises(HardwareError, match=re.escape(name)):
        make_plan(workload, settings, tmp_path)
    monkeypatch.setattr(GarnetRules, "offers", frozenset(CHOICES))
    if name != "rep_delay_us":  # this device tells no range of it
        make_plan(workload, settings, tmp_path)
