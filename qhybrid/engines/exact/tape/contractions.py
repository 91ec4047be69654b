"""Contractions as steps: matrix products with data-free rows, and products sample by sample."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from qhybrid.engines.exact.graph import Tensor
from qhybrid.engines.exact.program import Instruction
from qhybrid.engines.exact.sample_product import LARGEST_ELEMENTWISE
from qhybrid.engines.exact.tape.recorder import Operand, Recorder, Step, alignment, operand
from qhybrid.engines.exact.tape.rows import BATCHED, FREE, Rows, View, contiguous

AnyArray = npt.NDArray[Any]


@dataclass(frozen=True)
class Source:
    """A tensor that an instruction reads.

    Attributes:
        arena: Where it lies.
        table: Its rows, shape (units, *dims).
        values: Of a constant: its values instead of rows.
    """

    arena: int
    table: Rows
    values: Tensor | None = None


@dataclass(frozen=True)
class Labels:
    """How the labels of a contraction fall apart, and their sizes.

    Attributes:
        rows: Labels of the first operand alone.
        shared: Labels of both.
        columns: Labels of the second operand alone.
        size: Extent of each label.
    """

    rows: tuple[int, ...]
    shared: tuple[int, ...]
    columns: tuple[int, ...]
    size: dict[int, int]

    @classmethod
    def of(cls, instruction: Instruction) -> Labels:
        """Read an instruction's pattern."""
        first, second, _ = instruction.pattern
        size = dict(zip(first, instruction.dims[0])) | dict(zip(second, instruction.dims[1]))
        # In the second operand's order: that one is mostly a view, the first one constant or copied anyway.
        shared = tuple(label for label in second if label in first)
        return cls(
            tuple(label for label in first if label not in shared),
            shared,
            tuple(label for label in second if label not in shared),
            size,
        )

    def count(self, labels: tuple[int, ...]) -> int:
        """Return the number of entries over some labels."""
        return int(np.prod([self.size[label] for label in labels], dtype=int))

    def matrix(
        self, table: AnyArray, own: tuple[int, ...], order: tuple[tuple[int, ...], tuple[int, ...]]
    ) -> AnyArray:
        """Return a table, or values, as matrices (units, rows, columns) over two groups of labels."""
        places = [1 + own.index(label) for label in (*order[0], *order[1])]
        sizes = (len(table), self.count(order[0]), self.count(order[1]))
        return table.transpose(0, *places).reshape(sizes)

    def result(self, table: Rows, out: tuple[int, ...]) -> Rows:
        """Return the table of a result from its block (members, rows and columns)."""
        natural = (*self.rows, *self.columns)
        shaped = table.reshape(-1, *(self.size[label] for label in natural))
        return shaped.transpose(0, *(1 + natural.index(label) for label in out))


def left_matrices(instruction: Instruction, table: AnyArray) -> AnyArray:
    """Return the table of data-free rows as matrices (units, heads * rows, shared)."""
    labels = Labels.of(instruction)
    matrices = labels.matrix(table, instruction.pattern[0], (labels.rows, labels.shared))
    return matrices.reshape(-1, instruction.heads * matrices.shape[1], matrices.shape[2])


def is_left(matrices: Operand) -> bool:
    """Return whether matrix products take an operand as it is: rows or columns lie side by side."""
    return 1 in matrices.view.strides[-2:] or min(matrices.view.sizes[-2:]) == 1


def is_right(matrices: Operand) -> bool:
    """Return whether the last axis joins with the samples."""
    return matrices.view.sizes[-1] == 1 or matrices.view.strides[-1] == 1


def gathered(recorder: Recorder, arena: int, tables: list[Rows]) -> list[Operand]:
    """Copy tables of one arena to blocks, in one step, and return the blocks as operands."""
    found = [operand(arena, block) for block in recorder.gather(arena, tables)]
    return [block for block in found if block is not None]


def constant_operand(recorder: Recorder, values: Tensor) -> Operand:
    """Return a constant as an operand."""
    table = recorder.constant(values)
    return Operand(FREE, table, contiguous(FREE, int(table.flat[0]), table.shape), True)


def product(recorder: Recorder, instruction: Instruction, left: Operand, second: Source) -> Rows:
    """Record a matrix product of data-free rows with another tensor, and its samples if it has any."""
    labels, units = Labels.of(instruction), instruction.size
    batched = instruction.batched[1]
    arena = BATCHED if batched else FREE
    order = (labels.shared, labels.columns)
    if second.values is not None:
        right = constant_operand(recorder, labels.matrix(second.values, instruction.pattern[1], order))
    else:
        table = labels.matrix(second.table, instruction.pattern[1], order)
        found = operand(arena, table)
        if found is None or (batched and not is_right(found)):
            (found,) = gathered(recorder, arena, [table])
        right = found
    m, rest = left.table.shape[1], right.table.shape[2]
    block = recorder.allocate(arena, (units, m, rest), alignment(m * rest // instruction.heads))
    out = contiguous(arena, int(block.flat[0]), block.shape, merged=batched)
    a, b = left.spread(units), right.spread(units, merged=batched)

    def reverse() -> None:
        recorder.settle(out)
        above = out.gradient
        if not left.constant:
            recorder.add_gradient("bmm", left, (above, b.turned), left.view, _shared_units(left, units))
        if not right.constant:
            view = replace(right.view, merged=batched)
            recorder.add_gradient("bmm", right, (a.turned, above), view, _shared_units(right, units))

    recorder.add(Step("bmm", out, (a, b)), reverse)
    return labels.result(block, instruction.pattern[2])


def sample_by_sample(recorder: Recorder, instruction: Instruction, first: Source, second: Source) -> Rows:
    """Record a contraction of two tensors that both differ from sample to sample.

    Small ones are multiplied and added along the samples; large ones go through a matrix product a sample.
    """
    labels, units = Labels.of(instruction), instruction.size
    tables = [
        labels.matrix(first.table, instruction.pattern[0], (labels.rows, labels.shared)),
        labels.matrix(second.table, instruction.pattern[1], (labels.shared, labels.columns)),
    ]
    found = [operand(BATCHED, table) for table in tables]
    missing = [table for table, view in zip(tables, found) if view is None]
    copies = gathered(recorder, BATCHED, missing) if missing else []
    a, b = (copies.pop(0) if view is None else view for view in found)
    (m, k), r = a.view.sizes[1:], b.view.sizes[2]
    block = recorder.allocate(BATCHED, (units, m, r), alignment(m * r))
    out = contiguous(BATCHED, int(block.flat[0]), block.shape)
    if m * k * r > LARGEST_ELEMENTWISE * (m * k + k * r + m * r):
        _by_products(recorder, (a, b), out)
    else:
        _elementwise(recorder, (a, b), out)
    return labels.result(block, instruction.pattern[2])


def _elementwise(recorder: Recorder, operands: tuple[Operand, Operand], out: View) -> None:
    (units, m, r), k = out.sizes, operands[0].view.sizes[2]
    sizes = (units, m, k, r)
    # Axes of the product are (unit, row, shared, column); each tensor lacks one of the last three.
    views = [_inserted(each.view, axis, sizes) for each, axis in zip(operands, (3, 1))]
    result = _inserted(out, 2, sizes)

    def reverse() -> None:
        recorder.settle(out)
        for which, missing in ((0, 3), (1, 1)):
            target = operands[which]
            view = _inserted(target.view, missing, (target.view.sizes[0], *(1,) * 3))
            dims = tuple(axis for axis in (0, missing) if view.sizes[axis] < sizes[axis])
            recorder.add_gradient("mul", target, (result.gradient, views[1 - which]), view, dims)

    if k == 1:
        recorder.add(Step("mul", result, (views[0], views[1])), reverse)
        return
    scratch = recorder.temporary(sizes)
    kept = _inserted(out, 2, (units, *(1,) * 3))
    recorder.forward.append(Step("mul", scratch, (views[0], views[1])))
    recorder.add(Step("sum", kept, (scratch,), dims=(2,)), reverse)


def _by_products(recorder: Recorder, operands: tuple[Operand, Operand], out: View) -> None:
    units = out.sizes[0]
    a, b = (each.spread(units) for each in operands)

    def reverse() -> None:
        recorder.settle(out)
        above = out.gradient
        for target, pair in zip(operands, ((above, b.turned), (a.turned, above))):
            recorder.add_gradient("sample_bmm", target, pair, target.view, _shared_units(target, units))

    recorder.add(Step("sample_bmm", out, (a, b)), reverse)


def _shared_units(target: Operand, units: int) -> tuple[int, ...]:
    return (0,) if target.view.sizes[0] < units else ()


def _inserted(view: View, axis: int, sizes: tuple[int, ...]) -> View:
    """Return a view (units, two axes) with a broadcast axis inserted; sizes of its own axes stay."""
    own, steps = list(view.sizes), list(view.strides)
    own.insert(axis, sizes[axis])
    steps.insert(axis, 0)
    if own[0] < sizes[0]:
        own[0], steps[0] = sizes[0], 0
    return replace(view, sizes=tuple(own), strides=tuple(steps))
