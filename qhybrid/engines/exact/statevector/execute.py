"""Execute a statevector plan for one dtype and device."""

from __future__ import annotations

import torch

from qhybrid.engines.exact.execute import Executor
from qhybrid.engines.exact.statevector.chunk import chunk_samples
from qhybrid.engines.exact.statevector.observables import PauliReader
from qhybrid.engines.exact.statevector.plan import StatePlan, StateRun
from qhybrid.engines.exact.statevector.run import StateRunner


class StateExecutor:
    """Runs a statevector plan.

    Args:
        plan: The plan.
        sizes: Numbers of inputs, weights and observables.
        like: Real tensor that shows dtype and device.
    """

    def __init__(self, plan: StatePlan, sizes: tuple[int, int, int], like: torch.Tensor) -> None:
        self._plan = plan
        complex_dtype = torch.complex128 if like.dtype == torch.float64 else torch.complex64
        self._like = torch.empty(0, dtype=complex_dtype, device=like.device)
        self._executor = Executor(plan.program, sizes[0], sizes[1], self._like)
        roots = plan.program.roots
        self._used = sorted({root.register for root in roots if root.constant is None})
        self._constants = [
            None if root.constant is None else torch.as_tensor(root.constant).to(self._like) for root in roots
        ]
        self._runners = [self._runner(run, like) for run in plan.runs]
        terms = [term for run in plan.runs for term in run.terms]
        self._targets = torch.as_tensor([t for t, _ in terms], dtype=torch.long, device=like.device)
        self._factors = torch.as_tensor(
            [[c] for _, c in terms], dtype=like.dtype, device=like.device
        ).reshape(-1, 1)
        self._offset = like.new_zeros((sizes[2], 1))
        for observable, value in plan.constants:
            self._offset[observable] += value

    def _runner(self, run: StateRun, like: torch.Tensor) -> StateRunner:
        chunk = chunk_samples(run.num_qubits, like.device.type)
        reader = PauliReader(run.strings, run.num_qubits, like)
        batched = [root.batched for root in self._plan.program.roots]
        return StateRunner(run.steps, reader, run.num_qubits, batched, chunk, self._like)

    def __call__(self, inputs: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Return the expectation values, shape (n_obs, B), for input rows of shape (n_in, B)."""
        registers = self._executor.registers(inputs, weights)
        members = {register: registers[register].unbind(0) for register in self._used}
        tensors = [
            members[root.register][root.position] if constant is None else constant
            for root, constant in zip(self._plan.program.roots, self._constants)
        ]
        batch = inputs.shape[1]
        result = self._offset.expand(-1, batch)
        values = [
            runner(tensors, batch) for runner, run in zip(self._runners, self._plan.runs) if run.strings
        ]
        if not values:
            return result
        return result.index_add(0, self._targets, torch.cat(values) * self._factors)
