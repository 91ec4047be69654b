"""Plan matrix product states: order of qubits, operations, bonds and what they take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from scipy.sparse import csr_array
from scipy.sparse.csgraph import reverse_cuthill_mckee

from qhybrid.circuits.spec import CircuitSpec
from qhybrid.engines.exact.constants import Counts
from qhybrid.engines.exact.cost import angle_counts
from qhybrid.engines.exact.light_cone import pauli_terms
from qhybrid.engines.exact.mps.blocks import (
    Block,
    GateMatrices,
    Operation,
    chain_operations,
    cone_gates,
    rotation_angles,
)
from qhybrid.engines.exact.mps.chain import GROWTH
from qhybrid.engines.exact.mps.readout import ChainReadout, SiteString, operator_groups
from qhybrid.engines.gates.expression import Angle
from qhybrid.engines.lowering import Lowered, Primitive, lower
from qhybrid.engines.noise.readout import readout_map
from qhybrid.errors import EngineError
from qhybrid.noise import NoiseProfile
from qhybrid.noise.paulis import PAULI, ComplexArray

MULTIPLY_ADDS_A_DECOMPOSITION = 100
"""QR and SVD of an m x n matrix, m >= n, count this many times m n^2."""
CALL_OPERATORS = 60
"""Torch operators of any call: angles, their matrices, the sum of the strings."""
PAIR_OPERATORS, SIDE_OPERATORS = 6, 10
"""Torch operators of a gate within a block: on both sites, and on one of them, which is widened first."""
ROTATION_ENTRIES, MEMBER_ENTRIES = 2, 24
"""Numbers that are written for each entry of a rotation's matrix, and for each gate within a block."""


@dataclass(frozen=True)
class ChainCost:
    """What a plan takes, a sample.

    Attributes:
        flops: Complex multiply-adds of the value.
        entries: Complex numbers that are written for the value.
        saved: Those of them that are kept at once for the gradient.
        operators: Torch operators of the value, whatever the number of samples.
        truncations: Sweeps of decompositions.
        widest: Largest bond; where bonds are truncated, before truncation.
        angles: Units of work, of a call and of a sample, of angles that are not affine; see `constants`.
    """

    flops: float
    entries: float
    saved: float
    operators: int
    truncations: int
    widest: int
    angles: tuple[Counts, Counts] = ((), ())


@dataclass(frozen=True)
class ChainPlan:
    """A circuit as matrix product state.

    Attributes:
        wires: The wire of every site.
        gates: The gates of the light cone.
        operations: What happens to the sites, in time order.
        angles: Angles of the rotations, in the order of `GateMatrices`.
        readout: The strings.
        exact: Whether bonds never exceed the allowed one, so that nothing is truncated.
        bond: Allowed bond.
        rank_bound: Bound of the bonds without truncation.
        cost: What it takes.
        most_truncations: Number of truncations if bonds shrink to 1 each time and grow by `GROWTH`.
        scale: Largest sum of absolute coefficients of an observable, the identity's left out.
    """

    wires: tuple[int, ...]
    gates: tuple[Primitive, ...]
    operations: tuple[Operation, ...]
    angles: tuple[Angle, ...]
    readout: ChainReadout
    exact: bool
    bond: int
    rank_bound: int
    cost: ChainCost
    most_truncations: int
    scale: float

    def matrices(self, like: torch.Tensor) -> GateMatrices:
        """Return the gates' matrices as function of the angles."""
        return GateMatrices(self.gates, self._site_of, like)

    @property
    def _site_of(self) -> dict[int, int]:
        return {wire: site for site, wire in enumerate(self.wires)}


def plan_chain(spec: CircuitSpec, noise: NoiseProfile | None, bond: int) -> ChainPlan:
    """Plan a circuit.

    Args:
        spec: The circuit and its observables.
        noise: Error rates; those of read-outs alone are possible.
        bond: Largest bond; where the circuit's Schmidt ranks may exceed it, bonds are truncated.

    Raises:
        EngineError: If a gate has noise or acts on more than two qubits.
    """
    lowered = lower(spec, noise)
    terms = pauli_terms(spec.observables, lowered.wire_of)
    wires = sorted({wire for term in terms for wire in term.support})
    gates = cone_gates(lowered.primitives, wires)
    wires = sorted({*wires, *(wire for gate in gates for wire in gate.qubits)})
    found = []
    for order in _orders(wires, gates):
        operations = chain_operations(gates, {wire: site for site, wire in enumerate(order)})
        found.append((order, operations, *_bonds(operations, len(order), bond)))
    order, operations, steps, rank_bound, truncations = min(found, key=lambda one: (one[3], sum(one[2][-1])))
    exact = rank_bound <= bond
    site_of = {wire: site for site, wire in enumerate(order)}
    strings, matrices = _strings(spec, lowered, noise, site_of)
    readout = ChainReadout(tuple(strings), matrices, len(order), spec.num_observables, max(steps[-1]))
    cost = _with_gates(
        _cost(operations, steps, readout, 0 if exact else truncations, bond), gates, operations
    )
    return ChainPlan(
        tuple(order),
        tuple(gates),
        tuple(operations),
        tuple(rotation_angles(gates)),
        readout,
        exact,
        bond,
        rank_bound,
        _with_gates(cost, gates, operations),
        _bonds(operations, len(order), GROWTH, 1)[2],
        max(readout.scales(), default=0.0),
    )


def _orders(wires: Sequence[int], gates: Sequence[Primitive]) -> list[list[int]]:
    """Return orders to try: as numbered, and by the reverse Cuthill-McKee method, which keeps pairs close."""
    place = {wire: index for index, wire in enumerate(wires)}
    pairs = sorted({tuple(sorted(place[w] for w in gate.qubits)) for gate in gates if len(gate.qubits) == 2})
    if not pairs:
        return [list(wires)]
    rows, columns = np.array(pairs).T
    matrix = csr_array((np.ones(len(pairs)), (rows, columns)), shape=(len(wires), len(wires)))
    other = [
        wires[index] for index in reverse_cuthill_mckee(csr_array(matrix + matrix.T), symmetric_mode=True)
    ]
    return [list(wires), other] if other not in (list(wires), list(wires)[::-1]) else [list(wires)]


def _bonds(
    operations: Sequence[Operation], count: int, bond: int, kept_bond: int | None = None
) -> tuple[list[list[int]], int, int]:
    """Follow the bonds through the circuit.

    Args:
        operations: What happens to the sites.
        count: Number of sites.
        bond: Bond above which the next block across it needs a truncation.
        kept_bond: Largest bond after a truncation; None for `bond`.

    Returns:
        The bonds after every operation as executed (at cut 0 to `count`), the largest one without any
        truncation, and the number of truncations.
    """
    free, kept = [1] * (count + 1), [1] * (count + 1)
    bound, truncations, steps = 1, 0, [list(kept)]
    for operation in operations:
        if isinstance(operation, Block):
            _grow(free, operation)
            bound = max(bound, *free)
            if max(kept[operation.left + 1 : operation.right + 1]) > bond:
                kept = [min(one, kept_bond or bond) for one in kept]
                truncations += 1
            _grow(kept, operation)
        steps.append(list(kept))
    return steps, bound, truncations


def _grow(bonds: list[int], block: Block) -> None:
    """Multiply the bonds between a block's sites, and fold them as `Chain` does."""
    for cut in range(block.left + 1, block.right + 1):
        bonds[cut] *= block.rank
    site = block.left
    while site + 2 < len(bonds):
        if bonds[site + 1] > 2 * bonds[site]:
            bonds[site + 1] = 2 * bonds[site]
        elif site >= block.right:
            break
        site += 1
    site = block.right
    while site > 0:
        if bonds[site] > 2 * bonds[site + 1]:
            bonds[site] = 2 * bonds[site + 1]
        elif site <= block.left:
            break
        site -= 1


def _strings(
    spec: CircuitSpec, lowered: Lowered, noise: NoiseProfile | None, site_of: dict[int, int]
) -> tuple[list[SiteString], ComplexArray]:
    """Return the strings on sites and their one-site matrices, those of read-out errors included."""
    qubit_of = {wire: qubit for qubit, wire in enumerate(lowered.wire_of)}
    matrices: dict[bytes, tuple[int, ComplexArray]] = {}
    strings = []
    for term in pauli_terms(spec.observables, lowered.wire_of):
        letters = []
        for wire, letter in term.letters:
            matrix = _read_matrix(letter, qubit_of[wire], noise)
            number = matrices.setdefault(matrix.tobytes(), (len(matrices), matrix))[0]
            letters.append((site_of[wire], number))
        strings.append(SiteString(term.observable, term.coefficient, tuple(sorted(letters))))
    table = [matrix for _, matrix in matrices.values()]
    return strings, np.stack(table) if table else np.zeros((0, 2, 2), dtype=complex)


def _read_matrix(letter: int, qubit: int, noise: NoiseProfile | None) -> ComplexArray:
    if noise is None:
        return PAULI["IXYZ"[letter]]
    row = readout_map(noise, qubit)[letter]
    return np.asarray(sum(factor * PAULI[name] for factor, name in zip(row, "IXYZ")))


def _cost(
    operations: Sequence[Operation],
    steps: Sequence[Sequence[int]],
    readout: ChainReadout,
    truncations: int,
    bond: int,
) -> ChainCost:
    flops = entries = 0.0
    operators = 0
    for operation, bonds in zip(operations, steps[1:]):
        if isinstance(operation, Block):
            sizes = [2 * bonds[site] * bonds[site + 1] for site in range(operation.left, operation.right + 1)]
            operators += 14 + 3 * (len(sizes) - 2)
            flops += 2 * sum(sizes)
            entries += sum(sizes)
        else:
            operators += 1 + len(operation.gates)
            size = 2 * bonds[operation.site] * bonds[operation.site + 1]
            flops += 2 * size
            entries += size
    last, saved = steps[-1], entries
    if truncations:
        # One segment between truncations at a time, and the states after each of them.
        saved = 2 * entries / truncations
        sweeps = truncations + len(operator_groups(readout.strings))
        largest = [max(step[cut] for step in steps) for cut in range(len(last))]
        for left, right in pairwise(largest):
            flops += sweeps * MULTIPLY_ADDS_A_DECOMPOSITION * 2 * left * right * min(left, 2 * right)
            entries += sweeps * 4 * left * right
            saved += truncations * 2 * min(left, bond) * min(right, bond)
        operators += sweeps * 14 * len(last)
    work, written, kept, calls = readout.work(last)
    widest = max(max(step) for step in steps)
    return ChainCost(flops + work, entries + written, saved + kept, operators + calls, truncations, widest)


def _with_gates(cost: ChainCost, gates: Sequence[Primitive], operations: Sequence[Operation]) -> ChainCost:
    """Return the cost with that of the gates' matrices, which every sample has its own of."""
    members = [one for block in operations if isinstance(block, Block) for one in block.members]
    pairs = sum(member.side == "pair" for member in members)
    rotations = [gate for gate in gates if gate.angle is not None]
    written = ROTATION_ENTRIES * sum(4 ** len(gate.qubits) for gate in rotations)
    angles = dict.fromkeys(angle for angle in rotation_angles(gates) if angle.tree is not None)
    return replace(
        cost,
        entries=cost.entries + written + MEMBER_ENTRIES * len(members),
        operators=cost.operators
        + CALL_OPERATORS
        + PAIR_OPERATORS * pairs
        + SIDE_OPERATORS * (len(members) - pairs),
        angles=angle_counts((angle.tree or (), angle.batched) for angle in angles),
    )


def check_bond(bond: object) -> int:
    """Return a usable bond.

    Raises:
        EngineError: If it is not an integer of at least 1.
    """
    if isinstance(bond, bool) or not isinstance(bond, int) or bond < 1:
        raise EngineError(f"Option `bond` must be an integer of at least 1, but is {bond!r}.")
    return bond
