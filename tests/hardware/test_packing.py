"""Copies of a circuit side by side on a device: disjoint, possible there, not much worse than the first."""

from __future__ import annotations

import pytest

from qhybrid.circuits import build_circuit
from qhybrid.circuits.transpile import usable_target
from qhybrid.devices import load_device
from qhybrid.hardware.circuits.packing import TOLERATED, disjoint_places


@pytest.fixture(scope="module")
def target():
    return usable_target(load_device("fake_torino").target)


def error_at(spec, place, target):
    """Return the sum of errors, read off the target gate by gate."""
    index = {qubit: number for number, qubit in enumerate(spec.used_qubits)}
    total = sum(target["measure"][(qubit,)].error for qubit in place)
    for instruction in spec.circuit.data:
        name = instruction.operation.name
        if name != "barrier":
            qubits = tuple(place[index[spec.circuit.find_bit(q).index]] for q in instruction.qubits)
            assert qubits in target[name], "the device has no such gate there"
            total += target[name][qubits].error or 0.0
    return total


@pytest.mark.parametrize(
    ("name", "arguments", "copies"),
    [
        ("qcq_classifier", {}, 8),
        ("qcq_filter", {"filter": "eq10"}, 8),
        # One CNOT among four qubits: two of them stand alone, and there are millions of places for all four.
        ("qcq_filter", {"filter": "random_layers"}, 8),
        ("qcq_filter", {"layers": 0}, 7),  # an eighth would be more than twice as bad
    ],
)
def test_good_places_are_found(name, arguments, copies, target):
    routed = build_circuit(name, **arguments).transpile(target, 0)
    places = disjoint_places(routed, target, "auto")
    assert places[0] == routed.used_qubits
    assert len(places) == copies
    used = [qubit for place in places for qubit in place]
    assert len(used) == len(set(used))
    errors = [error_at(routed, place, target) for place in places]
    assert max(errors) <= TOLERATED * errors[0]
    assert errors[1:] == sorted(errors[1:])


def test_given_numbers_of_copies(target):
    routed = build_circuit("qcq_filter", filter="random_layers").transpile(target, 0)
    places = disjoint_places(routed, target, 20)
    assert len(places) == len({frozenset(place) for place in places}) == 20
    assert len({qubit for place in places for qubit in place}) == 80
    assert disjoint_places(routed, target, 1) == [routed.used_qubits]
