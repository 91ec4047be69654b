"""Maps of one qubit and products of one-qubit vectors in the compiled library, a node of a graph each."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from qhybrid.engines.exact.density.plan import QubitMap
from qhybrid.engines.gates.angle_table import AngleTable
from qhybrid.engines.transforms import no_autocast
from qhybrid.errors import EngineError

LETTERS = "XYZ"


class MapGroups:
    """Computes R_k ... R_1 R_0 of every map, for three groups at once.

    Args:
        first: Maps that act on |0>.
        between: Maps of the layers between both ends.
        last: Maps in front of the read-outs; none of them depends on the data.
        sizes: Numbers of inputs and weights.
        like: Real tensor that shows the dtype.
        library: The compiled library.
    """

    def __init__(
        self,
        first: Sequence[QubitMap],
        between: Sequence[QubitMap],
        last: Sequence[QubitMap],
        sizes: tuple[int, int],
        like: torch.Tensor,
        library: ctypes.CDLL,
    ) -> None:
        groups = (first, between, last)
        turns = [turn for group in groups for one in group for turn in one.turns]
        self._free = AngleTable([angle for _, angle, _ in turns if not angle.batched], *sizes, like)
        self._batched = AngleTable([angle for _, angle, _ in turns if angle.batched], *sizes, like)
        self._numbers = [sum(angle.batched == kind for _, angle, _ in turns) for kind in (False, True)]
        self.batched = tuple(any(one.batched for one in group) for group in groups)
        self.lengths = tuple(len(group) for group in groups)
        self._library = library
        ints, numbers = _listed(groups, self.batched)
        self.place = library.qhybrid_maps_plan(ints.ctypes.data, numbers.ctypes.data)
        if not self.place:
            raise out_of_memory()
        weakref.finalize(self, library.qhybrid_maps_free, self.place)

    def __call__(
        self, inputs: torch.Tensor, weights: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return what the three groups give.

        Returns:
            Vectors behind the first maps, shape (N, 4, B); rows X, Y, Z of those between, shape (N, 12, B);
            matrices of the last ones, (N, 4, 4). B is 1 where nothing of a group depends on the data.
        """
        columns = inputs.shape[1]
        none = inputs.new_zeros(0)
        free = self._free.free(weights) if self._numbers[0] else none
        batched = self._batched.batched(inputs, weights) if self._numbers[1] else none.view(0, columns)
        found: tuple[torch.Tensor, ...] = _Maps.apply(self, columns, free, batched)  # type: ignore[no-untyped-call]
        first, between, last = found
        return first, between, last

    def shapes(self, columns: int) -> list[tuple[int, ...]]:
        """Return the shapes of what the three groups give."""
        widths = [columns if one else 1 for one in self.batched]
        first, between, last = self.lengths
        return [(first, 4, widths[0]), (between, 12, widths[1]), (last, 4, 4)]

    def call(self, name: str, columns: int, *tensors: torch.Tensor) -> None:
        """Call a function of the library."""
        function = getattr(self._library, f"qhybrid_maps_{name}_{kind_of(tensors[0])}")
        if function(self.place, columns, *(tensor.data_ptr() for tensor in tensors)):
            raise out_of_memory()


def _listed(groups: Sequence[Sequence[QubitMap]], batched: Sequence[bool]) -> tuple[np.ndarray, np.ndarray]:
    """Return the groups as the library reads them: integers, and matrices of 16 numbers."""
    ints: list[int] = []
    matrices: list[np.ndarray] = []
    taken = {False: 0, True: 0}
    for group, written in zip(groups, batched, strict=True):
        ints += [int(written), len(group)]
        for one in group:
            ints.append(len(one.turns))
            matrices.append(one.before)
            for letter, angle, behind in one.turns:
                plain = bool(np.array_equal(behind, np.eye(4)))
                ints += [LETTERS.index(letter), taken[angle.batched], int(angle.batched), int(plain)]
                taken[angle.batched] += 1
                matrices.append(behind)
    numbers = np.array(matrices, dtype=np.float64).reshape(-1)
    return np.array(ints, dtype=np.int64), np.ascontiguousarray(numbers)


class _Maps(torch.autograd.Function):
    """All maps from all angles."""

    @staticmethod
    def forward(
        ctx: Any, groups: MapGroups, columns: int, free: torch.Tensor, batched: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        angles = tuple(part.contiguous() for one in (free, batched) for part in (one.cos(), one.sin()))
        found = tuple(free.new_empty(shape) for shape in groups.shapes(columns))
        groups.call("values", columns, *angles, *found)
        ctx.groups, ctx.columns = groups, columns
        ctx.save_for_backward(*angles)
        return found

    @staticmethod
    @no_autocast
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        angles = ctx.saved_tensors
        by_free, by_batched = torch.zeros_like(angles[0]), torch.zeros_like(angles[2])
        given = [grad.contiguous() for grad in grads]
        ctx.groups.call("gradients", ctx.columns, *angles, *given, by_free, by_batched)
        return None, None, by_free, by_batched


class _Product(torch.autograd.Function):
    """Products of the vectors of the upper and of the lower qubits."""

    @staticmethod
    def forward(
        ctx: Any, library: ctypes.CDLL, low: int, vectors: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        qubits, _, columns = vectors.shape
        found = tuple(vectors.new_empty(4**number, columns) for number in (qubits - low, low))
        function = getattr(library, f"qhybrid_product_values_{kind_of(vectors)}")
        if function(vectors.data_ptr(), qubits, low, columns, *(one.data_ptr() for one in found)):
            raise out_of_memory()
        ctx.library, ctx.low = library, low
        ctx.save_for_backward(vectors)
        return found[0], found[1]

    @staticmethod
    @no_autocast
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (vectors,) = ctx.saved_tensors
        qubits, _, columns = vectors.shape
        by_vectors = torch.empty_like(vectors)
        given = [grad.contiguous() for grad in grads]
        function = getattr(ctx.library, f"qhybrid_product_gradients_{kind_of(vectors)}")
        places = (one.data_ptr() for one in (*given, by_vectors))
        if function(vectors.data_ptr(), qubits, ctx.low, columns, *places):
            raise out_of_memory()
        return None, None, by_vectors


def product(library: ctypes.CDLL, vectors: torch.Tensor, low: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return products of one-qubit vectors; qubit 0 is the lowest digit of an index.

    Args:
        library: The compiled library.
        vectors: Shape (n, 4, C).
        low: Number of qubits of the lower part, from 1 to n - 1.

    Returns:
        Shapes (4^(n - low), C) and (4^low, C).
    """
    found: tuple[torch.Tensor, torch.Tensor] = _Product.apply(  # type: ignore[no-untyped-call]
        library, low, vectors.contiguous()
    )
    return found


def kind_of(tensor: torch.Tensor) -> str:
    """Return the library's name of a tensor's type."""
    return "float64" if tensor.dtype == torch.float64 else "float32"


def out_of_memory() -> EngineError:
    """Return the error of a call for which there is no memory."""
    return EngineError("A density matrix must fit the memory, but does not. Fix: method='network'.")
