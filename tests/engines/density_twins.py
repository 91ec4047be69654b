"""Maps and products of vectors in plain torch: what the compiled library is compared with."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from qhybrid.engines.exact.density.plan import QubitMap
from qhybrid.engines.gates.pauli_transfer import rotation_tensor


def angle_of(angle, inputs: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Return an affine angle of every sample, shape (B,)."""
    result = torch.full_like(inputs[0], angle.offset)
    for index, factor in angle.inputs:
        result = result + factor * inputs[index]
    for index, factor in angle.weights:
        result = result + factor * weights[index]
    return result


def matrices(maps: Sequence[QubitMap], inputs: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Return the transfer matrices of maps, shape (N, 4, 4, B), one rotation after another."""
    found = []
    for one in maps:
        result = torch.as_tensor(one.before).to(inputs).unsqueeze(-1).expand(4, 4, inputs.shape[1])
        for letter, angle, behind in one.turns:
            turn = torch.as_tensor(rotation_tensor(letter)).to(inputs)
            theta = angle_of(angle, inputs, weights)
            features = torch.stack([torch.ones_like(theta), theta.cos(), theta.sin()])
            result = torch.einsum(
                "ij,jkf,fb,klb->ilb", torch.as_tensor(behind).to(inputs), turn, features, result
            )
        found.append(result)
    return torch.stack(found)


def product(vectors: torch.Tensor) -> torch.Tensor:
    """Return products of one-qubit vectors (n, 4, C), shape (4^n, C); qubit 0 is the lowest digit."""
    result = vectors[0]
    for vector in vectors[1:]:
        result = (vector.unsqueeze(1) * result.unsqueeze(0)).flatten(0, 1)
    return result
