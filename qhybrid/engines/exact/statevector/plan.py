"""Plan statevector runs: which qubits and gates each one carries, step by step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qhybrid.engines.exact.graph import Graph
from qhybrid.engines.exact.light_cone import PauliTerm, light_cone
from qhybrid.engines.exact.native.constants import constant_gate
from qhybrid.engines.exact.native.rotations import Rotations, rotations_of
from qhybrid.engines.exact.program import Program, Wanted
from qhybrid.engines.exact.statevector.fusion import StateGate, fuse_state_gates
from qhybrid.engines.exact.statevector.observables import MaskedPauli, masked
from qhybrid.engines.exact.statevector.products import ProductString
from qhybrid.engines.exact.statevector.steps import MatrixStep, RotationStep, SampleMatrixStep, Step
from qhybrid.engines.lowering import Lowered, Primitive


@dataclass(frozen=True)
class StateRun:
    """One statevector.

    Attributes:
        num_qubits: Its number of qubits.
        steps: Its gates; `root` counts the tensors of the whole plan.
        strings: Read-outs, on the order of qubits after the last step.
        terms: For every string, then every product, its (observable, coefficient).
        products: Read-outs that are products of one-qubit operators.
        rotations: The same for the compiled library, or None where a gate or a read-out has no form that it
            knows.
        unknown: That gate or read-out in words; empty where there is none.
    """

    num_qubits: int
    steps: tuple[Step, ...]
    strings: tuple[MaskedPauli, ...]
    terms: tuple[tuple[int, float], ...]
    products: tuple[ProductString, ...] = ()
    rotations: Rotations | None = None
    unknown: str = ""


@dataclass(frozen=True)
class StatePlan:
    """A circuit as one or several statevectors.

    Attributes:
        wanted: The gates' tensors.
        runs: The statevectors.
        constants: Terms without any state: (observable, value).
    """

    wanted: Wanted
    runs: tuple[StateRun, ...]
    constants: tuple[tuple[int, float], ...]

    @property
    def program(self) -> Program:
        """Computes the gates' tensors."""
        return self.wanted.program

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
    def unknown(self) -> str:
        """What the compiled library does not know, in words; empty where it knows all."""
        return next((run.unknown for run in self.runs if run.unknown), "")

    @property
    def num_steps(self) -> int:
        """Number of steps of all statevectors."""
        return sum(len(run.steps) for run in self.runs)

    @property
    def work(self) -> int:
        """Amplitudes that are touched by all steps and read-outs, a sample."""
        return sum(
            (
                len(run.steps)
                + len({s.flips for s in run.strings})
                + sum(len(product.rows) for product in run.products)
            )
            << run.num_qubits
            for run in self.runs
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
    roots: dict[int, int] = {}
    constants: list[tuple[int, float]] = []
    rest = list(terms)
    for cone in groups:
        inside = [term for term in rest if set(cones[term.support]) <= set(cone)]
        rest = [term for term in rest if not set(cones[term.support]) <= set(cone)]
        runs.append(_plan_run(lowered, cone, inside, graph, roots, constants))
    return StatePlan(Wanted(graph, tuple(roots)), tuple(runs), tuple(constants))


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
    roots: dict[int, int],
    constants: list[tuple[int, float]],
) -> StateRun:
    primitives = [lowered.primitives[index] for index in cone]
    touched = sorted({qubit for primitive in primitives for qubit in primitive.qubits})
    layout = list(touched)
    steps = []
    for gate in fuse_state_gates(primitives, lowered.num_qubits, graph):
        steps.append(_step(gate, layout, roots.setdefault(gate.tensor, len(roots)), graph))
    strings, products, kept = _read(terms, layout, constants)
    known = not lowered.noisy and not products
    rotations = rotations_of(primitives, touched, terms) if known else None
    unknown = "" if rotations is not None else _unknown(primitives, products)
    return StateRun(len(layout), tuple(steps), strings, kept, products, rotations, unknown)


def _unknown(primitives: Sequence[Primitive], products: Sequence[ProductString]) -> str:
    """Return what has no form for the compiled library, in words."""
    for primitive in primitives:
        if primitive.channel is not None:
            return "noise on gates"
        if primitive.matrix is not None and constant_gate(primitive.matrix) is None:
            name = "of a matrix" if primitive.operation is None else f"`{primitive.operation.name}`"
            return f"gate {name} (instruction {primitive.source}), a matrix on {len(primitive.qubits)} qubits"
    width = max((len(product.rows) for product in products), default=0)
    return f"a read-out with read-out errors on {width} qubits"


def _read(
    terms: Sequence[PauliTerm], layout: Sequence[int], constants: list[tuple[int, float]]
) -> tuple[tuple[MaskedPauli, ...], tuple[ProductString, ...], tuple[tuple[int, float], ...]]:
    """Return strings, products and the (observable, coefficient) of both; qubits without gates are |0>."""
    axis_of = {qubit: axis for axis, qubit in enumerate(layout)}
    strings, kept = [], []
    for term in terms:
        if term.rows:
            continue
        if any(letter != 3 for qubit, letter in term.letters if qubit not in axis_of):
            continue
        letters = [(axis_of[qubit], letter) for qubit, letter in term.letters if qubit in axis_of]
        if letters:
            strings.append(masked(letters, len(layout)))
            kept.append((term.observable, term.coefficient))
        else:
            constants.append((term.observable, term.coefficient))
    products = []
    for term in terms:
        if not term.rows:
            continue
        coefficient = term.coefficient
        for qubit, row in zip(term.support, term.rows):
            if qubit not in axis_of:
                coefficient *= row[0] + row[3]
        products.append(
            ProductString(tuple((axis_of[q], row) for q, row in zip(term.support, term.rows) if q in axis_of))
        )
        kept.append((term.observable, coefficient))
    return tuple(strings), tuple(products), tuple(kept)


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
