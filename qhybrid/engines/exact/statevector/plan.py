"""Plan statevector runs: which qubits and gates each one carries, step by step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qhybrid.engines.exact.graph import Graph
from qhybrid.engines.exact.light_cone import PauliTerm, light_cone
from qhybrid.engines.exact.native.rotations import Rotations, rotations_of
from qhybrid.engines.exact.program import Program, compile_program
from qhybrid.engines.exact.statevector.fusion import StateGate, fuse_state_gates
from qhybrid.engines.exact.statevector.observables import MaskedPauli, masked
from qhybrid.engines.exact.statevector.steps import MatrixStep, RotationStep, SampleMatrixStep, Step
from qhybrid.engines.lowering import Lowered


@dataclass(frozen=True)
class StateRun:
    """One statevector.

    Attributes:
        num_qubits: Its number of qubits.
        steps: Its gates; `root` counts the tensors of the whole plan.
        strings: Read-outs, on the order of qubits after the last step.
        terms: For every string, its (observable, coefficient).
        rotations: The same for the compiled library, or None where a gate has no form that it knows.
    """

    num_qubits: int
    steps: tuple[Step, ...]
    strings: tuple[MaskedPauli, ...]
    terms: tuple[tuple[int, float], ...]
    rotations: Rotations | None = None


@dataclass(frozen=True)
class StatePlan:
    """A circuit as one or several statevectors.

    Attributes:
        program: Computes the gates' tensors.
        runs: The statevectors.
        constants: Terms without any state: (observable, value).
    """

    program: Program
    runs: tuple[StateRun, ...]
    constants: tuple[tuple[int, float], ...]

    @property
    def widest(self) -> int:
        """Qubits of the largest statevector."""
        return max((run.num_qubits for run in self.runs), default=0)

    @property
    def rotations(self) -> tuple[Rotations, ...] | None:
        """All statevectors for the compiled library, or None if one of them has no such form."""
        found = tuple(run.rotations for run in self.runs if run.rotations is not None)
        return found if len(found) == len(self.runs) else None

    @property
    def num_steps(self) -> int:
        """Number of steps of all statevectors."""
        return sum(len(run.steps) for run in self.runs)

    @property
    def work(self) -> int:
        """Amplitudes that are touched by all steps and read-outs, a sample."""
        return sum(
            (len(run.steps) + len({s.flips for s in run.strings})) << run.num_qubits for run in self.runs
        )


def plan_states(lowered: Lowered, terms: Sequence[PauliTerm]) -> StatePlan:
    """Plan a circuit.

    Read-outs whose light cones lie in another's join it; the cones are united to one state where that is no
    more work.
    """
    graph = Graph()
    gates = list(lowered.primitives)
    cones = {term.support: tuple(light_cone(gates, term.support)) for term in terms}
    groups = _groups(cones)
    united = tuple(sorted({index for cone in groups for index in cone}))
    separate = sum(_work(lowered, cone) for cone in groups)
    if _work(lowered, united) <= separate:
        groups = [united]
    runs: list[StateRun] = []
    roots: list[int] = []
    constants: list[tuple[int, float]] = []
    rest = list(terms)
    for cone in groups:
        inside = [term for term in rest if set(cones[term.support]) <= set(cone)]
        rest = [term for term in rest if not set(cones[term.support]) <= set(cone)]
        runs.append(_plan_run(lowered, cone, inside, graph, roots, constants))
    return StatePlan(compile_program(graph, roots), tuple(runs), tuple(constants))


def _groups(cones: dict[tuple[int, ...], tuple[int, ...]]) -> list[tuple[int, ...]]:
    """Return the light cones that are not part of another one."""
    distinct = sorted({cone for cone in cones.values() if cone}, key=len, reverse=True)
    largest: list[set[int]] = []
    for cone in distinct:
        if not any(set(cone) <= other for other in largest):
            largest.append(set(cone))
    return [tuple(sorted(cone)) for cone in largest] or [()]


def _work(lowered: Lowered, cone: Sequence[int]) -> int:
    qubits = {qubit for index in cone for qubit in lowered.primitives[index].qubits}
    return len(cone) << len(qubits)


def _plan_run(
    lowered: Lowered,
    cone: Sequence[int],
    terms: Sequence[PauliTerm],
    graph: Graph,
    roots: list[int],
    constants: list[tuple[int, float]],
) -> StateRun:
    primitives = [lowered.primitives[index] for index in cone]
    touched = sorted({qubit for primitive in primitives for qubit in primitive.qubits})
    layout = list(touched)
    steps = []
    for gate in fuse_state_gates(primitives, lowered.num_qubits, graph):
        if gate.tensor not in roots:
            roots.append(gate.tensor)
        steps.append(_step(gate, layout, roots.index(gate.tensor), graph))
    axis_of = {qubit: axis for axis, qubit in enumerate(layout)}
    strings, kept = [], []
    for term in terms:
        if any(letter != 3 for qubit, letter in term.letters if qubit not in axis_of):
            continue
        letters = [(axis_of[qubit], letter) for qubit, letter in term.letters if qubit in axis_of]
        if letters:
            strings.append(masked(letters, len(layout)))
            kept.append((term.observable, term.coefficient))
        else:
            constants.append((term.observable, term.coefficient))
    rotations = None if lowered.noisy else rotations_of(primitives, touched, terms)
    return StateRun(len(layout), tuple(steps), tuple(strings), tuple(kept), rotations)


def _step(gate: StateGate, layout: list[int], root: int, graph: Graph) -> Step:
    """Return a gate's step; a data-free gate moves its qubits to the front of the layout."""
    axes = tuple(layout.index(qubit) for qubit in gate.qubits)
    if gate.pauli:
        return RotationStep(root, axes, gate.pauli, len(layout))
    if len(axes) == 1:
        return SampleMatrixStep(root, axes[0], len(layout))
    assert not graph.nodes[gate.tensor].batched
    layout[:] = [*gate.qubits, *(qubit for qubit in layout if qubit not in gate.qubits)]
    return MatrixStep(root, axes, len(layout))
