"""Statevectors of a circuit as the flat numbers that the compiled library reads, and calls to it."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Sequence

import numpy as np
import torch

from qhybrid.engines.exact.native.division import Division
from qhybrid.engines.exact.native.expressions import flat_expressions
from qhybrid.engines.exact.native.library import Kernels
from qhybrid.engines.exact.native.rotations import Pair, Rotations, String
from qhybrid.engines.gates.expression import Angle
from qhybrid.errors import EngineError

GOOD, NO_MEMORY = 0, 1
"""What a call of the library answers; anything else: a parameter, an angle or a value is not finite."""


class NativeProgram:
    """Statevectors, whose values are added, in the compiled library.

    Args:
        runs: The statevectors.
        sizes: Numbers of inputs, weights and observables.
        dtype: Arithmetic, torch.float32 or torch.float64.
        kernels: The loaded library.
    """

    def __init__(
        self, runs: Sequence[Rotations], sizes: tuple[int, int, int], dtype: torch.dtype, kernels: Kernels
    ) -> None:
        library = kernels.library
        assert library is not None
        self._sizes, self._widest = sizes, max(run.num_qubits for run in runs)
        ints, reals = _flat(runs, sizes)
        self._step = library.qhybrid_step(ints.ctypes.data, reals.ctypes.data)
        if not self._step:
            raise EngineError("The compiled library must have memory for a circuit, but has none left.")
        weakref.finalize(self, library.qhybrid_step_free, self._step)
        kind = "float64" if dtype == torch.float64 else "float32"
        self._values = getattr(library, f"qhybrid_values_{kind}")
        self._gradients = getattr(library, f"qhybrid_gradients_{kind}")

    def values(
        self, inputs: torch.Tensor, weights: torch.Tensor, states: torch.Tensor | None, division: Division
    ) -> tuple[torch.Tensor, bool]:
        """Return the expectation values, and whether they and all parameters and angles are finite.

        Args:
            inputs: Shape (B, n_in), in any order of memory, as all other arguments.
            weights: Shape (n_w,).
            states: Memory for final states, which they are left in.
            division: How the call is divided.
        """
        batch, inputs, weights = inputs.shape[0], _as_stored(inputs), _as_stored(weights)
        result = inputs.new_empty((batch, self._sizes[2]))
        answer = self._values(
            self._step, batch, inputs.data_ptr(), *inputs.stride(), weights.data_ptr(), *weights.stride(),
            result.data_ptr(), None if states is None else states.data_ptr(),
            division.places if states is not None else division.nowhere, division.threads, division.singles,
        )  # fmt: skip
        if answer == NO_MEMORY:
            raise self._no_memory()
        return result, answer == GOOD

    def gradients(
        self,
        inputs: torch.Tensor,
        weights: torch.Tensor,
        above: torch.Tensor,
        states: torch.Tensor | None,
        division: Division,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the vector-Jacobian products with inputs and weights, for a gradient of shape (B, n_obs)."""
        inputs, weights, above = _as_stored(inputs), _as_stored(weights), _as_stored(above)
        batch = inputs.shape[0]
        grad_inputs, grad_weights = inputs.new_empty(inputs.shape), weights.new_empty(weights.shape)
        answer = self._gradients(
            self._step, batch, inputs.data_ptr(), *inputs.stride(), weights.data_ptr(), *weights.stride(),
            None if states is None else states.data_ptr(),
            division.places if states is not None else division.nowhere, division.threads, division.singles,
            above.data_ptr(), *above.stride(), grad_inputs.data_ptr(), grad_weights.data_ptr(),
        )  # fmt: skip
        if answer == NO_MEMORY:
            raise self._no_memory()
        return grad_inputs, grad_weights

    def _no_memory(self) -> EngineError:
        return EngineError(
            f"A statevector of {self._widest} qubits must fit the memory, but does not. "
            "Fix: fewer threads (torch.set_num_threads), or fewer qubits."
        )


def _as_stored(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor whose memory holds its numbers.

    Torch keeps some without: the imaginary part of a conjugated tensor is the memory of the other one and a
    sign, and a derivative of zero may have no memory at all.
    """
    if tensor.is_neg():
        return tensor.resolve_neg()
    return tensor.new_zeros(tensor.shape) if tensor._is_zerotensor() else tensor


def _flat(runs: Sequence[Rotations], sizes: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return integers and reals in the order in which `Step` in program.hpp reads them."""
    trees = dict.fromkeys(angle for run in runs for angle in run.angles if angle.tree is not None)
    batched = [angle for angle in trees if angle.batched]
    free = [angle for angle in trees if not angle.batched]
    # What expressions give stands behind the parameters, as more of them.
    rows = {angle: Angle(0.0, inputs=((sizes[0] + k, 1.0),)) for k, angle in enumerate(batched)}
    rows |= {angle: Angle(0.0, weights=((sizes[1] + k, 1.0),)) for k, angle in enumerate(free)}
    whole = (sizes[0] + len(batched), sizes[1] + len(free), sizes[2])
    ints, reals = flat_expressions(batched, free)
    ints = [*sizes, *ints, len(runs)]
    for run in runs:
        own_ints, own_reals = _flat_run(run, [rows.get(angle, angle) for angle in run.angles], whole)
        ints, reals = ints + own_ints, reals + own_reals
    return np.array(ints, dtype=np.int64), np.array(reals, dtype=np.float64)


def _flat_run(
    rotations: Rotations, angles: Sequence[Angle], sizes: tuple[int, int, int]
) -> tuple[list[int], list[float]]:
    ints: list[int] = [rotations.num_qubits, *sizes, len(angles)]
    reals: list[float] = []
    for angle in angles:
        reals.append(angle.offset)
        for pairs in (angle.inputs, angle.weights):
            ints.append(len(pairs))
            ints += [index for index, _ in pairs]
            reals += [factor for _, factor in pairs]
    ints.append(len(rotations.operations))
    for operation in rotations.operations:
        if isinstance(operation, Pair):
            ints += [1, operation.flips, operation.signs, operation.select, len(operation.factors)]
            for factor in operation.factors:
                ints += [factor.axis, factor.angle, *factor.signs]
        else:
            ints += [0, len(operation.terms), *itertools.chain.from_iterable(operation.terms)]
    by_flips: dict[int, list[String]] = {}
    for string in rotations.strings:
        by_flips.setdefault(string.flips, []).append(string)
    ints.append(len(by_flips))
    for flips, strings in by_flips.items():
        ints += [flips, len(strings)]
        for string in strings:
            ints += [string.signs, string.num_y, len(string.terms), *(index for index, _ in string.terms)]
            reals += [coefficient for _, coefficient in string.terms]
    offsets = [0.0] * sizes[2]
    for index, value in rotations.constants:
        offsets[index] += value
    return ints, reals + offsets
