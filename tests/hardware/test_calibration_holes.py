"""Calibrations with holes: what is not known is avoided, or taken as the median, and is never perfect."""

from __future__ import annotations

import json
import math
from statistics import median

import pytest
import yaml
from ibm_service_state import ServiceState
from plan_cases import map_workload, quick

from qhybrid.devices import load_device
from qhybrid.errors import HardwareError
from qhybrid.hardware.plan.planning import draft_plan, make_plan
from qhybrid.hardware.plan.ranking import rank_backends
from qhybrid.noise import NoiseProfile

NAN = float("nan")


@pytest.fixture
def service_state():
    return ServiceState(devices={"ibm_manila": "fake_manila"})


def qubit_value(qubit, name, value):
    """Change or remove a value of one qubit in what the service reports."""

    def edit(content):
        own = [one for one in content["qubits"][qubit] if value is not None or one["name"] != name]
        content["qubits"][qubit] = [one | {"value": value} if one["name"] == name else one for one in own]

    return edit


def gate_value(name, qubits, parameter, value):
    """Change, or remove, a value of a gate; without `parameter` all that is known of it."""

    def edit(content):
        for gate in list(content["gates"]):
            if gate["gate"] != name or gate["qubits"] not in (qubits, qubits[::-1]):
                continue
            if parameter is None:
                content["gates"].remove(gate)
            else:
                kept = [one for one in gate["parameters"] if value is not None or one["name"] != parameter]
                gate["parameters"] = [
                    one | {"value": value} if one["name"] == parameter else one for one in kept
                ]

    return edit


QUBIT_HOLES = [
    ("T1", 0.0, ("t1_us",)),
    ("T1", None, ("t1_us",)),
    ("T2", NAN, ("t2_us",)),
    ("readout_error", None, ()),
    ("readout_error", NAN, ()),
]


def settings(**changes):
    return quick(backend="ibm_manila", shots=100, mode="job", **changes)


@pytest.mark.parametrize(("name", "value", "assumed"), QUBIT_HOLES)
@pytest.mark.parametrize("qubit", [0, 4])
def test_qubits_of_which_something_is_not_known_are_avoided(
    qubit, name, value, assumed, server, service_state, tmp_path
):
    """On a line of five qubits a circuit on four has one place without either end."""
    service_state.edits["properties"] = qubit_value(qubit, name, value)
    folder = make_plan(map_workload(1), settings(), tmp_path)
    content = json.loads((folder / "plan.json").read_text())
    (circuit,) = content["circuits"].values()
    assert set(circuit["places"][0]) == set(range(5)) - {qubit}
    assert content["calibration"]["avoided"] == [f"qubit {qubit}"]
    assert "assumed" not in content["calibration"]
    profile = NoiseProfile.load(folder / "calibration.yaml")
    good = NoiseProfile.from_backend("fake_manila")
    for key in assumed:
        others = [getattr(good.qubits[one], key) for one in range(5) if one != qubit]
        expected = min(median(others), 2 * profile.qubits[qubit].t1_us)
        assert getattr(profile.qubits[qubit], key) == pytest.approx(expected)
        assert f"qubits.{qubit}.{key}" in profile.assumed


@pytest.mark.parametrize(("parameter", "value"), [("gate_error", None), ("gate_error", NAN), (None, None)])
def test_couplers_of_which_nothing_is_known_are_avoided(parameter, value, server, service_state, tmp_path):
    service_state.edits["properties"] = gate_value("cx", [0, 1], parameter, value)
    folder = make_plan(map_workload(1), settings(), tmp_path)
    content = json.loads((folder / "plan.json").read_text())
    (circuit,) = content["circuits"].values()
    assert set(circuit["places"][0]) == {1, 2, 3, 4}
    assert content["calibration"]["avoided"] == ["cx 0 1", "cx 1 0"]
    profile = NoiseProfile.load(folder / "calibration.yaml")
    assert "gates.cx 0 1.p" in profile.assumed
    good = load_device("fake_manila")
    others = [one for one in good.gates if one.name == "cx" and set(one.qubits) != {0, 1}]
    (own,) = (one for one in good.gates if one.name == "cx" and one.qubits == (0, 1))
    ns = own.ns if parameter else median(one.ns for one in others)
    found = yaml.safe_load((folder / "calibration.yaml").read_text())["gates"]["cx 0 1"]["p"]
    expected = depolarizing(median(one.error for one in others), ns / 1000, good.qubits[:2])
    assert found == pytest.approx(expected, rel=1e-6)


def depolarizing(error, us, qubits):
    """The parameter that explains what relaxation leaves of the error of a gate on two qubits."""
    fidelity = 1.0
    for one in qubits:
        fidelity *= (1 + math.exp(-us / one.t1_us) + 2 * math.exp(-us / min(one.t2_us, 2 * one.t1_us))) / 4
    relaxed = (4 * fidelity + 1) / 5
    return 4 * (error - (1 - relaxed)) / (4 * relaxed - 1)


def test_values_that_are_assumed_where_they_are_used_are_told(server, service_state, tmp_path, capsys):
    """One of two read-out rates is missing: the target knows their mean, so the qubit is used."""
    from qhybrid.cli.hardware_tables import print_plan

    service_state.edits["properties"] = qubit_value(2, "prob_meas0_prep1", NAN)
    folder = make_plan(map_workload(1), settings(), tmp_path)
    content = json.loads((folder / "plan.json").read_text())
    assert content["calibration"] == {"assumed": ["qubits.2.readout_p01"]}
    print_plan(folder)
    assert "qubits.2.readout_p01" in capsys.readouterr().out
    good = NoiseProfile.from_backend("fake_manila")
    found = NoiseProfile.load(folder / "calibration.yaml").qubits[2].readout_p01
    assert found == pytest.approx(median(good.qubits[one].readout_p01 for one in (0, 1, 3, 4)))


def test_plans_of_whole_calibrations_say_nothing_of_holes(server, service_state, tmp_path):
    folder = make_plan(map_workload(1), settings(), tmp_path)
    assert "calibration" not in json.loads((folder / "plan.json").read_text())
    assert "assumed" not in (folder / "calibration.yaml").read_text()


def test_predictions_and_ranks_are_not_bettered_by_holes(server, service_state, tmp_path):
    """The device with the hole is not predicted to be better than the same one with a bad value there."""
    workload = map_workload(4)
    plain = draft_plan(workload, settings(layouts=4))
    service_state.edits["properties"] = gate_value("cx", [2, 3], "gate_length", None)
    (found,) = rank_backends(workload, settings(), ["ibm_manila"])
    assert not found.problem
    assert found.two_qubit_gates == sum(one["two_qubit_gates"] for one in plain.content["circuits"].values())
    holed = draft_plan(workload, settings(layouts=4))
    seconds = [next(iter(one.content["circuits"].values()))["microseconds"] for one in (plain, holed)]
    assert seconds[1] == pytest.approx(seconds[0], rel=0.2)


def everywhere(edit, places, *arguments):
    """Make the same change at several places."""

    def edits(content):
        for place in places:
            edit(*place, *arguments)(content)

    return edits


SILENT = [
    ("T1", everywhere(qubit_value, [(qubit, "T1") for qubit in range(5)], None)),
    ("read-out errors", everywhere(qubit_value, [(qubit, "readout_error") for qubit in range(5)], NAN)),
    ("errors of cx", everywhere(gate_value, [("cx", [a, a + 1]) for a in range(4)], "gate_error", NAN)),
]


@pytest.mark.parametrize(("kind", "edit"), SILENT)
def test_errors_that_are_nowhere_are_told(kind, edit, server, service_state, tmp_path, capsys):
    """Nothing can be avoided or assumed then, and predictions are too good: such a device ranks last."""
    from qhybrid.cli.hardware_tables import print_plan, print_ranking

    service_state.edits["properties"] = edit
    workload = map_workload(1)
    folder = make_plan(workload, settings(), tmp_path)
    assert json.loads((folder / "plan.json").read_text())["calibration"] == {"missing": [kind]}
    print_plan(folder)
    assert f"not known   {kind}" in " ".join(capsys.readouterr().out.split("\n"))
    found = rank_backends(workload, settings(), ["ibm_manila", "fake_lima"])
    assert [(one.backend, one.missing) for one in found] == [("fake_lima", ()), ("ibm_manila", (kind,))]
    print_ranking(found)
    assert "ibm_manila comes last" in capsys.readouterr().out


@pytest.mark.parametrize("value", [1.7, -0.2])
def test_what_is_no_probability_is_not_known(value, server, service_state, tmp_path):
    """One such value of one qubit does not stop a plan."""
    service_state.edits["properties"] = qubit_value(2, "prob_meas0_prep1", value)
    folder = make_plan(map_workload(1), settings(), tmp_path)
    content = json.loads((folder / "plan.json").read_text())
    assert content["calibration"] == {"assumed": ["qubits.2.readout_p01"]}


@pytest.mark.parametrize("mitigation", ["cheap", "none"])
def test_read_outs_that_say_nothing_are_not_undone(mitigation, server, service_state):
    """The two rates contradict the mean that the target reports: dividing by them would turn signs."""

    def edit(content):
        qubit_value(2, "prob_meas0_prep1", 0.95)(content)
        qubit_value(2, "prob_meas1_prep0", 0.3)(content)

    service_state.edits["properties"] = edit
    if mitigation == "none":
        draft_plan(map_workload(1), settings(mitigation=mitigation))
        return
    with pytest.raises(HardwareError, match="qubit 2 reads 1 in 30 % of the shots after 0 and in 5 % after"):
        draft_plan(map_workload(1), settings(mitigation=mitigation))
