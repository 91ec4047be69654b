"""Copies of a small circuit side by side: disjoint places on the device with the couplings it needs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import rustworkx as rx
from qiskit.transpiler import Target

from qhybrid.circuits.spec import CircuitSpec
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
    best = _error(gates, first, target)
    wanted = AUTO_COPIES if copies == "auto" else copies
    bound = TOLERATED * best if copies == "auto" else float("inf")
    found = sorted(
        (error, place)
        for place in _embeddings(gates, len(first), target)
        if (error := _error(gates, place, target)) <= bound
    )
    places, taken = [first], set(first)
    for _, place in found:
        if len(places) < wanted and not taken & set(place):
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
        total += (known.error or 0.0) if known is not None else 0.0
    return total


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
