"""Read-out errors measured in the job itself, on all qubits that a plan reads: those of the hour.

Every job carries two more circuits, which prepare 0 and 1 on all of these qubits at once, as often as it
takes to have the shots that are wanted. For every qubit

    p10 = P(read 1 | prepared 0),  p01 = P(read 0 | prepared 1)

take the place of the plan's calibration when read-out errors are undone, qubit by qubit, and their own
errors from shots are carried into those of the estimates. Observables are products over few qubits, so the
correction is exact for errors that are independent between qubits, and needs no inverse of a distribution's
matrix. TREX of qiskit-mitigation does the same for the estimator's programs; what comes back here are bits.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from qiskit import QuantumCircuit
from qiskit.quantum_info import SparsePauliOp

from qhybrid.circuits.spec import CircuitSpec
from qhybrid.devices import Device
from qhybrid.engines.shots.strings import measured_strings
from qhybrid.errors import HardwareError
from qhybrid.hardware.circuits.merging import merge_runs
from qhybrid.hardware.circuits.native import NativeGates
from qhybrid.hardware.circuits.preparation import LEAST_CONTRAST, mean_seconds, place_noise
from qhybrid.hardware.circuits.prepared import Copy, PreparedCircuit, Pub, Variant
from qhybrid.hardware.pub_results import PubResult
from qhybrid.hardware.settings import HardwareSettings
from qhybrid.noise import NoiseProfile, QubitNoise

Array = NDArray[np.float64]
READOUT_KEY = "readout-calibration"
"""Key of the calibration among the circuits of a plan."""


class UselessResultError(HardwareError):
    """A result came back whole, and says nothing: reading it again does not help."""


@dataclass(frozen=True)
class MeasuredReadout:
    """Read-out errors as a job measured them.

    Attributes:
        rates: For every physical qubit p01 and p10.
        shots: Executions of each of the two circuits.
    """

    rates: Mapping[int, tuple[float, float]]
    shots: int

    def applied(self, circuit: PreparedCircuit) -> PreparedCircuit:
        """Return a circuit whose places have these read-out errors instead of the calibration's."""
        return replace(circuit, copies=tuple(self._with_rates(copy) for copy in circuit.copies))

    def _with_rates(self, copy: Copy) -> Copy:
        if copy.noise is None:
            return copy
        qubits = dict(copy.noise.qubits)
        for index, qubit in enumerate(copy.physical):
            p01, p10 = self.rates[qubit]
            rates = {"readout_p01": p01, "readout_p10": p10}
            qubits[index] = qubits.get(index, QubitNoise()).model_copy(update=rates)
        return replace(copy, noise=copy.noise.model_copy(update={"qubits": qubits}))

    def variance(self, rate: float) -> float:
        """Return the variance of a measured rate from shots; one that was never seen is not certain."""
        return max(rate * (1 - rate), 1 / self.shots) / self.shots


def calibration_circuit(
    circuits: Iterable[PreparedCircuit],
    device: Device | None,
    noise: NoiseProfile | None,
    settings: HardwareSettings,
) -> tuple[CircuitSpec, PreparedCircuit]:
    """Return the circuit that measures read-out errors: one copy for every qubit that circuits read.

    Args:
        circuits: The plan's circuits.
        device: The device; None for a simulator without one.
        noise: The device's error rates.
        settings: Mitigation.

    Returns:
        The circuit of one qubit, and what is sent: its variants prepare 0 and 1.
    """
    given = list(circuits)
    places = sorted({qubit for one in given for copy in one.copies for qubit in copy.physical})
    gates = NativeGates(None if device is None else device.basis_gates)
    spec = CircuitSpec("readout_calibration", QuantumCircuit(1), (), (), (SparsePauliOp("Z"),))
    specs = (spec, replace(spec, circuit=gates.ones(1)))
    copies = tuple(
        Copy((place,), specs, place_noise(noise, (place,), settings.mitigation)) for place in places
    )
    seconds = 0.0 if device is None else mean_seconds(copies, device, settings.mitigation)
    prepared = PreparedCircuit(
        READOUT_KEY,
        spec.name,
        merge_runs(spec)[1],
        measured_strings(spec.observables, 1),
        (Variant((0,), 1), Variant((0,), 1)),
        copies,
        given[0].device_qubits,
        seconds,
    )
    return spec, prepared


def calibration_work(
    circuits: Mapping[str, PreparedCircuit], settings: HardwareSettings
) -> list[tuple[PreparedCircuit, int]]:
    """Return what every job executes beside its own points; nothing where it measures no read-out errors.

    All circuits of a job have the same shots, so the two circuits are repeated until there are enough.

    Args:
        circuits: Circuits of the plan by key.
        settings: Shots and mitigation.

    Returns:
        Circuits and how many points of each, as blocks of a job.
    """
    wanted = settings.mitigation.readout_shots
    if wanted is None or READOUT_KEY not in circuits:
        return []
    circuit = circuits[READOUT_KEY]
    return [(circuit, len(circuit.copies))] * -(-wanted // settings.shots)


def calibration_pubs(circuits: Mapping[str, PreparedCircuit], settings: HardwareSettings) -> list[Pub]:
    """Return the measured circuits of `calibration_work`."""
    return [
        Pub(circuit, variant, np.zeros((points, 0)))
        for circuit, points in calibration_work(circuits, settings)
        for variant in range(len(circuit.variants))
    ]


def measured_readout(
    circuit: PreparedCircuit, pubs: Sequence[PubResult], settings: HardwareSettings
) -> MeasuredReadout:
    """Return the read-out errors that a job measured.

    Args:
        circuit: The calibration's circuit.
        pubs: What came back for its measured circuits: 0, 1, 0, 1, ...
        settings: Shots.

    Raises:
        UselessResultError: If a qubit reads 0 and 1 nearly alike.
        ValueError: If something is missing.
    """
    zeros, ones = (np.mean([_means(circuit, pub) for pub in pubs[state::2]], axis=0) for state in (0, 1))
    rates = {}
    for copy, zero, one in zip(circuit.copies, zeros, ones, strict=True):
        p01, p10 = float((1 + one) / 2), float((1 - zero) / 2)
        if not 1 - p01 - p10 > LEAST_CONTRAST:
            raise UselessResultError(
                f"Qubit {copy.physical[0]} must read 0 and 1 differently, but in this job read 1 in "
                f"{100 * p10:.0f} % of the shots after 0 and in {100 * (1 - p01):.0f} % after 1: nothing "
                "of this job can be used. Fix: `submit --again` once the qubit is in order, or "
                "`qhybrid hardware remap PLAN` first, which takes others."
            )
        rates[copy.physical[0]] = (p01, p10)
    return MeasuredReadout(rates, settings.shots * (len(pubs) // 2))


def _means(circuit: PreparedCircuit, pub: PubResult) -> Array:
    """Return the mean of Z of every qubit, shape (qubits,)."""
    count = len(circuit.copies)
    if isinstance(pub, Mapping):
        found = np.array([np.asarray(one, dtype=np.float64).mean() for one in pub["means"]])
    else:
        bits = np.asarray(pub)
        found = 1.0 - 2.0 * bits.reshape(-1, bits.shape[-1]).mean(axis=0)
    if found.shape != (count,) or not np.isfinite(found).all() or np.abs(found).max() > 1 + 1e-6:
        raise ValueError(f"read-out errors of {count} qubits are missing or beyond [-1, 1]")
    return np.asarray(found)
