"""The smallest step that torch's autograd takes, beside a step of QCQ-CNN's classifier of two qubits.

    OMP_NUM_THREADS=1 python benchmarks/smallest_step.py

The empty operation has the circuit's inputs, weights and outputs and computes nothing: what it takes is the
limit of any engine that is one operation of torch's, however fast its circuits are.
"""

from __future__ import annotations

from typing import Any

import torch
from timing import engine_step, seconds_of, step

from qhybrid.circuits import build_circuit
from qhybrid.engines import make_engine

ROUNDS = 2000


class Empty(torch.autograd.Function):
    """Zeros for values and gradients, of the shapes that the circuit has."""

    @staticmethod
    def forward(ctx: Any, inputs: torch.Tensor, weights: torch.Tensor, outputs: int) -> torch.Tensor:
        """Return zeros of shape (B, outputs)."""
        ctx.save_for_backward(inputs, weights)
        return inputs.new_zeros(len(inputs), outputs)

    @staticmethod
    def backward(ctx: Any, *_: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Return zeros for inputs and weights."""
        inputs, weights = ctx.saved_tensors
        return torch.zeros_like(inputs), torch.zeros_like(weights), None


def main() -> None:
    """Print a row a batch."""
    torch.set_num_threads(1)
    spec, engine = build_circuit("qcq_classifier"), make_engine("exact")
    print("| batch | empty operation, us | exact engine, us | value alone, us |\n|---|---:|---:|---:|")
    for batch in (1, 10, 64):

        def empty(inputs: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
            result: torch.Tensor = Empty.apply(inputs, weights, spec.num_observables)  # type: ignore[no-untyped-call]
            return result

        inputs, weights = torch.zeros(batch, spec.num_inputs), torch.zeros(spec.num_weights)

        def value(inputs: torch.Tensor = inputs, weights: torch.Tensor = weights) -> None:
            engine.expectations(spec, inputs, weights)

        steps = [step(empty, spec, batch), engine_step(engine, spec, batch), value]
        floor, ours, alone = (1e6 * seconds for seconds in seconds_of(steps, ROUNDS))
        print(f"| {batch} | {floor:.0f} | {ours:.0f} | {alone:.0f} |")


if __name__ == "__main__":
    main()
