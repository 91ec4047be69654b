"""Exact variances of estimates from shots.

The part O_b of an observable that is read in basis b has the variance (<O_b^2> - <O_b>^2) / N under the joint
law, read-out errors included; different bases are independent. Under the independent law each string P of
coefficient c adds c^2 (1 - <P>^2) / N.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import torch
from qiskit.quantum_info import SparsePauliOp

from qhybrid.circuits.spec import CircuitSpec
from qhybrid.engines.shots.strings import PauliString, as_observable, measured_strings, product_string

if TYPE_CHECKING:
    from qhybrid.engines.exact.engine import ExactEngine


def shot_variances(
    engine: ExactEngine, spec: CircuitSpec, inputs: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    """Return the variances of the values that an engine with shots gives, shape (B, n_obs).

    Args:
        engine: The engine with shots.
        spec: The circuit and its observables.
        inputs: Input angles in radians, shape (B, n_in).
        weights: Trainable angles in radians, shape (n_w,).
    """
    described, size = engine.describe(), spec.num_qubits
    measured = measured_strings(spec.observables, size)
    joint = described["shots_law"] == "joint"
    bases = measured.bases if joint else tuple((index,) for index in range(len(measured.strings)))
    moments: list[SparsePauliOp] = []
    places: list[list[int]] = []
    for row in measured.coefficients:
        places.append([])
        for basis in bases:
            chosen = [(measured.strings[index], float(row[index])) for index in basis if row[index]]
            if chosen:
                places[-1].append(len(moments))
                moments += _moments(chosen, size)
    if not moments:
        return inputs.new_zeros((len(inputs), spec.num_observables))
    values = engine.without_shots().expectations(replace(spec, observables=tuple(moments)), inputs, weights)
    found = [
        sum((values[:, place + 1] - values[:, place] ** 2 for place in own), values.new_zeros(len(values)))
        for own in places
    ]
    variances: torch.Tensor = torch.stack(found, dim=1).clamp(min=0) / described["shots"]
    return variances


def _moments(terms: Sequence[tuple[PauliString, float]], num_qubits: int) -> list[SparsePauliOp]:
    """Return O and O^2 for a sum of strings of one basis."""
    mean = sum((as_observable(string, num_qubits) * c for string, c in terms), _constant(0.0, num_qubits))
    square = _constant(float(np.sum([c * c for _, c in terms])), num_qubits)
    for (first, c), (second, d) in combinations(terms, 2):
        square = square + as_observable(product_string(first, second), num_qubits) * (2 * c * d)
    return [mean.simplify(), square.simplify()]


def _constant(value: float, num_qubits: int) -> SparsePauliOp:
    return SparsePauliOp("I" * num_qubits, value)
