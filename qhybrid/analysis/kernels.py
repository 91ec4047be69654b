"""Geometric difference between the circuit's kernels and classical ones (Huang et al. 2021).

g = sqrt(|| sqrt(K_Q) K_C^-1 sqrt(K_Q) ||) with both kernels scaled to trace N (Nature Communications 12,
2631). Where g is small against sqrt(N), a classical kernel learns whatever the quantum kernel learns about
as well, on any labels. A large g does not say that the quantum kernel is better, only that it may be.

Quantum kernels: the fidelity |<psi(x)|psi(y)>|^2 where a state fits, and the projected one,
exp(-s sum_k ||rho_k(x) - rho_k(y)||^2) with the states rho_k of single qubits, which light cones give.
Classical kernels: linear, quadratic, and Gaussian ones of ten widths, on the inputs and on their cosines and
sines, each with a ridge, without which most of them have no inverse.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from qhybrid.analysis.estimates import Array, Estimate, NotComputed, mean_of
from qhybrid.analysis.expressibility import affordable_states
from qhybrid.analysis.parameters import Settings
from qhybrid.analysis.states import StateVectors
from qhybrid.analysis.values import ExactValues
from qhybrid.circuits.pauli import single_qubit_observables

POINTS, REPEATS = 64, 5
FEWEST_POINTS = 16
"""Inputs of a repeat below which hardly any kernel differs from the nearest classical one."""
WIDTHS = (0.25, 0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 20.0, 50.0, 100.0)
"""Factors of Gaussian kernels, over the number of features and their variance."""
RIDGE = 0.01
"""Share of a classical kernel's trace that is spread evenly over its diagonal, as in ridge regression."""
LARGEST_CONDITION = 1e10
"""Condition number of a classical kernel up to which its inverse means something."""


@dataclass(frozen=True)
class GeometricDifference:
    """How far a kernel of the circuit is from the nearest classical one.

    Attributes:
        kernel: "fidelity" or "projected".
        value: g against the classical kernel where it is smallest.
        nearest: That kernel, in most of the repeats.
        points: Random inputs N of a repeat.
        largest: sqrt(N), the size of g that leaves room for an advantage.
    """

    kernel: str
    value: Estimate
    nearest: str
    points: int
    largest: float


def geometric_differences(
    settings: Settings, states: StateVectors | None
) -> tuple[GeometricDifference | NotComputed, ...]:
    """Return g of the fidelity kernel and of the projected kernel.

    Args:
        settings: The circuit.
        states: Its states; None where they do not fit, which leaves the projected kernel.
    """
    if not any(settings.facts[place].used for place in settings.inputs):
        return (NotComputed("no gate depends on an input"),)
    found: list[GeometricDifference | NotComputed] = []
    if states is not None:
        points = affordable_states(states, POINTS * REPEATS) // REPEATS
        if points < FEWEST_POINTS:
            found.append(NotComputed(f"{_too_few(points)}, for the fidelity kernel"))
        else:
            kernels = [_fidelity(states, rows) for rows in _samples(settings, points)]
            found.append(_difference(settings, "fidelity", kernels, points))
    bloch = ExactValues(settings, single_qubit_observables("XYZ", settings.spec.num_qubits))
    if not bloch.complete:
        return *found, NotComputed(f"{bloch.refusal}, for the states of single qubits")
    points = bloch.affordable(POINTS * REPEATS) // REPEATS
    if points < FEWEST_POINTS:
        return *found, NotComputed(f"{_too_few(points)}, for the projected kernel")
    kernels = [_projected(bloch, rows) for rows in _samples(settings, points)]
    return *found, _difference(settings, "projected", kernels, points)


def _too_few(points: int) -> str:
    return f"needs {REPEATS} times {FEWEST_POINTS} inputs, but {points} are affordable"


def difference(quantum: Array, classical: Array) -> float | None:
    """Return g of two kernels, each of shape (N, N); None where the classical one cannot be inverted."""
    values, vectors = np.linalg.eigh(_scaled(classical))
    if not values[0] > values[-1] / LARGEST_CONDITION:
        return None
    own, turns = np.linalg.eigh(_scaled(quantum))
    root = (turns * np.sqrt(own.clip(min=0.0))) @ turns.T
    inside = root @ ((vectors / values) @ vectors.T) @ root
    return math.sqrt(max(float(np.linalg.eigvalsh(inside)[-1]), 0.0))


def _samples(settings: Settings, points: int) -> list[torch.Tensor]:
    """Return rows with random inputs and one random setting of the weights, for each repeat."""
    several = []
    for repeat in range(REPEATS):
        rows = settings.draw(points, "kernel", repeat)
        rows[:, settings.num_inputs :] = rows[:1, settings.num_inputs :].clone()
        several.append(rows)
    return several


def _difference(
    settings: Settings, name: str, kernels: list[Array], points: int
) -> GeometricDifference | NotComputed:
    nearest: list[str] = []
    smallest = []
    for kernel, rows in zip(kernels, _samples(settings, points)):
        found = {
            label: g
            for label, classical in _classical(settings, rows).items()
            if (g := difference(kernel, classical)) is not None
        }
        if not found:
            return NotComputed(f"no classical kernel of {points} points can be inverted")
        nearest.append(min(found, key=lambda label: found[label]))
        smallest.append(found[nearest[-1]])
    usual = max(sorted(set(nearest)), key=nearest.count)
    return GeometricDifference(name, mean_of(np.array(smallest)), usual, points, math.sqrt(points))


def _classical(settings: Settings, rows: torch.Tensor) -> dict[str, Array]:
    """Return the classical kernels of some inputs with their ridge, by name."""
    used = [place for place in settings.inputs if settings.facts[place].used]
    inputs = rows[:, used].numpy()
    bases = np.array([settings.facts[place].base or 1.0 for place in used])
    waves = np.concatenate([np.cos(bases * inputs), np.sin(bases * inputs)], axis=1)
    found = {}
    for name, features in (("inputs", inputs), ("cosines and sines", waves)):
        products = features @ features.T / np.square(features).sum(axis=1).mean()
        found[f"linear on {name}"] = 1 + products
        found[f"quadratic on {name}"] = (1 + products) ** 2
        distances = np.square(features[:, None] - features[None]).sum(axis=2)
        for width in WIDTHS:
            scale = width / (features.shape[1] * features.var())
            found[f"Gaussian ({width:g}) on {name}"] = np.exp(-scale * distances)
    return {
        label: (1 - RIDGE) * _scaled(kernel) + RIDGE * np.eye(len(rows)) for label, kernel in found.items()
    }


def _fidelity(states: StateVectors, rows: torch.Tensor) -> Array:
    found = torch.cat([states(part) for part in torch.split(rows, states.chunk)])
    kernel: Array = (found.conj() @ found.t()).abs().square().numpy()
    return kernel


def _projected(bloch: ExactValues, rows: torch.Tensor) -> Array:
    """Return the projected kernel; its scale is one over the mean of the distances."""
    vectors = bloch.values(rows).numpy()
    # ||rho - rho'||^2 is half the squared distance of the Bloch vectors.
    distances = np.square(vectors[:, None] - vectors[None]).sum(axis=2) / 2
    mean = distances.mean()
    kernel: Array = np.exp(-distances / mean) if mean > 1e-12 else np.ones_like(distances)
    return kernel


def _scaled(kernel: Array) -> Array:
    scaled: Array = kernel * (len(kernel) / np.trace(kernel))
    return scaled
