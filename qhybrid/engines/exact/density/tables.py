"""The transfer matrices of many maps of one qubit at once, and products of one-qubit vectors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from qhybrid.engines.exact.density.plan import QubitMap
from qhybrid.engines.gates.angle_table import AngleTable
from qhybrid.engines.gates.expression import Angle
from qhybrid.engines.gates.pauli_transfer import rotation_tensor


class MapTable:
    """Computes R_k ... R_1 R_0 of every map.

    Args:
        maps: The maps.
        sizes: Numbers of inputs and weights.
        like: Real tensor that shows the dtype.
    """

    def __init__(self, maps: Sequence[QubitMap], sizes: tuple[int, int], like: torch.Tensor) -> None:
        depth = max((len(one.turns) for one in maps), default=0)
        none = ("Z", Angle(0.0), np.eye(4))
        self.batched = any(one.batched for one in maps)
        self._before = torch.as_tensor(np.array([one.before for one in maps]).reshape(-1, 4, 4)).to(like)
        turns = [[*one.turns, *[none] * (depth - len(one.turns))] for one in maps]
        self._columns = []
        for k in range(depth):
            column = [several[k] for several in turns]
            tensors = [np.tensordot(behind, rotation_tensor(letter), 1) for letter, _, behind in column]
            angles = AngleTable([angle for _, angle, _ in column], *sizes, like)
            self._columns.append((torch.as_tensor(np.array(tensors)).to(like), angles))

    def __call__(self, inputs: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Return the transfer matrices, shape (N, 4, 4), or (N, 4, 4, B) if any depends on the data."""
        result = self._before
        if self.batched:
            result = result.unsqueeze(-1).expand(-1, -1, -1, inputs.shape[1])
        for tensors, table in self._columns:
            angles = table.batched(inputs, weights) if self.batched else table.free(weights)
            features = torch.stack([torch.ones_like(angles), angles.cos(), angles.sin()], dim=1)
            if self.batched:
                turned = torch.einsum("nijf,nfb->nijb", tensors, features)
                result = (turned.unsqueeze(3) * result.unsqueeze(1)).sum(2)
            else:
                result = torch.einsum("nijf,nf->nij", tensors, features) @ result
        return result


class MapTables:
    """Computes several groups of maps; those without data are computed together.

    Args:
        groups: The groups.
        sizes: Numbers of inputs and weights.
        like: Real tensor that shows the dtype.
    """

    def __init__(
        self, groups: Sequence[Sequence[QubitMap]], sizes: tuple[int, int], like: torch.Tensor
    ) -> None:
        free = [group for group in groups if not any(one.batched for one in group)]
        self._lengths = [len(group) for group in free]
        self._free = MapTable([one for group in free for one in group], sizes, like)
        self._batched = [
            MapTable(group, sizes, like) if any(one.batched for one in group) else None for group in groups
        ]

    def __call__(self, inputs: torch.Tensor, weights: torch.Tensor) -> list[torch.Tensor]:
        """Return each group's matrices; see `MapTable`."""
        free = iter(torch.split(self._free(inputs, weights), self._lengths) if self._lengths else ())
        return [next(free) if table is None else table(inputs, weights) for table in self._batched]


def product(vectors: torch.Tensor) -> torch.Tensor:
    """Return products of one-qubit vectors (n, 4, C), shape (4^n, C); qubit 0 is the lowest digit."""
    rest: list[torch.Tensor] = []
    while len(vectors) > 1:
        if len(vectors) % 2:
            rest.append(vectors[-1])
            vectors = vectors[:-1]
        vectors = (vectors[1::2].unsqueeze(2) * vectors[0::2].unsqueeze(1)).flatten(1, 2)
    result = vectors[0]
    for vector in reversed(rest):
        result = (vector.unsqueeze(1) * result.unsqueeze(0)).flatten(0, 1)
    return result
