"""Execute density matrices in the compiled library; the network takes over for second derivatives."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from torch.nn.functional import pad

from qhybrid.engines.base import ordinary_tensors
from qhybrid.engines.exact.density.estimate import carries_strings, lanes_of, padded
from qhybrid.engines.exact.density.maps import MapGroups, kind_of, product
from qhybrid.engines.exact.density.plan import DensityPlan, QubitMap, tables
from qhybrid.engines.exact.native.library import Kernels
from qhybrid.engines.transforms import gradients_by_twin, is_transformed, is_vectorised, no_autocast
from qhybrid.errors import EngineError

LARGEST_IDLE = 2**29
"""Bytes of states that a circuit keeps from call to call."""
Buffers = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""States after each step but the last, after the last, and the gradient by that."""
Twin = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class DensityExecutor:
    """Runs a plan for one dtype.

    Args:
        plan: The circuit in layers.
        sizes: Numbers of inputs, weights and observables.
        like: Real tensor that shows the dtype.
        kernels: The loaded library.
        twin: Makes the network of the same circuit.
    """

    def __init__(
        self,
        plan: DensityPlan,
        sizes: tuple[int, int, int],
        like: torch.Tensor,
        kernels: Kernels,
        twin: Callable[[], Twin],
    ) -> None:
        self._plan, self._kernels, self._make_twin = plan, kernels, twin
        self._twin: Twin | None = None
        self._sizes = sizes[:2]
        self._like = like
        self._rows = torch.as_tensor(plan.rows).to(like).transpose(0, 1).contiguous()
        self._mix = like.new_zeros(sizes[2], len(plan.rows))
        for row, observable, coefficient in plan.terms:
            self._mix[observable, row] += coefficient
        self._constants = like.new_zeros(sizes[2], 1)
        for observable, value in plan.constants:
            self._constants[observable, 0] += value
        self._chains: dict[bool, _Chain] = {}

    def __call__(self, inputs: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Return the expectation values, shape (n_obs, B), for input rows of shape (n_in, B)."""
        if is_transformed():
            return self.twin(inputs, weights)
        result: torch.Tensor = _Outer.apply(self, inputs, weights)  # type: ignore[no-untyped-call]
        return result

    @property
    def twin(self) -> Twin:
        """The network."""
        if self._twin is None:
            with ordinary_tensors():
                self._twin = self._make_twin()
        return self._twin

    def values(self, inputs: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Return the values, with a graph that can be differentiated once."""
        batch = inputs.shape[1]
        transposed = carries_strings(self._plan, batch, self._like.element_size())
        chain = self._chain(transposed)
        states, between, last = chain.maps(inputs, weights)
        rows = (self._rows @ last).permute(0, 2, 1)
        if transposed:
            found = chain(rows, states, between).t()
        else:
            found = chain(states.expand(-1, -1, batch), rows, between)
        return (self._mix @ found + self._constants).expand(-1, batch)

    def _chain(self, transposed: bool) -> _Chain:
        if transposed not in self._chains:
            with ordinary_tensors():
                made = _Chain(self._plan, transposed, self._sizes, self._like, self._kernels)
                self._chains[transposed] = made
        return self._chains[transposed]


class _Chain:
    """The layers between both products: carries one of them, and closes it with the other."""

    def __init__(
        self,
        plan: DensityPlan,
        transposed: bool,
        sizes: tuple[int, int],
        like: torch.Tensor,
        kernels: Kernels,
    ) -> None:
        assert kernels.library is not None
        self._library = kernels.library
        steps, maps = plan.steps(transposed)
        everywhere = range(plan.num_qubits)
        first, last = ([ends.get(q, QubitMap()) for q in everywhere] for ends in (plan.first, plan.last))
        self.maps = MapGroups(first, maps, last, sizes, like, kernels.library)
        batched = any(one.batched for one in maps)
        self._idle: list[Buffers] = []
        self.num_qubits, self.low, self.num_steps = plan.num_qubits, plan.num_qubits // 2, len(steps)
        numbers: dict[tuple[Any, bool], int] = {}
        ints = [plan.num_qubits, self.low, int(transposed), int(batched), len(maps)]
        listed = []
        for step in steps:
            for layer, inverted in ((step.layer, transposed), (step.after, not transposed)):
                key = (plan.layers[layer][0], inverted) if layer >= 0 else None
                listed.append(-1 if key is None else numbers.setdefault(key, len(numbers)))
            listed += [step.tile, len(step.maps)]
            for qubit, number in step.maps:
                listed += [qubit, number, int(maps[number].affine)]
        made = [tables(permutations, plan.num_qubits, inverted) for permutations, inverted in numbers]
        source = np.ascontiguousarray([one for one, _ in made], dtype=np.uint32)
        scale = np.ascontiguousarray([one for _, one in made], dtype=np.float64)
        whole = np.array([*ints, len(made), len(steps), *listed], dtype=np.int64)
        self.place = self._library.qhybrid_density_plan(
            whole.ctypes.data, source.ctypes.data, scale.ctypes.data
        )
        if not self.place:
            raise _out_of_memory(plan.num_qubits)
        weakref.finalize(self, self._library.qhybrid_density_free, self.place)

    def __call__(self, start: torch.Tensor, end: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
        """Return <end_e| ... |start_c>, shape (E, C), for vectors of shape (n, 4, C) and (n, 4, E)."""
        columns = start.shape[2]
        lanes = lanes_of(columns, start.element_size())
        extra = padded(columns, start.element_size()) - columns
        if self.maps.batched[1] and extra:
            maps = pad(maps, (0, extra))
        factors = product(self._library, pad(start, (0, extra)) if extra else start, self.low)
        high, low = product(self._library, end, self.low)
        closed = _Carry.apply(self, lanes, *factors, maps, high)  # type: ignore[no-untyped-call]
        closed = torch.einsum("geal,ae->egl", closed.view(len(closed), -1, low.shape[0], lanes), low)
        return closed.flatten(1, 2)[:, :columns]

    def call(self, name: str, state: torch.Tensor, *tensors: torch.Tensor) -> None:
        """Call a function of the library for a state of shape (groups, 4^n, lanes)."""
        function = getattr(self._library, f"qhybrid_density_{name}_{kind_of(state)}")
        places = (tensor.data_ptr() for tensor in tensors)
        if function(self.place, state.shape[2], state.shape[0], *places):
            raise _out_of_memory(self.num_qubits)

    def take(self, groups: int, lanes: int, like: torch.Tensor) -> Buffers:
        """Return memory for a call, that of an earlier one if there is any."""
        size = 4**self.num_qubits
        with suppress(IndexError):  # Another thread may be faster.
            kept = self._idle.pop()
            if kept[1].shape == (groups, size, lanes):
                return kept
        shapes = (groups, self.num_steps - 1, size, lanes), (groups, size, lanes), (groups, size, lanes)
        with ordinary_tensors():  # a later call may get it
            states, last, slope = (like.new_empty(shape) for shape in shapes)
        return states, last, slope

    def give_back(self, buffers: Buffers) -> None:
        """Keep the memory of a call for the next one."""
        if sum(one.nbytes for one in buffers) <= LARGEST_IDLE and not self._idle:
            self._idle.append(buffers)


def _out_of_memory(num_qubits: int) -> EngineError:
    return EngineError(
        f"A density matrix of {num_qubits} qubits must fit the memory, but does not. Fix: method='network'."
    )


class _Carry(torch.autograd.Function):
    """The state behind all steps, closed with the high part of the other product: (groups, E, 4^low L)."""

    @staticmethod
    def forward(
        ctx: Any,
        chain: _Chain,
        lanes: int,
        high: torch.Tensor,
        low: torch.Tensor,
        matrices: torch.Tensor,
        end: torch.Tensor,
    ) -> torch.Tensor:
        groups = high.shape[1] // lanes
        buffers = chain.take(groups, lanes, high)
        states, last, _ = buffers
        chain.call("values", last, high, low, matrices, states, last)
        closed = torch.bmm(end.t().expand(groups, -1, -1), last.view(groups, len(end), -1))
        ctx.chain, ctx.buffers = chain, buffers
        weakref.finalize(ctx, chain.give_back, buffers)
        ctx.save_for_backward(high, low, matrices, end)
        return closed

    @staticmethod
    @no_autocast
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        high, low, matrices, end = ctx.saved_tensors
        states, last, slope = ctx.buffers
        groups, rows = len(last), last.view(len(last), len(end), -1)
        torch.bmm(end.expand(groups, -1, -1), grads[0], out=slope.view(rows.shape))
        by_end = torch.bmm(rows, grads[0].transpose(1, 2)).sum(0)
        found = torch.empty_like(high), torch.empty_like(low), torch.zeros_like(matrices)
        ctx.chain.call("gradients", last, high, low, matrices, states, slope, *found)
        return (None, None, *found, by_end)


class _Outer(torch.autograd.Function):
    """Values with a graph of their own: gradients once by it, and more often by the network."""

    @staticmethod
    def forward(
        ctx: Any, executor: DensityExecutor, inputs: torch.Tensor, weights: torch.Tensor
    ) -> torch.Tensor:
        ctx.executor, needed = executor, ctx.needs_input_grad[1:]
        ctx.save_for_backward(inputs, weights)
        if not any(needed):
            return executor.values(inputs, weights)
        with torch.enable_grad():
            leaves = [one.detach().requires_grad_(some) for one, some in zip((inputs, weights), needed)]
            ctx.leaves, ctx.values = leaves, executor.values(*leaves)
        values: torch.Tensor = ctx.values.detach()
        return values

    @staticmethod
    @no_autocast
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        if torch.is_grad_enabled() or is_vectorised(grads[0]):
            wanted = ctx.needs_input_grad[1:]
            return None, *gradients_by_twin(ctx.executor.twin, ctx.saved_tensors, wanted, grads[0])
        if not ctx.values.requires_grad:  # No value depends on any parameter.
            return None, *(torch.zeros_like(leaf) if leaf.requires_grad else None for leaf in ctx.leaves)
        leaves = [leaf for leaf in ctx.leaves if leaf.requires_grad]
        found = iter(
            torch.autograd.grad(
                ctx.values, leaves, grads[0], retain_graph=True, allow_unused=True, materialize_grads=True
            )
        )
        return None, *(next(found) if leaf.requires_grad else None for leaf in ctx.leaves)
