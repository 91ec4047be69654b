"""Read-outs under noise: a Pauli letter is read by rotating it to Z and measuring, and both go wrong.

Reading X takes a gate `h`, reading Y `sdg` and `h`; their noise is the profile's. Measuring then turns <Z>
into (1 - p01 - p10) <Z> + (p01 - p10), with p01 = P(read 0 | prepared 1). On the qubit's Pauli vector all of
this is one linear map.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache, partial
from itertools import product

import numpy as np
from qiskit.circuit.library import HGate, SdgGate
from qiskit.quantum_info import SparsePauliOp

from qhybrid.engines.gates.pauli_transfer import Array, transfer_matrix
from qhybrid.engines.noise.channels import gate_channel
from qhybrid.noise import NoiseProfile

ROTATIONS = {"X": (HGate(),), "Y": (SdgGate(), HGate()), "Z": ()}
"""Gates that turn a Pauli letter into Z."""
NEGLIGIBLE = 1e-15


def readout_map(profile: NoiseProfile, qubit: int) -> Array:
    """Return the map from a qubit's Pauli vector to (1, <X>, <Y>, <Z>) as they are read, shape (4, 4)."""
    p01, p10 = profile.readout(qubit)
    measured = np.array([p01 - p10, 0.0, 0.0, 1.0 - p01 - p10])
    rows = [np.array([1.0, 0.0, 0.0, 0.0])]
    for letter in "XYZ":
        row = measured
        for gate in reversed(ROTATIONS[letter]):
            channel = gate_channel(profile.gate_error(gate.name, (qubit,)))
            row = row if channel is None else row @ channel
            row = row @ transfer_matrix(gate.to_matrix())
        rows.append(row)
    result = np.stack(rows)
    result[np.abs(result) < NEGLIGIBLE] = 0.0
    return result


def noisy_observable(observable: SparsePauliOp, profile: NoiseProfile) -> SparsePauliOp:
    """Return the operator whose exact expectation value is what reading the observable gives on average.

    Args:
        observable: Observable on the circuit's qubits.
        profile: The noise; qubits are the circuit's.
    """
    return _as_read(observable, cache(partial(readout_map, profile)))


def strings_as_read(observables: Sequence[SparsePauliOp], profile: NoiseProfile) -> int:
    """Return how many Pauli strings `noisy_observable` makes of observables, equal ones counted apart."""
    map_of = cache(partial(readout_map, profile))
    total = 0
    for observable in observables:
        for label, qubits, _ in observable.to_sparse_list():
            rows = [map_of(qubit)["IXYZ".index(letter)] for letter, qubit in zip(label, qubits)]
            total += math.prod(int(np.count_nonzero(row)) for row in rows)
    return total


def _as_read(observable: SparsePauliOp, map_of: Callable[[int], Array]) -> SparsePauliOp:
    terms: dict[tuple[tuple[int, int], ...], complex] = {}
    for label, qubits, coefficient in observable.to_sparse_list():
        rows = [map_of(qubit)["IXYZ".index(letter)] for letter, qubit in zip(label, qubits)]
        choices = [[(q, p, row[p]) for p in range(4) if row[p] != 0.0] for q, row in zip(qubits, rows)]
        for chosen in product(*choices):
            key = tuple((qubit, pauli) for qubit, pauli, _ in chosen if pauli)
            value = coefficient * np.prod([factor for _, _, factor in chosen])
            terms[key] = terms.get(key, 0.0) + value
    listed = [
        ("".join("IXYZ"[p] for _, p in key), [q for q, _ in key], value) for key, value in terms.items()
    ]
    return SparsePauliOp.from_sparse_list(listed, num_qubits=observable.num_qubits)


def split_noisy(
    observables: Sequence[SparsePauliOp], profile: NoiseProfile, largest: int
) -> list[tuple[SparsePauliOp, SparsePauliOp]]:
    """Return what reading observables gives, as far as that is few Pauli strings, and the rest as it is.

    Args:
        observables: Observables on the circuit's qubits.
        profile: The noise; qubits are the circuit's.
        largest: Strings that one string may become in the first part.

    Returns:
        For each observable `noisy_observable` of its narrow strings; and its other strings, whose letters are
        to be replaced by rows of `readout_map`.
    """
    map_of = cache(partial(readout_map, profile))
    return [_split(observable, map_of, largest) for observable in observables]


def _split(
    observable: SparsePauliOp, map_of: Callable[[int], Array], largest: int
) -> tuple[SparsePauliOp, SparsePauliOp]:
    wide = []
    for label, qubits, _ in observable.to_sparse_list():
        rows = [map_of(qubit)["IXYZ".index(letter)] for letter, qubit in zip(label, qubits)]
        wide.append(math.prod(int(np.count_nonzero(row)) for row in rows) > largest)
    chosen = np.array(wide, dtype=bool)
    narrow = _as_read(observable[~chosen], map_of) if not chosen.all() else 0 * observable[:1]
    return narrow, observable[chosen] if chosen.any() else 0 * observable[:1]
