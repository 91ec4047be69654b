"""What a circuit consists of: gates as written and on devices, and what each observable can see of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qiskit.quantum_info import SparsePauliOp

from qhybrid.circuits.pauli import format_observable
from qhybrid.circuits.spec import CircuitSpec
from qhybrid.devices import Device
from qhybrid.engines.exact.light_cone import light_cone, pauli_terms
from qhybrid.engines.lowering import Lowered, lower
from qhybrid.engines.mapped import DeviceMapping


@dataclass(frozen=True)
class Counts:
    """Gates of a circuit.

    Attributes:
        form: "as written", or the device's name.
        qubits: Qubits that a gate or an observable acts on.
        gates: Number of gates; barriers do not count.
        two_qubit: Those on two qubits or more.
        depth: Layers of gates.
        by_name: Number of gates of each name, by name.
        largest_cone: Qubits of the largest light cone.
    """

    form: str
    qubits: int
    gates: int
    two_qubit: int
    depth: int
    by_name: tuple[tuple[str, int], ...]
    largest_cone: int


@dataclass(frozen=True)
class Cone:
    """What an observable depends on at most.

    Attributes:
        observable: The observable.
        qubits: Qubits of its light cone.
        gates: Number of gates of the circuit in it.
        primitives: The constant gates and rotations in it, in time order; places in `Lowered.primitives`.
    """

    observable: str
    qubits: tuple[int, ...]
    gates: int
    primitives: tuple[int, ...]


@dataclass(frozen=True)
class Structure:
    """Sizes of a circuit.

    Attributes:
        name: Its name.
        num_qubits: Qubits, idle ones included.
        num_inputs: Inputs.
        num_weights: Weights.
        num_observables: Observables.
        counts: As written, then routed to each device.
        cones: Light cone of each observable, as written.
        idle: Qubits that no gate touches.
        untouched: Qubits that data enter and that no gate touches after that.
    """

    name: str
    num_qubits: int
    num_inputs: int
    num_weights: int
    num_observables: int
    counts: tuple[Counts, ...]
    cones: tuple[Cone, ...]
    idle: tuple[int, ...]
    untouched: tuple[int, ...]


def structure_of(spec: CircuitSpec, devices: Sequence[Device] = (), seed: int = 0) -> Structure:
    """Count gates, and follow every observable back to the beginning.

    Args:
        spec: The circuit.
        devices: Devices that it is routed to as well.
        seed: Decides the layouts.
    """
    lowered = lower(spec)
    counts = [_counts(spec, lowered, "as written")]
    for device in devices:
        routed = DeviceMapping(device, seed).route(spec).spec
        counts.append(_counts(routed, lower(routed), device.name))
    touched = {wire for gate in lowered.primitives for wire in gate.qubits}
    return Structure(
        spec.name,
        spec.num_qubits,
        spec.num_inputs,
        spec.num_weights,
        spec.num_observables,
        tuple(counts),
        tuple(cone_of(lowered, one) for one in spec.observables),
        tuple(wire for wire in range(spec.num_qubits) if wire not in touched),
        _untouched(lowered),
    )


def cone_of(lowered: Lowered, observable: SparsePauliOp) -> Cone:
    """Return the light cone of an observable: of all its Pauli strings together.

    Qubits are numbered as at the circuit's beginning; those that a swap exchanges keep their number.
    """
    terms = pauli_terms([observable], lowered.wire_of)
    support = {wire for term in terms for wire in term.support}
    places = light_cone(lowered.primitives, sorted(support))
    gates = [lowered.primitives[place] for place in places]
    qubits = support | {wire for gate in gates for wire in gate.qubits}
    sources = {gate.source for gate in gates}
    return Cone(format_observable(observable), tuple(sorted(qubits)), len(sources), tuple(places))


def distinct_cones(cones: Sequence[Cone]) -> list[Cone]:
    """Return the cones of different gates, the largest first."""
    by_gates = {cone.primitives: cone for cone in reversed(cones)}
    return sorted(by_gates.values(), key=lambda cone: (-len(cone.qubits), -len(cone.primitives), cone.qubits))


def _counts(spec: CircuitSpec, lowered: Lowered, form: str) -> Counts:
    names = {str(name): int(count) for name, count in spec.circuit.count_ops().items() if name != "barrier"}
    cones = [cone_of(lowered, one) for one in spec.observables]
    return Counts(
        form,
        len(spec.used_qubits),
        int(spec.circuit.size()),
        int(spec.circuit.num_nonlocal_gates()),
        int(spec.circuit.depth()),
        tuple(sorted(names.items())),
        max((len(cone.qubits) for cone in cones), default=0),
    )


def _untouched(lowered: Lowered) -> tuple[int, ...]:
    """Return the qubits whose last gate depends on data; none if there is no other gate at all."""
    last: dict[int, bool] = {}
    for gate in lowered.primitives:
        last.update(dict.fromkeys(gate.qubits, gate.angle is not None and gate.angle.batched))
    return tuple(sorted(wire for wire, data in last.items() if data))
