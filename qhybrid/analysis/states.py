"""State vectors of many settings at once: gates are fused on pairs of qubits, qubits join when needed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import torch

from qhybrid.engines.gates.angle_table import AngleTable
from qhybrid.engines.lowering import Lowered, Primitive
from qhybrid.noise.paulis import pauli_matrix

STATE_QUBITS = 16
"""Qubits up to which states are computed."""
CHUNK_AMPLITUDES = 2**18
"""Amplitudes that are carried at once."""
DTYPE = torch.complex128
_Waves: TypeAlias = tuple[torch.Tensor, torch.Tensor]
"""Complex cosines and sines of half the angles, shape (angles, B)."""


@dataclass
class _Block:
    """Gates in a row on the same wires, applied as one matrix.

    Attributes:
        wires: The qubits.
        members: Indices of the gates.
        rows: Rows of the angles of those that turn.
        turns: Their generators times -i on the wires, shape (len(rows), 1, 2^k, 2^k).
        fixed: Matrices of the others on the wires, by index, shape (1, 2^k, 2^k).
    """

    wires: tuple[int, ...]
    members: list[int] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    turns: torch.Tensor = field(default_factory=lambda: torch.empty(0))
    fixed: dict[int, torch.Tensor] = field(default_factory=dict)


class StateVectors:
    """State vectors of a circuit, or of the part of it that a light cone holds.

    Args:
        lowered: The circuit's gates; all parameters are inputs.
        num_parameters: Length of a row of parameters.
        cone: Indices of the gates that count, in time order; None for all of them.

    Attributes:
        wires: The qubits of the state; those that no gate touches are |0> and left out.
        work: Amplitudes that are touched for one state.
    """

    def __init__(self, lowered: Lowered, num_parameters: int, cone: Sequence[int] | None = None) -> None:
        chosen = range(len(lowered.primitives)) if cone is None else cone
        self._gates = [lowered.primitives[index] for index in chosen]
        self._blocks = _blocks(self._gates)
        self.wires = tuple(sorted({wire for gate in self._gates for wire in gate.qubits}))
        seen: set[int] = set()
        self.work = 0
        for block in self._blocks:
            seen.update(block.wires)
            self.work += 2 ** (len(seen) + len(block.wires))
        places = [place for place, gate in enumerate(self._gates) if gate.angle is not None]
        self._row_of = {place: row for row, place in enumerate(places)}
        like = torch.empty(0, dtype=torch.float64)
        for block in self._blocks:
            self._prepare(block)
        angles = [angle for gate in self._gates if (angle := gate.angle) is not None]
        self._angles = AngleTable(angles, num_parameters, 0, like)

    @property
    def num_qubits(self) -> int:
        """Number of qubits of the state."""
        return len(self.wires)

    @property
    def chunk(self) -> int:
        """Number of states that are carried at once."""
        return max(1, CHUNK_AMPLITUDES >> self.num_qubits)

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        """Return the states of rows of parameters, all at once and differentiable.

        Args:
            rows: Radians, shape (B, P).

        Returns:
            Amplitudes, shape (B, 2^n); the first of `wires` is the most significant bit.
        """
        half = self._angles.batched(rows.t(), rows.new_zeros(0)) / 2
        # Real times complex numbers, gate by gate, is slow where derivatives are carried along.
        waves = torch.cos(half).to(DTYPE), torch.sin(half).to(DTYPE)
        state = torch.ones((len(rows), 1), dtype=DTYPE)
        layout: list[int] = []
        for block in self._blocks:
            for wire in block.wires:
                if wire not in layout:
                    state = torch.stack([state, torch.zeros_like(state)], dim=1).flatten(1)
                    layout.insert(0, wire)
            state = self._applied(block, waves, state, layout)
            layout = [*block.wires, *(wire for wire in layout if wire not in block.wires)]
        order = [layout.index(wire) for wire in self.wires]
        return _in_order(state, order).reshape(len(rows), -1)

    def _applied(self, block: _Block, waves: _Waves, state: torch.Tensor, layout: list[int]) -> torch.Tensor:
        axes = [layout.index(wire) for wire in block.wires]
        order = axes + [axis for axis in range(len(layout)) if axis not in axes]
        moved = _in_order(state, order).reshape(len(state), 2 ** len(axes), -1)
        if len(block.wires) > 2:
            (place,) = block.members
            return self._large(place, waves, moved).reshape(len(state), -1)
        return torch.matmul(_matrix(block, waves), moved).reshape(len(state), -1)

    def _prepare(self, block: _Block) -> None:
        """Keep what a block's gates are on its wires; those on three qubits or more need nothing kept."""
        if len(block.wires) > 2:
            return
        turns = []
        for place in block.members:
            gate = self._gates[place]
            turning = gate.angle is not None
            alone = _letters_matrix(gate.pauli) if turning else _first_qubit_first(gate)
            matrix = torch.as_tensor(_embedded(alone, gate.qubits, block.wires), dtype=DTYPE)[None]
            if turning:
                block.rows.append(self._row_of[place])
                turns.append(-1j * matrix)
            else:
                block.fixed[place] = matrix
        block.turns = torch.stack(turns) if turns else block.turns

    def _large(self, place: int, waves: _Waves, moved: torch.Tensor) -> torch.Tensor:
        """Apply one gate on three qubits or more, which are the first axes of the state."""
        gate = self._gates[place]
        if gate.angle is None:
            return torch.matmul(torch.as_tensor(_first_qubit_first(gate)), moved)
        turned = torch.matmul(-1j * torch.as_tensor(_letters_matrix(gate.pauli), dtype=DTYPE), moved)
        cosine, sine = (wave[self._row_of[place]][:, None, None] for wave in waves)
        return cosine * moved + sine * turned


def _matrix(block: _Block, waves: _Waves) -> torch.Tensor:
    """Return the product of a block's gates, first wire most significant, shape (B or 1, 2^k, 2^k)."""
    turning = _turning(block, waves)
    total: torch.Tensor | None = None
    for place in block.members:
        matrix = block.fixed[place] if place in block.fixed else next(turning)
        total = matrix if total is None else torch.matmul(matrix, total)
    assert total is not None
    return total


def _turning(block: _Block, waves: _Waves) -> Iterator[torch.Tensor]:
    """Give the matrices of a block's turning gates, cos(angle / 2) 1 - i sin(angle / 2) P, many at a time."""
    size = 2 ** len(block.wires)
    step = max(1, CHUNK_AMPLITUDES // (size * size * max(1, waves[0].shape[1])))
    for start in range(0, len(block.rows), step):
        some = slice(start, start + step)
        cosines, sines = (wave[block.rows[some]][..., None, None] for wave in waves)
        yield from cosines * torch.eye(size, dtype=DTYPE) + sines * block.turns[some]


def _blocks(gates: Sequence[Primitive]) -> list[_Block]:
    """Group gates: those on one qubit join the block before or behind them, those on a pair their pair's."""
    done: list[_Block] = []
    open_: dict[int, _Block] = {}
    for place, gate in enumerate(gates):
        own = {id(block): block for wire in gate.qubits if (block := open_.get(wire)) is not None}
        if len(own) == 1 and set(gate.qubits) <= set(next(iter(own.values())).wires):
            next(iter(own.values())).members.append(place)
            continue
        block = _Block(gate.qubits)
        for before in own.values():
            if len(gate.qubits) <= 2 and len(before.wires) == 1:
                block.members += before.members
            else:
                done.append(before)
            for wire in before.wires:
                del open_[wire]
        block.members.append(place)
        if len(gate.qubits) > 2:
            done.append(block)
        else:
            open_.update(dict.fromkeys(gate.qubits, block))
    return done + list({id(block): block for block in open_.values()}.values())


def _in_order(state: torch.Tensor, order: list[int]) -> torch.Tensor:
    """Return a state with its qubits' axes in another order, the sample's axis first."""
    if order == sorted(order):
        return state
    parts = state.reshape(len(state), *(2,) * len(order))
    return parts.permute(0, *(axis + 1 for axis in order)).reshape(len(state), -1)


def _first_qubit_first(gate: Primitive) -> np.ndarray:
    """Return a constant gate's matrix with its first qubit as the most significant bit."""
    count = len(gate.qubits)
    assert gate.matrix is not None
    legs = gate.matrix.reshape((2,) * (2 * count))
    order = [*reversed(range(count)), *reversed(range(count, 2 * count))]
    return legs.transpose(order).reshape(2**count, 2**count).copy()


def _letters_matrix(letters: str) -> np.ndarray:
    """Return a Pauli string's matrix with its first letter on the most significant bit."""
    return pauli_matrix(letters[::-1])


def _embedded(matrix: np.ndarray, qubits: tuple[int, ...], wires: tuple[int, ...]) -> np.ndarray:
    """Return a matrix on `qubits` as one on the one or two `wires` that hold them."""
    if qubits == wires:
        return matrix
    if len(qubits) == len(wires):  # the same pair the other way round
        return matrix.reshape(2, 2, 2, 2).transpose(1, 0, 3, 2).reshape(4, 4)
    return np.kron(matrix, np.eye(2)) if qubits[0] == wires[0] else np.kron(np.eye(2), matrix)
