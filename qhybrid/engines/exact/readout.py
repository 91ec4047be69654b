"""From final tensors to expectation values: pick components, multiply clusters, add Pauli terms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from qhybrid.engines.exact.program import Root

Row = tuple[int, int]
"""(register, flat index of the component in it) of one factor."""


@dataclass(frozen=True)
class Output:
    """One Pauli term.

    Attributes:
        observable: Index of the observable it is added to.
        coefficient: Its factor.
        factors: Pairs (index into the program's roots, flat component) whose product it is.
    """

    observable: int
    coefficient: float
    factors: tuple[tuple[int, int], ...]


class Readout:
    """Computes observables from registers.

    Args:
        roots: Where the final tensors are.
        outputs: The Pauli terms.
        num_observables: Length of the result.
        like: Tensor that shows dtype and device.
    """

    def __init__(
        self, roots: Sequence[Root], outputs: Sequence[Output], num_observables: int, like: torch.Tensor
    ) -> None:
        self._num_observables = num_observables
        rows: dict[Row, int] = {}
        terms = [_resolved(output, roots, rows) for output in outputs]
        terms = [term for term in terms if term[1] != 0.0]
        batched = {root.register: root.batched for root in roots}
        self._parts, order = _by_register(rows, batched, like)
        width = max([len(factors) for _, _, factors in terms], default=0) or 1
        ones = len(order)
        self._columns = [
            self._index([order[factors[i]] if i < len(factors) else ones for _, _, factors in terms], like)
            for i in range(width)
        ]
        self._needs_ones = any(len(factors) < width for _, _, factors in terms) or not rows
        targets, coefficients = [term[0] for term in terms], [term[1] for term in terms]
        self._plain = targets == list(range(num_observables)) and set(coefficients) <= {1.0}
        self._coefficients = torch.as_tensor(coefficients, dtype=like.dtype, device=like.device).unsqueeze(1)
        self._targets = self._index(targets, like)

    @staticmethod
    def _index(values: list[int], like: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(values, dtype=torch.long, device=like.device)

    def __call__(self, registers: list[torch.Tensor], inputs: torch.Tensor) -> torch.Tensor:
        """Return the expectation values, shape (n_obs, B).

        Args:
            registers: The executed program's registers.
            inputs: Input rows, transposed, shape (n_in, B); for shape and dtype only.
        """
        batch = inputs.shape[1]
        parts = []
        for register, batched, index in self._parts:
            tensor = registers[register]
            flat = tensor.reshape(-1, batch) if batched else tensor.reshape(-1, 1).expand(-1, batch)
            parts.append(flat.index_select(0, index))
        if self._needs_ones:
            parts.append(inputs.new_ones((1, batch)))
        table = parts[0] if len(parts) == 1 else torch.cat(parts)
        values = table.index_select(0, self._columns[0])
        for column in self._columns[1:]:
            values = values * table.index_select(0, column)
        if self._plain:
            return values
        result = inputs.new_zeros((self._num_observables, batch))
        return result.index_add(0, self._targets, values * self._coefficients)


def _resolved(output: Output, roots: Sequence[Root], rows: dict[Row, int]) -> tuple[int, float, list[Row]]:
    """Return (observable, coefficient, rows): constant factors go into the coefficient, rows are noted."""
    coefficient, factors = output.coefficient, []
    for number, component in output.factors:
        root = roots[number]
        if root.constant is not None:
            coefficient *= float(root.constant.reshape(-1)[component])
        else:
            factors.append((root.register, root.position * root.size + component))
    for row in factors:
        rows.setdefault(row, len(rows))
    return output.observable, coefficient, factors


def _by_register(
    rows: dict[Row, int], batched: dict[int, bool], like: torch.Tensor
) -> tuple[list[tuple[int, bool, torch.Tensor]], dict[Row, int]]:
    """Return what to pick from each register, and each row's place in the concatenation of the picks."""
    by_register: dict[int, list[Row]] = {}
    for row in rows:
        by_register.setdefault(row[0], []).append(row)
    parts = []
    order: dict[Row, int] = {}
    for register, found in by_register.items():
        for row in found:
            order[row] = len(order)
        index = torch.as_tensor([flat for _, flat in found], dtype=torch.long, device=like.device)
        parts.append((register, batched[register], index))
    return parts, order
