"""What the outputs of a quantum layer are replaced by, each by its name."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from qhybrid.circuits.disentangled import disentangled, entangling_gates
from qhybrid.circuits.spec import CircuitSpec
from qhybrid.evaluation.diagnosis.probe import Call, Records, Replacement
from qhybrid.evaluation.diagnosis.surrogates import Surrogate
from qhybrid.plugins import Registry
from qhybrid.seeding import numpy_generator, torch_generator

DRAWS = 3
"""Draws of what is random, over which a metric is averaged."""
MEAN, ZERO, PERMUTED = "mean", "zero", "permuted"
DECISIVE = (MEAN, ZERO, PERMUTED)
"""The verdict is about these."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """What interventions are made of.

    Attributes:
        records: What the layers saw and said on the data that are diagnosed.
        surrogates: Fitted surrogates of each layer's calls: by layer, call and kind.
        seed: Decides permutations and redrawn angles.
    """

    records: Records
    surrogates: Mapping[tuple[str, int, str], Surrogate]
    seed: int


Make = Callable[[Evidence, int], Replacement]
"""Makes a replacement from evidence and the number of the draw."""


@dataclass(frozen=True)
class Intervention:
    """One way to replace the outputs of quantum layers.

    Attributes:
        label: What tables call it.
        description: One sentence.
        make: Makes the replacement.
        random: Whether there are several draws.
        applies: Why a circuit has no such replacement; None if it has.
    """

    label: str
    description: str
    make: Make
    random: bool = False
    applies: Callable[[CircuitSpec], str | None] = lambda _: None


INTERVENTIONS: Registry[Intervention] = Registry("intervention")


def _mean(evidence: Evidence, draw: int) -> Replacement:
    means = {
        (name, number): record.outputs.double().mean(dim=0)
        for name, calls in evidence.records.items()
        for number, record in enumerate(calls)
    }

    def replace(call: Call) -> Tensor:
        return _rows(means[call.layer, call.number].expand(call.samples, -1, -1), call)

    return replace


def _zero(evidence: Evidence, draw: int) -> Replacement:
    return lambda call: call.inputs.new_zeros(len(call.inputs), call.spec.num_observables)


def _permuted(evidence: Evidence, draw: int) -> Replacement:
    count = max((len(calls[0].outputs) for calls in evidence.records.values()), default=0)
    source = torch.from_numpy(other_samples(count, evidence.seed, draw))

    def replace(call: Call) -> Tensor:
        outputs = evidence.records[call.layer][call.number].outputs
        return _rows(outputs[source[call.first : call.first + call.samples]], call)

    return replace


def other_samples(count: int, seed: int, draw: int) -> NDArray[np.int64]:
    """Return for each sample another one whose outputs it gets: a random cycle through all of them.

    Args:
        count: Number of samples; a single one has no other and keeps its own.
        seed: Of the diagnosis.
        draw: Number of the draw.
    """
    order = numpy_generator(seed, "permuted", draw).permutation(count)
    source = np.empty(count, dtype=np.int64)
    source[order] = np.roll(order, -1)
    return source


def redrawn_angles(layer: str, count: int, seed: int, draw: int) -> Tensor:
    """Return angles from the whole circle, uniform in [-pi, pi), float64 of shape (count,)."""
    generator = torch_generator(seed, "redrawn", layer, draw)
    return (2 * torch.rand(count, generator=generator, dtype=torch.float64) - 1) * math.pi


def _redrawn(evidence: Evidence, draw: int) -> Replacement:
    def replace(call: Call) -> Tensor:
        angles = redrawn_angles(call.layer, len(call.weights), evidence.seed, draw).to(call.weights)
        return call.engine.expectations(call.spec, call.inputs, angles)

    return replace


def _disentangled(evidence: Evidence, draw: int) -> Replacement:
    specs: dict[str, CircuitSpec] = {}

    def replace(call: Call) -> Tensor:
        spec = specs.get(call.layer) or specs.setdefault(call.layer, disentangled(call.spec))
        return call.engine.expectations(spec, call.inputs, call.weights)

    return replace


def _surrogate(kind: str) -> Make:
    def make(evidence: Evidence, draw: int) -> Replacement:
        return lambda call: evidence.surrogates[call.layer, call.number, kind](call.inputs)

    return make


def _rows(values: Tensor, call: Call) -> Tensor:
    """Return values (samples, rows a sample, n_obs) as the rows of a call."""
    return values.reshape(len(call.inputs), -1)


SURROGATES = ("linear", "quadratic", "fourier")
_OWN = {
    MEAN: Intervention("mean", "each output at its mean over the data that are diagnosed", _mean),
    ZERO: Intervention("zero", "all outputs 0", _zero),
    PERMUTED: Intervention("permuted", "the outputs of another sample", _permuted, random=True),
    "redrawn": Intervention(
        "redrawn angles",
        "trained angles replaced by random ones from the whole circle",
        _redrawn,
        random=True,
        applies=lambda spec: None if spec.num_weights else "it has no angles of its own",
    ),
    "disentangled": Intervention(
        "no 2-qubit gates",
        "the same angles, without the gates on two or more qubits",
        _disentangled,
        applies=lambda spec: None if entangling_gates(spec) else "it has no two-qubit gates",
    ),
    **{
        kind: Intervention(
            f"{label} fit",
            "a regression from angles to outputs, fitted on training angles",
            _surrogate(kind),
            applies=lambda spec: None if spec.num_inputs else "it has no inputs",
        )
        for kind, label in zip(SURROGATES, ("linear", "quadratic", "Fourier"))
    },
}
for _name, _entry in _OWN.items():
    INTERVENTIONS.register(_name, _entry)
