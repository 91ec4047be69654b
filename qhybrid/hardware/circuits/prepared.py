"""Circuits as a device runs them: mapped, with the rotations of a measured basis, and all read in Z."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from qiskit import ClassicalRegister, QuantumCircuit
from qiskit.circuit import Parameter

from qhybrid.circuits.spec import CircuitSpec
from qhybrid.engines.shots.strings import MeasuredStrings
from qhybrid.hardware.circuits.fractional import FoldedAngles
from qhybrid.hardware.circuits.merging import AngleMap
from qhybrid.noise import NoiseProfile

Array = NDArray[np.float64]
REGISTER = "bits"
MARK = "qhybrid-request-"
"""Beginning of the text that ties a result to its request."""


@dataclass(frozen=True, eq=False)
class Copy:
    """A circuit on one place of the device.

    Attributes:
        physical: The device's qubit of each qubit.
        specs: For every variant the circuit on these qubits, with the Z strings that it estimates as
            observables.
        noise: The device's error rates on these qubits; None for none.
    """

    physical: tuple[int, ...]
    specs: tuple[CircuitSpec, ...]
    noise: NoiseProfile | None


@dataclass(frozen=True)
class Variant:
    """One measured circuit.

    Attributes:
        group: Indices of the Pauli strings that it estimates.
        fold: How often each two-qubit gate is applied (1, or an odd factor of a zero-noise extrapolation).
        noise: The factor to which errors that are put in raise the noise of two-qubit gates; 1 for none.
    """

    group: tuple[int, ...]
    fold: int
    noise: float = field(default=1.0, repr=False)  # marks of earlier plans are made of what is shown

    @property
    def factor(self) -> float:
        """How strong the noise of two-qubit gates is in it, as a factor of the device's own."""
        return self.fold * self.noise


@dataclass(frozen=True, eq=False)
class PreparedCircuit:
    """All that is executed for a layer's circuit.

    Attributes:
        key: The layer circuit's key.
        name: The circuit's name.
        angle_map: From a layer's input angles to the parameters of the mapped circuit.
        strings: Pauli strings that are estimated, and how observables follow from them.
        variants: The measured circuits.
        copies: Places on the device that execute different parameter sets at the same time.
        device_qubits: Number of qubits of the device.
        seconds: Length of its variants on average, read-out included: what an execution takes.
    """

    key: str
    name: str
    angle_map: AngleMap | FoldedAngles
    strings: MeasuredStrings
    variants: tuple[Variant, ...]
    copies: tuple[Copy, ...]
    device_qubits: int
    seconds: float

    @property
    def num_parameters(self) -> int:
        """Number of parameters of one copy."""
        return self.angle_map.num_outputs

    def executions(self, points: int, shots: int) -> int:
        """Return how often the device runs for some points."""
        return -(-points // len(self.copies)) * len(self.variants) * shots

    def measured(self, variant: int) -> QuantumCircuit:
        """Return the circuit that is sent: on all qubits of the device, every copy measured.

        Bit `copy * n + q` is qubit q of a copy of n qubits; parameter `p{copy}_{i}` its i-th.
        """
        qubits = len(self.copies[0].physical)
        bits = ClassicalRegister(qubits * len(self.copies), REGISTER)
        result = QuantumCircuit(self.device_qubits, name=f"{self.name}_{variant}")
        result.add_register(bits)
        for index, copy in enumerate(self.copies):
            spec = copy.specs[variant]
            renamed = dict(zip(spec.input_params, self.parameters(index), strict=True))
            used = {old: new for old, new in renamed.items() if old in spec.circuit.parameters}
            part = spec.circuit.assign_parameters(used) if used else spec.circuit
            result.compose(part, qubits=list(copy.physical), inplace=True)
        # Read-outs of all copies at the same time: neighbours are not disturbed in the middle of a circuit.
        everywhere = [qubit for copy in self.copies for qubit in copy.physical]
        result.barrier(everywhere)
        result.measure(everywhere, list(range(len(everywhere))))
        return result

    def parameters(self, copy: int) -> list[Parameter]:
        """Return the parameters of a copy in the sent circuit."""
        # Identities that follow from the names: the same name is the same parameter in all variants.
        names = [f"p{copy}_{index}" for index in range(self.num_parameters)]
        return [Parameter(name, uuid=uuid.uuid5(uuid.NAMESPACE_OID, f"qhybrid {name}")) for name in names]


def mark_of_pubs(pubs: Sequence[Pub], shots: int) -> str:
    """Return a text that says what a job executes: it travels with the job and comes back in its result.

    Args:
        pubs: Measured circuits with their parameter sets.
        shots: Executions of every parameter set.
    """
    content = hashlib.sha256(str(shots).encode())
    for pub in pubs:
        circuit = pub.circuit
        places = [copy.physical for copy in circuit.copies]
        points = np.ascontiguousarray(pub.points, dtype="<f8")
        variant = circuit.variants[pub.variant]
        facts = (circuit.key, variant, places, points.shape)
        content.update(repr(facts).encode())
        if variant.noise != 1:
            content.update(repr(variant.noise).encode())
        content.update(points.tobytes())
    return f"{MARK}{content.hexdigest()[:32]}"


@dataclass(frozen=True, eq=False)
class Pub:
    """A measured circuit with parameter sets.

    Attributes:
        circuit: The circuit.
        variant: Which of its variants.
        points: Input angles of the layer in radians, shape (B, n_in); B points take ceil(B / copies) sets.
    """

    circuit: PreparedCircuit
    variant: int
    points: Array

    @property
    def values(self) -> Array:
        """Return the parameters that are sent, shape (ceil(B / copies), copies * P).

        Point j goes to copy j mod copies; the last set is filled up with the last point.
        """
        copies = len(self.circuit.copies)
        rows = self.circuit.angle_map(self.points)
        missing = -len(rows) % copies
        full = np.concatenate([rows, np.repeat(rows[-1:], missing, axis=0)])
        return full.reshape(len(full) // copies, copies * rows.shape[1])
