"""Exact expectation values and gradients of random settings, within a budget of arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from qiskit.quantum_info import SparsePauliOp

from qhybrid.analysis.estimates import FEWEST, NotComputed
from qhybrid.analysis.parameters import Settings
from qhybrid.analysis.structure import cone_of
from qhybrid.engines.exact.engine import ExactEngine
from qhybrid.engines.exact.explain import Explanation

BUDGET = 2e10
"""Multiply-adds that one figure may take; it takes fewer samples beyond."""
CALL = 2e5
"""Multiply-adds that a sample counts for at least: what goes around them."""
PATIENCE = 10
"""Budgets that a figure may take at most so that it has `FEWEST` settings."""
ROWS = 256
"""Settings of one call."""
LARGEST_CONE = 20
"""Qubits of a light cone up to which an observable is kept where all of them do not fit the memory."""


class ExactValues:
    """Expectation values by the exact engine in float64, each setting with its own inputs and weights.

    Args:
        settings: The circuit.
        observables: What is read; the circuit's own if absent.

    Attributes:
        kept: Places of the observables that are computed: all of them, or where they do not fit the memory
            those of light cones of at most `LARGEST_CONE` qubits.
        explanation: How the engine computes them; of all observables where these are refused.
    """

    def __init__(self, settings: Settings, observables: Sequence[SparsePauliOp] | None = None) -> None:
        self._engine = ExactEngine(dtype=torch.float64)
        spec = (
            settings.spec if observables is None else replace(settings.spec, observables=tuple(observables))
        )
        self.kept = every = tuple(range(spec.num_observables))
        self.explanation = self._engine.explain(spec, ROWS)
        found = self.explanation
        if found.method == "refused":
            sizes = [len(cone_of(settings.lowered, one).qubits) for one in spec.observables]
            self.kept = tuple(place for place in self.kept if sizes[place] <= LARGEST_CONE)
            spec = replace(spec, observables=tuple(spec.observables[place] for place in self.kept))
            found = self._engine.explain(spec, ROWS)
            if found.method == "refused":
                self.kept = ()
        self.refusal = _refusal(self.explanation) if len(self.kept) < len(every) else ""
        self._work = CALL + found.flops if self.kept else 0.0
        self._spec = spec

    @property
    def complete(self) -> bool:
        """Whether no observable had to be left out."""
        return self.explanation.method != "refused"

    def affordable(self, wanted: int, gradients: bool = False) -> int:
        """Return how many settings are within the budget, at most `wanted` and at least 2.

        Args:
            wanted: Settings that are wanted.
            gradients: Whether the gradient of every observable is wanted too.
        """
        if not self.kept:
            return wanted
        return max(2, min(wanted, int(BUDGET / self._each(gradients))))

    def enough(self, wanted: int, gradients: bool = False) -> int | NotComputed:
        """Return how many settings a figure with a standard error may take, or why it cannot have `FEWEST`.

        Args:
            wanted: Settings that are wanted, at least `FEWEST`.
            gradients: Whether the gradient of every observable is wanted too.
        """
        count = max(self.affordable(wanted, gradients), FEWEST)
        needed = FEWEST * self._each(gradients)
        if self.kept and needed > PATIENCE * BUDGET:
            return NotComputed(
                f"needs {needed:.1e} multiply-adds for {FEWEST} settings, and at most "
                f"{PATIENCE * BUDGET:.0e} are taken"
            )
        return count

    def _each(self, gradients: bool) -> float:
        """Return the multiply-adds of one setting."""
        return CALL + self._work * (1 + 2 * len(self.kept)) if gradients else self._work

    def values(self, rows: torch.Tensor) -> torch.Tensor:
        """Return the expectation values, shape (B, kept), for rows of parameters of shape (B, P)."""
        nothing = rows.new_zeros(0)
        with torch.no_grad():
            parts = [self._engine.expectations(self._spec, part, nothing) for part in torch.split(rows, ROWS)]
        return torch.cat(parts)

    def gradients(self, rows: torch.Tensor) -> torch.Tensor:
        """Return the derivatives of every observable by every parameter, shape (B, kept, P)."""
        return torch.cat([self._jacobian(part) for part in torch.split(rows, ROWS)])

    def _jacobian(self, rows: torch.Tensor) -> torch.Tensor:
        given = rows.clone().requires_grad_()
        values = self._engine.expectations(self._spec, given, rows.new_zeros(0))
        found = []
        for column in values.unbind(1):
            (gradient,) = torch.autograd.grad(column.sum(), given, retain_graph=True)
            found.append(gradient)
        return torch.stack(found, dim=1) if found else rows.new_zeros(len(rows), 0, rows.shape[1])


def _refusal(found: Explanation) -> str:
    needs = "; ".join(
        f"{name} {memory / 2**30:,.1f} GiB and {seconds:,.1f} s"
        for name, seconds, memory in found.alternatives
    )
    return f"needs {needs or 'more than can be planned'}, but {found.limit_bytes / 2**30:,.1f} GiB are usable"
