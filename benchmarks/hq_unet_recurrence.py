"""The HQ-UNet bottleneck written by hand as a recurrence on reduced states: the exact engine's yardstick.

In the Pauli basis, with b_c the Bloch 4-vector of cell c and F the filter's 16 x 16 transfer matrix,
s_{c+1} = Tr_c[F (s_c x b_{c+1})] and out_c = Tr_{c+1}[F (s_c x b_{c+1})]: rows first, then columns on the
rows' outputs.
"""

from __future__ import annotations

import torch


def expectations(inputs: torch.Tensor, weights: torch.Tensor, grid: int = 4) -> torch.Tensor:
    """Return Z of all cells, then X of all cells.

    Args:
        inputs: Angles in radians, cell-major, three a cell, shape (B, 3 grid^2).
        weights: [theta1, theta2, phi1, phi2] of the row filter, then of the column filter, shape (8,).
        grid: Cells along one side.

    Returns:
        Shape (B, 2 grid^2).
    """
    batch = inputs.shape[0]
    cells = _bloch_vectors(inputs.t().reshape(grid, grid, 3, batch))
    cells = _pass(_filter(weights[:4]), cells.transpose(1, 2))
    cells = _pass(_filter(weights[4:]), cells.transpose(1, 2))
    return torch.cat([cells[3], cells[1]]).reshape(2 * grid * grid, batch).t()


def _bloch_vectors(angles: torch.Tensor) -> torch.Tensor:
    """Return (1, x, y, z) of RZ RY RX |0>, shape (4, row, column, B)."""
    cosine, sine = angles.cos(), angles.sin()
    (cx, cy, cz), (sx, sy, sz) = cosine.unbind(2), sine.unbind(2)
    flat = cx * sy
    return torch.stack([torch.ones_like(cx), flat * cz + sx * sz, flat * sz - sx * cz, cx * cy])


def _filter(angles: torch.Tensor) -> torch.Tensor:
    """Return the transfer matrix of the filter, rows (control, target), shape (16, 16)."""
    cosine, sine = angles.cos(), angles.sin()
    identity = torch.zeros(4, 4, dtype=angles.dtype, device=angles.device)
    identity[0, 0] = identity[2, 2] = 1.0
    on_cos, on_sin = torch.zeros_like(identity), torch.zeros_like(identity)
    on_cos[1, 1] = on_cos[3, 3] = on_sin[1, 3] = 1.0
    on_sin[3, 1] = -1.0
    turns = identity + cosine[:, None, None] * on_cos + sine[:, None, None] * on_sin
    before = torch.kron(turns[0], turns[1])
    after = torch.kron(turns[2], turns[3])
    return after @ (_cnot(angles) @ before)


def _cnot(like: torch.Tensor) -> torch.Tensor:
    """Return CNOT's transfer matrix: a signed permutation of the 16 Pauli pairs (control letter first)."""
    images = {
        "II": "II", "IX": "IX", "IY": "ZY", "IZ": "ZZ", "XI": "XX", "XX": "XI", "XY": "YZ", "XZ": "-YY",
        "YI": "YX", "YX": "YI", "YY": "-XZ", "YZ": "XY", "ZI": "ZI", "ZX": "ZX", "ZY": "IY", "ZZ": "IZ",
    }  # fmt: skip
    matrix = torch.zeros(16, 16, dtype=like.dtype, device=like.device)
    for source, target in images.items():
        row, column = (4 * "IXYZ".index(pair[-2]) + "IXYZ".index(pair[-1]) for pair in (target, source))
        matrix[row, column] = -1.0 if target.startswith("-") else 1.0
    return matrix


def _pass(matrix: torch.Tensor, cells: torch.Tensor) -> torch.Tensor:
    """Run the filter along axis 1 (the line's direction) of cells with axes (Pauli, place, line, B)."""
    size, lines, batch = cells.shape[1:]
    rows = torch.cat([matrix[:4], matrix[::4]])
    places = cells.unbind(1)
    state, outputs = places[0], []
    for place in range(1, size):
        pair = (state.unsqueeze(1) * places[place].unsqueeze(0)).reshape(16, lines * batch)
        both = (rows @ pair).reshape(8, lines, batch)
        state = both[:4]
        outputs.append(both[4:])
    return torch.stack([*outputs, state], dim=1)
