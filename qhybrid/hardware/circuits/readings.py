"""What was read on one place of a device: what a mitigation of a plugin gets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qhybrid.circuits.spec import CircuitSpec
from qhybrid.noise import NoiseProfile

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Readings:
    """Means of Pauli strings for some parameter sets, read on one place of the device.

    Attributes:
        folds: Factors by which the two-qubit gates were repeated, ascending; 1 alone is the plain circuit.
        means: Means of the strings for every factor, shape (F, B, T); with read-out errors undone where the
            method says so.
        variances: Their variances from shots, shape (F, B, T).
        circuits: The plain circuit on the place's qubits, measured in every basis; its first observables are
            the strings of the basis, as strings of Z.
        groups: For every one of these circuits the indices of its strings, 0 to T - 1.
        noise: Error rates of these qubits, from the device's calibration; None for a simulator without any.
    """

    folds: tuple[int, ...]
    means: Array
    variances: Array
    circuits: tuple[CircuitSpec, ...]
    groups: tuple[tuple[int, ...], ...]
    noise: NoiseProfile | None
