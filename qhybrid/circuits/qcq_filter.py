"""The fixed quantum filter of QCQ-CNN (doi 10.1038/s41598-025-13417-1, equations 9 to 12).

A patch of pixels in [0, 1] is encoded as RY(pi pixel), one pixel a qubit; then come layers of gates with
random angles that are never trained. The paper's equation 10 has RZ and RY on every qubit and CNOTs between
neighbours (`eq10`); its code calls PennyLane's template RandomLayers (`random_layers`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from qiskit import QuantumCircuit
from qiskit.circuit import ParameterVector

from qhybrid.circuits.arguments import check_choice, check_integer
from qhybrid.circuits.pauli import single_qubit_observables
from qhybrid.circuits.spec import CircuitSpec
from qhybrid.errors import CircuitError
from qhybrid.seeding import numpy_generator

FULL_TURN = (0.0, 2 * math.pi)


def qcq_filter(
    num_qubits: int = 4,
    layers: int = 1,
    filter: str = "eq10",
    angle_range: Sequence[float] = FULL_TURN,
    seed: int = 0,
    structure_seed: int = 42,
) -> CircuitSpec:
    """Build a filter with fixed random angles.

    Args:
        num_qubits: Pixels of a patch, row by row; the paper has 2 x 2.
        layers: Number of layers; `random_layers` has as many rotations a layer as qubits.
        filter: `eq10` or `random_layers`.
        angle_range: Smallest and largest angle, radians.
        seed: Seed of the angles.
        structure_seed: Seed of the gates and qubits of `random_layers`; the template's default is 42.

    Returns:
        Inputs: pixels in [0, 1], one a qubit. Weights: none. Observables: Z of every qubit.

    Raises:
        CircuitError: If an argument is out of range.
    """
    check_integer("num_qubits", num_qubits, 1)
    check_integer("layers", layers, 0)
    check_integer("seed", seed, 0)
    check_integer("structure_seed", structure_seed, 0)
    check_choice("filter", filter, ("eq10", "random_layers"))
    low, high = _checked_range(angle_range)
    pixels = ParameterVector("x", num_qubits)
    circuit = QuantumCircuit(num_qubits, name="qcq_filter")
    for qubit, pixel in enumerate(pixels):
        circuit.ry(math.pi * pixel, qubit)
    circuit.barrier()
    generator = numpy_generator(seed, "qcq_filter", filter)
    if filter == "eq10":
        _append_equation_10(circuit, generator.uniform(low, high, (layers, num_qubits, 2)))
    else:
        angles = generator.uniform(low, high, (layers, num_qubits))
        for step in random_layers(num_qubits, layers, num_qubits, structure_seed):
            _append_step(circuit, step, angles)
    observables = single_qubit_observables("Z", num_qubits)
    return CircuitSpec("qcq_filter", circuit, tuple(pixels), (), observables)


@dataclass(frozen=True)
class RandomStep:
    """One gate of `random_layers`.

    Attributes:
        gate: `rx`, `ry`, `rz` or `cx`.
        qubits: The qubit of a rotation, or control and target.
        layer: The layer it belongs to.
        rotation: For a rotation its number inside the layer, else -1.
    """

    gate: str
    qubits: tuple[int, ...]
    layer: int
    rotation: int = -1


def random_layers(
    num_qubits: int,
    layers: int,
    rotations: int,
    seed: int,
    ratio: float = 0.3,
    axes: Sequence[str] = ("rx", "ry", "rz"),
) -> list[RandomStep]:
    """Draw gates and qubits by the law of PennyLane's template RandomLayers.

    Each layer repeats, until it has its rotations: with probability 1 - `ratio` a rotation about a random
    axis on a random qubit, else a CNOT on two random qubits. The numbers come from NumPy's default generator
    in the template's order of drawing, so that a seed gives the template's circuit (its
    versions up to 2023 drew from NumPy's legacy generator).

    Args:
        num_qubits: Number of qubits; with one there are no CNOTs.
        layers: Number of layers.
        rotations: Rotations a layer.
        seed: Seed of the structure.
        ratio: Probability of a CNOT at each draw.
        axes: Rotation gates to choose from.
    """
    # Not the project's own seeding: the template's circuits follow from this very generator.
    generator = np.random.default_rng(seed)
    steps = []
    for layer in range(layers):
        done = 0
        while done < rotations:
            if generator.random() > ratio:
                gate = axes[int(generator.integers(0, len(axes)))]
                qubit = int(generator.choice(num_qubits, size=1, replace=False)[0])
                steps.append(RandomStep(gate, (qubit,), layer, done))
                done += 1
            elif num_qubits > 1:
                control, target = generator.choice(num_qubits, size=2, replace=False)
                steps.append(RandomStep("cx", (int(control), int(target)), layer))
    return steps


def _append_equation_10(circuit: QuantumCircuit, angles: np.ndarray) -> None:
    for layer in angles:
        for qubit, (z_angle, y_angle) in enumerate(layer):
            circuit.rz(float(z_angle), qubit)
            circuit.ry(float(y_angle), qubit)
        for qubit in range(circuit.num_qubits - 1):
            circuit.cx(qubit, qubit + 1)


def _append_step(circuit: QuantumCircuit, step: RandomStep, angles: np.ndarray) -> None:
    if step.gate == "cx":
        circuit.cx(*step.qubits)
        return
    rotate = {"rx": circuit.rx, "ry": circuit.ry, "rz": circuit.rz}[step.gate]
    rotate(float(angles[step.layer, step.rotation]), step.qubits[0])


def _checked_range(angle_range: Sequence[float]) -> tuple[float, float]:
    try:
        low, high = (float(value) for value in angle_range)
    except (TypeError, ValueError):
        low, high = math.nan, math.nan
    if not (math.isfinite(low) and math.isfinite(high) and low <= high):
        raise CircuitError(
            f"Argument `angle_range` must be two numbers, the smaller first, but is {angle_range!r}."
        )
    return low, high
