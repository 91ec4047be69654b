"""Execute a program by torch operations: batched, differentiable as often as wanted, on any device.

This is the simple twin of `tape`, which is faster where one gradient is all that is asked for.

Layout: stack axis first, then the legs of one member, then the batch axis last, so that element-wise
operations and matrix products run along contiguous samples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch.utils.checkpoint import checkpoint

from qhybrid.engines.exact.program import Gather, Instruction, Program
from qhybrid.engines.exact.readout import Output, Readout
from qhybrid.engines.exact.sample_product import LARGEST_ELEMENTWISE, sample_product
from qhybrid.engines.gates.angle_table import AngleTable

Run = Callable[..., torch.Tensor]
Operation = Callable[[list[torch.Tensor]], torch.Tensor]


class Executor:
    """Runs one program for one dtype and device.

    Args:
        program: The program.
        num_inputs: Length of an input row.
        num_weights: Length of the weight vector.
        like: Tensor that shows dtype and device.
    """

    def __init__(self, program: Program, num_inputs: int, num_weights: int, like: torch.Tensor) -> None:
        self._program = program
        real = torch.empty(0, dtype=like.real.dtype, device=like.device)
        self._batched = AngleTable(program.batched_angles, num_inputs, num_weights, real)
        self._free = AngleTable(program.free_angles, num_inputs, num_weights, real)
        self._operations = [_compile(instruction, like) for instruction in program.instructions]
        self._dtype = like.dtype

    def registers(
        self, inputs: torch.Tensor, weights: torch.Tensor, channels: Sequence[torch.Tensor] = ()
    ) -> list[torch.Tensor]:
        """Execute all instructions.

        Args:
            inputs: Input rows, transposed, shape (n_in, B).
            weights: Weight vector, shape (n_w,).
            channels: Channels on one and on two qubits, if the program has any.
        """
        program = self._program
        empty = inputs.new_zeros(0)
        registers = [
            self._features(self._batched.batched(inputs, weights)) if program.batched_angles else empty,
            self._features(self._free.free(weights)) if program.free_angles else empty,
            *(channels or (empty, empty)),
        ]
        for operation in self._operations:
            registers.append(operation(registers))
        return registers

    def _features(self, angles: torch.Tensor) -> torch.Tensor:
        """Return (1, cos t, sin t) along a new axis 1."""
        return torch.stack([torch.ones_like(angles), angles.cos(), angles.sin()], dim=1).to(self._dtype)


class NetworkExecutor:
    """Runs a network plan and reads its observables.

    Args:
        program: The plan's program.
        outputs: How results are read from its roots.
        sizes: Numbers of inputs, weights and observables.
        like: Real tensor that shows dtype and device.
    """

    def __init__(
        self, program: Program, outputs: Sequence[Output], sizes: tuple[int, int, int], like: torch.Tensor
    ) -> None:
        self._executor = Executor(program, sizes[0], sizes[1], like)
        self._readout = Readout(program.roots, outputs, sizes[2], like)

    def __call__(self, inputs: torch.Tensor, weights: torch.Tensor, *channels: torch.Tensor) -> torch.Tensor:
        """Return the expectation values, shape (n_obs, B), for input rows of shape (n_in, B)."""
        return self._readout(self._executor.registers(inputs, weights, channels), inputs)


def in_parts(executor: Run, inputs: torch.Tensor, part: int, *others: torch.Tensor) -> torch.Tensor:
    """Execute a batch in parts that keep nothing but their arguments until their gradient is asked for.

    Args:
        executor: Takes input rows, transposed, and the other arguments.
        inputs: Input rows, transposed, shape (n_in, B).
        part: Samples of one part.
        *others: Weights, and channels if there are any.

    Returns:
        Shape (n_obs, B).
    """
    values = [
        checkpoint(executor, some, *others, use_reentrant=False, preserve_rng_state=False)
        for some in torch.split(inputs, part, dim=1)
    ]
    return torch.cat(values, dim=1)


def _compile(instruction: Instruction, like: torch.Tensor) -> Operation:
    gathers = [_gatherer(gather, like) for gather in instruction.operands]
    if instruction.kind == "select":
        axis = 1 + instruction.axis
        return lambda registers: gathers[0](registers).select(axis, 0)
    first, second = instruction.batched
    shared = set(instruction.pattern[0]) & set(instruction.pattern[1])
    if first and not second:
        raise AssertionError("data-free operands come first")
    if second and not shared:
        return _outer(instruction, gathers)
    return _batched_batched(instruction, gathers) if first else _product(instruction, gathers)


def _gatherer(gather: Gather, like: torch.Tensor) -> Operation:
    block = None
    if gather.constant is not None:
        block = torch.as_tensor(gather.constant, dtype=like.dtype, device=like.device)
        if not gather.pieces:
            constant = block
            return lambda registers: constant
    index = None if gather.index is None else torch.as_tensor(gather.index, device=like.device)
    slices = [(register, slice(start, stop, step)) for register, start, stop, step in gather.pieces]

    def take(registers: list[torch.Tensor]) -> torch.Tensor:
        parts = []
        for register, part in slices:
            tensor = registers[register]
            whole = part.start == 0 and part.step == 1 and part.stop == tensor.shape[0]
            parts.append(tensor if whole else tensor[part])
        if block is not None:
            parts.insert(0, block)
        result = parts[0] if len(parts) == 1 else torch.cat(parts)
        return result if index is None else result.index_select(0, index)

    return take


def _outer(instruction: Instruction, gathers: list[Operation]) -> Operation:
    first, second, out = instruction.pattern
    natural = list(first + second)
    places = [natural.index(label) for label in out]
    permutation = (
        None if places == sorted(places) else [0, *(1 + place for place in places), 1 + len(natural)]
    )
    a_shape = [*instruction.dims[0], *(1 for _ in second)]
    b_shape = [*(1 for _ in first), *instruction.dims[1]]
    a_batched, b_batched = instruction.batched

    def run(registers: list[torch.Tensor]) -> torch.Tensor:
        a, b = gathers[0](registers), gathers[1](registers)
        a = a.reshape(a.shape[0], *a_shape, a.shape[-1] if a_batched else 1)
        b = b.reshape(b.shape[0], *b_shape, b.shape[-1] if b_batched else 1)
        result = a * b
        return result if permutation is None else result.permute(permutation)

    return run


def _product(instruction: Instruction, gathers: list[Operation]) -> Operation:
    """Matrix product of data-free rows with the other tensor's open legs and, if it has any, samples."""
    first, second, out = instruction.pattern
    shared = [label for label in first if label in second]
    rows = [label for label in first if label not in shared]
    rest = [label for label in second if label not in shared]
    a_order = [1 + first.index(label) for label in rows + shared]
    b_order = [1 + second.index(label) for label in shared + rest]
    a_dims = instruction.dims[0]
    m = int(np.prod([a_dims[first.index(label)] for label in rows], dtype=int))
    k = int(np.prod([a_dims[first.index(label)] for label in shared], dtype=int))
    heads, size = instruction.heads, instruction.size
    tail = [1 + len(out)] if instruction.batched[1] else []
    b_tail = [1 + len(second)] if instruction.batched[1] else []
    places = [(rows + rest).index(label) for label in out]
    natural_dims = [instruction.out_dims[out.index(label)] for label in rows + rest]
    permutation = None if places == sorted(places) else [0, *(1 + place for place in places), *tail]
    a_sorted, b_sorted = a_order == sorted(a_order), b_order == sorted(b_order)

    def run(registers: list[torch.Tensor]) -> torch.Tensor:
        a, b = gathers[0](registers), gathers[1](registers)
        if not a_sorted:
            a = a.permute(0, *a_order)
        a = a.reshape(-1, heads * m, k)
        if not b_sorted:
            b = b.permute(0, *b_order, *b_tail)
        samples = b.shape[-1:] if tail else ()
        b = b.reshape(b.shape[0], k, -1)
        if a.shape[0] != b.shape[0]:
            a, b = a.expand(size, -1, -1), b.expand(size, -1, -1)
        result = torch.bmm(a, b).reshape(size * heads, *natural_dims, *samples)
        return result if permutation is None else result.permute(permutation)

    return run


def _batched_batched(instruction: Instruction, gathers: list[Operation]) -> Operation:
    """Contract two tensors that both differ from sample to sample.

    Small ones are multiplied and added along the samples; large ones go through a matrix product a sample.
    """
    first, second, out = instruction.pattern
    shared = [label for label in first if label in second]
    rows = [label for label in first if label not in shared]
    columns = [label for label in second if label not in shared]
    extent = dict(zip(first, instruction.dims[0])) | dict(zip(second, instruction.dims[1]))
    m, k, r = (int(np.prod([extent[label] for label in part], dtype=int)) for part in (rows, shared, columns))
    a_order = [1 + first.index(label) for label in rows + shared]
    b_order = [1 + second.index(label) for label in shared + columns]
    natural = [extent[label] for label in rows + columns]
    places = [0, *(1 + (rows + columns).index(label) for label in out), 1 + len(out)]
    by_products = m * k * r > LARGEST_ELEMENTWISE * (m * k + k * r + m * r)

    def run(registers: list[torch.Tensor]) -> torch.Tensor:
        a, b = gathers[0](registers), gathers[1](registers)
        batch = a.shape[-1]
        a = a.permute(0, *a_order, a.dim() - 1).reshape(a.shape[0], m, k, batch)
        b = b.permute(0, *b_order, b.dim() - 1).reshape(b.shape[0], k, r, batch)
        if by_products:
            size = max(a.shape[0], b.shape[0])
            result = sample_product(a.expand(size, -1, -1, -1), b.expand(size, -1, -1, -1))
        else:
            result = (a.unsqueeze(3) * b.unsqueeze(1)).sum(dim=2)
        return result.reshape(-1, *natural, batch).permute(places)

    return run
