"""`analyze_circuit`: every figure of one circuit, without data; what does not fit says what it would need."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from qhybrid.analysis.closed_form import Formula, formulas
from qhybrid.analysis.cost import ClassicalCost, classical_cost
from qhybrid.analysis.dead import DeadAngles, dead_angles
from qhybrid.analysis.directions import (
    DATA,
    QFI_INPUTS,
    EffectiveDimension,
    Rank,
    effective_dimension,
    jacobian_rank,
    kappa_of,
    quantum_rank,
)
from qhybrid.analysis.estimates import FEWEST, Estimate, NotComputed
from qhybrid.analysis.expressibility import Expressibility, entangling_capability, expressibility_of
from qhybrid.analysis.kernels import GeometricDifference, geometric_differences
from qhybrid.analysis.parameters import ParameterFacts, Range, Settings
from qhybrid.analysis.spectrum import InputSpectrum, spectra_of
from qhybrid.analysis.states import STATE_QUBITS, StateVectors
from qhybrid.analysis.structure import Cone, Structure, distinct_cones, structure_of
from qhybrid.analysis.trainability import Growth, Trainability, growth_of, trainability_of
from qhybrid.analysis.values import ExactValues
from qhybrid.circuits.spec import CircuitSpec
from qhybrid.devices import Device
from qhybrid.errors import ConfigError

SAMPLES = 1000
"""Random settings, and pairs of them, that each figure is estimated from unless asked otherwise."""
Progress = Callable[[str, int, int | None], None]


@dataclass(frozen=True)
class States:
    """Which states the figures about states are of.

    Attributes:
        qubits: Their qubits, idle ones included; empty where none fits.
        of: "the circuit", or the light cone of an observable in words.
        note: What that leaves out; empty where nothing is.
    """

    qubits: tuple[int, ...]
    of: str
    note: str = ""


@dataclass(frozen=True)
class CircuitAnalysis:
    """All figures of one circuit. Those that could not be computed are `NotComputed`.

    Attributes:
        seed: Seed of all random settings.
        samples: Settings that were asked for; each figure says how many it has.
        parameters: Inputs, then weights, and where they were drawn.
        structure: Gates, depth, light cones.
        formulas: Observables of light cones of at most three qubits.
        dead: Angles that no observable depends on.
        jacobian_rank: Independent directions of the outputs in the weights.
        quantum_rank_one_input: Independent directions of the state in the weights, for one input.
        quantum_rank: The same for many inputs together.
        states: What the figures of states are of.
        expressibility: Over inputs and weights, then over weights alone where there are both.
        entangling_capability: Mean of Meyer and Wallach's Q.
        trainability: Variances of gradients.
        growth: The same at several sizes; None if that was not asked for.
        spectra: Frequencies of each input.
        effective_dimension: Of the outputs as functions of the weights.
        geometric_differences: Of the fidelity kernel where it fits, and of the projected one.
        cost: What exact values cost on a classical computer.
    """

    seed: int
    samples: int
    parameters: tuple[ParameterFacts, ...]
    structure: Structure
    formulas: tuple[Formula, ...]
    dead: DeadAngles
    jacobian_rank: Rank | NotComputed
    quantum_rank_one_input: Rank | NotComputed
    quantum_rank: Rank | NotComputed
    states: States
    expressibility: tuple[Expressibility, ...] | NotComputed
    entangling_capability: Estimate | NotComputed
    trainability: Trainability | NotComputed
    growth: Growth | NotComputed | None
    spectra: tuple[InputSpectrum, ...] | NotComputed
    effective_dimension: EffectiveDimension | NotComputed
    geometric_differences: tuple[GeometricDifference | NotComputed, ...]
    cost: ClassicalCost

    def to_dict(self) -> dict[str, Any]:
        """Return all figures as JSON-safe values; what was not computed is {"not_computed": reason}."""
        found: dict[str, Any] = _plain(self)
        return found

    def to_json(self) -> str:
        """Return all figures as JSON text."""
        return json.dumps(self.to_dict(), indent=2, allow_nan=False) + "\n"


def analyze_circuit(
    spec: CircuitSpec,
    *,
    devices: Sequence[Device] = (),
    grown: Sequence[tuple[int, CircuitSpec]] = (),
    grown_by: str = "",
    seed: int = 0,
    samples: int = SAMPLES,
    input_range: Range | None = None,
    weight_range: Range | None = None,
    data: int = DATA,
    progress: Progress = lambda _what, _done, _total: None,
) -> CircuitAnalysis:
    """Compute every figure of a circuit.

    Args:
        spec: The circuit.
        devices: Devices that it is routed to for the counts of gates.
        grown: The same circuit at several sizes, (size, circuit), for the slopes of gradient variances.
        grown_by: What the sizes are of, such as the builder's argument `grid`.
        seed: Seed of all random settings: the same seed gives the same figures.
        samples: Random settings, and pairs of them, of each figure; circuits that take long get fewer.
        input_range: Where inputs are drawn, radians; None for one period of each, [-pi, pi] without one.
        weight_range: The same for weights.
        data: Number of data that the effective dimension is stated for.
        progress: Called with the figure, the number done and the number in all.

    Raises:
        ConfigError: If a range or a number is of no use.
        CircuitError: If the circuit cannot be executed, or does not fit a device.
        NotFiniteError: If an angle is not finite in the range of its parameters.
    """
    if samples < FEWEST:
        raise ConfigError(f"Argument `samples` must be at least {FEWEST}, but is {samples}.")
    kappa_of(data)
    settings = Settings(spec, seed, input_range, weight_range)
    progress("structure", 0, None)
    structure = structure_of(spec, devices, seed)
    values = ExactValues(settings)
    dead = dead_angles(settings, values)
    states, chosen = states_of(settings, structure)

    def grow() -> Growth | NotComputed | None:
        own = [_grown(one, seed, samples, input_range, weight_range) for _, one in grown]
        return growth_of(grown_by, [size for size, _ in grown], own) if own else None

    figures: dict[str, Callable[[], Any]] = {
        "cost": lambda: classical_cost(spec),
        "formulas": lambda: formulas(settings, structure.cones),
        "jacobian_rank": lambda: jacobian_rank(settings, values),
        "quantum_rank_one_input": lambda: _quantum_rank(settings, states, chosen, 1),
        "quantum_rank": lambda: _quantum_rank(settings, states, chosen, QFI_INPUTS),
        "expressibility": lambda: _expressibilities(settings, states, chosen, samples),
        "entangling_capability": lambda: entangling_capability(settings, samples),
        "trainability": lambda: trainability_of(settings, values, dead.dead, samples),
        "growth": grow,
        "spectra": lambda: spectra_of(settings, values),
        "effective_dimension": lambda: effective_dimension(settings, values, data),
        "geometric_differences": lambda: geometric_differences(
            settings, states if chosen.of == WHOLE else None
        ),
    }
    found = {}
    for place, (name, compute) in enumerate(figures.items()):
        progress(name.replace("_", " "), place, len(figures))
        found[name] = compute()
    progress("done", len(figures), len(figures))
    return CircuitAnalysis(
        seed=seed,
        samples=samples,
        parameters=settings.facts,
        structure=structure,
        dead=dead,
        states=chosen,
        **found,
    )


WHOLE = "the circuit"


def states_of(settings: Settings, structure: Structure) -> tuple[StateVectors | None, States]:
    """Return the states of a circuit, else of its largest light cone that fits; None where none does."""
    whole = StateVectors(settings.lowered, settings.count)
    if whole.num_qubits <= STATE_QUBITS:
        return whole, States(tuple(range(settings.spec.num_qubits)), WHOLE)
    amount = f"a state of {whole.num_qubits} qubits needs {2.0 ** (whole.num_qubits - 26):,.4g} GiB, and up "
    amount += f"to {STATE_QUBITS} qubits are computed"
    for cone in distinct_cones(structure.cones):
        states = StateVectors(settings.lowered, settings.count, cone.primitives)
        if states.num_qubits <= STATE_QUBITS:
            of = f"the light cone of {cone.observable} ({len(cone.qubits)} qubits)"
            return states, States(cone.qubits, of, amount)
    return None, States((), "", f"{amount}; no light cone is as small")


def _quantum_rank(
    settings: Settings, states: StateVectors | None, chosen: States, inputs: int
) -> Rank | NotComputed:
    return NotComputed(chosen.note) if states is None else quantum_rank(settings, states, inputs)


def _expressibilities(
    settings: Settings, states: StateVectors | None, chosen: States, samples: int
) -> tuple[Expressibility, ...] | NotComputed:
    if states is None:
        return NotComputed(chosen.note)
    qubits = len(chosen.qubits)
    # Fidelities are cheap for small circuits, and their bias falls with the number of pairs.
    first = expressibility_of(settings, states, qubits, 5 * samples)
    if first.drawn != "inputs and weights":
        return (first,)
    return first, expressibility_of(settings, states, qubits, 5 * samples, weights_only=True)


def _grown(
    spec: CircuitSpec,
    seed: int,
    samples: int,
    input_range: Range | None,
    weight_range: Range | None,
) -> Trainability | NotComputed:
    settings = Settings(spec, seed, input_range, weight_range)
    values = ExactValues(settings)
    return trainability_of(settings, values, dead_angles(settings, values).dead, samples)


def _plain(value: Any) -> Any:
    if isinstance(value, NotComputed):
        return {"not_computed": value.reason}
    if isinstance(value, Formula):
        return value.to_dict()
    if isinstance(value, Cone):
        return {"observable": value.observable, "qubits": list(value.qubits), "gates": value.gates}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {one.name: _plain(getattr(value, one.name)) for one in dataclasses.fields(value)}
    if isinstance(value, tuple | list):
        return [_plain(one) for one in value]
    return value
