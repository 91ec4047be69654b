"""Stronger noise of two-qubit gates from a device's calibration: what probabilistic error amplification does.

Twirled gates have Pauli errors. The calibration gives the noise after a gate as a channel; what twirling
leaves of it is the diagonal f_P of its Pauli-transfer matrix, written as a Pauli-Lindblad map

    f_P = exp(-2 sum of r_k over the strings k that anticommute with P),   r_k >= 0.

On the two qubits of a gate the strings of weight 1 and 2 are all 15, so nothing is left out. Noise at factor
g is the same map with rates g r_k, since errors with (g - 1) r_k are put in after the gate. Errors of gates
on one qubit stay as they are.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import product

import numpy as np
from numpy.typing import NDArray
from qiskit import QuantumCircuit
from scipy.optimize import nnls

from qhybrid.engines.noise.channels import gate_channel
from qhybrid.noise import NoiseProfile
from qhybrid.noise.channels.pauli import PauliChannel
from qhybrid.noise.sections import SYMMETRIC, GateError, GateNoise, gate_key
from qhybrid.noise.sites import ChannelNoise

Array = NDArray[np.float64]
STRINGS = tuple(map("".join, product("IXYZ", repeat=2)))[1:]
SMALLEST = 1e-12
"""Fidelities below this one say that nothing is left of a string."""


def amplified(noise: NoiseProfile, circuit: QuantumCircuit, factor: float) -> NoiseProfile:
    """Return a profile in which the two-qubit gates of a circuit have their twirled noise several times.

    Args:
        noise: The device's error rates, without channels of its own and noise of waiting qubits, as
            calibrations give them.
        circuit: The circuit.
        factor: How often, at least 1.
    """
    added, gates = [], dict(noise.gates)
    for (name, qubits), probabilities in _errors(noise, circuit, factor).items():
        gates[gate_key(name, qubits)] = GateNoise(p=0.0, ns=0.0)
        if name in SYMMETRIC:
            gates[gate_key(name, qubits[::-1])] = GateNoise(p=0.0, ns=0.0)
        if kept := {label: float(p) for label, p in zip(STRINGS, probabilities, strict=True) if p > 0}:
            added.append(
                ChannelNoise(channel=PauliChannel(probabilities=kept), after=(gate_key(name, qubits),))
            )
    return noise.model_copy(update={"gates": gates}).with_channels(*added)


def _errors(
    noise: NoiseProfile, circuit: QuantumCircuit, factor: float
) -> dict[tuple[str, tuple[int, int]], Array]:
    """Return the probabilities of errors after each kind of two-qubit gate."""
    found: dict[tuple[str, tuple[int, int]], Array] = {}
    used = dict.fromkeys(
        (one.operation.name, *(circuit.find_bit(qubit).index for qubit in one.qubits))
        for one in circuit.data
        if len(one.qubits) == 2 and one.operation.name != "barrier"
    )
    for name, first, second in used:
        own = lindblad_probabilities(twirled_rates(noise.gate_error(name, (first, second))) * factor)
        other = found.get((name, (second, first))) if name in SYMMETRIC else None
        if other is None:
            found[name, (first, second)] = own
        else:  # one key stands for both orders, and its letters follow the gate's own: their mean is what can
            found[name, (second, first)] = (other + own) / 2
    return found


@lru_cache(maxsize=4096)
def _fitted(fidelities: tuple[float, ...]) -> Array:
    rates, _ = nnls(2 * _anticommuting(), -np.log(np.maximum(fidelities, SMALLEST)))
    return np.asarray(rates)


def twirled_rates(error: GateError) -> Array:
    """Return the rates of all strings (`STRINGS`) of a two-qubit gate's noise after twirling."""
    channel = gate_channel(error)
    if channel is None:
        return np.zeros(len(STRINGS))
    return _fitted(tuple(np.diag(channel)[1:].tolist()))


def lindblad_probabilities(rates: Array) -> Array:
    """Return the probability of every string (`STRINGS`) that a Pauli-Lindblad map has."""
    fidelities = np.concatenate([[1.0], np.exp(-2 * _anticommuting() @ rates)])
    signs = np.ones((16, 16))
    signs[1:, 1:] = 1 - 2 * _anticommuting()
    return np.asarray(np.maximum(signs @ fidelities / 16, 0.0)[1:])


@lru_cache(maxsize=1)
def _anticommuting() -> Array:
    """Return 1 where two strings (`STRINGS`) anticommute, else 0."""
    return np.array([[_anticommute(one, other) for other in STRINGS] for one in STRINGS], dtype=np.float64)


def _anticommute(first: str, second: str) -> bool:
    return sum(a != b and "I" not in (a, b) for a, b in zip(first, second, strict=True)) % 2 == 1
