"""Compile a program to a tape: data-free instructions, one copy of what the others read of them, the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qhybrid.engines.exact.graph import Tensor
from qhybrid.engines.exact.program import (
    BATCHED_FEATURES,
    FIRST_STACK,
    FREE_FEATURES,
    SINGLE_CHANNELS,
    Gather,
    Instruction,
    Program,
)
from qhybrid.engines.exact.readout import Output
from qhybrid.engines.exact.tape.contractions import (
    Source,
    constant_operand,
    gathered,
    is_left,
    left_matrices,
    product,
    sample_by_sample,
)
from qhybrid.engines.exact.tape.recorder import Operand, Recorder, Step, operand
from qhybrid.engines.exact.tape.rows import BATCHED, FREE, Rows, View, contiguous


@dataclass(frozen=True)
class Tape:
    """A compiled program.

    Attributes:
        rows: Rows of the data-free and of the batched arena.
        scratch: Rows of the scratch arena.
        constants: Pairs (first row, values) in the data-free arena.
        ones: First row and number of rows that hold 1 in each arena.
        features: For batched and for free angles: views of cosines and of sines.
        channels: Views of the channels on one and on two qubits.
        forward: Steps of the value.
        backward: Steps of the gradient.
        unset: For both arenas: which rows of the gradient must start at zero.
        factors: Rows of the read-out's factors, shape (width, terms).
        targets: Observable of each term.
        coefficients: Coefficient of each term.
        num_observables: Length of the result.
    """

    rows: tuple[int, int]
    scratch: int
    constants: tuple[tuple[int, Tensor], ...]
    ones: tuple[tuple[int, int], tuple[int, int]]
    features: tuple[tuple[View, View], tuple[View, View]]
    channels: tuple[View, View]
    forward: tuple[Step, ...]
    backward: tuple[Step, ...]
    unset: tuple[np.ndarray[tuple[int, ...], np.dtype[np.bool_]], ...]
    factors: Rows
    targets: Rows
    coefficients: Tensor
    num_observables: int


class Compiler:
    """Compiles one program.

    Args:
        program: The program.
        outputs: How results are read from its roots.
        num_observables: Length of the result.
    """

    def __init__(self, program: Program, outputs: Sequence[Output], num_observables: int) -> None:
        self._program = program
        self._outputs = outputs
        self._num_observables = num_observables
        self._recorder = Recorder()
        self._registers: dict[int, tuple[int, Rows]] = {}

    def compile(self) -> Tape:
        """Return the tape."""
        recorder, program = self._recorder, self._program
        counts = len(program.batched_angles), len(program.free_angles)
        batched, ones = self._features(BATCHED, BATCHED_FEATURES, counts[0])
        free, free_ones = self._features(FREE, FREE_FEATURES, counts[1])
        channels = tuple(self._channels(place) for place in range(2))
        numbered = list(enumerate(program.instructions, FIRST_STACK))
        for register, instruction in numbered:
            if not any(instruction.batched):
                self._registers[register] = FREE, self._free(instruction)
        left = self._left_operands(numbered)
        for register, instruction in numbered:
            if any(instruction.batched):
                self._registers[register] = BATCHED, self._batched(instruction, left.get(register))
        factors, targets, coefficients = self._read_out(ones[0])
        recorder.unwind(factors.ravel())
        for pair in (batched, free):
            for view in pair:
                recorder.settle(view)
        for view in channels:
            recorder.settle(view)
        return Tape(
            (recorder.rows[FREE], recorder.rows[BATCHED]),
            recorder.scratch,
            tuple(recorder.constants),
            (free_ones, ones),
            (batched, free),
            (channels[0], channels[1]),
            tuple(recorder.forward),
            tuple(recorder.backward),
            tuple(recorder.unset),
            factors,
            targets,
            coefficients,
            self._num_observables,
        )

    def _features(self, arena: int, register: int, count: int) -> tuple[tuple[View, View], tuple[int, int]]:
        """Place features (1, cos t, sin t) of angles: all ones, then all cosines, then all sines."""
        # One row of ones in any case: terms of the read-out with fewer factors are filled up with it.
        ones = self._recorder.allocate(arena, (max(1, count),))
        turns = self._recorder.allocate(arena, (2, count))
        self._registers[register] = arena, np.stack([ones[:count], *turns], axis=1)
        start = len(ones) + int(ones[0])
        cosine, sine = (contiguous(arena, start + part * count, (count,)) for part in range(2))
        return (cosine, sine), (int(ones[0]), len(ones))

    def _channels(self, place: int) -> View:
        sizes = (len(self._program.channels[place]), *(4,) * (2 + 2 * place))
        table = self._recorder.allocate(FREE, sizes)
        self._registers[SINGLE_CHANNELS + place] = FREE, table
        return contiguous(FREE, int(table.flat[0]) if table.size else 0, sizes)

    def _source(self, gather: Gather) -> Source:
        """Return the table of an operand."""
        if not gather.pieces:
            return Source(FREE, np.zeros(0, dtype=np.int64), gather.constant)
        parts, arena = [], FREE
        if gather.constant is not None:
            parts.append(self._recorder.constant(gather.constant))
        for register, start, stop, step in gather.pieces:
            arena, table = self._registers[register]
            parts.append(table[start:stop:step])
        whole = parts[0] if len(parts) == 1 else np.concatenate(parts)
        return Source(arena, whole if gather.index is None else whole[np.asarray(gather.index)])

    def _left(self, instruction: Instruction) -> Operand | Rows:
        """Return the data-free operand of a contraction, or the table that must be copied first."""
        source = self._source(instruction.operands[0])
        if source.values is not None:
            return constant_operand(self._recorder, left_matrices(instruction, source.values))
        table = left_matrices(instruction, source.table)
        left = operand(FREE, table)
        return left if left is not None and is_left(left) else table

    def _free(self, instruction: Instruction) -> Rows:
        if instruction.kind == "select":
            source = self._source(instruction.operands[0])
            return _first_of(source.table, instruction)
        left = self._left(instruction)
        if not isinstance(left, Operand):
            (left,) = gathered(self._recorder, FREE, [left])
        return product(self._recorder, instruction, left, self._source(instruction.operands[1]))

    def _left_operands(self, numbered: Sequence[tuple[int, Instruction]]) -> dict[int, Operand]:
        """Return the data-free operands of all instructions with samples; all copies are one step."""
        found: dict[int, Operand] = {}
        copied: dict[int, Rows] = {}
        for register, instruction in numbered:
            if instruction.kind != "select" and instruction.batched == (False, True):
                left = self._left(instruction)
                if isinstance(left, Operand):
                    found[register] = left
                else:
                    copied[register] = left
        if copied:
            found.update(zip(copied, gathered(self._recorder, FREE, list(copied.values()))))
        return found

    def _batched(self, instruction: Instruction, left: Operand | None) -> Rows:
        if left is not None:
            return product(self._recorder, instruction, left, self._source(instruction.operands[1]))
        first = self._source(instruction.operands[0])
        if instruction.kind == "select":
            return _first_of(first.table, instruction)
        return sample_by_sample(self._recorder, instruction, first, self._source(instruction.operands[1]))

    def _read_out(self, one: int) -> tuple[Rows, Rows, Tensor]:
        """Return rows (width, terms), observables and coefficients of the Pauli terms that are not zero."""
        terms: list[tuple[int, float, list[int]]] = []
        spread = self._spread_roots()
        for output in self._outputs:
            coefficient, rows = output.coefficient, []
            for number, component in output.factors:
                constant = self._program.roots[number].constant
                if constant is not None:
                    coefficient *= float(constant.reshape(-1)[component])
                else:
                    rows.append(int(spread[number].reshape(-1)[component]))
            if coefficient != 0.0:
                terms.append((output.observable, coefficient, rows))
        width = max([len(rows) for _, _, rows in terms], default=0) or 1
        filled = [[*rows, *[one] * (width - len(rows))] for _, _, rows in terms]
        factors = np.array(filled, dtype=np.int64).reshape(-1, width).T
        return (
            np.ascontiguousarray(factors),
            np.array([target for target, _, _ in terms], dtype=np.int64),
            np.array([coefficient for _, coefficient, _ in terms], dtype=float),
        )

    def _spread_roots(self) -> dict[int, Rows]:
        """Return the rows of all roots in the batched arena; data-free ones are spread over the samples."""
        found: dict[int, Rows] = {}
        for number, root in enumerate(self._program.roots):
            if root.constant is not None:
                continue
            arena, table = self._registers[root.register]
            rows = table[root.position]
            found[number] = self._spread(rows) if arena == FREE else rows
        return found

    def _spread(self, rows: Rows) -> Rows:
        recorder = self._recorder
        source = operand(FREE, rows.reshape(1, -1))
        if source is None:
            (source,) = gathered(recorder, FREE, [rows.reshape(1, -1)])
        table = recorder.allocate(BATCHED, rows.shape)
        block = contiguous(BATCHED, int(table.flat[0]), (1, rows.size))

        def reverse() -> None:
            recorder.settle(block)
            recorder.add_samples(source, block.gradient)

        recorder.add(Step("spread", block, (source.view,)), reverse)
        return table


def _first_of(table: Rows, instruction: Instruction) -> Rows:
    """Return the rows of component 0 along the axis of a "select"."""
    picked: Rows = np.take(table, [0], axis=1 + instruction.axis).squeeze(1 + instruction.axis)
    return picked
