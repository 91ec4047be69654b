"""Copies of a small circuit side by side: disjoint places on the device with the couplings it needs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import rustworkx as rx
from qiskit.transpiler import Target

from qhybrid.circuits.spec import CircuitSpec
from qhybrid.circuits.transpile import is_known
from qhybrid.errors import HardwareError

LARGEST_PACKED = 8
"""Circuits on more qubits are not copied by `auto`: places of equal quality run out."""
AUTO_COPIES = 8
TOLERATED = 2.0
"""`auto` takes places whose expected error is at most this many times that of the best one."""
CANDIDATES = 2000
"""Places that are looked at."""


def disjoint_places(
    routed: CircuitSpec, target: Target, copies: Literal["auto"] | int
) -> list[tuple[int, ...]]:
    """Return the places on which a routed circuit runs, the one that the transpiler chose first.

    Args:
        routed: The circuit on the device's qubits.
        target: What can be used of the device, with its errors.
        copies: How many; `auto` takes those that are not much worse than the first.

    Returns:
        For every copy the device's qubit of each used qubit; no qubit is used twice.

    Raises:
        HardwareError: If there is no room for that many.
    """
    first = routed.used_qubits
    if copies == 1 or (copies == "auto" and len(first) > LARGEST_PACKED):
        return [first]
    gates = _gates(routed, first)
    wanted = AUTO_COPIES if copies == "auto" else copies
    bound = TOLERATED * _error(gates, first, target) if copies == "auto" else float("inf")
    ranked = [(part, _ranked_places(gates, part, target)) for part in _connected_parts(gates, len(first))]
    places, taken = [first], set(first)
    while len(places) < wanted:
        place = _next_place(ranked, taken, len(first))
        if place is None or _error(gates, place, target) > bound:
            break
        places.append(place)
        taken |= set(place)
    if copies != "auto" and len(places) < copies:
        raise HardwareError(
            f"Setting `copies` must leave room on the device, but circuit `{routed.name}` fits "
            f"{len(places)} times, not {copies}. Fix: copies: auto."
        )
    return places


Gates = list[tuple[str, tuple[int, ...]]]


def _gates(spec: CircuitSpec, qubits: tuple[int, ...]) -> Gates:
    place = {qubit: index for index, qubit in enumerate(qubits)}
    return [
        (
            instruction.operation.name,
            tuple(place[spec.circuit.find_bit(qubit).index] for qubit in instruction.qubits),
        )
        for instruction in spec.circuit.data
        if instruction.operation.name not in ("barrier", "delay")
    ]


def _error(gates: Gates, place: tuple[int, ...], target: Target) -> float:
    """Return the sum of the errors of all gates and read-outs; infinity where a gate does not exist."""
    total = 0.0
    for name, qubits in [*gates, *(("measure", (index,)) for index in range(len(place)))]:
        where = tuple(place[qubit] for qubit in qubits)
        places = target[name]
        if places is None:
            continue
        if where not in places:
            return float("inf")
        known = places[where]
        # The usable target has no holes: where an error is missing the device reports none of that kind.
        total += known.error if known is not None and is_known(known.error) else 0.0
    return total


def _connected_parts(gates: Gates, size: int) -> list[tuple[int, ...]]:
    """Return the qubits that two-qubit gates connect, the largest part first.

    Parts are placed each by itself: where a qubit stands alone, the places of all of them together are far
    too many to look at.
    """
    graph = rx.PyGraph()
    graph.add_nodes_from(range(size))
    graph.extend_from_edge_list([qubits for _, qubits in gates if len(qubits) == 2])
    parts = (tuple(sorted(part)) for part in rx.connected_components(graph))
    return sorted(parts, key=lambda part: (-len(part), part))


def _ranked_places(gates: Gates, part: tuple[int, ...], target: Target) -> list[tuple[int, ...]]:
    """Return the places of one part, those with the smallest error first."""
    index = {qubit: number for number, qubit in enumerate(part)}
    own = [(name, tuple(index[q] for q in qubits)) for name, qubits in gates if qubits and qubits[0] in index]
    places = ((_error(own, place, target), place) for place in _embeddings(own, len(part), target))
    return [place for error, place in sorted(places) if error < float("inf")]


def _next_place(
    ranked: list[tuple[tuple[int, ...], list[tuple[int, ...]]]], taken: set[int], size: int
) -> tuple[int, ...] | None:
    """Return the best place for one more copy on qubits that are free; None if there is no room."""
    found, used = dict[int, int](), set(taken)
    for part, places in ranked:
        place = next((place for place in places if not used & set(place)), None)
        if place is None:
            return None
        found |= dict(zip(part, place, strict=True))
        used |= set(place)
    return tuple(found[qubit] for qubit in range(size))


def _embeddings(gates: Gates, size: int, target: Target) -> Iterator[tuple[int, ...]]:
    """Yield places with all couplings that the gates need."""
    pattern = rx.PyGraph()
    pattern.add_nodes_from(range(size))
    pattern.extend_from_edge_list(sorted({tuple(sorted(q)) for _, q in gates if len(q) == 2}))  # type: ignore[misc]
    device = rx.PyGraph()
    device.add_nodes_from(range(target.num_qubits or 0))
    pairs = {
        tuple(sorted(q)) for name in target.operation_names for q in target[name] or {} if q and len(q) == 2
    }
    device.extend_from_edge_list(sorted(pairs))
    mappings = rx.vf2_mapping(device, pattern, subgraph=True, induced=False)
    for number, mapping in enumerate(mappings):
        if number >= CANDIDATES:
            return
        places = {inner: outer for outer, inner in mapping.items()}
        yield tuple(places[index] for index in range(size))
