"""A noise profile as Qiskit Aer's NoiseModel, made for the gates of one circuit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import numpy as np
from qiskit import QuantumCircuit
from qiskit.circuit.library import UnitaryGate
from qiskit.quantum_info import Kraus
from qiskit_aer.noise import (
    NoiseModel,
    QuantumError,
    depolarizing_error,
    pauli_error,
    thermal_relaxation_error,
)

from qhybrid.engines.gates.pauli_transfer import Array
from qhybrid.engines.noise.channels import channel_transfer, check_depolarizing, gate_channel, on_places
from qhybrid.engines.noise.gate_names import noise_name
from qhybrid.engines.noise.instructions import PART_LABEL, instruction_error
from qhybrid.errors import EngineError
from qhybrid.noise import NoiseProfile
from qhybrid.noise.channels.base import checked_kraus
from qhybrid.noise.sections import GateError, PlacedChannel

NEGLIGIBLE = 1e-14
LARGEST_MIXTURE = 256
"""Terms up to which random Pauli errors are added to an error that relaxes; Kraus operators beyond."""


def aer_noise_model(profile: NoiseProfile, circuit: QuantumCircuit) -> NoiseModel:
    """Return Aer's model of a profile for the gates that a circuit holds; read-out errors included.

    Args:
        profile: The error rates.
        circuit: A flat circuit of one- and two-qubit gates.

    Raises:
        EngineError: If a gate acts on more than two qubits.
    """
    model = NoiseModel(basis_gates=[])
    known: set[tuple[str, tuple[int, ...]]] = set()
    for instruction in circuit.data:
        name = noise_name(instruction.operation)
        qubits = tuple(circuit.find_bit(qubit).index for qubit in instruction.qubits)
        # A part of a gate has no noise, but a whole gate of its name may come later.
        part = getattr(instruction.operation, "label", None) == PART_LABEL
        if part or name.startswith("save_") or name == "measure" or (name, qubits) in known:
            continue
        known.add((name, qubits))
        error = instruction_error(profile, instruction.operation, qubits)
        if error is not None:
            model.add_quantum_error(aer_error(error), name, list(qubits))
    for qubit in range(circuit.num_qubits):
        p01, p10 = profile.readout(qubit)
        if p01 or p10:
            model.add_readout_error([[1 - p10, p10], [p01, 1 - p01]], [qubit])
    return model


def aer_error(error: GateError) -> QuantumError:
    """Return the noise of one gate: depolarizing, then relaxation of each qubit, then the listed channels.

    Random Pauli errors in a row become one error, and unitary channels gates: Aer makes Kraus operators of
    whole errors by itself where one has any, and fails with "Kraus is empty" for some that are mixtures.
    """
    size = len(error.relaxations)
    if size > 2:
        raise EngineError(f"Noise must follow gates on one or two qubits, but a gate acts on {size}.")
    check_depolarizing(error.p, size)
    first = replace(error, channels=())
    result = _without_channels(first)
    if not error.channels:
        return result
    matrix = gate_channel(first)
    waiting: Array | None = np.ones(4**size) if matrix is None else np.diag(matrix)
    if matrix is not None and not _is_diagonal(matrix):
        waiting = None
    else:
        result = depolarizing_error(0.0, size)
    for placed in error.channels:
        matrix = on_places(channel_transfer(placed.channel, len(placed.places)), placed.places, size)
        mixture = aer_pauli(np.diag(matrix)) if _is_diagonal(matrix) else None
        if mixture is not None and (waiting is not None or _is_small(result, mixture)):
            waiting = np.diag(matrix) * (1.0 if waiting is None else waiting)
            continue
        if waiting is not None:
            result, waiting = result.compose(aer_pauli(waiting)), None
        result = result.compose(aer_channel(placed, size))
    return result if waiting is None else result.compose(aer_pauli(waiting))


def aer_pauli(diagonal: Array) -> QuantumError:
    """Return the random Pauli error whose transfer matrix has a diagonal, first qubit most significant."""
    strings = list(product("IXYZ", repeat=round(math.log(len(diagonal), 4))))
    signs = np.array([[-1.0 if _anticommute(a, b) else 1.0 for b in strings] for a in strings])
    probabilities = np.maximum(signs @ diagonal / len(diagonal), 0.0)
    labels = ["".join(reversed(string)) for string in strings]
    return pauli_error(
        [(label, p) for label, p in zip(labels, probabilities / probabilities.sum()) if p > NEGLIGIBLE]
    )


def aer_channel(placed: PlacedChannel, num_qubits: int) -> QuantumError:
    """Return a channel, from its Kraus operators, as error of a gate on one or two qubits."""
    operators = checked_kraus(placed.channel, len(placed.places))
    if len(operators) == 1:
        found = QuantumError([(UnitaryGate(operators[0]), 1.0)])
    else:
        found = QuantumError(Kraus(list(operators)))
    if len(placed.places) == num_qubits:
        return found
    nothing = depolarizing_error(0.0, 1)
    return found.expand(nothing) if placed.places == (0,) else nothing.expand(found)


def _without_channels(error: GateError) -> QuantumError:
    decay: QuantumError | None = None
    for one in error.relaxations:
        single = (
            depolarizing_error(0.0, 1)
            if one is None
            else thermal_relaxation_error(one.t1_us, one.t2_us, one.ns / 1000)
        )
        decay = single if decay is None else decay.expand(single)
    result = depolarizing_error(error.p, len(error.relaxations))
    return result if decay is None else result.compose(decay)


def _is_diagonal(matrix: Array) -> bool:
    return bool(np.abs(matrix - np.diag(np.diag(matrix))).max() <= NEGLIGIBLE)


def _is_small(error: QuantumError, mixture: QuantumError) -> bool:
    return len(error.circuits) * len(mixture.circuits) <= LARGEST_MIXTURE


def _anticommute(first: Sequence[str], second: Sequence[str]) -> bool:
    return sum(a != b and "I" not in (a, b) for a, b in zip(first, second)) % 2 == 1
