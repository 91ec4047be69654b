"""Noise as real Pauli-transfer matrices: of a channel of any kind, and of all that follows a gate.

Depolarizing and relaxation have closed forms; any other channel comes from its Kraus operators.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from qhybrid.engines.gates.pauli_transfer import Array, transfer_matrix
from qhybrid.errors import EngineError
from qhybrid.noise import NoiseChannel
from qhybrid.noise.channels.base import checked_kraus
from qhybrid.noise.sections import GateError, Relaxation

TRACE_TOLERANCE = 1e-12


def depolarizing(p: float, num_qubits: int) -> Array:
    """Return the matrix of rho -> (1 - p) rho + p I / 2^k, Qiskit's `depolarizing_error(p, k)`."""
    result = (1.0 - p) * np.eye(4**num_qubits)
    result[0, 0] = 1.0
    return result


def relaxation(decay: Relaxation) -> Array:
    """Return the matrix of thermal relaxation towards |0>, Qiskit's `thermal_relaxation_error`.

    With e1 = exp(-t/T1) and e2 = exp(-t/T2): x -> e2 x, y -> e2 y, z -> e1 z + 1 - e1.
    """
    microseconds = decay.ns / 1000
    e1, e2 = math.exp(-microseconds / decay.t1_us), math.exp(-microseconds / decay.t2_us)
    result = np.diag([1.0, e2, e2, e1])
    result[3, 0] = 1.0 - e1
    return result


@lru_cache(maxsize=1024)
def channel_transfer(channel: NoiseChannel, num_qubits: int) -> Array:
    """Return the matrix of a channel on one qubit or two, first qubit most significant; not to be written to.

    Raises:
        ConfigError: If the channel does not act on that many qubits, or its operators are no channel.
    """
    result = transfer_matrix(checked_kraus(channel, num_qubits))
    result.setflags(write=False)
    return result


def on_places(matrix: Array, places: tuple[int, ...], num_qubits: int) -> Array:
    """Return the matrix of a channel on some of a gate's one or two qubits, on all of them.

    Args:
        matrix: The channel's matrix.
        places: The qubits it acts on, in the gate's order.
        num_qubits: Qubits of the gate.
    """
    if len(places) == num_qubits:
        return matrix
    around = [np.eye(4), np.eye(4)]
    around[places[0]] = matrix
    return np.asarray(np.kron(*around))


def gate_channel(error: GateError) -> Array | None:
    """Return the matrix of a gate's noise, first qubit most significant; None if there is none.

    Raises:
        EngineError: If the matrix is not trace preserving.
    """
    if error.ideal:
        return None
    check_depolarizing(error.p, len(error.relaxations))
    result = depolarizing(error.p, len(error.relaxations))
    decay: Array = np.eye(1)
    for one in error.relaxations:
        decay = np.asarray(np.kron(decay, np.eye(4) if one is None else relaxation(one)))
    result = decay @ result
    for placed in error.channels:
        matrix = channel_transfer(placed.channel, len(placed.places))
        result = on_places(matrix, placed.places, len(error.relaxations)) @ result
    check_trace_preserving(result)
    return result


def check_depolarizing(p: float, num_qubits: int) -> None:
    """Check that a depolarizing parameter belongs to a channel.

    Raises:
        EngineError: If it is below 0 or above 4^k / (4^k - 1).
    """
    largest = 4**num_qubits / (4**num_qubits - 1)
    if not 0 <= p <= largest:
        raise EngineError(
            f"A depolarizing parameter on {num_qubits} qubit(s) must lie in [0, {largest:.6g}], but is {p}. "
            "Fix: lower the profile's `p` of that gate."
        )


def check_trace_preserving(channel: Array) -> None:
    """Check the row of the identity: light cones hold only then.

    Raises:
        EngineError: If the channel changes the trace.
    """
    expected = np.zeros(len(channel))
    expected[0] = 1.0
    deviation = float(np.abs(channel[0] - expected).max())
    if not deviation <= TRACE_TOLERANCE:
        raise EngineError(f"A noise channel must preserve the trace, but changes it by {deviation:.2e}.")
