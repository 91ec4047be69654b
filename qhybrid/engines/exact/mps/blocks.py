"""Gates as one-site matrices and two-site blocks, each block a short sum of products.

Every two-qubit block is U = sum_k A_k x B_k with r terms. On one side the r operators are constant: they
span all that this side of the block can be, whatever its angles. On the other side they follow by projection,
so that the sum is exact, differentiable and free of decompositions at run time. r is 2 for CX, CZ and every
Pauli rotation, also where RZZ is written as CX RZ CX, and at most 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from qhybrid.engines.exact.light_cone import light_cone
from qhybrid.engines.gates.angle_table import AngleTable
from qhybrid.engines.gates.expression import Angle
from qhybrid.engines.lowering import Primitive
from qhybrid.errors import EngineError
from qhybrid.noise.paulis import ComplexArray, pauli_matrix

SPAN_SAMPLES = 8
"""Random angles at which a block is looked at to find its operators."""
SPAN_TOLERANCE = 1e-12
"""Relative singular value below which an operator is not part of the span."""


@dataclass(frozen=True)
class Member:
    """A gate inside a block.

    Attributes:
        gate: Its index among the gates.
        side: "pair", "left" or "right".
    """

    gate: int
    side: str


@dataclass(frozen=True)
class Local:
    """One-qubit gates in a row on one site: their indices, in time order."""

    site: int
    gates: tuple[int, ...]


@dataclass(frozen=True)
class Block:
    """Gates on one pair of sites with nothing else between them.

    Attributes:
        left: Site of the chain.
        right: Another site, right of it.
        members: The gates in time order.
        basis: Orthonormal operators of the constant side, shape (r, 2, 2).
        constant_left: Whether the constant side is the left one.
    """

    left: int
    right: int
    members: tuple[Member, ...]
    basis: ComplexArray
    constant_left: bool

    @property
    def rank(self) -> int:
        """Number of products, by which the bonds between the sites grow."""
        return len(self.basis)


Operation = Local | Block


class GateMatrices:
    """The gates' unitaries on chain sites, for a batch of angles.

    Args:
        gates: The gates, on one or two wires each.
        site_of: The site of every wire.
        like: Complex tensor that shows dtype and device.
    """

    def __init__(self, gates: Sequence[Primitive], site_of: dict[int, int], like: torch.Tensor) -> None:
        self._constants: dict[int, torch.Tensor] = {}
        self._rotations: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor, list[int]]] = []
        wanted: dict[int, list[tuple[int, int, ComplexArray]]] = {1: [], 2: []}
        row = 0
        for index, gate in enumerate(gates):
            sites = [site_of[wire] for wire in gate.qubits]
            if gate.angle is None:
                matrix = torch.tensor(_on_sites(_matrix(gate), sites))
                self._constants[index] = matrix.to(like).unsqueeze(0)
                continue
            letters = gate.pauli if sites == sorted(sites) else gate.pauli[::-1]
            # `pauli_matrix` has its first letter least significant.
            generator = pauli_matrix(letters[::-1])
            wanted[len(sites)].append((index, row, generator))
            row += 1
        for entries in wanted.values():
            if entries:
                generators = torch.as_tensor(np.stack([entry[2] for entry in entries])).to(like).unsqueeze(1)
                identity = torch.eye(generators.shape[-1], dtype=like.dtype, device=like.device)
                rows = torch.as_tensor([entry[1] for entry in entries], device=like.device)
                self._rotations.append((rows, generators, identity, [entry[0] for entry in entries]))

    def __call__(self, angles: torch.Tensor) -> dict[int, torch.Tensor]:
        """Return every gate's matrix, shape (B, d, d) or (1, d, d), for angles of shape (K, B).

        Rows and columns of a two-site matrix have the left site's bit as the more significant one.
        """
        result = dict(self._constants)
        for rows, generators, identity, members in self._rotations:
            half = (angles.index_select(0, rows) / 2)[..., None, None]
            # exp(-i t P / 2) = cos(t / 2) - i sin(t / 2) P
            matrices = half.cos() * identity - 1j * (half.sin() * generators)
            result.update(zip(members, matrices.unbind(0)))
        return result


def rotation_angles(gates: Sequence[Primitive]) -> list[Angle]:
    """Return the angles of all rotations, in the order in which `GateMatrices` takes them."""
    return [gate.angle for gate in gates if gate.angle is not None]


def cone_gates(primitives: Sequence[Primitive], wires: Sequence[int]) -> list[Primitive]:
    """Return the gates that read-outs on some wires depend on.

    Raises:
        EngineError: If one of them has noise, or acts on more than two qubits.
    """
    gates = [primitives[index] for index in light_cone(primitives, wires)]
    if any(gate.channel is not None for gate in gates):
        raise EngineError(
            "Method `mps` must have gates without noise, because it holds a pure state, but the noise "
            "profile has errors on the circuit's gates. Fix: method='network' (or 'auto'), which takes noise."
        )
    for gate in gates:
        if len(gate.qubits) > 2:
            raise EngineError(
                f"Method `mps` must have gates on one or two qubits, but one acts on {len(gate.qubits)}. "
                "Fix: transpile the circuit to standard gates first."
            )
    return gates


def chain_operations(gates: Sequence[Primitive], site_of: dict[int, int]) -> list[Operation]:
    """Merge gates to operations on chain sites, in an order that keeps the circuit's meaning."""
    order: list[tuple[int, ...] | list[Member]] = []
    pairs: list[tuple[int, int]] = []
    opened: dict[int, int] = {}
    waiting: dict[int, list[int]] = {}

    def flush(site: int) -> None:
        if waiting.get(site):
            order.append(tuple(waiting.pop(site)))
            pairs.append((site, site))

    for index, gate in enumerate(gates):
        sites = sorted(site_of[wire] for wire in gate.qubits)
        if len(sites) == 1:
            waiting.setdefault(sites[0], []).append(index)
            continue
        left, right = sites
        place = opened.get(left)
        if place is None or place != opened.get(right) or pairs[place] != (left, right):
            flush(left)
            flush(right)
            place = opened[left] = opened[right] = len(order)
            order.append([])
            pairs.append((left, right))
        members = order[place]
        assert isinstance(members, list)
        members += [Member(one, "left") for one in waiting.pop(left, [])]
        members += [Member(one, "right") for one in waiting.pop(right, [])]
        members.append(Member(index, "pair"))
    for site in sorted(waiting):
        flush(site)
    return _with_bases(gates, site_of, order, pairs)


def _with_bases(
    gates: Sequence[Primitive],
    site_of: dict[int, int],
    order: Sequence[tuple[int, ...] | list[Member]],
    pairs: Sequence[tuple[int, int]],
) -> list[Operation]:
    like = torch.empty(0, dtype=torch.complex128)
    rotations = rotation_angles(gates)
    # By NumPy: inside of `jacobian(vectorize=True)` torch draws nothing.
    drawn = torch.from_numpy(7 * np.random.default_rng(0).random((len(rotations), SPAN_SAMPLES)))
    for row, angle in enumerate(rotations):
        if angle.constant:
            drawn[row] = AngleTable([angle], 0, 0, drawn).free(drawn.new_zeros(0))
    matrices = GateMatrices(gates, site_of, like)(drawn)
    result: list[Operation] = []
    for found, (left, right) in zip(order, pairs):
        if isinstance(found, tuple):
            result.append(Local(left, found))
            continue
        samples = block_matrix(found, matrices).reshape(-1, 2, 2, 2, 2).numpy()
        on_left, on_right = _span(samples.transpose(0, 2, 4, 1, 3)), _span(samples.transpose(0, 1, 3, 2, 4))
        smaller = on_left if len(on_left) <= len(on_right) else on_right
        result.append(Block(left, right, tuple(found), smaller, smaller is on_left))
    return result


def _span(samples: ComplexArray) -> ComplexArray:
    """Return an orthonormal basis of the operators in the last two axes, shape (r, 2, 2)."""
    _, values, rows = np.linalg.svd(samples.reshape(-1, 4), full_matrices=False)
    return np.asarray(rows[values > SPAN_TOLERANCE * values[0]]).reshape(-1, 2, 2)


def block_matrix(members: Sequence[Member], matrices: dict[int, torch.Tensor]) -> torch.Tensor:
    """Return a block's unitary, shape (B, 4, 4) or (1, 4, 4), left site more significant."""
    result: torch.Tensor | None = None
    for member in members:
        matrix = matrices[member.gate]
        if member.side != "pair":
            identity = torch.eye(2, dtype=matrix.dtype, device=matrix.device).expand_as(matrix)
            factors = (matrix, identity) if member.side == "left" else (identity, matrix)
            matrix = torch.einsum("xac,xbd->xabcd", *factors).reshape(-1, 4, 4)
        result = matrix if result is None else matrix @ result
    assert result is not None
    return result


def block_factors(block: Block, unitary: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return A and B of U = sum_k A_k x B_k, of shapes (1 or B, r, 2, 2)."""
    basis = torch.as_tensor(block.basis, dtype=unitary.dtype, device=unitary.device)
    parts = unitary.reshape(-1, 2, 2, 2, 2)
    if block.constant_left:
        return basis.unsqueeze(0), torch.einsum("kac,xabcd->xkbd", basis.conj(), parts)
    return torch.einsum("kbd,xabcd->xkac", basis.conj(), parts), basis.unsqueeze(0)


def _matrix(gate: Primitive) -> ComplexArray:
    assert gate.matrix is not None
    return gate.matrix


def _on_sites(matrix: ComplexArray, sites: Sequence[int]) -> ComplexArray:
    """Turn Qiskit's order (first qubit least significant) into left site most significant."""
    if len(sites) == 1 or sites[0] > sites[1]:
        return matrix
    return np.ascontiguousarray(matrix.reshape(2, 2, 2, 2).transpose(1, 0, 3, 2).reshape(4, 4))
