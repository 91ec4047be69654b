"""A circuit's rotations as the flat numbers that the compiled library reads, and calls to it."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Sequence

import numpy as np
import torch

from qhybrid.engines.exact.native.library import Kernels
from qhybrid.engines.exact.native.rotations import Pair, Rotations, String
from qhybrid.engines.gates.expression import Angle
from qhybrid.errors import EngineError


class NativeProgram:
    """One statevector in the compiled library.

    Args:
        rotations: The circuit.
        angles: Its angles, all affine.
        sizes: Numbers of input rows, weights and observables.
        kernels: The loaded library.
    """

    def __init__(
        self, rotations: Rotations, angles: Sequence[Angle], sizes: tuple[int, int, int], kernels: Kernels
    ) -> None:
        assert kernels.library is not None
        self.num_qubits = rotations.num_qubits
        self.work = rotations.work
        self._library, self._sizes = kernels.library, sizes
        ints, reals = _flat(rotations, angles, sizes)
        self._plan = self._library.qhybrid_plan(ints.ctypes.data, reals.ctypes.data)
        if not self._plan:
            raise EngineError("The compiled library must have memory for a circuit, but has none left.")
        weakref.finalize(self, self._library.qhybrid_free, self._plan)

    def values(
        self,
        inputs: torch.Tensor,
        weights: torch.Tensor,
        states: torch.Tensor | None,
        threads: int,
        singles: int,
    ) -> torch.Tensor:
        """Return the expectation values, shape (n_obs, B), and leave the final states in `states`."""
        result = inputs.new_empty((self._sizes[2], inputs.shape[1]))
        self._call("values", inputs, (inputs, weights, result, states), threads, singles)
        return result

    def gradients(
        self,
        inputs: torch.Tensor,
        weights: torch.Tensor,
        grad: torch.Tensor,
        states: torch.Tensor | None,
        threads: int,
        singles: int,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the vector-Jacobian products with inputs and weights, for a gradient of shape (n_obs, B)."""
        grad_inputs, grad_weights = torch.zeros_like(inputs), torch.empty_like(weights)
        tensors = (inputs, weights, grad, states, grad_inputs, grad_weights)
        self._call("gradients", inputs, tensors, threads, singles)
        return grad_inputs, grad_weights

    def _call(
        self,
        name: str,
        inputs: torch.Tensor,
        tensors: tuple[torch.Tensor | None, ...],
        threads: int,
        singles: int,
    ) -> None:
        kind = "float64" if inputs.dtype == torch.float64 else "float32"
        function = getattr(self._library, f"qhybrid_{name}_{kind}")
        places = [None if tensor is None else tensor.data_ptr() for tensor in tensors]
        if function(self._plan, inputs.shape[1], *places, threads, singles):
            raise EngineError(
                f"A statevector of {self.num_qubits} qubits must fit the memory, but does not. "
                "Fix: fewer threads (torch.set_num_threads), or fewer qubits."
            )


def _flat(
    rotations: Rotations, angles: Sequence[Angle], sizes: tuple[int, int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Return integers and reals in the order in which `Plan` in program.hpp reads them."""
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
    return np.array(ints, dtype=np.int64), np.array(reals + offsets, dtype=np.float64)
